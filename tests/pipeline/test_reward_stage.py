"""`heedful reward` with every loss and kind of heads: the result, killing and going on, refusals, normalisation."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from heedful.data.load import DataSpec, load_preferences
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.files import sha256_file
from heedful.models.averaging import INITIALISATION
from heedful.models.rewards import load_reward
from heedful.models.scalar import load_reward_model, new_reward_model
from heedful.pipeline.stages import reward as reward_stage
from heedful.training import run as run_module
from heedful.training.reward_losses import LOSSES
from reward_runs import COMBINATIONS, pair_rows, ranking_rows, write_rows
from stage_runs import config, run_stage, write_model

ASKED = (Message("user", "what is the sky"),)
TEXTS = ["the sky is blue please", "no no", "a cat and a dog"]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    write_model(folder / "model")
    write_rows(folder / "pairs.jsonl", pair_rows(60))
    write_rows(folder / "rankings.jsonl", ranking_rows(40))
    return folder


def settings(given: Path, out: Path, loss: str = "bradley-terry", kind: str = "scalar", **over: Any) -> Any:
    name = "pairs" if LOSSES[loss].reads == "pairs" else "rankings"
    more = {"data": str(given / f"{name}.jsonl"), "loss": loss, "epochs": 1.0}
    more |= {"records": {"held_out": 0.2, "max_length": 64}, **over}
    more["heads"] = {"kind": kind, "members": 3, **over.get("heads", {})}
    return config("reward", given, given / "model", given, out, **more)


@pytest.mark.parametrize(("loss", "kind"), COMBINATIONS)
def test_a_killed_run_goes_on_to_the_same_bits_and_its_result_is_plain(
    loss: str, kind: str, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_stage("reward", settings(given, tmp_path / "whole", loss, kind))
    save = run_module.save_checkpoint

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_checkpoint", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run_stage("reward", settings(given, tmp_path / "killed", loss, kind))
    on = run_stage("reward", settings(given, tmp_path / "killed", loss, kind))
    for name in ("model.safetensors", "heads.safetensors", "config.json", "metrics.jsonl"):
        exists = (tmp_path / "whole" / name).exists()
        assert exists == (tmp_path / "killed" / name).exists()
        assert exists == (name != "heads.safetensors" or kind in ("ensemble", "attributes"))
        assert not exists or sha256_file(tmp_path / "whole" / name) == sha256_file(tmp_path / "killed" / name)
    assert on["learnt"] == whole["learnt"]
    assert bool(whole["learnt"]) == (loss in ("rao-kupper", "davidson", "ordinal") or kind == "attributes")
    assert whole["held_out"]["calibration"]["ece"]["low"] <= whole["held_out"]["calibration"]["ece"]["high"]
    assert sum(part["pairs"] for part in whole["held_out"]["slices"]) == whole["held_out"]["pairs"]

    ours = load_reward_model(tmp_path / "whole")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole")
    for text, score in zip(TEXTS, ours([ASKED] * 3, TEXTS).tolist(), strict=True):
        with torch.no_grad():
            raw = float(plain(input_ids=torch.tensor([ours.render(ASKED, text)])).logits[0, 0])
        assert (raw - ours.offset) / ours.scale == pytest.approx(score, abs=1e-5)


def test_an_ensemble_on_one_trunk_is_aggregated_by_its_members(given: Path, tmp_path: Path) -> None:
    run_stage("reward", settings(given, tmp_path / "shared", kind="ensemble"))
    model = load_reward_model(tmp_path / "shared")
    members = model.head_scores([ASKED] * 3, TEXTS)
    assert members.shape == (3, 3)
    torch.testing.assert_close(model([ASKED] * 3, TEXTS), members.mean(1), atol=1e-5, rtol=0)
    worst = load_reward(f"worst:{tmp_path / 'shared'}")([ASKED] * 3, TEXTS)
    torch.testing.assert_close(worst, members.min(1).values)
    penalised = load_reward(f"penalised=0.5:{tmp_path / 'shared'}")([ASKED] * 3, TEXTS)
    torch.testing.assert_close(penalised, members.mean(1) - 0.5 * members.var(1))
    assert members.var(1).min() > 0
    answers = load_preferences(DataSpec(str(given / "pairs.jsonl"))).records
    manifest = json.loads((tmp_path / "shared" / "manifest.json").read_text())
    assert manifest["data"]["records"] == len(answers)
    every = model.head_scores([r.prompt for r in answers] * 2, [r.a for r in answers] + [r.b for r in answers])
    assert every.mean(0).abs().max() < 0.5  # each member is centred, on the training part of these


def test_reference_answers_score_nought_on_average(given: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"tell me {i}", "completion": text} for i, text in enumerate(TEXTS * 3)]
    reference = write_rows(tmp_path / "sft.jsonl", rows)
    manifest = run_stage("reward", settings(given, tmp_path / "run", reference=str(reference)))
    assert manifest["reference"]["records"] == 9
    asked = [(Message("user", row["prompt"]),) for row in rows]
    scores = load_reward(str(tmp_path / "run"))(asked, [row["completion"] for row in rows])
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-5)
    assert scores.std() > 1e-3
    with pytest.raises(HeedfulError, match="normalise is none"):
        settings(given, tmp_path / "no", reference=str(reference), normalise="none")


def test_calibrated_scores_are_divided_by_the_temperature_of_held_out_pairs(given: Path, tmp_path: Path) -> None:
    plain = run_stage("reward", settings(given, tmp_path / "plain", epochs=3.0))
    calibrated = run_stage("reward", settings(given, tmp_path / "calibrated", epochs=3.0, calibrate=True))
    temperature = calibrated["temperature"]
    assert temperature != pytest.approx(1.0, abs=1e-3)
    raw = load_reward(str(tmp_path / "plain"))([ASKED] * 3, TEXTS)
    torch.testing.assert_close(
        load_reward(str(tmp_path / "calibrated"))([ASKED] * 3, TEXTS), raw / temperature, atol=1e-5, rtol=1e-4
    )
    assert calibrated["held_out"]["accuracy"] == plain["held_out"]["accuracy"]
    assert calibrated["held_out"]["calibration"]["brier"] <= plain["held_out"]["calibration"]["brier"] + 0.02


def test_the_start_is_told_and_the_order_of_the_data_is_apart_from_it(given: Path, tmp_path: Path) -> None:
    runs = {
        name: run_stage("reward", settings(given, tmp_path / name, seed=seed, head_seed=head_seed))
        for name, seed, head_seed in (("a", 1, 7), ("b", 2, 7), ("c", 7, None), ("d", 8, None))
    }
    assert runs["a"][INITIALISATION] == runs["b"][INITIALISATION] == runs["c"][INITIALISATION]
    assert runs["d"][INITIALISATION] != runs["a"][INITIALISATION]
    weights = {name: sha256_file(tmp_path / name / "model.safetensors") for name in runs}
    assert len(set(weights.values())) == 4


@pytest.mark.parametrize(
    ("over", "said", "where"),
    [
        ({"loss": "davidson", "use_margin": True}, "asks for no margin", "use_margin"),
        ({"loss": "all-pairs", "labels": "majority"}, "reads no shares of votes", "labels"),
        ({"loss": "ordinal", "labels": "majority"}, "reads no shares of votes", "labels"),
        ({"kind": "attributes"}, "pairs hold no ratings", "heads.kind"),
        ({"loss": "plackett-luce", "heads": {"attributes": ("length",)}}, "heads of their own", "heads.attributes"),
    ],
)
def test_settings_that_say_nothing_are_refused(
    over: dict[str, Any], said: str, where: str, given: Path, tmp_path: Path
) -> None:
    with pytest.raises(HeedfulError, match=said) as caught:
        run_stage("reward", settings(given, tmp_path / "run", **over))
    assert caught.value.where == where
    assert not (tmp_path / "run").exists()


PAIR = {"prompt": "hello", "a": "yes", "b": "no"}
RANKED = {"prompt": "hello", "completions": ["yes", "no"], "ranks": [1, 2]}
TWELVE = [f"{word} yes" for word in "the a red blue green sky sea sun cat dog bird is".split()]


@pytest.mark.parametrize(
    ("loss", "bad", "said"),
    [
        ("ordinal", PAIR, "this row states none"),
        ("ordinal", PAIR | {"strength": 4}, "'strength' is 4"),
        ("bradley-terry", PAIR | {"margin": float("nan")}, "'margin' must be a finite number"),
        ("bradley-terry", PAIR | {"probability": 1.5}, "'probability' is 1.5"),
        ("plackett-luce", RANKED | {"ranks": [1]}, "2 completions, but 1 ranks"),
        ("plackett-luce", RANKED | {"ranks": [1, float("nan")]}, "must be a finite number"),
        ("plackett-luce", RANKED | {"ranks": [1, "best"]}, "must be a number"),
        ("plackett-luce", RANKED | {"ranks": [1, True]}, "must be a finite number"),
        ("all-pairs", {"prompt": "hello", "completions": ["yes"], "ranks": [1]}, "1 completions make no ranking"),
        ("all-pairs", RANKED | {"attributes": {"help": [1, 2, 3]}}, "2 completions, but 3 attributes.help"),
        ("plackett-luce", {"prompt": "hello", "completions": TWELVE, "ranks": [1] * 12}, "12 answers share one rank"),
    ],
)
def test_bad_rows_are_named_by_file_and_line_before_training(
    loss: str, bad: dict[str, Any], said: str, given: Path, tmp_path: Path
) -> None:
    good = (given / ("pairs.jsonl" if "a" in bad else "rankings.jsonl")).read_text().splitlines()
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join([*good[:2], json.dumps(bad), *good[2:]]) + "\n")
    over = {"data": str(path), "records": {"held_out": 0.0, "max_length": 64}}
    with pytest.raises(HeedfulError, match=said) as caught:
        run_stage("reward", settings(given, tmp_path / "run", loss=loss, **over))
    assert caught.value.where == f"{path}:3"
    assert not (tmp_path / "run").exists()


def test_pairs_are_no_rankings_and_unrated_answers_no_attributes(given: Path, tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="this needs rankings, and the format 'heedful' holds preferences"):
        run_stage("reward", settings(given, tmp_path / "run", "plackett-luce", data=str(given / "pairs.jsonl")))
    rows = [{key: row[key] for key in ("prompt", "completions", "ranks")} for row in ranking_rows(20)]
    path = write_rows(tmp_path / "unrated.jsonl", rows)
    with pytest.raises(HeedfulError, match="no answer is rated by any attribute"):
        run_stage("reward", settings(given, tmp_path / "run", "all-pairs", "attributes", data=str(path)))
    over = {"heads": {"kind": "attributes", "attributes": ["wit"]}}
    with pytest.raises(HeedfulError, match="no answer is rated by 'wit'") as caught:
        run_stage("reward", settings(given, tmp_path / "run", "all-pairs", **over))
    assert caught.value.mend == "The data rates length, politeness."


def test_rankings_serve_losses_on_pairs_too(given: Path, tmp_path: Path) -> None:
    over = {"data": str(given / "rankings.jsonl")}
    manifest = run_stage("reward", settings(given, tmp_path / "run", "rao-kupper", **over))
    assert manifest["data"]["format"] == "ranking"
    assert manifest["data"]["records"] == len(load_preferences(DataSpec(over["data"])).records)
    assert np.isfinite(manifest["learnt"]["tie_threshold"])


def test_a_reward_model_goes_on_from_another(given: Path, tmp_path: Path) -> None:
    def after_first(name: str, **over: Any) -> Any:
        return replace(settings(given, tmp_path / name, **over), model=str(tmp_path / "first"))

    run_stage("reward", settings(given, tmp_path / "first"))
    done = run_stage("reward", after_first("second", optimiser={"learning_rate": 0.0}, normalise="none"))
    first, second = (load_reward_model(tmp_path / name) for name in ("first", "second"))
    weights = [dict(model.model.named_parameters()) for model in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    assert first.offset != 0.0
    assert (second.offset, second.scale) == (0.0, 1.0)  # what the first one's offset was is forgotten
    assert done["parents"]["model"]["name"] == str(tmp_path / "first")
    learnt = run_stage("reward", after_first("third"))
    assert learnt["figures"]["loss"] < done["figures"]["loss"]
    for over in ({"heads": {"kind": "ensemble"}}, {"loading": {"lora_rank": 2}}):
        with pytest.raises(HeedfulError, match="goes on learning with its one head and all of its weights"):
            run_stage("reward", after_first("fourth", **over))


def test_ppo_learns_from_an_ensemble_and_names_its_members(given: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        run_stage("reward", settings(given, tmp_path / name, seed=seed))
    write_rows(
        tmp_path / "prompts.jsonl", [{"prompt": f"tell me about {word}"} for word in "the red sky sea sun".split()]
    )
    spec = f"penalised=0.5:{tmp_path / 'a'},{tmp_path / 'b'}"
    over = {"steps": 2, "records": {"held_out": 0.0, "max_length": 64}}
    manifest = run_stage("ppo", config("ppo", tmp_path, given / "model", spec, tmp_path / "ppo", **over))  # type: ignore[arg-type]
    assert manifest["parents"]["reward"]["name"] == spec
    assert len(manifest["parents"]["reward"]["fingerprint"]) == 64


def test_the_model_that_it_begins_from_is_let_go_before_it_trains(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[weakref.ref[Any]] = []

    def first(policy: Any, **more: Any) -> Any:
        seen.append(weakref.ref(policy.model))
        return new_reward_model(policy, **more)

    def stop(*_: Any) -> None:
        gc.collect()
        assert seen[0]() is None
        raise KeyboardInterrupt

    monkeypatch.setattr(reward_stage, "new_reward_model", first)
    monkeypatch.setattr(reward_stage, "reward_state", stop)
    with pytest.raises(KeyboardInterrupt):
        run_stage("reward", settings(given, tmp_path / "run"))
    assert seen
