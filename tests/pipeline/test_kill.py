"""kill -9 at ten random moments of every stage: the run that went on ends with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from heedful.files import read_manifest, sha256_file
from stage_runs import STAGES, WITHOUT_CRITIC, config, run_in_child, write_inputs, write_model

KILLS = 10
OTHERS = [pytest.param(stage, marks=pytest.mark.slow) for stage in WITHOUT_CRITIC]
"""Alike in all that a kill can meet; tests/pipeline/test_online_stages.py stops each of them once, quickly."""
PREFERENCES: dict[str, dict[str, Any]] = {
    "bco": {"loss": "bco"},
    "tr-dpo": {"reference": {"update": "soft", "every": 2}},
}
"""Forms of dpo that have more to keep; tests/pipeline/test_preference_stage.py stops each of them once, quickly."""


def forked(target: Any, *given: Any) -> Any:
    """A process that begins with the stages imported; the first one waits until they are."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["heedful.pipeline.stages.online", "heedful.pipeline.stages.preference", "heedful.pipeline.stages.reward"]
    )
    process = context.Process(target=target, args=given)
    process.start()
    return process


def start(stage: str, settings: Any) -> Any:
    return forked(run_in_child, stage, settings)


def results(out: Path) -> dict[str, str]:
    """Hashes of all that the run left, but for what names times and places."""
    untold = ("manifest.json", "heedful.yaml")
    found = [p for p in sorted(out.rglob("*")) if p.is_file() and p.name not in untold and p.name[0] != "."]
    return {str(p.relative_to(out)): sha256_file(p) for p in found}


@pytest.mark.parametrize(
    "stage", [*STAGES, *OTHERS, *(pytest.param(name, marks=pytest.mark.slow) for name in PREFERENCES)]
)
def test_a_stage_killed_at_ten_random_points_ends_bit_equal(stage: str, tmp_path: Path) -> None:
    over = PREFERENCES.get(stage, {})
    stage = "dpo" if over else stage
    inputs, model, reward = tmp_path / "inputs", tmp_path / "model", tmp_path / "reward"
    write_inputs(inputs)
    write_model(model)
    write_model(reward, kind="reward")
    whole = tmp_path / "whole"
    forked(int).join()
    began = time.monotonic()
    process = start(stage, config(stage, inputs, model, reward, whole, **over))
    process.join()
    assert process.exitcode == 0
    length = time.monotonic() - began
    assert read_manifest(whole)

    dice = random.Random(stage)
    killed = 0
    for attempt in range(10 * KILLS):
        out = tmp_path / f"killed-{attempt}"
        settings = config(stage, inputs, model, reward, out, **over)
        ended = False
        while (
            not ended
        ):  # the manifest alone is no end: a kill after it may leave checkpoints, cleared on the next call
            process = start(stage, settings)
            if killed < KILLS:
                began = time.monotonic()
                process.join(timeout=dice.uniform(0.05, 0.95) * length)
                if process.exitcode is None:
                    os.kill(process.pid, signal.SIGKILL)
                    killed += 1
                else:  # the machine has become faster
                    length = min(length, time.monotonic() - began)
            process.join()
            ended = process.exitcode == 0
        assert read_manifest(out)
        assert results(out) == results(whole)
        if killed >= KILLS:
            break
    assert killed == KILLS
