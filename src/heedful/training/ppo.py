"""Proximal policy optimisation with a KL penalty to the starting policy (Schulman et al. 2017, Ziegler et al. 2019).

Read `ppo` from top to bottom: sample, judge, update, steer β. Beside `rloo` it shows what a critic is for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from heedful.core.advantages import explained_variance
from heedful.core.policy_gradient import Whole, clipped_value_loss
from heedful.data.records import Prompt
from heedful.models.actor_critic import SeparateActorCritic, SharedActorCritic
from heedful.models.policy import Policy
from heedful.models.rewards import Reward
from heedful.rollout.types import Readout, ReadRollout, Rollout
from heedful.training.batching import Example, records_between
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.online import PPOConfig
from heedful.training.correction import corrected
from heedful.training.experience import (
    CriticExperience,
    Reading,
    describe,
    in_micro_batches,
    judge,
    logprobs_of,
    shared_out,
)
from heedful.training.optimiser import Optimiser
from heedful.training.rollouts import PTX_PURPOSE, Batch, Questions, fix_scale, sample
from heedful.training.served import RolloutServer
from heedful.training.sft import imitate
from heedful.training.state import Step, TrainState, mix
from heedful.training.updates import Objective, Terms, accumulate, epochs, own_reading, steer, step_optimisers
from heedful.training.workers import current

ActorCritic = SeparateActorCritic | SharedActorCritic


@dataclass(frozen=True)
class PPOModels:
    """Who takes part: the trained pair, the frozen anchor, and the judge."""

    actor_critic: ActorCritic
    reference: Policy
    reward: Reward
    critic_from_reward: bool = False
    """Whether the critic began as a copy of the reward model, and so speaks on its scale."""
    start: Policy | None = None
    """The policy as it began, where the reference is another."""
    server: RolloutServer | None = None
    """A server that samples in the policy's place."""

    @property
    def policy(self) -> Policy:
        """The policy that is trained."""
        return self.actor_critic.policy

    @property
    def readout(self) -> Readout | None:
        """Values, where they are read off the policy's own states: sampling has made those states already."""
        return self.actor_critic.read if isinstance(self.actor_critic, SharedActorCritic) else None


def ppo_state(actor_critic: ActorCritic, config: PPOConfig) -> TrainState:
    """Optimisers and KL coefficient at the start of a run."""
    optimisers = {}
    if isinstance(actor_critic, SeparateActorCritic):
        critic_config = OptimiserConfig(**{**asdict(config.optimiser), "learning_rate": config.critic_learning_rate})
        optimisers["policy"] = Optimiser({"policy": actor_critic.policy.model}, config.optimiser, config.updates)
        optimisers["critic"] = Optimiser({"critic": actor_critic.value_module}, critic_config, config.updates)
    else:
        modules = {"policy": actor_critic.policy.model, "critic": actor_critic.value_module}
        optimisers["policy"] = Optimiser(modules, config.optimiser, config.updates)
    modules = {"policy": actor_critic.policy.model, "critic": actor_critic.value_module}
    scalars: dict[str, Any] = {"kl_coefficient": config.kl.coefficient, "updates": 0}
    return TrainState(modules, optimisers, config.seed, scalars=scalars)


def ppo(
    state: TrainState,
    models: PPOModels,
    prompts: Sequence[Prompt],
    config: PPOConfig,
    kept: Sequence[Example] = (),
) -> Iterator[Step]:
    """Improve the policy on the reward under the KL penalty; yields after every rollout batch.

    Args:
        kept: text that the policy should go on predicting well (PPO-ptx); none mixes nothing in.
    """
    questions = Questions(models.policy, prompts)
    fix_scale(state, models, questions, config.rollout, config.score)
    if config.score.normalise == "reference" and models.critic_from_reward:
        assert isinstance(models.actor_critic, SeparateActorCritic)
        models.actor_critic.critic.rescale(state.scalars["score_mean"], state.scalars["score_spread"])
    while state.step < config.steps:
        state.begin_step()
        batch = sample(state, models, questions, config.rollout, config.score)
        experience, figures = assess(state, models, batch, config)
        figures |= update(state, models.actor_critic, experience, config, kept)
        figures |= batch.figures()
        steer(state, config.kl, figures["kl"], len(batch))
        state.step += 1
        yield Step(state.step, figures, batch.shown(state.step, config.run.sample_every))


@torch.no_grad()
def read_all(models: PPOModels, config: PPOConfig, rollout: Rollout, budget: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, T] each: log-probabilities of policy and reference, and values, of a rollout's tokens."""
    temperature = config.rollout.temperature
    parts = Reading.whole(rollout, budget).parts
    models.policy.model.eval()
    models.actor_critic.value_module.eval()
    logprobs = rollout.logprobs
    if config.rollout.recomputes:
        logprobs, _, values = in_micro_batches(
            rollout,
            parts,
            lambda part: models.actor_critic.evaluate(part.tokens, part.attention, part.mask, temperature=temperature),
        )
    elif isinstance(rollout, ReadRollout):
        values = rollout.readouts
    else:
        values = in_micro_batches(
            rollout, parts, lambda part: (models.actor_critic.values(part.tokens, part.attention, part.mask),)
        )[0]
    return logprobs, logprobs_of(models.reference, rollout, temperature, budget), values


