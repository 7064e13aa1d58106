"""Proximal policy optimisation with a KL penalty to the starting policy (Schulman et al. 2017, Ziegler et al. 2019).

Read `ppo` from top to bottom: sample, judge, update, steer β.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heedful.core.advantages import explained_variance, masked_mean
from heedful.core.kl import AdaptiveKL, FixedKL
from heedful.core.policy_gradient import clipped_policy_loss, clipped_value_loss
from heedful.data.chat import render_prompt
from heedful.data.packing import micro_batches
from heedful.data.records import Conversation, Prompt
from heedful.models.actor_critic import SeparateActorCritic, SharedActorCritic
from heedful.models.policy import Policy
from heedful.models.rewards import Reward
from heedful.rollout.engine import NativeEngine, decode
from heedful.rollout.types import Rollout, RolloutParams
from heedful.training.batching import records_between
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.online import KLConfig, PPOConfig, ScoreConfig
from heedful.training.experience import (
    CriticExperience,
    in_micro_batches,
    judge,
    logprobs_of,
    select_experience,
)
from heedful.training.optimiser import Optimiser, learning_rate
from heedful.training.state import Step, TrainState, due, mix

ActorCritic = SeparateActorCritic | SharedActorCritic

SAMPLES_PURPOSE, REFERENCE_PURPOSE, MINIBATCH_PURPOSE = 1, 2, 3


@dataclass(frozen=True)
class PPOModels:
    """Who takes part: the trained pair, the frozen anchor, and the judge."""

    actor_critic: ActorCritic
    reference: Policy
    reward: Reward
    critic_from_reward: bool = False
    """Whether the critic began as a copy of the reward model, and so speaks on its scale."""

    @property
    def policy(self) -> Policy:
        """The policy that is trained."""
        return self.actor_critic.policy


def ppo_state(actor_critic: ActorCritic, config: PPOConfig) -> TrainState:
    """Optimisers and KL coefficient at the start of a run."""
    updates = config.steps * config.update.epochs * config.update.minibatches
    optimisers = {}
    if isinstance(actor_critic, SeparateActorCritic):
        critic_config = OptimiserConfig(**{**asdict(config.optimiser), "learning_rate": config.critic_learning_rate})
        optimisers["policy"] = Optimiser({"policy": actor_critic.policy.model}, config.optimiser, updates)
        optimisers["critic"] = Optimiser({"critic": actor_critic.value_module}, critic_config, updates)
    else:
        modules = {"policy": actor_critic.policy.model, "critic": actor_critic.value_module}
        optimisers["policy"] = Optimiser(modules, config.optimiser, updates)
    modules = {"policy": actor_critic.policy.model, "critic": actor_critic.value_module}
    scalars: dict[str, Any] = {"kl_coefficient": config.kl.coefficient, "updates": 0}
    return TrainState(modules, optimisers, config.seed, scalars=scalars)


def ppo(state: TrainState, models: PPOModels, prompts: Sequence[Prompt], config: PPOConfig) -> Iterator[Step]:
    """Improve the policy on the reward under the KL penalty; yields after every rollout batch."""
    engine = NativeEngine(models.policy)
    conversations = [prompt.prompt for prompt in prompts]
    rendered = [render_prompt(models.policy.tokenizer, conversation) for conversation in conversations]
    if config.score.normalise == "reference" and "score_mean" not in state.scalars:
        state.scalars |= reference_statistics(state, models, conversations, rendered, config)
    if config.score.normalise == "reference" and models.critic_from_reward:
        assert isinstance(models.actor_critic, SeparateActorCritic)
        models.actor_critic.critic.rescale(state.scalars["score_mean"], state.scalars["score_spread"])
    while state.step < config.steps:
        state.begin_step()
        wanted = config.rollout.prompts_per_step
        chosen = records_between(state.step * wanted, (state.step + 1) * wanted, len(prompts), state.seed)
        rollout = sample(engine, [rendered[i] for i in chosen], mix(state.seed, SAMPLES_PURPOSE, state.step), config)
        texts = decode(models.policy, rollout)
        asked = [conversations[chosen[i]] for i in rollout.prompt_index.tolist()]
        raw = as_scores(models.reward(asked, texts), rollout)
        scores = shape_scores(raw, rollout, config.score, state.scalars)
        experience, figures = assess(models, rollout, scores, state.scalars["kl_coefficient"], config)
        figures |= update(state, models.actor_critic, experience, config)
        figures |= {"reward": float(raw.mean()), "score": float(scores.mean())}
        kl_control = controller(config.kl, state.scalars["kl_coefficient"]).updated(figures["kl"], len(rollout))
        state.scalars["kl_coefficient"] = kl_control.coefficient
        state.step += 1
        shown = tuple(
            {"prompt": asked[i][-1].content, "completion": texts[i], "reward": float(raw[i])}
            for i in (range(min(4, len(texts))) if due(state.step, config.run.sample_every) else ())
        )
        yield Step(state.step, figures, shown)


def controller(config: KLConfig, coefficient: float) -> FixedKL | AdaptiveKL:
    """The KL controller as it stands."""
    if config.adaptive:
        return AdaptiveKL(coefficient, config.target, config.horizon)
    return FixedKL(coefficient)


def sample(engine: NativeEngine, prompts: Sequence[Sequence[int]], seed: int, config: PPOConfig) -> Rollout:
    """Completions from the policy's own distribution."""
    settings = config.rollout
    params = RolloutParams(settings.max_new_tokens, settings.temperature, seed, settings.stop)
    return engine.generate(
        prompts, params, samples_per_prompt=settings.samples_per_prompt, max_batch=settings.max_batch
    )


