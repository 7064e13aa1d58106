"""Rejection-sampling fine-tuning (RAFT, Dong et al. 2023): imitate the best of a prompt's completions.

Read `raft` from top to bottom: sample, rank, imitate what is kept, steer β.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from heedful.data.records import Prompt
from heedful.training.config.online import RAFTConfig
from heedful.training.correction import sampler_figures
from heedful.training.experience import (
    Experience,
    describe,
    kl_price,
    old_logprobs,
    over_tokens,
    run_logprobs,
    select_experience,
)
from heedful.training.rollouts import OnlineModels, Questions, fix_scale, sample
from heedful.training.state import Step, TrainState
from heedful.training.updates import Imitation, policy_state, steer, update_policy


def raft_state(models: OnlineModels, config: RAFTConfig) -> TrainState:
    """Optimiser and KL coefficient at the start of a run."""
    return policy_state(models.policy, config, config.kl.coefficient)


def raft(state: TrainState, models: OnlineModels, prompts: Sequence[Prompt], config: RAFTConfig) -> Iterator[Step]:
    """Make the best completions more likely; yields after every rollout batch.

    A batch that is learnt to the end makes of the policy its own best-of-K.
    """
    questions = Questions(models.policy, prompts)
    fix_scale(state, models, questions, config.rollout, config.score)
    objective = Imitation(config.rollout.max_new_tokens)
    while state.step < config.steps:
        state.begin_step()
        kl_coefficient = state.scalars["kl_coefficient"]
        batch = sample(state, models, questions, config.rollout, config.score)
        rollout, mask = batch.rollout, batch.rollout.mask
        old = old_logprobs(state, models.policy, rollout, config)
        told = sampler_figures(models, rollout, old)
        reference = run_logprobs(state, models.reference, rollout, config)
        rewards = batch.scores - kl_price(config.kl, kl_coefficient, old, reference, mask).sum(1)
        kept = best(batch.grouped(rewards), config.keep, config.ranking)
        experience = Experience(rollout, old, reference, over_tokens(torch.ones_like(rewards), mask))
        figures = update_policy(state, models.policy, select_experience(experience, kept), objective, config)
        figures |= describe(rollout, old, reference) | batch.figures() | told
        figures |= {"kept_reward": float(batch.rewards[kept].mean()), "kl_coefficient": kl_coefficient}
        steer(state, config.kl, figures["kl"], len(batch))
        state.step += 1
        yield Step(state.step, figures, batch.shown(state.step, config.run.sample_every))


def best(rewards: Tensor, keep: int, ranking: Literal["prompt", "batch"]) -> list[int]:
    """The rows of a batch's best completions, in their order; of equal ones the first.

    Args:
        rewards: [P, K].
        keep: how many a prompt, or P times as many of the whole batch.
    """
    ranked = rewards if ranking == "prompt" else rewards.reshape(1, -1)
    count = keep if ranking == "prompt" else keep * len(rewards)
    places = ranked.sort(dim=1, descending=True, stable=True).indices[:, :count]
    starts = torch.arange(len(ranked), device=rewards.device)[:, None] * ranked.shape[1]
    return sorted((starts + places).flatten().tolist())
