"""RAFT: what is kept, and that keeping it is imitating it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.records import Message, Prompt
from heedful.errors import HeedfulError
from heedful.models.policy import new_policy, reference_of
from heedful.training.batching import Example
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.online import RAFTConfig
from heedful.training.config.rollout import RolloutConfig, ScoreConfig
from heedful.training.config.updates import KLConfig, PassesConfig
from heedful.training.experience import logprobs_of
from heedful.training.online_dpo import examples
from heedful.training.raft import best, raft, raft_state
from heedful.training.rollouts import OnlineModels, Questions, sample
from heedful.training.sft import imitate

PROMPTS = [Prompt((Message("user", word),)) for word in ("red", "blue", "what sky")]
ROLLOUT = RolloutConfig(prompts_per_step=3, samples_per_prompt=4, max_new_tokens=6)


def config(**over: Any) -> RAFTConfig:
    given: dict[str, Any] = {"model": "", "reward": "", "data": "", "out": Path(), "steps": 1, "rollout": ROLLOUT}
    given["optimiser"] = OptimiserConfig(learning_rate=1e-2, schedule="constant", warmup=0.0, clip_norm=0.0)
    return RAFTConfig(**given | over)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 3))
def test_the_best_of_each_prompt_are_kept_and_the_first_of_equals(rows: list[list[int]], keep: int) -> None:
    kept = best(torch.tensor(rows, dtype=torch.float32), keep, "prompt")
    for group, row in enumerate(rows):
        own = [place - 4 * group for place in kept if place // 4 == group]
        order = sorted(range(4), key=lambda place: (-row[place], place))
        assert own == sorted(order[:keep])


@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 3))
def test_the_best_of_the_whole_batch_are_kept_whosever_they_are(rows: list[list[int]], keep: int) -> None:
    kept = best(torch.tensor(rows, dtype=torch.float32), keep, "batch")
    flat = [reward for row in rows for reward in row]
    assert kept == sorted(sorted(range(len(flat)), key=lambda place: (-flat[place], place))[: keep * len(rows)])


def test_its_step_is_one_of_sft_on_what_is_kept() -> None:
    def judge(asked: Any, texts: Any) -> list[float]:
        return [float(len(text)) for text in texts]

    policy, same = (new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1) for _ in range(2))
    models = OnlineModels(policy, reference_of(policy), judge)
    settings = config(score=ScoreConfig(missing_eos_penalty=0.0))
    state = raft_state(models, settings)
    batch = sample(state, models, Questions(policy, PROMPTS), ROLLOUT, settings.score)
    (step,) = raft(state, models, PROMPTS, settings)

    kept = [group * 4 + int(row.argmax()) for group, row in enumerate(batch.grouped(batch.rewards))]
    answers: list[Example] = [examples(batch.rollout)[row] for row in kept]
    loss = imitate(same, answers, 8192)["loss"]
    twin = raft_state(OnlineModels(same, same, judge), settings)
    twin.optimisers["policy"].step(0)
    assert step.metrics["policy_loss"] == pytest.approx(loss, abs=1e-5)
    assert step.metrics["kept_reward"] == pytest.approx(float(batch.rewards[kept].mean()))
    for own, other in zip(policy.model.parameters(), same.model.parameters(), strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)


def test_the_kl_is_paid_before_the_completions_are_ranked() -> None:
    """Rewards that are all alike: what is kept is what the reference finds likeliest beside the policy."""
    policy, same, other = (new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=seed) for seed in (1, 1, 3))
    models = OnlineModels(policy, other, lambda asked, texts: [0.0] * len(texts))
    settings = config(kl=KLConfig(coefficient=5.0, level="sequence"), score=ScoreConfig(missing_eos_penalty=0.0))
    state = raft_state(models, settings)
    batch = sample(state, models, Questions(policy, PROMPTS), ROLLOUT, settings.score)
    drift = (batch.rollout.logprobs - logprobs_of(other, batch.rollout, 1.0, 8192)).sum(1)
    nearest = [group * 4 + int(row.argmin()) for group, row in enumerate(batch.grouped(drift))]
    assert nearest != [0, 4, 8]  # the first of equals, were there no price
    (step,) = raft(state, models, PROMPTS, settings)
    expected = imitate(same, [examples(batch.rollout)[row] for row in nearest], 8192)["loss"]
    assert step.metrics["policy_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"keep": 4}, "keep is 4: of 4 completions"),
        ({"keep": 0}, "keep is 0"),
        ({"update": PassesConfig(minibatches=4)}, "4 minibatches cannot be cut from 3 sequences"),
        ({"kl": KLConfig(estimator="k2", place="loss")}, "which is k1 in the reward"),
        ({"kl": KLConfig(estimator="k3")}, "which is k1 in the reward"),
        ({"kl": KLConfig(coefficient=0.0, adaptive=True)}, "0 stays 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(over: dict[str, Any], said: str) -> None:
    with pytest.raises(HeedfulError, match=said):
        config(**over)
