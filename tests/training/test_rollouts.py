"""Batches of completions: groups stay together when prompts are picked, replaced and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.records import Message, Prompt
from heedful.models.policy import new_policy, reference_of
from heedful.training.config.common import MemoryConfig
from heedful.training.config.online import GRPOConfig
from heedful.training.config.rollout import RolloutConfig, ScoreConfig
from heedful.training.config.updates import GRPOUpdateConfig
from heedful.training.experience import Reading, select
from heedful.training.grpo import grpo, grpo_state, with_overlong_penalty, with_spread
from heedful.training.rollouts import Batch, OnlineModels, Questions, join, pick, sample
from heedful.training.state import TrainState

WORDS = ("red", "blue", "green", "what", "the", "sky")
PROMPTS = [Prompt((Message("user", word),)) for word in (*WORDS, "red blue green sky")]
SCORE = ScoreConfig(missing_eos_penalty=0.0)


def models(reward: Any) -> OnlineModels:
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1)
    return OnlineModels(policy, reference_of(policy), reward)


def lengths(asked: Sequence[Any], texts: Sequence[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def config(**update: Any) -> GRPOConfig:
    rollout = RolloutConfig(prompts_per_step=4, samples_per_prompt=3, max_new_tokens=5)
    update = {"form": "dapo", "overlong_share": 0.0, **update}
    return GRPOConfig(
        model="",
        reward="",
        data="",
        out=Path(),
        steps=2,
        rollout=rollout,
        score=SCORE,
        update=GRPOUpdateConfig(**update),
    )


def fresh(seed: int = 0) -> TrainState:
    return TrainState({}, {}, seed)


def batch_of(found: OnlineModels, step: int = 0) -> Batch:
    state = fresh()
    state.step = step
    return sample(state, found, Questions(found.policy, PROMPTS), config().rollout, SCORE)


def test_a_prompts_completions_stand_together() -> None:
    batch = batch_of(models(lengths))
    assert batch.rollout.prompt_index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert all(len({batch.asked[3 * group + k] for k in range(3)}) == 1 for group in range(4))
    assert batch.grouped(batch.rewards).flatten().tolist() == [float(len(text)) for text in batch.texts]
    assert batch.grouped(batch.scores).shape == (4, 3)


def test_samples_are_a_function_of_seed_and_step() -> None:
    found = models(lengths)
    assert batch_of(found, 1).texts == batch_of(found, 1).texts
    assert batch_of(found, 1).texts != batch_of(found, 0).texts


def test_picked_and_joined_batches_keep_their_rows() -> None:
    found = models(lengths)
    whole, other = batch_of(found), batch_of(found, 1)
    joined = join([pick(whole, [2, 0]), other], found.policy.pad)
    assert joined.texts == [*whole.texts[6:9], *whole.texts[0:3], *other.texts]
    assert joined.asked[:3] == whole.asked[6:9]
    assert joined.rewards.tolist() == [float(len(text)) for text in joined.texts]
    assert joined.rollout.prompt_index.tolist() == [group for group in range(6) for _ in range(3)]
    row = joined.rollout.tokens[6][joined.rollout.attention[6]]
    assert torch.equal(row, other.rollout.tokens[0][other.rollout.attention[0]])
    padding = joined.rollout.tokens[~joined.rollout.attention]
    assert bool((padding == found.policy.pad).all())
    assert int(joined.rollout.mask.sum()) == int(
        whole.rollout.mask[[6, 7, 8, 0, 1, 2]].sum() + other.rollout.mask.sum()
    )


def test_prompts_that_all_score_alike_are_replaced_and_counted() -> None:
    def dull(asked: Sequence[Any], texts: Sequence[str]) -> list[float]:
        """One score for all answers to two of the prompts; elsewhere other texts score otherwise."""
        own = [crc32(text.encode()) / 2**32 for text in texts]
        return [0.5 if p[-1].content in ("red", "sky") else score for p, score in zip(asked, own, strict=True)]

    found = models(dull)
    questions = Questions(found.policy, PROMPTS)
    for step in range(6):
        state = fresh()
        state.step = step
        batch = sample(state, found, questions, config().rollout, SCORE)
        flat = [group for group in range(4) if batch.asked[3 * group][-1].content in ("red", "sky")]
        mended, counted = with_spread(state, found, questions, batch, config(resample_rounds=20))
        again, _ = with_spread(state, found, questions, batch, config(resample_rounds=20))
        assert mended.texts == again.texts
        assert len(mended) == len(batch)
        assert counted["flat_groups"] == 0
        assert counted["resampled_groups"] >= len(flat)
        assert (counted["resampled_groups"] > 0) == bool(flat)
        kept = [text for group in range(4) if group not in flat for text in batch.texts[3 * group : 3 * group + 3]]
        assert mended.texts[: len(kept)] == kept
        assert not {prompt[-1].content for prompt in mended.asked} & {"red", "sky"}


def test_resampling_is_bounded_where_every_prompt_scores_alike() -> None:
    calls = []

    def constant(asked: Sequence[Any], texts: Sequence[str]) -> list[float]:
        calls.append(len(texts))
        return [1.0] * len(texts)

    found = models(constant)
    settings = config(resample_rounds=3)
    state = grpo_state(found, settings)
    before = [p.clone() for p in found.policy.model.parameters()]
    steps = list(grpo(state, found, PROMPTS, settings))
    assert calls == [12] * 8  # two steps of one batch and three rounds
    assert steps[0].metrics["flat_groups"] == 4
    assert steps[0].metrics["resampled_groups"] == 12
    assert all(torch.equal(a, b) for a, b in zip(before, found.policy.model.parameters(), strict=True))


def test_without_rounds_nothing_is_replaced() -> None:
    found = models(lambda asked, texts: [1.0] * len(texts))
    batch = batch_of(found)
    kept, counted = with_spread(fresh(), found, Questions(found.policy, PROMPTS), batch, config(resample_rounds=0))
    assert kept is batch
    assert counted == {"flat_groups": 4.0, "resampled_groups": 0.0}


def test_length_costs_only_in_its_last_share() -> None:
    batch = batch_of(models(lengths))
    priced = with_overlong_penalty(batch, 0.4, 5)  # the last two of five tokens
    taken = (batch.scores - priced.scores).tolist()
    wanted = {1: 0.0, 2: 0.0, 3: 0.0, 4: 0.5, 5: 1.0}
    assert taken == pytest.approx([wanted[length] for length in batch.rollout.lengths.tolist()])
    assert with_overlong_penalty(batch, 0.0, 5) is batch
    assert torch.equal(priced.rewards, batch.rewards)


def test_the_overlong_share_reaches_the_trainer() -> None:
    found = models(lambda asked, texts: [0.0] * len(texts))
    settings = replace(config(overlong_share=0.4, resample_rounds=0), steps=1)
    step = next(iter(grpo(grpo_state(found, settings), found, PROMPTS, settings)))
    assert step.metrics["reward"] == 0.0
    assert step.metrics["score"] < -0.1


@pytest.mark.parametrize("minibatches", [1, 2])
def test_reading_a_prompt_once_trains_as_reading_it_for_every_answer(
    minibatches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, read = [], []
    prompts = [Prompt((Message("user", " ".join([word] * 12)),)) for word in WORDS]
    for grouped in (True, False):
        found = models(lengths)
        grouped_logprobs = found.policy.grouped_logprobs

        def watched(*given: Any, inner: Any = grouped_logprobs, grouped: bool = grouped, **more: Any) -> Any:
            read.append(grouped)
            return inner(*given, **more)

        monkeypatch.setattr(found.policy, "grouped_logprobs", watched)
        for policy in (found.policy, found.reference):
            monkeypatch.setattr(policy, "continues", lambda grouped=grouped: grouped)
        settings = replace(config(form="grpo", minibatches=minibatches), memory=MemoryConfig(micro_batch_tokens=100))
        state = grpo_state(found, settings)
        steps = list(grpo(state, found, prompts, settings))
        weights = torch.cat([p.detach().flatten() for p in found.policy.model.parameters()])
        trained.append((steps[-1].metrics, weights))
    assert read
    assert all(read)
    for name, value in trained[0][0].items():
        assert value == pytest.approx(trained[1][0][name], rel=1e-3, abs=1e-4), name
    torch.testing.assert_close(trained[0][1], trained[1][1], atol=2e-6, rtol=0)


def test_a_policy_reads_as_few_tokens_as_it_can() -> None:
    found = models(lengths)
    rollout = batch_of(found).rollout
    together = Reading.of(found.policy, rollout, 1000)
    assert together.grouped
    assert [sorted(rows) for rows in together.parts] == [list(range(12))]
    apart = Reading.of(found.policy, select(rollout, [0, 3, 6]), 1000)
    assert not apart.grouped  # three prompts, each with one answer
