"""Every fast path of bfloat16 beside transformers' own modules, in every architecture.

Both are compared with float32, which is the truth here: the fast path's error may be at most 2.5 times that
of transformers' own bfloat16, or 0.01 where that is near nothing (processors round differently). Error means the length
of the difference over the length of the truth. The float32 fast paths are compared with plain passes where they are
tested: prompts read once in `test_models_policy.py`, prompts shared in `tests/training/test_shared_prompt.py`, sampling
with a cache in `tests/rollout/test_rollout_engine.py`, compiled layers in `test_models_compiling.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from heedful.core.logprob import distribution
from heedful.models import alignment, head
from heedful.models.adapters import LoRA, attach
from heedful.models.kernels import packed_weights
from heedful.models.low_precision import lower
from heedful.models.policy import Policy
from heedful.models.scalar import Critic, new_reward_model
from heedful.rollout.engine import NativeEngine
from heedful.rollout.types import RolloutParams

Found = tuple[Tensor, Tensor]
"""Figures [N] and the gradient of their sum [weights]."""

SLACK, LEAST = 2.5, 0.01


def error(found: Tensor, truth: Tensor) -> float:
    return float((found.float() - truth).norm() / truth.norm())


def assert_as_exact(fast: Found, plain: Found, truth: Found) -> None:
    for ours, theirs, true in zip(fast, plain, truth, strict=True):
        assert error(ours, true) <= max(SLACK * error(theirs, true), LEAST)


def own(policy: Policy, precision: Any) -> Policy:
    return Policy(copy.deepcopy(policy.model), policy.tokenizer, precision=precision)


def learnt(model: Any, figures: Callable[[], Tensor], mask: Tensor) -> Found:
    """What is said at masked tokens, and the gradient, which a working copy has handed over in float32."""
    said = figures()
    weights = 1.0 + torch.arange(mask.numel()).view(mask.shape) % 3  # so that no two tokens cancel
    (said * weights).sum().backward()
    gradients = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
    return said.detach()[mask].float(), torch.cat(gradients)


def stock_bfloat16(policy: Policy) -> Any:
    """transformers' own model in bfloat16 with its own attention, norms and rotations."""
    model = copy.deepcopy(policy.model)
    if model.config._attn_implementation != "eager":
        model.set_attn_implementation("sdpa")
    return model.to(torch.bfloat16)


def plain_logprobs(policy: Policy, model: Any, batch: Any) -> Tensor:
    """By the model's own head on whole rows, [B, T], zero outside the mask."""
    tokens, _, mask = batch
    logits = distribution(model(input_ids=tokens).logits.float(), temperature=1.0, banned=torch.tensor(policy.banned))
    said = logits[:, :-1].log_softmax(-1).gather(2, tokens[:, 1:, None]).squeeze(2)
    return torch.nn.functional.pad(said, (1, 0)).where(mask, 0.0)


def test_a_working_copy_learns_as_exactly_as_transformers_in_bfloat16(policy: Policy, batch: Any) -> None:
    exact, low, stock = own(policy, "float32"), own(policy, "bfloat16"), stock_bfloat16(policy)
    truth = learnt(exact.model, lambda: plain_logprobs(exact, exact.model, batch), batch[2])
    plain = learnt(stock, lambda: plain_logprobs(policy, stock, batch), batch[2])
    fast = learnt(low.model, lambda: low.token_logprobs(*batch)[0], batch[2])
    assert_as_exact(fast, plain, truth)


