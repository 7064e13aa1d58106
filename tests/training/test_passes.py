"""A guard of speed by counts: which passes through which model a step takes, and how many tokens they read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.records import Message, Prompt
from heedful.models.actor_critic import SeparateActorCritic, SharedActorCritic
from heedful.models.policy import Policy, new_policy, reference_of
from heedful.models.scalar import Critic
from heedful.training.config.common import MemoryConfig
from heedful.training.config.online import GRPOConfig, PPOConfig
from heedful.training.config.rollout import RolloutConfig
from heedful.training.config.updates import PPOUpdateConfig
from heedful.training.grpo import grpo, grpo_state
from heedful.training.ppo import PPOModels, ppo, ppo_state
from heedful.training.rollouts import OnlineModels

PROMPTS = [Prompt((Message("user", " ".join([word] * 10)),)) for word in ("red", "blue", "green", "what")]


@dataclass
class Passes:
    """Tokens, padding counted, of each pass through a trunk, by what the pass was for."""

    sampled: list[int] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)


def watched(model: Any) -> Passes:
    """Count the passes of a model from now on. A pass with a cache and without gradients samples."""
    found = Passes()

    def look(module: Any, given: Any, named: Any) -> None:
        cached = any(named.get(name) is not None for name in ("cache", "past_key_values"))
        kind = found.trained if torch.is_grad_enabled() else found.sampled if cached else found.scored
        kind.append(named["input_ids"].numel())

    model.base_model.register_forward_pre_hook(look, with_kwargs=True)
    return found


def settings(rows: int, samples: int) -> dict[str, Any]:
    return {
        "model": "", "reward": "", "data": "", "out": Path(), "steps": 1,
        "rollout": RolloutConfig(rows // samples, samples, max_new_tokens=6),
        "memory": MemoryConfig(micro_batch_tokens=10_000),
    }  # fmt: skip


def even(asked: Any, texts: list[str]) -> list[float]:
    return [float(len(text) % 3) for text in texts]


def new() -> Policy:
    return new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1)


@pytest.mark.parametrize("critic", ["separate", "shared"])
@pytest.mark.parametrize("again", [False, True])
def test_ppo_runs_each_model_no_more_often_than_it_must(critic: str, again: bool) -> None:
    policy = new()
    shared = critic == "shared"
    both = SharedActorCritic(policy) if shared else SeparateActorCritic(policy, Critic.from_policy(policy))
    models = PPOModels(both, reference_of(policy), even)
    own, anchor = watched(policy.model), watched(models.reference.model)
    other = None if shared else watched(both.value_module)
    given = settings(8, 1)
    if again:
        given["rollout"] = RolloutConfig(8, 1, max_new_tokens=6, recompute_logprobs=True)
    config = PPOConfig(**given, critic=critic, update=PPOUpdateConfig(epochs=2))  # type: ignore[arg-type]
    list(ppo(ppo_state(both, config), models, PROMPTS, config))
    assert 1 < len(own.sampled) <= 6
    assert own.sampled[1] <= 8  # a token a row
    assert len(own.scored) == again  # log-probabilities, and values of a shared trunk, are the sampler's
    assert len(own.trained) == 2
    assert (len(anchor.sampled), len(anchor.scored), len(anchor.trained)) == (0, 1, 0)
    if other is not None:
        assert (len(other.sampled), len(other.scored), len(other.trained)) == (0, 1, 2)


def test_grpo_reads_a_prompt_once_for_all_its_answers() -> None:
    policy = new()
    models = OnlineModels(policy, reference_of(policy), even)
    assert policy.continues()
    assert models.reference.continues()
    own = watched(policy.model)
    config = GRPOConfig(**settings(8, 4))
    list(grpo(grpo_state(models, config), models, PROMPTS, config))
    longest = own.sampled[0] // 2  # two prompts
    assert longest > 10  # ten words, and the turn around them
    assert not own.scored
    (trained,) = own.trained
    assert 2 * longest < trained <= 2 * longest + 8 * 5 + 1  # of six tokens the last predicts nothing; one is a filler
