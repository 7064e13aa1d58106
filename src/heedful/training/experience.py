"""From sampled completions to what a policy learns from: one type per stage, no optional fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from heedful.core.advantages import gae, shape_rewards, whiten
from heedful.core.kl import estimate
from heedful.data.packing import micro_batches, prompt_micro_batches
from heedful.models.policy import Policy
from heedful.rollout.types import Rollout, RolloutT
from heedful.training.config.online import OnlineConfig
from heedful.training.config.updates import BaseKLConfig
from heedful.training.state import TrainState
from heedful.training.workers import current


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


ExperienceT = TypeVar("ExperienceT", bound=Experience)


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


def select_experience(experience: ExperienceT, rows: Sequence[int]) -> ExperienceT:
    """Some rows of an experience, cut to the longest of them."""
    rollout = select(experience.rollout, rows)
    index, width = torch.as_tensor(rows, device=rollout.tokens.device), rollout.tokens.shape[1]
    columns = {f.name: getattr(experience, f.name) for f in fields(experience) if f.name != "rollout"}
    return type(experience)(rollout, **{name: column[index, :width] for name, column in columns.items()})


@dataclass(frozen=True)
class Reading:
    """How the rows of a rollout are read: which go together, and whether a prompt is read once for all its answers."""

    parts: list[list[int]]
    grouped: bool

    @staticmethod
    def whole(rollout: Rollout, budget: int) -> Reading:
        """Row by row, rows of like length together, within a budget of tokens."""
        return Reading(micro_batches(rollout.attention.sum(1).tolist(), budget), grouped=False)

    @staticmethod
    def of(policy: Policy, rollout: Rollout, budget: int) -> Reading:
        """As the policy reads fewest tokens, padding counted."""
        apart = Reading.whole(rollout, budget)
        groups = rollout.prompt_index.tolist()
        if len(set(groups)) == len(groups) or not policy.continues():
            return apart
        lengths, answers = rollout.attention.sum(1).tolist(), rollout.lengths.tolist()
        prompts = [length - answer for length, answer in zip(lengths, answers, strict=True)]
        together, tokens = prompt_micro_batches(groups, prompts, answers, budget, policy.context_length)
        plain = sum(len(rows) * lengths[rows[0]] for rows in apart.parts)
        return Reading(together, grouped=True) if tokens < plain else apart

    def logprobs(self, policy: Policy, part: Rollout, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies [n, T] of the tokens of one part."""
        given = (part.tokens, part.attention, part.mask)
        if not self.grouped:
            return policy.token_logprobs(*given, temperature=temperature)
        return policy.grouped_logprobs(*given, part.prompt_index, temperature=temperature)


def in_micro_batches(
    rollout: Rollout, parts: Sequence[Sequence[int]], compute: Callable[[Rollout], tuple[Tensor, ...]]
) -> list[Tensor]:
    """Run a per-token computation over parts of a rollout's rows; [B, T] results in the rollout's order."""
    results: list[Tensor] = []
    for rows in parts:
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
    reading = Reading.of(policy, rollout, budget)
    return in_micro_batches(rollout, reading.parts, lambda part: reading.logprobs(policy, part, temperature)[:1])[0]


def run_logprobs(state: TrainState, policy: Policy, rollout: Rollout, config: OnlineConfig) -> Tensor:
    """[B, T]: `logprobs_of` a run's rollout, in micro-batches that the device has memory for."""

    def read(part: Rollout) -> tuple[Tensor]:
        work = partial(logprobs_of, policy, part, config.rollout.temperature)
        return (state.within_memory(config.memory, part.tokens.shape[1], work),)

    return shared_out(rollout, read)[0]


def shared_out(rollout: RolloutT, read: Callable[[RolloutT], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """[B, T] each: what is read of a rollout's rows, without gradient; each worker reads some prompts' rows.

    Args:
        read: of [b] rows, one number for each token: [b, T] each.
    """
    team = current()
    if team.count == 1:
        return read(rollout)
    prompts = team.block(int(rollout.prompt_index.max()) + 1)
    rows = [row for row, prompt in enumerate(rollout.prompt_index.tolist()) if prompt in prompts]
    with team.whole():
        own = tuple(found.cpu() for found in read(pick_rows(rollout, rows))) if rows else ()
    whole: list[Tensor] = []
    for where, columns in team.gathered((rows, own)):
        if not whole:
            whole = [torch.zeros(rollout.tokens.shape) for _ in columns]
        for table, column in zip(whole, columns, strict=bool(where)):
            table[where] = column
    return tuple(table.to(rollout.tokens.device) for table in whole)


def pick_rows(rollout: RolloutT, rows: Sequence[int]) -> RolloutT:
    """Some rows of a rollout, of its own kind and width."""
    index = torch.as_tensor(rows, device=rollout.tokens.device)
    return type(rollout)(**{name: value[index] for name, value in vars(rollout).items()})


def old_logprobs(state: TrainState, policy: Policy, rollout: Rollout, config: OnlineConfig) -> Tensor:
    """[B, T]: log-probabilities of the policy before its update: the sampler's own, or computed again."""
    if not config.rollout.recomputes:
        return rollout.logprobs
    policy.model.eval()
    return run_logprobs(state, policy, rollout, config)


@torch.no_grad()
def kl_price(kl: BaseKLConfig, coefficient: float, logprobs: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """[B, T]: what the KL takes from each token's reward; nothing where it is paid in the loss."""
    if kl.place == "loss":
        return torch.zeros_like(logprobs)
    return coefficient * estimate(logprobs, reference, mask, kl.estimator, kl.level)


def over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """[B, T]: each completion's own value [B] at all its tokens; 0 outside the mask."""
    return torch.where(mask, values.unsqueeze(1), 0.0)


def describe(rollout: Rollout, logprobs: Tensor, reference: Tensor) -> dict[str, float]:
    """How far the policy that sampled is from the reference, and how it ends its answers."""
    return {
        "kl": float((logprobs - reference).sum(1).mean()),
        "length": float(rollout.lengths.float().mean()),
        "finished": float(rollout.finished.float().mean()),
    }


def judge(
    rollout: Rollout,
    scores: Tensor,
    logprobs: Tensor,
    reference_logprobs: Tensor,
    values: Tensor,
    *,
    kl: BaseKLConfig,
    kl_coefficient: float,
    gamma: float,
    lam: float,
    whiten_rewards: bool,
    whiten_advantages: bool,
) -> CriticExperience:
    """Rewards per token (score on the last real token, less the price of the KL), then GAE.

    Args:
        scores: [B], already normalised and penalised.
    """
    penalty = kl_price(kl, kl_coefficient, logprobs, reference_logprobs, rollout.mask)
    rewards = shape_rewards(scores, penalty, rollout.mask)
    if whiten_rewards:
        rewards = whiten(rewards, rollout.mask, shift_mean=False)
    advantages, returns = gae(rewards, values, rollout.mask, gamma=gamma, lam=lam)
    if whiten_advantages:
        advantages = whiten(advantages, rollout.mask, shift_mean=True)
    return CriticExperience(rollout, logprobs, reference_logprobs, advantages, values, returns)
