"""What every online method does with its experience: the objective, minibatches, micro-batches, and the leash."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heedful.core.kl import AdaptiveKL, FixedKL, estimate
from heedful.core.policy_gradient import Aggregation, RatioLevel, Whole, aggregate, clipped_policy_loss
from heedful.models.policy import Policy
from heedful.rollout.types import Rollout
from heedful.training.config.online import LeashedConfig
from heedful.training.config.updates import BaseKLConfig, UpdateConfig
from heedful.training.experience import Experience, ExperienceT, Reading, pick_rows, select_experience
from heedful.training.optimiser import Optimiser, learning_rate
from heedful.training.rollouts import MINIBATCH_PURPOSE
from heedful.training.state import TrainState
from heedful.training.workers import current

Terms = tuple[Tensor, dict[str, Tensor]]
"""A loss with its gradient, and figures; both add up over the parts of a minibatch."""


@dataclass(frozen=True)
class Objective:
    """What a policy is to minimise on its experience.

    `clip_low` and `clip_high` bound the ratio at `level`; `aggregation` is the mean over tokens and completions, of
    which the longest may have `longest` tokens.
    """

    clip_low: float
    clip_high: float
    level: RatioLevel
    aggregation: Aggregation
    longest: int

    def _of_kl(self, level: str) -> Aggregation:
        """What the KL is a mean over: as the loss, but the KL of a whole completion is no mean over its tokens."""
        return "completion" if level == "sequence" and self.aggregation == "sequence" else self.aggregation

    def terms(
        self,
        part: Experience,
        logprobs: Tensor,
        entropy: Tensor,
        whole: Whole,
        config: LeashedConfig,
        kl_coefficient: float,
    ) -> Terms:
        """The clipped loss, the KL where it is paid in the loss, and the entropy bonus, on a part of a minibatch.

        Args:
            part: N of the minibatch's completions.
            logprobs, entropy: [N, T] of the policy in training, with gradient.
            whole: what the means run over.
        """
        mask = part.rollout.mask
        policy = clipped_policy_loss(
            logprobs,
            part.logprobs,
            part.advantages,
            mask,
            clip=self.clip_low,
            clip_high=self.clip_high,
            level=self.level,
        )
        policy_loss = aggregate(policy.per_token, policy.mask, self.aggregation, whole)
        loss = policy_loss
        figures = {"policy_loss": policy_loss.detach()}
        if config.kl.place == "loss" and kl_coefficient > 0:
            drift = estimate(logprobs, part.reference_logprobs, mask, config.kl.estimator, config.kl.level)
            kl_loss = aggregate(drift, mask, self._of_kl(config.kl.level), whole)
            loss = loss + kl_coefficient * kl_loss
            figures["kl_loss"] = kl_loss.detach()
        if (
            isinstance(config.update, UpdateConfig) and config.update.entropy_coefficient != 0
        ):  # its backward pass costs
            loss = loss - config.update.entropy_coefficient * entropy.sum() / whole.tokens
        figures["clip_fraction"] = policy.clipped.sum() / (whole.tokens if self.level == "token" else whole.rows)
        return loss, figures | moved(part, logprobs, whole)


@dataclass(frozen=True)
class Imitation:
    """To make experience more likely, whatever it earned: the negative log-likelihood, a mean over all tokens."""

    longest: int

    def terms(
        self,
        part: Experience,
        logprobs: Tensor,
        entropy: Tensor,
        whole: Whole,
        config: LeashedConfig,
        kl_coefficient: float,
    ) -> Terms:
        """As `Objective.terms`; `kl_coefficient` was paid where completions were chosen."""
        loss = aggregate(-logprobs, part.rollout.mask, "token", whole)
        return loss, {"policy_loss": loss.detach()} | moved(part, logprobs, whole)


@torch.no_grad()
def moved(part: Experience, logprobs: Tensor, whole: Whole) -> dict[str, Tensor]:
    """How far the policy has gone from the one that sampled: the mean ratio and the KL per token."""
    log_ratio = (logprobs - part.logprobs)[part.rollout.mask]
    return {
        "ratio": log_ratio.exp().sum() / whole.tokens,
        "update_kl": (log_ratio.expm1() - log_ratio).sum() / whole.tokens,
    }


def accumulate(
    experience: ExperienceT, parts: Sequence[Sequence[int]], longest: int, terms: Callable[[ExperienceT, Whole], Terms]
) -> dict[str, float]:
    """Gather one optimiser step's gradient over parts of its rows; returns the summed figures.

    The means run over the whole of `experience`, so that micro-batches cannot change the loss.

    Args:
        parts: this worker's; the figures are of these alone.
    """
    rollout = experience.rollout
    whole = Whole(len(rollout), int(rollout.mask.sum()), longest)
    nothing: Any = Whole(math.inf, math.inf, longest)  # type: ignore[arg-type]  # a share of it is 0
    sums: dict[str, float] = {}
    for rows, counts in current().in_step(parts, spare=[0]):
        loss, figures = terms(select_experience(experience, rows), whole if counts else nothing)
        loss.backward()
        for name, figure in {"loss": loss.detach(), **figures}.items():
            sums[name] = sums.get(name, 0.0) + float(figure)
    return sums


def own_reading(policy: Policy, rollout: Rollout, budget: int, *, grouped: bool = True) -> Reading:
    """How this worker reads its share of a rollout's rows; the parts name rows of the whole.

    Args:
        budget: most tokens at a time.
        grouped: a prompt may be read once for all its answers. Where weights are sharded it is not, so that all workers
            make as many passes for a part.
    """
    team = current()
    mine = team.dealt(rollout.attention.sum(1).tolist()) if team.count > 1 else list(range(len(rollout)))
    if not mine:
        return Reading([], grouped=False)
    part = rollout if team.count == 1 else pick_rows(rollout, mine)
    reading = Reading.of(policy, part, budget) if grouped and not team.shards else Reading.whole(part, budget)
    return Reading([[mine[row] for row in rows] for rows in reading.parts], reading.grouped)


def step_optimisers(state: TrainState) -> dict[str, float]:
    """Take the step, or leave the policy where it is while it is frozen; returns the gradient norms."""
    number, frozen = state.scalars["updates"], state.frozen
    norms = {
        f"{name}_gradient_norm": one.rest() if frozen and name == "policy" else one.step(number)
        for name, one in state.optimisers.items()
    }
    state.scalars["updates"] += 1
    return norms | ({"frozen": 1.0} if frozen else {})


def minibatches(state: TrainState, epoch: int, rows: int, count: int) -> list[list[int]]:
    """The rows of each optimiser step of a pass over a rollout batch: a permutation of (seed, step, pass), cut up."""
    order = np.random.default_rng([state.seed, MINIBATCH_PURPOSE, state.step, epoch]).permutation(rows)
    return [chosen.tolist() for chosen in np.array_split(order, count)]


def epochs(
    state: TrainState,
    experience: ExperienceT,
    config: LeashedConfig,
    minibatch: Callable[[ExperienceT], dict[str, float]],
) -> dict[str, float]:
    """Several passes of optimiser steps over one rollout batch; returns the mean of their figures.

    Passes end early once the policy has gone `update_kl_limit` nats a token from the one that sampled, where there is
    such a limit.
    """
    settings, rows = config.update, len(experience.rollout)
    limit = settings.update_kl_limit if isinstance(settings, UpdateConfig) else 0.0
    seen: list[dict[str, float]] = []
    for epoch in range(settings.epochs):
        seen += [
            minibatch(select_experience(experience, chosen))
            for chosen in minibatches(state, epoch, rows, settings.minibatches)
        ]
        if 0 < limit < seen[-1]["update_kl"]:
            break
    figures = {name: float(np.mean([one[name] for one in seen])) for name in seen[0]}
    rate = learning_rate(state.scalars["updates"] - 1, state.optimisers["policy"].total, config.optimiser)
    return figures | {"first_ratio": seen[0]["ratio"], "updates": len(seen), "learning_rate": rate}


def policy_state(policy: Policy, config: LeashedConfig, kl_coefficient: float) -> TrainState:
    """Optimiser and KL coefficient at the start of a run without a critic."""
    modules = {"policy": policy.model}
    optimisers = {"policy": Optimiser(modules, config.optimiser, config.updates)}
    return TrainState(modules, optimisers, config.seed, scalars={"kl_coefficient": kl_coefficient, "updates": 0})


def update_policy(
    state: TrainState, policy: Policy, experience: Experience, objective: Objective | Imitation, config: LeashedConfig
) -> dict[str, float]:
    """The optimiser steps of one rollout batch, without a critic; returns their mean figures."""
    policy.model.train()
    temperature = config.rollout.temperature
    kl_coefficient, first = state.scalars["kl_coefficient"], state.scalars["updates"]
    mismatch = 0.0

    def terms(reading: Reading, part: Experience, whole: Whole) -> Terms:
        nonlocal mismatch
        rollout = part.rollout
        logprobs, entropy = reading.logprobs(policy, rollout, temperature)
        if state.scalars["updates"] == first:
            mismatch = max(mismatch, float((logprobs.detach() - rollout.logprobs).abs().max()))
        loss, figures = objective.terms(part, logprobs, entropy, whole, config, kl_coefficient)
        return loss, figures | {"entropy": entropy.detach().sum() / whole.tokens}

    def minibatch(part: Experience) -> dict[str, float]:
        def gather(tokens: int) -> dict[str, float]:
            reading = own_reading(policy, part.rollout, tokens)
            return accumulate(part, reading.parts, objective.longest, partial(terms, reading))

        gathered = state.within_memory(config.memory, part.rollout.tokens.shape[1], gather)
        return current().summed(gathered) | step_optimisers(state)

    return epochs(state, experience, config, minibatch) | {"logprob_mismatch": current().most(mismatch)}


def steer(state: TrainState, kl: BaseKLConfig, measured: float, episodes: int) -> None:
    """Set the KL coefficient for the next step: as it is, or moved towards the target KL."""
    control = controller(kl, state.scalars["kl_coefficient"]).updated(measured, episodes)
    state.scalars["kl_coefficient"] = control.coefficient


def controller(config: BaseKLConfig, coefficient: float) -> FixedKL | AdaptiveKL:
    """The KL controller as it stands."""
    if config.adaptive:
        return AdaptiveKL(coefficient, config.target, config.horizon)
    return FixedKL(coefficient)
