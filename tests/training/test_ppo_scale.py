"""Scores, the critic's first values and the normalisation of a reward model are on one scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.chat import render_prompt
from heedful.data.records import Message, Prompt
from heedful.models.actor_critic import SeparateActorCritic
from heedful.models.policy import Policy, new_policy, reference_of
from heedful.models.scalar import Critic, RewardModel, new_reward_model
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.online import PPOConfig
from heedful.training.config.rollout import RolloutConfig, ScoreConfig
from heedful.training.ppo import PPOModels, ppo, ppo_state

PROMPTS = [Prompt((Message("user", word),)) for word in ("red", "blue", "green", "what")]
CONFIG = PPOConfig(
    model="",
    reward="",
    data="",
    out=Path(),
    steps=1,
    critic_learning_rate=0.0,
    optimiser=OptimiserConfig(learning_rate=0.0, schedule="constant", warmup=0.0),
    rollout=RolloutConfig(prompts_per_step=16, max_new_tokens=4),
    score=ScoreConfig(normalise="reference", normalise_samples=32, missing_eos_penalty=0.0),
)


def judge(policy: Policy) -> RewardModel:
    """A random reward model, far from centred."""
    reward = new_reward_model(policy, seed=4)
    reward.model.score.weight.data *= 20
    reward.set_normalisation(3.0, 0.5)
    return reward


def run(config: PPOConfig, *, from_reward: bool) -> tuple[PPOModels, dict[str, float]]:
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1)
    reward = judge(policy)
    critic = Critic.from_reward(reward) if from_reward else Critic.from_policy(policy)
    models = PPOModels(
        SeparateActorCritic(policy, critic), reference_of(policy), reward, critic_from_reward=from_reward
    )
    state = ppo_state(models.actor_critic, config)
    steps = list(ppo(state, models, PROMPTS, config))
    return models, state.scalars | {"score": steps[-1].metrics["score"]}


@pytest.mark.parametrize("normalise", ["reference", "none"])
def test_a_critic_from_the_reward_model_values_an_answer_as_it_is_scored(normalise: str) -> None:
    config = replace(CONFIG, score=replace(CONFIG.score, normalise=normalise))
    models, found = run(config, from_reward=True)
    assert isinstance(models.actor_critic, SeparateActorCritic)
    assert isinstance(models.reward, RewardModel)
    prompt = render_prompt(models.policy.tokenizer, PROMPTS[0].prompt)
    answer = [*prompt, *models.policy.tokenizer("red blue", add_special_tokens=False)["input_ids"]]
    answer.append(models.policy.tokenizer.eos_token_id)
    tokens = torch.tensor([[*answer, 0]])  # the value before the last place is the value of the whole answer
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[0, -1] = True
    value = models.actor_critic.critic.token_values(tokens, torch.ones_like(mask), mask)[0, -1]
    score = (models.reward.score_tokens([answer])[0] - found.get("score_mean", 0)) / found.get("score_spread", 1)
    assert float(value) == pytest.approx(float(score), abs=1e-4)


def test_scores_on_the_references_own_scale_have_mean_near_zero() -> None:
    _, divided = run(CONFIG, from_reward=True)
    _, plain = run(replace(CONFIG, score=ScoreConfig(missing_eos_penalty=0.0)), from_reward=True)
    assert abs(divided["score"]) < 0.6
    assert abs(plain["score"]) > 1.0
    assert "score_mean" not in plain


def test_a_critic_from_the_policy_still_starts_at_zero() -> None:
    models, _ = run(CONFIG, from_reward=False)
    assert isinstance(models.actor_critic, SeparateActorCritic)
    critic = models.actor_critic.critic
    assert (critic.offset, critic.scale) == (0.0, 1.0)


def test_rescaling_follows_what_went_before() -> None:
    reward = judge(new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1))
    critic = Critic.from_reward(reward)
    critic.rescale(2.0, 4.0)
    raw = torch.tensor([7.0])
    assert float((raw - critic.offset) / critic.scale) == pytest.approx((float(reward.normalised(raw)) - 2.0) / 4.0)
