"""GRPO with its forms and RLOO against TRL 1.12, advantages, losses and gradients, in float64: make oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from heedful.core.advantages import group_advantages, leave_one_out
from heedful.core.kl import estimate
from heedful.core.policy_gradient import Whole, aggregate, clipped_policy_loss
from trl_oracle import Oracle, close, draw, needs_oracle

pytestmark = needs_oracle

ROWS, LENGTH, LONGEST = 6, 5, 9
MASK = torch.arange(LENGTH) < torch.tensor([5, 1, 3, 4, 2, 5])[:, None]
WHOLE = Whole(ROWS, int(MASK.sum()), LONGEST)


def made() -> tuple[Tensor, Tensor, Tensor]:
    """[6, 5] log-probabilities in training, of the policy that sampled and of the reference; ratios beyond any clip."""
    old, change, far = (draw(ROWS, LENGTH, seed=seed) for seed in (60, 61, 62))
    old = -old.abs()
    logprobs, reference = old + 0.3 * change, old + 0.5 * far
    return logprobs.where(MASK, 0.0).requires_grad_(), old.where(MASK, 0.0), reference.where(MASK, 0.0)


@pytest.mark.parametrize("scale", [True, False])
def test_group_advantages(scale: bool, ask: Oracle) -> None:
    rewards = draw(4, 3, seed=63)
    rewards[1] = 0.25  # a prompt whose completions are all worth the same
    found = ask("grpo_advantages", rewards=rewards, scale=scale)
    assert close(group_advantages(rewards, scale=scale), found["advantages"])


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize(
    ("theirs", "mean", "level", "their_level", "clips"),
    [
        ("grpo", "sequence", "token", "token", (0.2, 0.2)),
        ("dr_grpo", "constant", "token", "token", (0.2, 0.2)),
        ("dapo", "token", "token", "token", (0.2, 0.28)),
        ("bnpo", "token", "token", "token", (0.2, 0.2)),
        ("grpo", "sequence", "sequence_mean", "sequence", (0.03, 0.04)),
    ],
    ids=["grpo", "dr_grpo", "dapo", "bnpo", "gspo"],
)
def test_grpo_and_its_forms(
    theirs: str, mean: Any, level: Any, their_level: str, clips: tuple[float, float], beta: float, ask: Oracle
) -> None:
    logprobs, old, reference = made()
    advantages = draw(ROWS, seed=64)
    policy = clipped_policy_loss(
        logprobs, old, advantages[:, None].where(MASK, 0.0), MASK, clip=clips[0], clip_high=clips[1], level=level
    )
    loss = aggregate(policy.per_token, policy.mask, mean, WHOLE)
    loss = loss + beta * aggregate(estimate(logprobs, reference, MASK, "k3", "token"), MASK, mean, WHOLE)
    loss.backward()
    found = ask(
        "grpo_loss",
        logprobs=logprobs,
        old_logprobs=old,
        ref_logprobs=reference,
        advantages=advantages,
        mask=MASK,
        loss=theirs,
        level=their_level,
        low=clips[0],
        high=clips[1],
        beta=beta,
        longest=LONGEST,
    )
    assert policy.clipped.any()
    assert close(loss, found["loss"])
    assert close(logprobs.grad, found["gradient"])


@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_rloo(beta: float, ask: Oracle) -> None:
    logprobs, old, reference = made()
    rewards = draw(2, 3, seed=65)
    price = beta * estimate(old, reference, MASK, "k1", "sequence").sum(1)
    advantages = leave_one_out((rewards.flatten() - price).view(2, 3)).flatten()
    policy = clipped_policy_loss(logprobs, old, advantages[:, None].where(MASK, 0.0), MASK, clip=0.2, level="sequence")
    loss = aggregate(policy.per_token, policy.mask, "completion", WHOLE)
    loss.backward()
    found = ask(
        "rloo",
        logprobs=logprobs,
        old_logprobs=old,
        ref_logprobs=reference,
        rewards=rewards,
        mask=MASK,
        beta=beta,
        clip=0.2,
    )
    assert policy.clipped.any()
    assert close(advantages, found["advantages"])
    assert close(loss, found["loss"])
    assert close(logprobs.grad, found["gradient"])
