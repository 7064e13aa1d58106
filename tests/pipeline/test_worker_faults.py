"""What can befall a worker, with real processes: killed, stopped, interrupted, its disk full.

The others end with a word, and the run goes on from its last checkpoint to the same end.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_several_workers import same_run

from heedful.files import read_manifest
from heedful.training.folders import checkpoints
from heedful.training.settings import to_yaml
from stage_runs import config, write_inputs, write_model
from worker_processes import command, command_until_full, curve, run_workers, said_by, start_workers

pytestmark = pytest.mark.slow
PATIENCE = 15.0
LONG: dict[str, Any] = {"epochs": 15.0}
"""Enough steps to be met in the middle of one."""
LONGER: dict[str, Any] = {"steps": 10}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    write_inputs(folder / "inputs")
    write_model(folder / "model")
    write_model(folder / "reward", kind="reward")
    for stage, over in (("sft", LONG), ("ppo", LONGER)):
        assert run_workers(1, command, words(stage, folder, folder / stage, **over), folder / stage) == [0]
    return folder


def words(stage: str, given: Path, out: Path, **over: Any) -> list[str]:
    """The command line of a run, after `heedful`."""
    made = config(stage, given / "inputs", given / "model", given / "reward", out, **over)
    path = given / f"{out.name}.yaml"
    path.write_text(to_yaml(made), encoding="utf-8")
    return [stage, "--config", str(path)]


def running(count: int, over: dict[str, Any]) -> dict[str, Any]:
    return {**over, "launch": {"patience": PATIENCE, **over.get("launch", {})}}


def seen(out: Path, steps: int) -> bool:
    """Whether a run has gone so far."""
    return (out / "metrics.jsonl").exists() and len(curve(out)) >= steps


def wait_for(happened: Callable[[], bool], seconds: float = 300) -> float:
    """How long it took."""
    started = time.monotonic()
    while not happened():
        assert time.monotonic() - started < seconds
        time.sleep(0.02)
    return time.monotonic() - started


@pytest.fixture
def ended() -> Iterator[list[Any]]:
    """Processes that are gone when the test is."""
    started: list[Any] = []
    yield started
    for one in started:
        if one.is_alive():
            one.kill()


@pytest.mark.parametrize(("stage", "over", "lost"), [("sft", LONG, 1), ("sft", LONG, 0), ("ppo", LONGER, 1)])
def test_a_worker_is_killed(
    stage: str, over: dict[str, Any], lost: int, given: Path, tmp_path: Path, ended: list[Any]
) -> None:
    out = tmp_path / f"killed-{stage}-{lost}"
    asked = words(stage, given, out, **running(3, over))
    for _ in range(2):  # at random moments
        before = len(curve(out)) if (out / "metrics.jsonl").exists() else 0
        workers = start_workers(3, command, asked, tmp_path / "said")
        ended += workers
        wait_for(lambda: seen(out, before + 3))  # noqa: B023  (it is called here)
        time.sleep(random.Random(lost).random() * 0.3)
        os.kill(workers[lost].pid, signal.SIGKILL)
        others = [one for rank, one in enumerate(workers) if rank != lost]
        assert wait_for(lambda: not any(one.is_alive() for one in others)) < PATIENCE + 45  # noqa: B023
        assert [one.exitcode for one in others] == [2, 2]
        told = "".join(said_by(tmp_path / "said", rank).read_text() for rank in range(3) if rank != lost)
        assert "another worker" in told
        assert "Traceback" not in told
        assert read_manifest(out) is None
        assert checkpoints(out)
    assert run_workers(1, command, asked, tmp_path / "said") == [0]
    same_run(given / stage, out)


def test_a_worker_that_hangs_is_waited_for_as_long_as_patience_lasts(
    given: Path, tmp_path: Path, ended: list[Any]
) -> None:
    out = tmp_path / "hanging"
    asked = words("sft", given, out, **LONG, launch={"patience": 5.0})
    workers = start_workers(2, command, asked, tmp_path / "said")
    ended += workers
    wait_for(lambda: seen(out, 3))
    os.kill(workers[1].pid, signal.SIGSTOP)
    assert 3 < wait_for(lambda: not workers[0].is_alive()) < 60
    assert workers[0].exitcode == 2
    told = said_by(tmp_path / "said", 0).read_text()
    assert "has not answered for 5 s" in told
    assert "launch.patience" in told
    os.kill(workers[1].pid, signal.SIGKILL)
    assert run_workers(2, command, asked, tmp_path / "said") == [0, 0]
    same_run(given / "sft", out)


def test_a_slow_worker_only_takes_longer(given: Path, tmp_path: Path, ended: list[Any]) -> None:
    out = tmp_path / "slow"
    workers = start_workers(2, command, words("sft", given, out, **running(2, LONG)), tmp_path / "said")
    ended += workers
    for steps in (3, 6, 9):
        wait_for(lambda: seen(out, steps))  # noqa: B023
        os.kill(workers[1].pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(workers[1].pid, signal.SIGCONT)
    wait_for(lambda: not any(one.is_alive() for one in workers))
    assert [one.exitcode for one in workers] == [0, 0]
    same_run(given / "sft", out)


@pytest.mark.parametrize("rank", [0, 1])
def test_an_interrupt_of_any_worker_ends_all_at_the_same_step(
    rank: int, given: Path, tmp_path: Path, ended: list[Any]
) -> None:
    out = tmp_path / f"interrupted-{rank}"
    asked = words("sft", given, out, **running(2, LONG))
    workers = start_workers(2, command, asked, tmp_path / "said")
    ended += workers
    wait_for(lambda: seen(out, 3))
    os.kill(workers[rank].pid, signal.SIGINT)
    wait_for(lambda: not any(one.is_alive() for one in workers))
    assert [one.exitcode for one in workers] == [130, 130]
    (left,) = checkpoints(out)
    assert int(left.name.removeprefix("step-")) == curve(out)[-1]["step"]  # nothing is lost
    assert run_workers(2, command, asked, tmp_path / "said") == [0, 0]
    same_run(given / "sft", out)


@pytest.mark.parametrize("shard", [False, True])
def test_a_disk_that_is_full_leaves_the_last_checkpoint_whole(shard: bool, given: Path, tmp_path: Path) -> None:
    out = tmp_path / f"full-{shard}"
    asked = words("sft", given, out, **running(2, {**LONG, "launch": {"shard": shard}}))
    rank = 1 if shard else 0  # of whole weights the leader writes
    assert run_workers(2, command_until_full, asked, tmp_path / "said", out, rank) == [2, 2]
    told = "".join(said_by(tmp_path / "said", one).read_text() for one in range(2))
    assert "cannot write" in told
    assert "Traceback" not in told
    (left,) = checkpoints(out)
    assert not list(left.parent.glob(".*tmp"))
    assert run_workers(2, command, asked, tmp_path / "said") == [0, 0]
    same_run(given / "sft", out)


def test_what_the_leader_decides_all_do_at_the_same_step(given: Path, tmp_path: Path) -> None:
    """The watch's end of a run, which only the leader knows of."""
    out = tmp_path / "watched"
    asked = words("ppo", given, out, **running(2, {**LONGER, "watch": {"mode": "act", "step_cap": 3, "signs": ["kl"]}}))
    assert run_workers(2, command, asked, tmp_path / "said") == [0, 0]
    done = read_manifest(out)
    assert done is not None
    assert (done["steps"], done["stopped"]) == (3, "step cap: 3 steps")