@torch.no_grad()
def assess(
    state: TrainState, models: PPOModels, batch: Batch, config: PPOConfig
) -> tuple[CriticExperience, dict[str, float]]:
    """Log-probabilities of policy and reference, values, advantages; and the figures that describe the batch."""
    rollout, mask = batch.rollout, batch.rollout.mask
    kl_coefficient = state.scalars["kl_coefficient"]

    def read(part: Rollout) -> tuple[Tensor, ...]:
        return state.within_memory(config.memory, part.tokens.shape[1], partial(read_all, models, config, part))

    logprobs, reference, values = shared_out(rollout, read)
    experience = judge(
        rollout,
        batch.scores,
        logprobs,
        reference,
        values,
        kl=config.kl,
        kl_coefficient=kl_coefficient,
        gamma=config.update.gamma,
        lam=config.update.lam,
        whiten_rewards=config.update.whiten_rewards,
        whiten_advantages=config.update.whiten_advantages,
    )
    figures = describe(rollout, logprobs, reference) | {"kl_coefficient": kl_coefficient}
    experience, told = corrected(models, experience, config.rollout, "token")
    figures |= told
    explained = float(explained_variance(values, experience.returns, mask))
    if math.isfinite(explained):  # it has no answer where all returns are equal
        figures["explained_variance"] = explained
    return experience, figures


def update(
    state: TrainState,
    actor_critic: ActorCritic,
    experience: CriticExperience,
    config: PPOConfig,
    kept: Sequence[Example] = (),
) -> dict[str, float]:
    """Several epochs of clipped minibatch steps on one rollout batch; returns their mean figures."""
    settings = config.update
    policy, kl_coefficient = actor_critic.policy, state.scalars["kl_coefficient"]
    objective = Objective(settings.clip, settings.clip, "token", "token", config.rollout.max_new_tokens)
    weight = 1.0 if isinstance(actor_critic, SeparateActorCritic) else settings.value_coefficient
    moves = state.step >= config.critic_warmup
    first, mismatch = state.scalars["updates"], 0.0
    policy.model.train()
    actor_critic.value_module.train()

    def terms(part: CriticExperience, whole: Whole) -> Terms:
        nonlocal mismatch
        rollout = part.rollout
        asked = (rollout.tokens, rollout.attention, rollout.mask)

        def loss_of(values: Tensor) -> Tensor:
            value = clipped_value_loss(
                values, part.values, part.returns, rollout.mask, clip=settings.value_clip or None
            )
            return value.sum() / whole.tokens

        if isinstance(actor_critic, SeparateActorCritic):
            value_loss = loss_of(actor_critic.critic.token_values(*asked))
            if moves:  # back before the policy goes forward, so that the activations of one are held at a time
                value_loss.backward()
                value_loss = value_loss.detach()
            logprobs, entropy = policy.token_logprobs(*asked, temperature=config.rollout.temperature)
        else:
            logprobs, entropy, values = actor_critic.evaluate(*asked, temperature=config.rollout.temperature)
            value_loss = loss_of(values)
        if state.scalars["updates"] == first:
            mismatch = max(mismatch, float((logprobs.detach() - rollout.logprobs).abs().max()))
        policy_loss, figures = objective.terms(part, logprobs, entropy, whole, config, kl_coefficient)
        loss = weight * value_loss + policy_loss if moves else weight * value_loss
        figures |= {"value_loss": value_loss.detach(), "entropy": entropy.detach().sum() / whole.tokens}
        return loss, figures

    def minibatch(part: CriticExperience) -> dict[str, float]:
        def gather(tokens: int) -> dict[str, float]:
            parts = own_reading(policy, part.rollout, tokens, grouped=False).parts
            figures = accumulate(part, parts, objective.longest, terms)
            if kept and moves:
                figures["ptx_loss"] = keep(state, policy, kept, config, tokens)
            return figures

        gathered = state.within_memory(config.memory, part.rollout.tokens.shape[1], gather)
        return current().summed(gathered) | step_optimisers(state)

    return epochs(state, experience, config, minibatch) | {"logprob_mismatch": current().most(mismatch)}


def keep(state: TrainState, policy: Policy, kept: Sequence[Example], config: PPOConfig, tokens: int) -> float:
    """Add the gradient of PPO-ptx: γ times the mean loss per token on the next sequences of the other text.

    Minimise L_PPO - γ E[log π(text)] (Ouyang et al. 2022, equation 2, with the mean over tokens). Which sequences
    is a function of the seed and of how many optimiser steps were taken.
    """
    size, number = config.ptx.sequences, state.scalars["updates"]
    chosen = records_between(number * size, (number + 1) * size, len(kept), mix(state.seed, PTX_PURPOSE))
    batch = [kept[i] for i in chosen]
    return imitate(policy, batch, tokens, config.ptx.weight)["loss"]
