"""What happens to a reward before a method sees it: ceilings, bounds, penalties; and the figures of a batch's texts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.records import Message, Prompt
from heedful.errors import HeedfulError
from heedful.models.policy import new_policy, reference_of
from heedful.models.rewards import EnsembleReward, judged
from heedful.rollout.types import Rollout
from heedful.training.config.rollout import RolloutConfig, ScoreConfig
from heedful.training.rollouts import OnlineModels, Questions, correlation, fix_scale, sample, shape_scores
from heedful.training.state import TrainState

PLAIN = ScoreConfig(missing_eos_penalty=0.0)


def rollout(lengths: list[int], finished: list[bool]) -> Rollout:
    longest, n = max(lengths), len(lengths)
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    ended = torch.tensor(finished)
    return Rollout(
        torch.zeros(n, longest, dtype=torch.int64), mask, mask, torch.zeros(n, longest), ended, torch.arange(n)
    )


def shaped(raw: list[float], statistics: dict[str, Any] | None = None, **settings: Any) -> list[float]:
    lengths, texts = [10, 110, 210], ["a b c d", "a b c d e f", "a b c d a b c d"]
    config = ScoreConfig(**{"missing_eos_penalty": 0.0, **settings})
    found = rollout(lengths, [True, True, False])
    return shape_scores(torch.tensor(raw), found, texts, config, statistics or {}).tolist()


def test_each_option_does_what_it_says() -> None:
    raw = [-2.0, 0.5, 3.0]
    assert shaped(raw) == pytest.approx(raw)
    assert shaped(raw, ceiling=1.0) == pytest.approx([-2.0, 0.5, 1.0])
    assert shaped(raw, {"score_ceiling": 0.0}, ceiling_quantile=0.9) == pytest.approx([-2.0, 0.0, 0.0])
    assert shaped(raw, clip=1.0) == pytest.approx([-1.0, 0.5, 1.0])
    assert shaped(raw, bound="sigmoid") == pytest.approx([1 / (1 + math.exp(-x)) for x in raw])
    assert shaped(raw, bound="logsigmoid") == pytest.approx([-math.log1p(math.exp(-x)) for x in raw], rel=1e-5)
    assert shaped(raw, missing_eos_penalty=2.0) == pytest.approx([-2.0, 0.5, 1.0])
    assert shaped(raw, length_penalty=0.5, length_free=60) == pytest.approx([-2.0, 0.25, 2.25])
    assert shaped(raw, {"length_mean": 110.0}, length_penalty=1.0) == pytest.approx([-2.0, 0.5, 2.0])
    assert shaped(raw, repetition_penalty=5.0) == pytest.approx([-2.0, 0.5, 2.0])  # one of five 4-grams stood before


def test_the_ceiling_comes_before_the_scale_and_the_bound_after_it() -> None:
    measured = {"score_mean": 1.0, "score_spread": 2.0}
    assert shaped([9.0, 1.0, -1.0], measured, normalise="reference", ceiling=5.0) == pytest.approx([2.0, 0.0, -1.0])
    both = shaped([9.0, 1.0, -1.0], measured, normalise="reference", ceiling=5.0, bound="sigmoid")
    assert both[:2] == pytest.approx([1 / (1 + math.exp(-2.0)), 0.5])


@pytest.mark.parametrize(
    "settings",
    [
        {"ceiling": 1.0, "ceiling_quantile": 0.9},
        {"ceiling_quantile": 1.5},
        {"length_free": 10.0},
        {"length_penalty": -1.0},
        {"repetition_penalty": -1.0},
        {"bound": "sigmoid", "clip": 1.0},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(HeedfulError):
        ScoreConfig(**settings)


def players(reward: Any) -> tuple[OnlineModels, Questions]:
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1)
    prompts = [Prompt((Message("user", word),)) for word in ("red", "blue", "green", "what")]
    return OnlineModels(policy, reference_of(policy), reward), Questions(policy, prompts)


def test_what_is_needed_is_measured_on_the_references_samples() -> None:
    models, questions = players(lambda prompts, texts: [float(len(text)) for text in texts])
    settings = RolloutConfig(prompts_per_step=4, max_new_tokens=8)
    asking = ScoreConfig(ceiling_quantile=0.5, length_penalty=1.0, normalise_samples=16)
    assert asking.measured
    assert not PLAIN.measured
    state = TrainState({}, {}, 0)
    fix_scale(state, models, questions, settings, PLAIN)
    assert "score_mean" not in state.scalars
    fix_scale(state, models, questions, settings, asking)
    assert 1 <= state.scalars["length_mean"] <= 8
    assert state.scalars["score_mean"] <= state.scalars["score_ceiling"]  # of what is paid
    batch = sample(state, models, questions, settings, asking)
    assert float(batch.scores.max()) <= state.scalars["score_ceiling"]
    assert float(batch.rewards.max()) > state.scalars["score_ceiling"]  # what the judge said stays as it was


def test_figures_of_a_batch_tell_of_its_texts() -> None:
    models, questions = players(lambda prompts, texts: [float(len(text.split())) for text in texts])
    state = TrainState({}, {}, 0)
    batch = sample(state, models, questions, RolloutConfig(prompts_per_step=16, max_new_tokens=8), PLAIN)
    figures = batch.figures()
    pairs = [tuple(pair) for t in batch.texts for w in [t.casefold().split()] for pair in itertools.pairwise(w)]
    assert figures["distinct_2"] == pytest.approx(len(set(pairs)) / len(pairs))
    assert figures["reward_length_correlation"] > 0.5
    assert 0 < figures["top_opening"] <= 1
    assert float(batch.rewards.min()) <= figures["reward_90"] <= float(batch.rewards.max())
    assert "disagreement" not in figures


def test_correlation_of_known_vectors() -> None:
    a = torch.tensor([1.0, 2.0, 3.0])
    assert correlation(a, torch.tensor([2, 4, 6])) == pytest.approx(1.0)
    assert correlation(a, torch.tensor([1.0, 0.0, 1.0])) == pytest.approx(0.0)
    assert correlation(a, torch.ones(3)) == 0.0


def test_an_ensemble_tells_how_much_its_members_disagree_and_is_asked_once() -> None:
    calls = []

    def members(prompts: Any, texts: Any) -> torch.Tensor:
        calls.append(len(texts))
        return torch.tensor([[1.0, 2.0], [3.0, 2.0]])

    scores, told = judged(EnsembleReward("e", members, lambda scores: scores.mean(0)), [(), ()], ["a", "b"])
    assert torch.as_tensor(scores).tolist() == [2.0, 2.0]
    assert told["disagreement"].tolist() == [1.0, 0.0]
    assert calls == [2]
    assert judged(lambda prompts, texts: [1.0], [()], ["a"]) == ([1.0], {})
