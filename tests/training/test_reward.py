"""The reward trainer: every loss with every kind of heads, whatever the micro-batches."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.core.reward_losses import (
    all_pairs_loss,
    bradley_terry_loss,
    centering_penalty,
    length_penalty,
    orthogonality_penalty,
    plackett_luce_loss,
)
from heedful.data.load import DataSpec, load_preferences, load_rankings
from heedful.data.records import Message, Preference, Ranking
from heedful.models.policy import new_policy
from heedful.models.scalar import ENOUGH, RewardModel, new_reward_model
from heedful.training import reward_data
from heedful.training.config.reward import HeadsConfig, RewardConfig
from heedful.training.reward import Batch, Learner, descend, learner, reward, reward_state, score_items
from heedful.training.reward_data import Judged, Layout, judged_pairs, judged_rankings, worth_sharing
from heedful.training.reward_heads import HEADS, AttributeHeads, EnsembleHeads, LengthHeads
from heedful.training.reward_losses import LOSSES
from heedful.training.settings import from_mapping
from reward_runs import COMBINATIONS, pair_rows, ranking_rows, write_rows

ATTRIBUTES = ("length", "politeness")


def settings(loss: str, kind: str, **over: Any) -> RewardConfig:
    given: dict[str, Any] = {
        "model": "m", "data": "d", "out": "o", "loss": loss, "batch_size": 16,
        "optimiser": {"learning_rate": 3e-3},
        "heads": {"kind": kind, "members": 3, "attributes": ATTRIBUTES if kind == "attributes" else ()},
    }  # fmt: skip
    return from_mapping(RewardConfig, given | over, "test")


def model(seed: int = 0) -> RewardModel:
    return new_reward_model(new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1), seed=seed)


def items_of(loss: str, kind: str, folder: Path, count: int = 40, **rows: Any) -> list[Judged]:
    tokenizer = tiny_tokenizer()
    if LOSSES[loss].reads == "pairs":
        path = write_rows(folder / "pairs.jsonl", pair_rows(count, **rows))
        return judged_pairs(load_preferences(DataSpec(str(path))).records, tokenizer, "soft", 64, 2)
    path = write_rows(folder / "rankings.jsonl", ranking_rows(count))
    names = ATTRIBUTES if kind == "attributes" else ()
    return judged_rankings(load_rankings(DataSpec(str(path))).records, tokenizer, 64, 2, names)


def test_the_settings_name_every_loss_and_every_kind_of_heads() -> None:
    hints = typing.get_type_hints(RewardConfig)
    assert set(typing.get_args(hints["loss"])) == set(LOSSES)
    assert set(typing.get_args(typing.get_type_hints(HeadsConfig)["kind"])) == set(HEADS)
    assert {loss for loss, _ in COMBINATIONS} == set(LOSSES)
    assert {kind for _, kind in COMBINATIONS} == set(HEADS)


def gradients(learning: Learner) -> dict[str, torch.Tensor]:
    modules = {"model": learning.model.model, "heads": learning.heads.weights, "loss": learning.learnt}
    modules["mixture"] = learning.heads.learnt
    return {
        f"{name}.{key}": value.grad.clone()
        for name, module in modules.items()
        for key, value in module.named_parameters()
        if value.grad is not None
    }


@pytest.mark.parametrize(("loss", "kind"), COMBINATIONS)
def test_micro_batches_change_neither_loss_nor_gradient(loss: str, kind: str, tmp_path: Path) -> None:
    items = items_of(loss, kind, tmp_path)
    found = []
    for budget in (60, 100_000):
        config = settings(loss, kind, centering=0.05, memory={"micro_batch_tokens": budget})
        learning = learner(model(), items, config)
        batch = Batch.of(items, range(16), learning.heads)
        value, seen = descend(learning, batch, config, config.memory.tokens)
        assert (len(seen) > 4) == (budget == 60)
        found.append((value, gradients(learning)))
    (small, few), (large, whole) = found
    assert small == pytest.approx(large, rel=1e-5)
    assert few.keys() == whole.keys()
    for name, gradient in few.items():
        torch.testing.assert_close(gradient, whole[name], atol=2e-5, rtol=2e-3, msg=name)
    frozen = kind in ("ensemble", "attributes")
    assert ("model.score.weight" in few) == (not frozen)


def parts(learning: Learner, items: Sequence[Judged]) -> list[torch.Tensor]:
    """Of each item, what the heads say of its answers [K, outputs], an answer at a time."""
    found = []
    for item in items:
        rows = []
        for answer in item.answers:
            tokens = torch.tensor([answer.tokens])
            states = learning.model.last_states(tokens, torch.ones_like(tokens, dtype=torch.bool))
            rows.append(learning.heads.read(states)[0])
        found.append(torch.stack(rows))
    return found


@torch.no_grad()
def test_the_loss_of_a_batch_is_the_weighted_mean_of_its_items(tmp_path: Path) -> None:
    for loss, one in (("all-pairs", all_pairs_loss), ("plackett-luce", plackett_luce_loss)):
        items = items_of(loss, "scalar", tmp_path)[:8]
        config = settings(loss, "scalar")
        learning = learner(model(), items, config)
        wanted = [
            float(one(scores[:, 0], item.said.ranks))
            for scores, item in zip(parts(learning, items), items, strict=True)
        ]  # type: ignore[union-attr]
        with torch.enable_grad():
            value, _ = descend(learning, Batch.of(items, range(8), learning.heads), config, config.memory.tokens)
        assert value == pytest.approx(sum(wanted) / 8, abs=1e-5)
    items = items_of("bradley-terry", "scalar", tmp_path)[:8]
    config = settings("bradley-terry", "scalar", centering=0.1)
    learning = learner(model(), items, config)
    total = 0.0
    for scores, item in zip(parts(learning, items), items, strict=True):
        p = torch.tensor([item.said.probability])  # type: ignore[union-attr]
        a, b = scores[:1, 0], scores[1:, 0]
        total += item.weight * float(bradley_terry_loss(a, b, probability=p) + 0.1 * centering_penalty(a, b))
    with torch.enable_grad():
        value, _ = descend(learning, Batch.of(items, range(8), learning.heads), config, config.memory.tokens)
    assert value == pytest.approx(total / sum(item.weight for item in items), abs=1e-5)


@torch.no_grad()
def test_odin_takes_the_sum_for_preferences_and_the_batch_for_length(tmp_path: Path) -> None:
    items = items_of("bradley-terry", "length", tmp_path)[:8]
    over = {"heads": {"kind": "length", "length_coefficient": 0.7, "orthogonality_coefficient": 0.3}}
    config = settings("bradley-terry", "length", memory={"micro_batch_tokens": 80}, **over)
    learning = learner(model(), items, config)
    said = parts(learning, items)
    sums = torch.stack([outputs.sum(1) for outputs in said])
    p = torch.tensor([item.said.probability for item in items])  # type: ignore[union-attr]
    weight = torch.tensor([item.weight for item in items])
    preferences = (bradley_terry_loss(sums[:, 0], sums[:, 1], probability=p) * weight).sum() / weight.sum()
    flat = torch.cat(said)
    lengths = torch.tensor([float(sum(answer.mask)) for item in items for answer in item.answers])
    apart = length_penalty(flat[:, 0], flat[:, 1], lengths)
    angle = orthogonality_penalty(learning.model.model.score.weight, learning.heads.weights.weight)
    with torch.enable_grad():
        value, _ = descend(learning, Batch.of(items, range(8), learning.heads), config, config.memory.tokens)
    assert value == pytest.approx(float(preferences + 0.7 * apart + 0.3 * angle), abs=1e-5)


@torch.no_grad()
def test_members_of_an_ensemble_learn_from_bootstraps_of_their_own(tmp_path: Path) -> None:
    items = items_of("bradley-terry", "ensemble", tmp_path, count=400)
    config = settings("bradley-terry", "ensemble")
    learning = learner(model(), items, config)
    heads = learning.heads
    assert isinstance(heads, EnsembleHeads)
    drawn = torch.tensor(heads.drawn, dtype=torch.float64)
    assert drawn.shape == (400, 3)
    assert drawn.mean(0).tolist() == pytest.approx([1.0] * 3, abs=0.2)
    assert (drawn[:, 0] != drawn[:, 1]).sum() > 100
    chosen = [5, 17, 3, 250, 99, 1]
    said = parts(learning, [items[i] for i in chosen])
    losses = []
    for member in range(3):
        total, weights = 0.0, 0.0
        for i, outputs in zip(chosen, said, strict=True):
            weight = items[i].weight * heads.drawn[i][member]
            p = torch.tensor([items[i].said.probability])  # type: ignore[union-attr]
            total += weight * float(bradley_terry_loss(outputs[:1, member], outputs[1:, member], probability=p))
            weights += weight
        losses.append(total / weights)
    with torch.enable_grad():
        value, _ = descend(learning, Batch.of(items, chosen, learning.heads), config, config.memory.tokens)
    assert value == pytest.approx(sum(losses) / 3, abs=1e-5)


def trained(loss: str, kind: str, items: Sequence[Judged], steps: int = 60, **over: Any) -> tuple[Learner, list[Any]]:
    config = settings(loss, kind, epochs=steps * 16 / len(items), **over)
    learning = learner(model(), items, config)
    steps_seen = list(reward(reward_state(learning, config, steps), learning, items, config))
    learning.heads.settle()
    return learning, steps_seen


@pytest.mark.parametrize(("loss", "kind"), COMBINATIONS)
def test_every_loss_learns_who_is_better(loss: str, kind: str, tmp_path: Path) -> None:
    hard = {"hard": True} if LOSSES[loss].reads == "pairs" else {}
    items = items_of(loss, kind, tmp_path, count=160, **hard)
    learning, steps = trained(loss, kind, items)
    losses = [step.metrics["loss"] for step in steps]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    found = learning.model([(Message("user", "tell me"),)] * 2, ["the sky please please", "the sky no no"])
    assert found[0] > found[1]
    moved = {name for name in steps[-1].metrics if steps[-1].metrics[name] != steps[0].metrics[name]}
    learnt = {name for name in steps[0].metrics if name.startswith(("tie_", "threshold_", "mixture_"))}
    assert learnt <= moved
    assert bool(learnt) == (loss in ("rao-kupper", "davidson", "ordinal") or kind == "attributes")


def test_quality_forgets_a_planted_length_bias(tmp_path: Path) -> None:
    """Raters pay for every word: the plain head's scores go with length, ODIN's quality much less."""
    items = items_of("bradley-terry", "scalar", tmp_path, count=300, length_bias=2.0, hard=True)
    lengths = np.array([sum(answer.mask) for answer in Layout(items).examples()])

    def correlation(kind: str) -> float:
        learning, _ = trained("bradley-terry", kind, items, steps=120)
        return float(np.corrcoef(score_items(learning.model, items, 8192).numpy(), lengths)[0, 1])

    plain, quality = correlation("scalar"), correlation("length")
    assert plain > 0.6
    assert abs(quality) < plain / 2


def test_only_quality_stays_of_the_two_heads(tmp_path: Path) -> None:
    items = items_of("bradley-terry", "length", tmp_path)
    learning, _ = trained("bradley-terry", "length", items, steps=3)
    assert isinstance(learning.heads, LengthHeads)
    assert learning.model.bank is None
    quality = torch.cat([outputs[:, 0] for outputs in parts(learning, items[:4])])
    own = score_items(learning.model, items[:4], 8192)
    order = [index for row in range(4) for index, (item, _) in enumerate(Layout(items[:4])) if item == row]
    torch.testing.assert_close(own[order], quality.detach(), atol=1e-5, rtol=0)


def test_ratings_teach_the_heads_by_their_mean_error_and_preferences_the_mixture_alone(tmp_path: Path) -> None:
    items = items_of("all-pairs", "attributes", tmp_path)[:8]
    config = settings("all-pairs", "attributes")
    learning = learner(model(), items, config)
    bank = learning.model.bank
    assert bank is not None
    said = [outputs.detach() for outputs in parts(learning, items)]
    given = (torch.tensor([row for item in items for row in item.ratings]) - bank.offset) / bank.scale
    known = ~given.isnan()
    assert 0 < int((~known).sum()) < int(known.sum())
    error = (torch.cat(said) - given)[known].square().mean()
    ranks = [item.said.ranks for item in items]  # type: ignore[union-attr]
    losses = [all_pairs_loss(outputs.mean(1), order) for outputs, order in zip(said, ranks, strict=True)]
    value, _ = descend(learning, Batch.of(items, range(8), learning.heads), config, config.memory.tokens)
    assert value == pytest.approx(float(torch.stack(losses).mean() + error), abs=1e-5)

    for parameter in (*learning.model.model.parameters(), bank.weight, *learning.heads.learnt.parameters()):
        parameter.grad = None
    unrated = [dataclasses.replace(item, ratings=((math.nan, math.nan),) * len(item.answers)) for item in items]
    descend(learning, Batch.of(unrated, range(8), learning.heads), config, config.memory.tokens)
    moved = {name for name, gradient in gradients(learning).items() if gradient.abs().max() > 0}
    assert moved == {"mixture.mixture"}


def test_attributes_say_ratings_and_their_mixture_is_the_score(tmp_path: Path) -> None:
    items = items_of("all-pairs", "attributes", tmp_path, count=200)
    learning, steps = trained("all-pairs", "attributes", items, steps=150)
    heads = learning.heads
    assert isinstance(heads, AttributeHeads)
    said = [outputs.detach() for outputs in parts(learning, items[:30])]
    flat = torch.cat([learning.model.bank.said(outputs) for outputs in said])  # type: ignore[union-attr]
    given = torch.tensor([row for item in items[:30] for row in item.ratings])
    known = ~given.isnan().any(1)
    for column in range(2):
        assert np.corrcoef(flat[known, column].numpy(), given[known, column].numpy())[0, 1] > 0.7
    own = score_items(learning.model, items[:30], 8192)
    mixed = torch.cat([outputs @ heads.mixture.detach() for outputs in said])
    order = [index for row in range(30) for index, (item, _) in enumerate(Layout(items[:30])) if item == row]
    torch.testing.assert_close(own[order], mixed, atol=1e-4, rtol=0)
    assert steps[-1].metrics["mixture_politeness"] > steps[-1].metrics["mixture_length"]


def ranked_behind(prompt: str, count: int, answers: int, loss: str, kind: str) -> list[Judged]:
    """Rankings of so many answers to prompts that begin with the same words."""
    words = ["red", "blue", "no", "a cat and a dog", "the sun can do it very well", "yes"]
    judged = []
    for number in range(count):
        behind = (Message("user", f"{prompt} {words[number % 6]}"),)
        said = tuple(words[(number + k) % 6] for k in range(answers))
        if LOSSES[loss].reads == "pairs":
            records: Any = [Preference(behind, said[0], said[1], float(number % 2), strength=4.0 * (number % 2) - 2.0)]
            judged += judged_pairs(records, tiny_tokenizer(), "soft", 128, 2)
        else:
            rated = tuple((name, tuple(float(k) for k in range(answers))) for name in ATTRIBUTES)
            records = [Ranking(behind, said, tuple(float(k) for k in range(answers)), attributes=rated)]
            names = ATTRIBUTES if kind == "attributes" else ()
            judged += judged_rankings(records, tiny_tokenizer(), 128, 2, names)
    return judged


@pytest.mark.parametrize(("loss", "kind"), COMBINATIONS)
@pytest.mark.parametrize("budget", [150, 100_000])
def test_a_prompt_read_once_for_all_its_answers_changes_neither_loss_nor_gradient(
    loss: str, kind: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = ranked_behind("what is the sky and the sun and the cat or a dog " * 2, 6, 4, loss, kind)
    found = []
    for share in (ENOUGH, 0.0):
        monkeypatch.setattr(reward_data, "ENOUGH", share)
        learning = learner(model(), items, settings(loss, kind))
        batch = Batch.of(items, range(6), learning.heads)
        assert worth_sharing(learning.model, items, budget) == (share > 0)
        config = settings(loss, kind, memory={"micro_batch_tokens": budget})
        value, seen = descend(learning, batch, config, budget)
        assert (len(seen) > 1) == (budget == 150)
        found.append((value, gradients(learning), score_items(learning.model, items, budget)))
    (one, few, scores), (other, whole, apart) = found
    assert one == pytest.approx(other, rel=1e-5)
    torch.testing.assert_close(scores, apart, atol=1e-5, rtol=0)
    assert few.keys() == whole.keys()
    for name, gradient in few.items():
        torch.testing.assert_close(gradient, whole[name], atol=2e-5, rtol=2e-3, msg=name)
