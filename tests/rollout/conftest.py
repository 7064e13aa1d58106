"""Small policies with sharp, varied distributions, and prompts of unequal length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.models.policy import Policy, new_policy

PROMPT_LENGTHS = (3, 11, 5, 17, 1, 8)


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., Policy]:
    """A policy of a tiny architecture; `double` makes rounding too small to change any sample."""

    def make(name: str = "llama", *, seed: int = 0, double: bool = False, spread: float = 0.35) -> Policy:
        policy = new_policy(tiny_architectures()[name], tiny_tokenizer(), seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in policy.model.parameters():
                if weight.dim() == 2:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            if policy.model.config.tie_word_embeddings:  # else a token's best successor is itself
                policy.model.get_input_embeddings().weight.mul_(0.15)
        if double:
            policy.model.double()
        return policy

    return make


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    """Six prompts of ordinary words, 1 to 17 tokens."""
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(7, 40, (n,), generator=generator).tolist() for n in PROMPT_LENGTHS]


@pytest.fixture
def watch() -> Callable[[Any], list[tuple[int, int]]]:
    """Record the shape [rows, tokens] of everything a model is run on."""

    def start(policy: Policy) -> list[tuple[int, int]]:
        shapes: list[tuple[int, int]] = []
        policy.model.register_forward_pre_hook(
            lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
        )
        return shapes

    return start


@pytest.fixture(scope="session")
def completions() -> Callable[..., list[list[int]]]:
    """The sampled tokens of each row."""
    return lambda rollout: [t[m].tolist() for t, m in zip(rollout.tokens, rollout.mask, strict=True)]
