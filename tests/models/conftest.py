"""Small random policies of all architectures, made once, and a padded batch that they all read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.models.policy import Policy, new_policy

NAMES = sorted(tiny_architectures())


@pytest.fixture(scope="session")
def made() -> Callable[[str], Policy]:
    """The random policy of an architecture. Shared by all tests: do not change its weights."""
    known: dict[str, Policy] = {}

    def get(name: str) -> Policy:
        if name not in known:
            known[name] = new_policy(tiny_architectures()[name], tiny_tokenizer(), seed=1)
        return known[name]

    return get


@pytest.fixture(params=NAMES)
def policy(request: Any, made: Callable[[str], Policy]) -> Policy:
    """Every architecture in turn, shared: do not change its weights."""
    return made(request.param)


@pytest.fixture
def llama(made: Callable[[str], Policy]) -> Policy:
    """A Llama of one's own."""
    shared = made("llama")
    return Policy(copy.deepcopy(shared.model), tiny_tokenizer())


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens, attention, mask) [3, 14]: three lengths, the last row with a hole in its mask."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(7, 50, (3, 14), generator=generator)
    attention = torch.arange(14)[None, :] < torch.tensor([14, 9, 11])[:, None]
    tokens[~attention] = 0
    mask = attention.clone()
    mask[:, :4] = False
    mask[2, 6:8] = False
    return tokens, attention, mask
