"""Online DPO: which completions meet, with which label, and that a step is the one that the formula says."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.records import Message, Prompt
from heedful.errors import HeedfulError
from heedful.models.policy import Policy, new_policy, reference_of
from heedful.training.batching import Example
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.online_dpo import OnlineDPOConfig, OnlineReferenceConfig
from heedful.training.config.preference import PairMemoryConfig
from heedful.training.config.rollout import RolloutConfig, ScoreConfig
from heedful.training.config.updates import PassesConfig
from heedful.training.online_dpo import OnlineDPOModels, examples, online_dpo, online_dpo_state, pair_up
from heedful.training.pairs import Pair, behind_other_prompts
from heedful.training.preference_losses import read_mixture
from heedful.training.rollouts import Questions, sample

PROMPTS = [Prompt((Message("user", word),)) for word in ("red", "blue", "what sky", "green green")]
SCORES = st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=5)


def config(temperature: float = 1.0, samples: int = 2, **over: Any) -> OnlineDPOConfig:
    rollout = RolloutConfig(4, samples, max_new_tokens=6, temperature=temperature)
    given: dict[str, Any] = {"model": "", "reward": "", "data": "", "out": Path(), "steps": 1, "rollout": rollout}
    given["optimiser"] = OptimiserConfig(learning_rate=1e-2, schedule="constant", warmup=0.0, clip_norm=0.0)
    given["score"] = ScoreConfig(missing_eos_penalty=0.0)
    return OnlineDPOConfig(**given | over)


def length(asked: Any, texts: Any) -> list[float]:
    return [len(text) / 4 for text in texts]


def made(settings: OnlineDPOConfig, seed: int = 1) -> OnlineDPOModels:
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=seed)
    mixture = read_mixture(settings.loss, settings.loss_settings)
    return OnlineDPOModels(policy, reference_of(policy), length, mixture)


@given(SCORES)
def test_extremes_are_the_best_and_the_worst_of_a_prompt(rows: list[list[int]]) -> None:
    duels = pair_up(torch.tensor(rows, dtype=torch.float32), "extremes", "hard")
    for group, (row, a, b, p) in enumerate(zip(rows, duels.first, duels.second, duels.probability, strict=True)):
        assert (int(a) // 3, int(b) // 3, int(a) != int(b)) == (group, group, True)
        assert (row[int(a) - 3 * group], row[int(b) - 3 * group]) == (max(row), min(row))
        assert float(p) == (0.5 if max(row) == min(row) else 1.0)
    assert duels.ties == pytest.approx(sum(max(row) == min(row) for row in rows) / len(rows))


@given(SCORES)
def test_all_pairs_of_a_prompt_meet_once_with_the_chances_of_bradley_and_terry(rows: list[list[int]]) -> None:
    duels = pair_up(torch.tensor(rows, dtype=torch.float32), "all", "soft")
    wanted = [(3 * group + i, 3 * group + j) for group in range(len(rows)) for i, j in combinations(range(3), 2)]
    assert list(zip(duels.first.tolist(), duels.second.tolist(), strict=True)) == wanted
    flat = [score for row in rows for score in row]
    for (a, b), p in zip(wanted, duels.probability.tolist(), strict=True):
        assert p == pytest.approx(1 / (1 + 2.718281828459045 ** (flat[b] - flat[a])), abs=1e-6)


def summed(policy: Policy, answers: Any, temperature: float) -> torch.Tensor:
    """[N] log-probabilities of whole answers, one row at a time, by transformers alone."""
    found = []
    for answer in answers:
        tokens, start = torch.tensor([answer.tokens]), answer.mask.index(True)
        logits = policy.model(tokens).logits[0] / temperature
        logits[:, list(policy.banned)] = -torch.inf
        logprob = logits.log_softmax(-1)
        found.append(sum(logprob[t - 1, answer.tokens[t]] for t in range(start, len(answer.tokens))))
    return torch.stack(found)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_its_step_descends_the_loss_of_dpo_on_its_own_pairs(temperature: float) -> None:
    settings = config(temperature, beta=0.3, memory=PairMemoryConfig(micro_batch_tokens=30))
    models, twin = made(settings), made(settings)
    other = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=9)
    models = OnlineDPOModels(models.policy, other, length, models.mixture)
    state = online_dpo_state(models, settings)
    batch = sample(state, models, Questions(models.policy, PROMPTS), settings.rollout, settings.score)
    (step,) = online_dpo(state, models, PROMPTS, settings)

    answers = examples(batch.rollout)
    gap = summed(twin.policy, answers, temperature) - summed(other, answers, temperature).detach()
    a, b, score = gap[0::2], gap[1::2], batch.scores[0::2] - batch.scores[1::2]
    p = (score.sign() + 1) / 2
    loss = -(p * logsigmoid(0.3 * (a - b)) + (1 - p) * logsigmoid(0.3 * (b - a))).mean()
    loss.backward()
    same = online_dpo_state(twin, settings)
    same.optimisers["policy"].step(0)
    assert step.metrics["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert step.metrics["ties"] == pytest.approx(float((p == 0.5).float().mean()))
    for own, expected in zip(models.policy.model.parameters(), twin.policy.model.parameters(), strict=True):
        torch.testing.assert_close(own, expected, atol=2e-5, rtol=1e-4)


def test_equal_answers_pull_nowhere() -> None:
    settings = config(samples=3)
    models = made(settings)
    models = OnlineDPOModels(models.policy, models.reference, lambda asked, texts: [0.0] * len(texts), models.mixture)
    (step,) = online_dpo(online_dpo_state(models, settings), models, PROMPTS, settings)
    assert step.metrics["ties"] == 1.0
    assert step.metrics["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert step.metrics["policy_gradient_norm"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("loss", ["kto", "bco", "aot", "sigmoid + 0.1*sft", "simpo"])
def test_every_kind_of_loss_learns_from_its_own_pairs(loss: str) -> None:
    settings = config(samples=4, loss=loss, steps=30, beta=None, update=PassesConfig(epochs=1, minibatches=1))
    models = made(settings)
    rewards = [
        step.metrics["reward"] for step in online_dpo(online_dpo_state(models, settings), models, PROMPTS, settings)
    ]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.3


def test_kto_finds_another_prompt_where_a_batch_has_one_and_refuses_a_run_that_has_one() -> None:
    settings = config(loss="kto", steps=3, rollout=RolloutConfig(1, 2, max_new_tokens=6))
    models = made(settings)
    steps = list(online_dpo(online_dpo_state(models, settings), models, PROMPTS, settings))
    assert all("mismatched_kl" in step.metrics for step in steps)
    with pytest.raises(HeedfulError, match="all prompts are one"):
        next(online_dpo(online_dpo_state(models, settings), models, [PROMPTS[0]] * 3, settings))


def test_answers_stand_behind_another_prompt_which_is_a_function_of_the_seed() -> None:
    pair = Pair(
        Example([1, 2, 8, 9], [False, False, True, True]), Example([1, 2, 7], [False, False, True]), 1.0, 0.0, 1.0
    )
    prompts = [[1, 2], [3], [1, 2], [4, 5, 6]]
    seen = set()
    for seed in range(20):
        (moved,) = behind_other_prompts([pair], prompts, seed, 5)
        assert behind_other_prompts([pair], prompts, seed, 5) == [moved]
        seen.add(tuple(moved.answers[0].tokens))
        assert moved.answers[0].mask.count(True) == min(2, 5 - moved.answers[0].mask.index(True))
    assert seen == {(3, 8, 9), (4, 5, 6, 8, 9)}


def test_iterative_dpo_takes_many_steps_a_batch_and_moves_its_reference_between_batches() -> None:
    from heedful.models.policy import moving_reference_of
    from heedful.training.reference import MovingReference

    settings = config(
        samples=3, pairs="all", steps=2, update=PassesConfig(epochs=2, minibatches=3),
        reference=OnlineReferenceConfig(update="hard"),
    )  # fmt: skip
    models = made(settings)
    moving = MovingReference(moving_reference_of(models.policy), settings.reference.share, settings.reference.steps, 64)
    models = OnlineDPOModels(models.policy, moving.policy, length, models.mixture, moving)
    state = online_dpo_state(models, settings)
    assert settings.updates == 12
    before = [parameter.clone() for parameter in moving.policy.model.parameters()]
    for number, _ in enumerate(online_dpo(state, models, PROMPTS, settings), start=1):
        assert state.scalars["updates"] == 6 * number
        own, its = list(models.policy.model.parameters()), list(moving.policy.model.parameters())
        assert all(torch.equal(a, b) for a, b in zip(own, its, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, its, strict=True))


@pytest.mark.parametrize(("update", "kept"), [("hard", False), ("soft", True)])
def test_the_shift_of_bco_begins_anew_where_the_reference_is_set_to_the_policy(update: Any, kept: bool) -> None:
    from heedful.models.policy import moving_reference_of
    from heedful.training.reference import MovingReference

    settings = config(loss="bco", steps=2, reference=OnlineReferenceConfig(update=update))
    models = made(settings)
    share, every = settings.reference.share, settings.reference.steps
    moving = MovingReference(moving_reference_of(models.policy), share, every, 64)
    models = OnlineDPOModels(models.policy, moving.policy, length, models.mixture, moving)
    state = online_dpo_state(models, settings)
    for _ in online_dpo(state, models, PROMPTS, settings):
        assert ("ratio" in state.scalars) == kept


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"samples": 1}, "so 2 or more"),
        ({"update": PassesConfig(minibatches=5)}, "5 minibatches cannot be cut from 4 pairs"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"samples": 3, "pairs": "all", "update": PassesConfig(minibatches=13)}, "from 12 pairs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(over: dict[str, Any], said: str) -> None:
    with pytest.raises(HeedfulError, match=said):
        config(**over)
