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
from heedful.rollout.types import Rollout
from heedful.training.answer_logprobs import known_logprobs
from heedful.training.batching import Example
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.experience import describe, logprobs_of, old_logprobs
from heedful.training.optimiser import Optimiser, learning_rate
from heedful.training.pairs import Pair, mismatched
from heedful.training.preference import Objective, PreferenceData, descend
from heedful.training.preference_losses import Mixture
from heedful.training.reference import MovingReference
from heedful.training.rollouts import MINIBATCH_PURPOSE, OnlineModels, Questions, fix_scale, sample
from heedful.training.shared_prompt import is_exact
from heedful.training.state import Step, TrainState, mix


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
    """Minimise a loss on preferences over the policy's own pairs; yields after every rollout batch."""
    questions = Questions(models.policy, prompts)
    fix_scale(state, models, questions, config.rollout, config.score)
    temperature, budget = config.rollout.temperature, config.memory.micro_batch_tokens
    while state.step < config.steps:
        state.begin_step()
        batch = sample(state, models, questions, config.rollout, config.score)
        old = old_logprobs(models.policy, batch.rollout, config)
        reference = logprobs_of(models.reference, batch.rollout, temperature, budget)
        duels = pair_up(batch.grouped(batch.scores), config.pairs, config.labels)
        figures = learn(state, models, preference_data(models, batch.rollout, duels, reference, state, config), config)
        figures |= describe(batch.rollout, old, reference) | batch.figures() | {"ties": duels.ties}
        state.step += 1
        if models.moving is not None:
            models.moving.follow(models.policy, state.step)
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
    answers = examples(rollout)
    rows = zip(duels.first.tolist(), duels.second.tolist(), duels.probability.tolist(), strict=True)
    records = [Pair(answers[a], answers[b], probability, 0.0, 1.0) for a, b, probability in rows]
    known = reference.sum(1)[torch.stack([duels.first, duels.second])].cpu()
    if not models.mixture.asks("kl"):
        return PreferenceData(records, known=known)
    moved = mismatched(records, records, mix(state.seed, MINIBATCH_PURPOSE, state.step), config.records.max_length)
    under = known_logprobs(models.reference, moved, config.memory.micro_batch_tokens, config.rollout.temperature)
    return PreferenceData(records, moved, known, under)


def examples(rollout: Rollout) -> list[Example]:
    """The completions behind their prompts, without padding."""
    rows = zip(rollout.tokens.tolist(), rollout.mask.tolist(), rollout.attention.sum(1).tolist(), strict=True)
    return [Example(tokens[:length], mask[:length]) for tokens, mask, length in rows]


def learn(
    state: TrainState, models: OnlineDPOModels, data: PreferenceData, config: OnlineDPOConfig
) -> dict[str, float]:
    """The optimiser steps of one rollout batch; returns the mean of their figures.

    Each pass is a permutation of (seed, step, pass), cut into equal minibatches.
    """
    policy, optimiser, budget = models.policy, state.optimisers["policy"], config.memory.micro_batch_tokens
    share = config.memory.share_prompt == "auto" and is_exact(policy, data.records, budget)
    objective = Objective(models.mixture, budget, share=share, temperature=config.rollout.temperature)
    policy.model.train()
    seen: list[dict[str, float]] = []
    for epoch in range(config.update.epochs):
        order = np.random.default_rng([state.seed, MINIBATCH_PURPOSE, state.step, epoch]).permutation(len(data.records))
        for chosen in np.array_split(order, config.update.minibatches):
            told = descend(state, policy, objective, data, chosen.tolist())
            rate = learning_rate(state.scalars["updates"], optimiser.total, config.optimiser)
            told["policy_gradient_norm"] = optimiser.step(state.scalars["updates"])
            state.scalars["updates"] += 1
            seen.append(told | {"learning_rate": rate})
    names = dict.fromkeys(name for told in seen for name in told)
    return {name: float(np.mean([told[name] for told in seen if name in told])) for name in names}