def test_a_mistake_that_all_workers_meet_is_said_once(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "mistaken"
    asked = words("sft", given, out, **running(2, {"records": {"max_length": 2}}))
    assert run_workers(2, command, asked, tmp_path / "said") == [2, 2]
    told = "".join(said_by(tmp_path / "said", one).read_text() for one in range(2))
    assert told.count("error:") == 1
    assert not out.exists()


def heedful(words: list[str], **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "heedful", *words], stderr=subprocess.PIPE, text=True, **more)


def test_the_launcher_starts_workers_and_tells_of_one_that_was_killed(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "launched"
    asked = [*words("sft", given, out, **LONG), "--launcher", "torchrun", "--workers", "2"]
    first = heedful(asked)
    wait_for(lambda: seen(out, 3))
    table = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    workers = [int(line.split()[0]) for line in table.splitlines() if re.search(rf"^\s*\d+\s+{first.pid}\s", line)]
    mine = [pid for pid in workers if "heedful" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(mine[-1], signal.SIGKILL)
    told = first.communicate(timeout=120)[1]
    assert first.returncode == 2
    assert "SIGKILL" in told
    assert "Traceback" not in told
    before = len(curve(out))
    second = heedful(asked)
    wait_for(lambda: seen(out, before + 3))
    second.send_signal(signal.SIGINT)
    assert "Interrupted" in second.communicate(timeout=120)[1]
    assert second.returncode == 130
    third = heedful(asked)
    assert third.wait(timeout=300) == 0
    same_run(given / "sft", out)
    assert load_file(out / "model.safetensors")
