"""From sampled completions to what PPO learns from: one type per stage, no optional fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heedful.core.advantages import gae, shape_rewards, whiten
from heedful.core.kl import k1
from heedful.data.packing import micro_batches
from heedful.models.policy import Policy
from heedful.rollout.types import Rollout


@dataclass(frozen=True)
class Experience:
    """A rollout with the log-probabilities of its tokens, and their advantages."""

    rollout: Rollout
    logprobs: Tensor  # [B, T] float32, of the policy that sampled; 0 outside the mask
    reference_logprobs: Tensor  # [B, T] float32, of the frozen reference; 0 outside the mask
    advantages: Tensor  # [B, T] float32; 0 outside the mask


@dataclass(frozen=True)
class CriticExperience(Experience):
    """Experience judged by a critic. `values[t]` is V of the prefix before token t."""

    values: Tensor  # [B, T] float32
    returns: Tensor  # [B, T] float32


def select(rollout: Rollout, rows: Sequence[int] | Tensor) -> Rollout:
    """Some rows of a rollout, cut to the longest of them."""
    index = torch.as_tensor(rows, device=rollout.tokens.device)
    width = int(rollout.attention[index].sum(1).max())
    return Rollout(
        rollout.tokens[index, :width],
        rollout.attention[index, :width],
        rollout.mask[index, :width],
        rollout.logprobs[index, :width],
        rollout.finished[index],
        rollout.prompt_index[index],
    )


def select_experience(experience: CriticExperience, rows: Sequence[int]) -> CriticExperience:
    """Some rows of an experience, cut to the longest of them."""
    rollout = select(experience.rollout, rows)
    index, width = torch.as_tensor(rows, device=rollout.tokens.device), rollout.tokens.shape[1]
    return CriticExperience(
        rollout,
        experience.logprobs[index, :width],
        experience.reference_logprobs[index, :width],
        experience.advantages[index, :width],
        experience.values[index, :width],
        experience.returns[index, :width],
    )


def in_micro_batches(rollout: Rollout, budget: int, compute: Callable[[Rollout], tuple[Tensor, ...]]) -> list[Tensor]:
    """Run a per-token computation over length-balanced micro-batches; [B, T] results in the rollout's order."""
    results: list[Tensor] = []
    lengths = rollout.attention.sum(1).tolist()
    for rows in micro_batches(lengths, budget):
        part = select(rollout, rows)
        outputs = compute(part)
        if not results:
            results = [torch.zeros(rollout.tokens.shape, device=rollout.tokens.device) for _ in outputs]
        index = torch.as_tensor(rows, device=rollout.tokens.device)
        for result, output in zip(results, outputs, strict=True):
            result[index, : output.shape[1]] = output.float()
    return results


@torch.no_grad()
def logprobs_of(policy: Policy, rollout: Rollout, temperature: float, budget: int) -> Tensor:
    """[B, T]: log-probabilities of a rollout's tokens under a policy; 0 outside the mask."""

    def compute(part: Rollout) -> tuple[Tensor, ...]:
        return (policy.token_logprobs(part.tokens, part.attention, part.mask, temperature=temperature)[0],)

    return in_micro_batches(rollout, budget, compute)[0]


def judge(
    rollout: Rollout,
    scores: Tensor,
    logprobs: Tensor,
    reference_logprobs: Tensor,
    values: Tensor,
    *,
    kl_coefficient: float,
    gamma: float,
    lam: float,
    whiten_advantages: bool,
) -> CriticExperience:
    """Rewards per token (score on the last real token, minus β times the k1 estimate), then GAE.

    Args:
        scores: [B], already normalised and penalised.
    """
    penalty = kl_coefficient * k1(logprobs, reference_logprobs)
    rewards = shape_rewards(scores, penalty, rollout.mask)
    advantages, returns = gae(rewards, values, rollout.mask, gamma=gamma, lam=lam)
    if whiten_advantages:
        advantages = whiten(advantages, rollout.mask, shift_mean=True)
    return CriticExperience(rollout, logprobs, reference_logprobs, advantages, values, returns)
