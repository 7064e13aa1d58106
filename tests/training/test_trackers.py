"""Figures of a run in TensorBoard and in Weights & Biases: by a stand-in, and by the real package where it is."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.pipeline.stages.sft import run_sft
from heedful.training.config.common import RunConfig
from heedful.training.trackers import RUN_ID, TensorBoard, WeightsAndBiases, check_wandb, open_trackers
from stage_runs import config, write_inputs, write_model


class Told:
    """What a stand-in for wandb was asked."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.ended: list[int] = []

    def log(self, figures: dict[str, float], step: int) -> None:
        self.logged.append((step, figures))

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)


class _Error(Exception):
    pass


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told, module = Told(), ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)

    def init(**given: Any) -> Told:
        if given["project"] == "nobody":
            raise _Error("api_key not configured (no-tty)")
        told.begun.append(given)
        return told

    module.init, module.Error, module.Settings = init, _Error, lambda **given: given  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return told


def settings(folder: Path, run: dict[str, Any]) -> Any:
    write_inputs(folder)
    write_model(folder / "model")
    return config("sft", folder, folder / "model", folder / "none", folder / "out", run=run)


def test_a_run_is_logged_with_its_settings_and_figures_and_nothing_that_people_wrote(
    told: Told, tmp_path: Path
) -> None:
    given = settings(tmp_path, {"wandb": "lab/answers", "tensorboard": False, "sample_every": 1})
    manifest = run_sft(given)
    (begun,) = told.begun
    assert (begun["project"], begun["entity"], begun["name"], begun["job_type"]) == ("answers", "lab", "out", "sft")
    assert begun["config"]["optimiser"]["learning_rate"] == given.optimiser.learning_rate
    assert [step for step, _ in told.logged] == list(range(1, manifest["steps"] + 1))
    assert all(isinstance(value, float | int) for _, figures in told.logged for value in figures.values())
    assert told.logged[-1][1]["loss"] == manifest["figures"]["loss"]
    assert told.ended == [0]
    assert (tmp_path / "out" / "samples.jsonl").exists()  # they are there, and were not sent


def test_a_run_that_goes_on_is_the_same_one_and_one_that_fails_says_so(told: Told, tmp_path: Path) -> None:
    first = open_trackers(tmp_path, 0, RunConfig(tensorboard=False, wandb="answers"), "ppo")
    first[0].close(failed=True)
    WeightsAndBiases("answers", tmp_path, "ppo").close(failed=False)
    assert told.begun[0]["id"] == told.begun[1]["id"] == (tmp_path / "wandb" / RUN_ID).read_text()
    assert (told.begun[1]["resume"], told.ended) == ("allow", [1, 0])
    WeightsAndBiases("answers", tmp_path / "other", "ppo")
    assert told.begun[2]["id"] != told.begun[0]["id"]


def test_who_is_not_logged_in_is_told_what_to_do(told: Told, tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match=r"api_key not configured[^$]*wandb login"):
        WeightsAndBiases("nobody", tmp_path, "ppo")


def test_without_the_package_a_run_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("heedful.training.trackers.find_spec", lambda name: None)
    check_wandb(None)
    with pytest.raises(HeedfulError, match=r"pip install 'heedful\[wandb\]'"):
        run_sft(settings(tmp_path, {"wandb": "answers"}))
    assert not (tmp_path / "out").exists()


def test_tensorboard_has_the_figures_and_not_those_that_a_kill_took_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before = TensorBoard(tmp_path, 0)
    for step in (1, 2, 3):
        before.write(step, {"loss": float(step)})
    before.close(failed=True)
    (after,) = open_trackers(tmp_path, 1, RunConfig(), "sft")
    after.write(2, {"loss": 20.0})
    after.close(failed=False)
    kept = EventAccumulator(str(tmp_path / "tensorboard"))
    kept.Reload()
    assert [(event.step, event.value) for event in kept.Scalars("loss")] == [(1, 1.0), (2, 20.0)]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_the_real_package_keeps_an_offline_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for step in (1, 2):
        run = WeightsAndBiases("answers", tmp_path, "ppo")
        run.write(step, {"reward": 0.5})
        run.close(failed=False)
    files = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert {path.stem.removeprefix("run-") for path in files} == {(tmp_path / "wandb" / RUN_ID).read_text()}
    assert all(b"reward" in path.read_bytes() for path in files)
