"""kill -9 at twenty random moments of a programme: the one that went on ends with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from heedful.files import sha256_file
from heedful.pipeline.rounds.programme import foreseen
from rounds_programme import go_in_child, write_programme

KILLS = 20
UNTOLD = ("manifest.json", "heedful.yaml", "samples.jsonl")
"""Files that name times and places."""


def forked(target: Any, *given: Any) -> Any:
    """A process that begins with the stages imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [f"heedful.pipeline.rounds.{name}" for name in ("checking", "judging", "sampling", "training")]
        + ["heedful.pipeline.stages.online"]
    )
    process = context.Process(target=target, args=given)
    process.start()
    return process


def results(folder: Path) -> dict[str, str]:
    """Hashes of all that rounds have made."""
    found = [path for path in sorted((folder / "rounds").rglob("*")) if path.is_file() and path.name not in UNTOLD]
    return {str(path.relative_to(folder)): sha256_file(path) for path in found if path.name[0] != "."}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_programme_killed_at_twenty_random_points_ends_bit_equal(tmp_path: Path) -> None:
    whole = write_programme(tmp_path / "whole")
    forked(int).join()
    began = time.monotonic()
    process = forked(go_in_child, whole)
    process.join()
    assert process.exitcode == 0
    length = time.monotonic() - began

    dice, killed = random.Random(9), 0
    for attempt in range(10 * KILLS):
        folder = write_programme(tmp_path / f"killed-{attempt}")
        ended = False
        while not ended:
            process = forked(go_in_child, folder)
            if killed < KILLS:
                began = time.monotonic()
                process.join(timeout=dice.uniform(0.05, 0.6) * length)
                if process.exitcode is None:
                    os.kill(process.pid, signal.SIGKILL)
                    killed += 1
                else:  # the machine has become faster
                    length = min(length, time.monotonic() - began)
            process.join()
            ended = process.exitcode == 0
        assert results(folder) == results(whole)
        assert all(one.done for one in foreseen(folder))
        if killed >= KILLS:
            break
    assert killed == KILLS
