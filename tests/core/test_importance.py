"""Truncated importance weights and the mismatch of a sampler: numbers reckoned by hand."""

from __future__ import annotations

import math

import pytest
import torch

from heedful.core.importance import mismatch, truncated_weights
from heedful.core.policy_gradient import Whole, aggregate, clipped_policy_loss

# The policy says 1/2, 3/4, 1/10 of three tokens, and 1/3 of one; the sampler said 1/4, 1/4, 1/5, and 1/3.
MASK = torch.tensor([[False, True, True, True], [False, True, False, False]])
POLICY = torch.tensor([[9.0, 1 / 2, 3 / 4, 1 / 10], [9.0, 1 / 3, 9.0, 9.0]], dtype=torch.float64).log()
SAMPLER = torch.tensor([[1.0, 1 / 4, 1 / 4, 1 / 5], [5.0, 1 / 3, 5.0, 5.0]], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("level", "cap", "expected"),
    [
        ("token", 10.0, [[0, 2, 3, 0.5], [0, 1, 0, 0]]),
        ("token", 2.0, [[0, 2, 2, 0.5], [0, 1, 0, 0]]),
        ("sequence", 10.0, [[0, 3, 3, 3], [0, 1, 0, 0]]),  # 2 * 3 / 2
        ("sequence", 2.0, [[0, 2, 2, 2], [0, 1, 0, 0]]),
        ("sequence_mean", 10.0, [[0, 1.4422495703, 1.4422495703, 1.4422495703], [0, 1, 0, 0]]),  # the cube root of 3
    ],
)
def test_weights_by_hand(level: str, cap: float, expected: list[list[float]]) -> None:
    weights = truncated_weights(POLICY, SAMPLER, MASK, cap=cap, level=level)  # type: ignore[arg-type]
    assert torch.allclose(weights, torch.tensor(expected, dtype=torch.float64), atol=1e-9)


def test_weights_carry_no_gradient_and_a_cap_is_above_zero() -> None:
    assert not truncated_weights(POLICY.clone().requires_grad_(), SAMPLER, MASK, cap=2.0).requires_grad
    with pytest.raises(ValueError, match="cap"):
        truncated_weights(POLICY, SAMPLER, MASK, cap=0.0)


def test_the_mismatch_by_hand() -> None:
    told = mismatch(POLICY, SAMPLER, MASK, cap=2.5)
    assert told["sampler_ratio"] == pytest.approx((2 + 3 + 0.5 + 1) / 4)
    assert told["sampler_ratio_most"] == pytest.approx(3)
    assert told["sampler_capped"] == 0.25  # the 3 alone
    k3 = [2 - 1 - math.log(2), 3 - 1 - math.log(3), 0.5 - 1 + math.log(2), 0]
    assert told["sampler_kl"] == pytest.approx(sum(k3) / 4)
    assert mismatch(POLICY, SAMPLER, MASK, cap=0.0)["sampler_capped"] == 0


def test_untruncated_weights_undo_the_sampler_exactly() -> None:
    """Over all four outcomes of a token, the weighted gradient under the sampler is the policy's own gradient."""
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    sampler = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    gains = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    policy = torch.log_softmax(logits, -1)
    (own,) = torch.autograd.grad((policy.exp().detach() * gains * policy).sum(), logits, retain_graph=True)

    logprobs, mask = policy[:, None], torch.ones(4, 1, dtype=torch.bool)
    weights = truncated_weights(logprobs, sampler.log()[:, None], mask, cap=1e9)
    loss = clipped_policy_loss(logprobs, logprobs.detach(), gains[:, None] * weights, mask, clip=0.2).per_token
    (corrected,) = torch.autograd.grad((sampler[:, None] * loss).sum(), logits)
    assert torch.allclose(-corrected, own, atol=1e-12)


@pytest.mark.parametrize("level", ["token", "sequence", "sequence_mean"])
def test_weights_on_the_advantage_are_weights_on_the_clipped_loss(level: str) -> None:
    """max(-A r, -A clip(r)) times a weight, reckoned apart, is what the weighted advantage gives."""
    advantages = torch.tensor([[0.0, 1.5, 1.5, 1.5], [0.0, -2.0, 0.0, 0.0]], dtype=torch.float64)
    weights = truncated_weights(POLICY, SAMPLER, MASK, cap=2.0, level=level)  # type: ignore[arg-type]
    moved = POLICY + torch.tensor([[0.0, 0.5, -0.1, 0.05], [0.0, 0.3, 0.0, 0.0]], dtype=torch.float64)
    plain = clipped_policy_loss(moved, POLICY, advantages, MASK, clip=0.2, level=level)  # type: ignore[arg-type]
    given = clipped_policy_loss(moved, POLICY, advantages * weights, MASK, clip=0.2, level=level)  # type: ignore[arg-type]
    own = weights if level == "token" else weights.amax(1, keepdim=True)
    assert torch.allclose(given.per_token, plain.per_token * own, atol=1e-12)
    assert aggregate(given.per_token, given.mask, "token", Whole(2, 4, 4)) != 0
