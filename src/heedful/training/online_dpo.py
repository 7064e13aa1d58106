"""Online DPO (Guo et al. 2024): the losses on preferences, on pairs that the policy itself has just written.

Read `online_dpo` from top to bottom: sample, pair, learn, let the reference follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from heedful.data.records import Prompt
from heedful.errors import HeedfulError
from heedful.rollout.types import Rollout
from heedful.training.answer_logprobs import known_logprobs, lengths
from heedful.training.batching import Example
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.correction import sampler_figures
from heedful.training.experience import describe, old_logprobs, run_logprobs
from heedful.training.optimiser import Optimiser, learning_rate
from heedful.training.pairs import Pair, behind_other_prompts
from heedful.training.preference import Objective, PreferenceData, forget_ratio, gather, sizes_of
from heedful.training.preference_losses import Mixture
from heedful.training.reference import MovingReference
from heedful.training.rollouts import PARTNER_PURPOSE, OnlineModels, Questions, fix_scale, sample
from heedful.training.shared_prompt import can_share
from heedful.training.state import Step, TrainState, mix
from heedful.training.updates import minibatches, step_optimisers
from heedful.training.workers import by_place, current


@dataclass(frozen=True)
class OnlineDPOModels(OnlineModels):
    """Who takes part, and what is minimised."""

    mixture: Mixture
    moving: MovingReference | None = None
    """The reference, where it follows the policy."""


@dataclass(frozen=True)
class Duels:
    """Pairs of a batch's completions, by their rows."""

    first: Tensor  # [N] int64
    second: Tensor  # [N] int64
    probability: Tensor  # [N] float32 that the first one is better

    @property
    def rows(self) -> Tensor:
        """[2, N] int64."""
        return torch.stack([self.first, self.second])

    @property
    def ties(self) -> float:
        """The share of pairs whose scores are equal."""
        return float((self.probability == 0.5).float().mean())


def online_dpo_state(models: OnlineDPOModels, config: OnlineDPOConfig) -> TrainState:
    """Optimiser at the start of a run, and the weights of a reference that moves."""
    modules = {"policy": models.policy.model}
    optimisers = {"policy": Optimiser(modules, config.optimiser, config.updates)}
    if models.moving is not None:
        modules = modules | {"reference": models.moving.policy.model}
    return TrainState(modules, optimisers, config.seed, scalars={"updates": 0})


def online_dpo(
    state: TrainState, models: OnlineDPOModels, prompts: Sequence[Prompt], config: OnlineDPOConfig
) -> Iterator[Step]:
    """Minimise a loss on preferences over the policy's own pairs; yields after every rollout batch.

    The KL that is told is to where the policy began, also where the reference has moved on; `reference_kl` then is the
    one to the reference.

    Raises:
        HeedfulError: one prompt alone, for a loss that needs two.
    """
    questions = Questions(models.policy, prompts)
    if models.mixture.asks("kl") and len(set(map(tuple, questions.tokens))) < 2:
        raise HeedfulError(
            f"all prompts are one, and {config.loss} compares answers with those to another.",
            where="data",
            mend="Give two different prompts or more, or choose another --loss.",
        )
    fix_scale(state, models, questions, config.rollout, config.score)
    while state.step < config.steps:
        state.begin_step()
        batch = sample(state, models, questions, config.rollout, config.score)
        rollout = batch.rollout
        old = old_logprobs(state, models.policy, rollout, config)
        reference = run_logprobs(state, models.reference, rollout, config)
        duels = pair_up(batch.grouped(batch.scores), config.pairs, config.labels)
        data = preference_data(models, questions, rollout, duels, reference, state, config)
        figures = learn(state, models, data, rollout.logprobs.sum(1)[duels.rows], config)
        figures |= sampler_figures(models, rollout, old)
        figures |= describe(rollout, old, reference) | batch.figures() | {"ties": duels.ties}
        if models.start is not None:
            begun = run_logprobs(state, models.start, rollout, config)
            figures |= {"kl": describe(rollout, old, begun)["kl"], "reference_kl": figures["kl"]}
        state.step += 1
        if models.moving is not None and models.moving.follow(models.policy, state.step):
            forget_ratio(state)
        yield Step(state.step, figures, batch.shown(state.step, config.run.sample_every))