def answers_of_two_prompts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(tokens, attention, mask, group): five answers behind prompts of 4 and 7 tokens."""
    draw = torch.Generator().manual_seed(8)
    prompts = [torch.randint(7, 50, (n,), generator=draw) for n in (4, 7)]
    groups, lengths = (0, 1, 1, 0, 1), (5, 3, 6, 2, 1)
    tokens, mask = torch.zeros(5, 13, dtype=torch.int64), torch.zeros(5, 13, dtype=torch.bool)
    for row, (group, length) in enumerate(zip(groups, lengths, strict=True)):
        start, end = len(prompts[group]), len(prompts[group]) + length
        tokens[row, :start] = prompts[group]
        tokens[row, start:end] = torch.randint(7, 50, (length,), generator=draw)
        mask[row, start:end] = True
    return tokens, tokens != 0, mask, torch.tensor(groups)


def test_a_prompt_read_once_is_as_exact_in_bfloat16(policy: Policy) -> None:
    tokens, attention, mask, group = answers_of_two_prompts()
    exact, low, stock = own(policy, "float32"), own(policy, "bfloat16"), stock_bfloat16(policy)
    given = (tokens, attention, mask)
    truth = learnt(exact.model, lambda: plain_logprobs(exact, exact.model, given), mask)
    plain = learnt(stock, lambda: plain_logprobs(policy, stock, given), mask)
    fast = learnt(low.model, lambda: low.grouped_logprobs(*given, group)[0], mask)
    assert_as_exact(fast, plain, truth)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_sampled_log_probabilities_are_those_of_whole_rows(policy: Policy, precision: Any) -> None:
    """Cache, packed weights, rows that leave, prompts read once: all of the sampler, in its precision."""
    low = own(policy, precision)
    prompts, params = [[7, 8, 9, 10, 11, 12, 13], [20, 21], [30, 31, 32, 33]], RolloutParams(10, seed=4)
    rollout = NativeEngine(low).generate(prompts, params, samples_per_prompt=3)
    given = (rollout.tokens, rollout.attention, rollout.mask)
    with torch.no_grad():
        truth = plain_logprobs(policy, policy.model, given)[rollout.mask]
        sampled = rollout.logprobs[rollout.mask]
        if precision == "float32":
            assert error(sampled, truth) < 1e-5
            return
        plain = plain_logprobs(policy, stock_bfloat16(policy), given)[rollout.mask]
    assert error(sampled, truth) <= max(SLACK * error(plain, truth), LEAST)


def test_packed_weights_are_as_exact(policy: Policy, batch: Any) -> None:
    model, stock = copy.deepcopy(policy.model), stock_bfloat16(policy)
    lower(model)
    with torch.no_grad():
        truth = plain_logprobs(policy, policy.model, batch)[batch[2]]
        plain = plain_logprobs(policy, stock, batch)[batch[2]]
        with packed_weights(model):
            packed = plain_logprobs(policy, model, batch)[batch[2]]
    assert error(packed, truth) <= max(SLACK * error(plain, truth), LEAST)


def test_values_and_scores_are_as_exact_in_bfloat16(policy: Policy, batch: Any) -> None:
    """The trunk is in bfloat16, the head in float32 on both sides."""
    tokens, attention, mask = batch
    judge = new_reward_model(policy, seed=3)

    def values(model: Any) -> Tensor:
        states = model.base_model(input_ids=tokens).last_hidden_state[:, :-1].float()
        return torch.nn.functional.pad(states @ model.score.weight[0].float(), (1, 0)).where(mask, 0.0)

    exact, low = Critic.from_reward(judge), Critic.from_reward(judge)
    stock = copy.deepcopy(exact.model)
    if stock.config._attn_implementation != "eager":
        stock.set_attn_implementation("sdpa")
    stock.to(torch.bfloat16).score.float()
    low.precision = "bfloat16"
    truth = learnt(exact.model, lambda: values(exact.model), mask)
    plain = learnt(stock, lambda: values(stock), mask)
    fast = learnt(low.model, lambda: low.token_values(tokens, attention, mask), mask)
    assert_as_exact(fast, plain, truth)
    with torch.no_grad():
        scores = judge.raw_scores(tokens, attention)
        judge.precision = "bfloat16"
        rounded = judge.raw_scores(tokens, attention)
    assert 0 < error(rounded, scores) < 0.03


def test_adapters_under_autocast_learn_as_exactly_as_stock_attention(policy: Policy, batch: Any) -> None:
    def adapted(precision: Any, *, stock: bool = False) -> Policy:
        model = copy.deepcopy(policy.model)
        made = Policy(attach(model, LoRA(2, 8.0), seed=5), policy.tokenizer, precision=precision)
        draw = torch.Generator().manual_seed(6)
        for weight in made.trainable_parameters():
            weight.data.copy_(torch.randn(weight.shape, generator=draw) * 0.1)
        if stock and model.config._attn_implementation != "eager":
            model.set_attn_implementation("sdpa")
        return made

    def found(made: Policy) -> Found:
        return learnt(made.model, lambda: made.token_logprobs(*batch)[0], batch[2])

    assert_as_exact(found(adapted("bfloat16")), found(adapted("bfloat16", stock=True)), found(adapted("float32")))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rows_and_columns_that_fill_up_shapes_tell_nothing(
    policy: Policy, batch: Any, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = answers_of_two_prompts()
    found: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for fills in (False, True):
            for module in (alignment, head):
                monkeypatch.setattr(module, "compiles_by_shape", lambda model, fills=fills: fills)
            made = own(policy, precision)
            found.append((made.token_logprobs(*batch)[0], made.grouped_logprobs(*given)[0]))
    for plain, filled in zip(*found, strict=True):
        assert error(filled, plain) < (1e-5 if precision == "float32" else 0.02)