def as_scores(scores: Tensor | Sequence[float], rollout: Rollout) -> Tensor:
    """[B] float32 on the rollout's device."""
    return torch.as_tensor(scores, dtype=torch.float32, device=rollout.tokens.device)


def shape_scores(raw: Tensor, rollout: Rollout, config: ScoreConfig, statistics: dict[str, Any]) -> Tensor:
    """[B]: the reward normalised, clamped, and only then less the penalty for a missing end of turn."""
    scores = (raw - statistics.get("score_mean", 0.0)) / statistics.get("score_spread", 1.0)
    if config.clip > 0:
        scores = scores.clamp(-config.clip, config.clip)
    return scores - config.missing_eos_penalty * (~rollout.finished).float()


def reference_statistics(
    state: TrainState,
    models: PPOModels,
    conversations: Sequence[Conversation],
    rendered: Sequence[Sequence[int]],
    config: PPOConfig,
) -> dict[str, float]:
    """Mean and spread of the reward over the reference's own samples; a reward that is constant keeps its spread."""
    wanted = max(2, config.score.normalise_samples)
    chosen = records_between(0, wanted, len(rendered), mix(state.seed, REFERENCE_PURPOSE))
    settings = config.rollout
    params = RolloutParams(
        settings.max_new_tokens, settings.temperature, mix(state.seed, REFERENCE_PURPOSE, 1), settings.stop
    )
    rollout = NativeEngine(models.reference).generate(
        [rendered[i] for i in chosen], params, max_batch=settings.max_batch
    )
    asked = [conversations[i] for i in chosen]
    scores = as_scores(models.reward(asked, decode(models.reference, rollout)), rollout)
    spread = float(scores.std())
    return {"score_mean": float(scores.mean()), "score_spread": spread if spread > 1e-6 else 1.0}