def pair_up(scores: Tensor, which: Literal["extremes", "all"], labels: Literal["hard", "soft"]) -> Duels:
    """Which completions are held against each other, and with which label.

    Args:
        scores: [P, K] of each prompt's completions.
        which: the best against the worst (of equal ones the first against the last), or every two of a prompt.
        labels: of the higher score 1, or sigmoid(difference); of equal scores 1/2.
    """
    starts = torch.arange(len(scores), device=scores.device)[:, None] * scores.shape[1]
    if which == "extremes":
        ranked = scores.sort(dim=1, descending=True, stable=True).indices
        first, second = starts + ranked[:, :1], starts + ranked[:, -1:]
    else:
        places = torch.tensor(list(combinations(range(scores.shape[1]), 2)), device=scores.device)
        first, second = starts + places[:, 0], starts + places[:, 1]
    first, second = first.flatten(), second.flatten()
    gap = scores.flatten()[first] - scores.flatten()[second]
    return Duels(first, second, torch.sigmoid(gap) if labels == "soft" else (gap.sign() + 1) / 2)


def preference_data(
    models: OnlineDPOModels,
    questions: Questions,
    rollout: Rollout,
    duels: Duels,
    reference: Tensor,
    state: TrainState,
    config: OnlineDPOConfig,
) -> PreferenceData:
    """The pairs as records, with their log-probabilities under the reference.

    Args:
        reference: [B, T] of the rollout's tokens.
    """
    longest = config.records.max_length
    answers = examples(rollout)
    rows = zip(duels.first.tolist(), duels.second.tolist(), duels.probability.tolist(), strict=True)
    records = [Pair(answers[a], answers[b], probability, 0.0, 1.0) for a, b, probability in rows]
    known = reference.sum(1)[duels.rows].cpu()
    if not models.mixture.asks("kl"):
        return PreferenceData(records, known=known)
    moved = behind_other_prompts(records, questions.tokens, mix(state.seed, PARTNER_PURPOSE, state.step), longest)
    tokens = state.tokens(config.memory)
    team = current()
    mine = team.dealt(sizes_of(moved))
    own = known_logprobs(models.reference, [moved[row] for row in mine], tokens, config.rollout.temperature)
    return PreferenceData(records, moved, known, by_place(team.gathered((mine, own if mine else None)), len(moved)))


def examples(rollout: Rollout) -> list[Example]:
    """The completions behind their prompts, without padding."""
    rows = zip(rollout.tokens.tolist(), rollout.mask.tolist(), rollout.attention.sum(1).tolist(), strict=True)
    return [Example(tokens[:length], mask[:length]) for tokens, mask, length in rows]


def learn(
    state: TrainState, models: OnlineDPOModels, data: PreferenceData, sampled: Tensor, config: OnlineDPOConfig
) -> dict[str, float]:
    """The optimiser steps of one rollout batch; returns the mean of their figures.

    `logprob_mismatch` is by how much the sampler's log-probability of a completion, per token, differs from the
    trainer's before its first step, at most.

    Args:
        sampled: [2, N] what the sampler says of each pair.
    """
    policy, budget = models.policy, state.tokens(config.memory)
    if "share_prompt" not in state.scalars:
        worth = config.memory.share_prompt == "auto" and not current().shards
        worth = worth and can_share(policy, data.records, budget, later=False)
        state.scalars["share_prompt"] = worth
    share, temperature = state.scalars["share_prompt"], config.rollout.temperature
    objective = Objective(models.mixture, budget, share=share, temperature=temperature)
    tokens, first, mismatch = lengths(data.records), state.scalars["updates"], 0.0

    def compare(numbers: list[int], logprob: Tensor) -> None:
        nonlocal mismatch
        if state.scalars["updates"] == first:
            apart = (logprob - sampled[:, numbers]).abs().cpu() / tokens[:, numbers]
            mismatch = max(mismatch, float(apart.max()))

    policy.model.train()
    seen: list[dict[str, float]] = []
    for epoch in range(config.update.epochs):
        for chosen in minibatches(state, epoch, len(data.records), config.update.minibatches):
            told = gather(state, policy, objective, data, chosen, config.memory, compare)
            rate = learning_rate(state.scalars["updates"], state.optimisers["policy"].total, config.optimiser)
            seen.append(told | step_optimisers(state) | {"learning_rate": rate})
    names = dict.fromkeys(name for told in seen for name in told)
    figures = {name: float(np.mean([told[name] for told in seen if name in told])) for name in names}
    return figures | {"logprob_mismatch": current().most(mismatch)}
