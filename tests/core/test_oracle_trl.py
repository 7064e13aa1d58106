"""Against TRL 1.12, the last TRL with PPO: make oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from heedful.core.advantages import gae, masked_mean, shape_rewards, whiten
from heedful.core.answers import Anchored
from heedful.core.kl import k1
from heedful.core.logprob import linear_logprob
from heedful.core.pair_losses import sigmoid
from heedful.core.policy_gradient import clipped_policy_loss, clipped_value_loss
from heedful.core.reward_losses import bradley_terry_loss, centering_penalty
from trl_oracle import Oracle, close, draw, needs_oracle

pytestmark = needs_oracle


def test_dpo_from_logits_to_gradient(ask: Oracle) -> None:
    pairs, length, vocabulary = 3, 6, 5
    logits, reference = (draw(2 * pairs, length, vocabulary, seed=s) for s in (0, 1))
    tokens = torch.randint(vocabulary, (2 * pairs, length), generator=torch.Generator().manual_seed(2))
    prompt, ends = torch.tensor([1, 2, 3, 1, 2, 3]), torch.tensor([6, 4, 5, 3, 6, 4])
    place = torch.arange(length)
    mask = (place >= prompt[:, None]) & (place < ends[:, None])

    def sums(all_logits: Tensor) -> tuple[Tensor, Tensor]:
        flat = mask[:, 1:]
        hidden = all_logits[:, :-1][flat]
        logprobs, entropy = linear_logprob(
            hidden, torch.eye(vocabulary, dtype=torch.float64), tokens[:, 1:][flat], chunk=4
        )
        rows = torch.zeros(flat.shape, dtype=torch.float64).masked_scatter(flat, logprobs)
        return rows.sum(1), entropy

    logits.requires_grad_()
    (policy, entropy), (base, _) = sums(logits), sums(reference)
    a, b = (Anchored(*parts) for parts in zip(*(x.chunk(2) for x in (policy, mask.sum(1), base)), strict=True))
    loss = sigmoid(a, b, beta=0.3).mean()
    loss.backward()
    given = {"logits": logits, "reference_logits": reference, "tokens": tokens, "mask": mask}
    theirs = ask("dpo", **given, loss="sigmoid", beta=0.3, epsilon=0.0, weighting=False)
    assert close(loss, theirs["loss"])
    assert close(logits.grad, theirs["gradient"])
    assert close(entropy.mean(), theirs["entropy"])


@pytest.mark.parametrize(("margin", "centering"), [(False, 0.0), (True, 0.0), (False, 0.01), (True, 0.5)])
def test_reward_loss(margin: bool, centering: float, ask: Oracle) -> None:
    scores, gap = draw(8, seed=3).requires_grad_(), draw(4, seed=4).abs() if margin else None
    a, b = scores.chunk(2)
    loss = (bradley_terry_loss(a, b, margin=gap) + centering * centering_penalty(a, b)).mean()
    loss.backward()
    theirs = ask("reward", scores=scores, margin=gap, centering=centering or None)
    assert close(loss, theirs["loss"])
    assert close(scores.grad, theirs["gradient"])


@pytest.mark.parametrize("whiten_rewards", [False, True])
def test_ppo_rewards_advantages_and_returns(whiten_rewards: bool, ask: Oracle) -> None:
    """TRL puts the score one slot after the last token unless the window is full; so do we for this test."""
    logprobs, reference, values = (draw(4, 6, seed=s) for s in (5, 6, 7))
    scores, last = draw(4, seed=8), torch.tensor([5, 3, 1, 4])
    place = torch.arange(6)
    mask, longer = place <= last[:, None], place <= last[:, None] + 1
    penalty = torch.where(mask, 0.07 * k1(logprobs, reference), 0.0)
    rewards = shape_rewards(scores, penalty, longer)
    if whiten_rewards:
        rewards = whiten(rewards, longer, shift_mean=False)
    advantages, returns = gae(rewards, values, longer, gamma=0.97, lam=0.9)
    theirs = ask(
        "ppo_advantages",
        logprobs=logprobs,
        ref_logprobs=reference,
        values=values,
        scores=scores,
        last=last,
        coefficient=0.07,
        gamma=0.97,
        lam=0.9,
        whiten_rewards=whiten_rewards,
    )
    assert close(rewards, theirs["rewards"])
    assert close(whiten(advantages, mask, shift_mean=True), theirs["advantages"])
    assert close(returns, theirs["returns"])


def test_ppo_losses(ask: Oracle) -> None:
    old, advantages, old_values, returns = (draw(4, 6, seed=s) for s in (9, 10, 11, 12))
    logprobs = (old + 0.4 * draw(4, 6, seed=13)).requires_grad_()
    values = (old_values + 0.4 * draw(4, 6, seed=14)).requires_grad_()
    mask = torch.arange(6) < torch.tensor([6, 3, 1, 5])[:, None]
    policy = clipped_policy_loss(logprobs, old, advantages, mask, clip=0.2)
    policy_loss = masked_mean(policy.per_token, mask)
    value_loss = masked_mean(clipped_value_loss(values, old_values, returns, mask, clip=0.2), mask)
    (policy_loss + value_loss).backward()
    theirs = ask(
        "ppo_losses",
        logprobs=logprobs,
        values=values,
        old_logprobs=old,
        old_values=old_values,
        returns=returns,
        advantages=advantages,
        mask=mask,
        clip=0.2,
    )
    assert 0 < policy.clipped.sum() < mask.sum()
    assert policy.clipped.tolist() == theirs["clipped"]
    assert close(policy_loss, theirs["policy"])
    assert close(value_loss, theirs["value"])
    assert close(logprobs.grad, theirs["policy_gradient"])
    assert close(values.grad, theirs["value_gradient"])