@torch.no_grad()
def assess(
    models: PPOModels, rollout: Rollout, scores: Tensor, kl_coefficient: float, config: PPOConfig
) -> tuple[CriticExperience, dict[str, float]]:
    """Log-probabilities of policy and reference, values, advantages; and the figures that describe the batch."""
    temperature, budget = config.rollout.temperature, config.memory.micro_batch_tokens
    models.policy.model.eval()

    def compute(part: Rollout) -> tuple[Tensor, ...]:
        return models.actor_critic.evaluate(part.tokens, part.attention, part.mask, temperature=temperature)

    own, entropy, values = in_micro_batches(rollout, budget, compute)
    reference = logprobs_of(models.reference, rollout, temperature, budget)
    logprobs = own if config.rollout.recompute_logprobs else rollout.logprobs
    experience = judge(
        rollout,
        scores,
        logprobs,
        reference,
        values,
        kl_coefficient=kl_coefficient,
        gamma=config.update.gamma,
        lam=config.update.lam,
        whiten_advantages=config.update.whiten_advantages,
    )
    mask = rollout.mask
    figures = {
        "kl": float((logprobs - reference).sum(1).mean()),
        "kl_coefficient": kl_coefficient,
        "entropy": float(masked_mean(entropy, mask)),
        "length": float(rollout.lengths.float().mean()),
        "finished": float(rollout.finished.float().mean()),
        "logprob_mismatch": float((own - rollout.logprobs).abs().max()),
    }
    explained = float(explained_variance(values, experience.returns, mask))
    if math.isfinite(explained):  # it has no answer where all returns are equal
        figures["explained_variance"] = explained
    return experience, figures


def update(
    state: TrainState, actor_critic: ActorCritic, experience: CriticExperience, config: PPOConfig
) -> dict[str, float]:
    """Several epochs of clipped minibatch steps on one rollout batch; returns their mean figures."""
    settings = config.update
    rows = len(experience.rollout)
    actor_critic.policy.model.train()
    actor_critic.value_module.train()
    seen: list[dict[str, float]] = []
    for epoch in range(settings.epochs):
        order = np.random.default_rng([state.seed, MINIBATCH_PURPOSE, state.step, epoch]).permutation(rows)
        seen += [
            _minibatch(state, actor_critic, select_experience(experience, chosen.tolist()), config)
            for chosen in np.array_split(order, settings.minibatches)
        ]
        if 0 < settings.update_kl_limit < seen[-1]["update_kl"]:
            break
    figures = {name: float(np.mean([one[name] for one in seen])) for name in seen[0]}
    updates = len(seen)
    return figures | {
        "first_ratio": seen[0]["ratio"],
        "updates": updates,
        "learning_rate": _rate(state, config),
    }


def _rate(state: TrainState, config: PPOConfig) -> float:
    return learning_rate(state.scalars["updates"], state.optimisers["policy"].total, config.optimiser)


def _minibatch(
    state: TrainState, actor_critic: ActorCritic, experience: CriticExperience, config: PPOConfig
) -> dict[str, float]:
    """One optimiser step, its gradient gathered over micro-batches and divided by the global token count."""
    settings = config.update
    rollout = experience.rollout
    tokens = int(rollout.mask.sum())
    sums: dict[str, float] = {}
    for rows in micro_batches(rollout.attention.sum(1).tolist(), config.memory.micro_batch_tokens):
        part = select_experience(experience, rows)
        mask = part.rollout.mask
        logprobs, entropy, values = actor_critic.evaluate(
            part.rollout.tokens, part.rollout.attention, mask, temperature=config.rollout.temperature
        )
        policy = clipped_policy_loss(logprobs, part.logprobs, part.advantages, mask, clip=settings.clip)
        value = clipped_value_loss(values, part.values, part.returns, mask, clip=settings.value_clip or None)
        policy_loss, value_loss = policy.per_token.sum() / tokens, value.sum() / tokens
        weight = 1.0 if isinstance(actor_critic, SeparateActorCritic) else settings.value_coefficient
        moves = state.step >= config.critic_warmup
        loss = weight * value_loss
        if moves:
            loss = loss + policy_loss - settings.entropy_coefficient * entropy.sum() / tokens
        loss.backward()
        with torch.no_grad():
            log_ratio = (logprobs - part.logprobs)[mask]
            part_figures = {
                "loss": loss.detach(),
                "policy_loss": policy_loss.detach(),
                "value_loss": value_loss.detach(),
                "clip_fraction": policy.clipped.sum() / tokens,
                "ratio": log_ratio.exp().sum() / tokens,
                "update_kl": (log_ratio.expm1() - log_ratio).sum() / tokens,
            }
        for name, figure in part_figures.items():
            sums[name] = sums.get(name, 0.0) + float(figure)
    for name, optimiser in state.optimisers.items():
        sums[f"{name}_gradient_norm"] = optimiser.step(state.scalars["updates"])
    state.scalars["updates"] += 1
    return sums
