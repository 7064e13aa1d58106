"""Blocks on a Ray cluster of several processes: as one process makes them, gone on with after kills, paid for once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from architectures import WORDS
from scripted_server import Say, ScriptedServer, scripted
from stage_runs import write_model

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

RAY = ["--blocks.launcher", "ray"]
LETTERS = {"A": -0.2, "B": -1.7}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ray")
    write_model(root / "policy")
    write_model(root / "reward", kind="reward")
    asked = [f"{WORDS[i % 20]} {WORDS[(3 * i + 1) % 40]}" for i in range(60)]
    rows = [{"prompt": text, "chosen": f"yes {i}", "rejected": f"no {i}"} for i, text in enumerate(asked)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), root / "pairs.parquet", row_group_size=30)
    return root


def command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "heedful.cli.main", *(str(word) for word in words)]


def run(*words: Any) -> dict[str, Any]:
    done = subprocess.run(command(*words, "--json"), capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def rows(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("part-*.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def test_answers_are_those_of_one_process_and_are_not_sampled_twice(made: Path, tmp_path: Path) -> None:
    flags = [made / "policy", "--data", made / "pairs.parquet", "--samples", 2, "--max-new-tokens", 6]
    words = ["sample", *flags, "--out", tmp_path / "answers", *RAY, "--blocks.rows", 30]
    found = run(*words)
    assert (found["rows"], found["read"], found["made_now"]) == (120, 60, 2)
    answers = rows(tmp_path / "answers")
    alone = run("sample", *flags, "--out", tmp_path / "alone.jsonl", "--records.limit", 30)
    assert alone["answers"] == 60
    plain = [json.loads(line) for line in (tmp_path / "alone.jsonl").read_text().splitlines()]
    assert answers[:60] == plain
    assert run(*words)["made_now"] == 0
    part = tmp_path / "answers" / "part-000001.parquet"
    before = part.read_bytes()
    part.unlink()
    assert run(*words)["made_now"] == 1
    assert part.read_bytes() == before
    scored = run("score", made / "reward", "--data", tmp_path / "answers", "--out", tmp_path / "scored", *RAY)
    assert scored["rows"] == 120
    alone = run("score", made / "reward", "--data", tmp_path / "alone.jsonl", "--out", tmp_path / "scored.jsonl")
    assert alone["without_reward"] == 0
    one = [json.loads(line)["reward"] for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in rows(tmp_path / "scored")[:60]] == pytest.approx(one, abs=1e-4)


def test_an_error_of_a_worker_is_told_as_any_other(made: Path, tmp_path: Path) -> None:
    words = ["score", "nowhere:function", "--data", made / "pairs.parquet", "--out", tmp_path / "out", *RAY]
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=800)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def judging(server: ScriptedServer, made: Path, out: Path) -> list[Any]:
    words = ["judge", made / "pairs.parquet", "--judge", f"judge-1@{server.url}", "--out", out, *RAY]
    return [*words, "--blocks.rows", 10, "--endpoint.concurrency", 2, "--endpoint.attempts", 3]


def slow(given: dict[str, Any], before: int) -> Say:
    time.sleep(0.3)
    return Say("A", LETTERS)


def until(holds: Callable[[], bool], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def parts(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (out / "preferences").glob("part-*.parquet")}


def workers() -> list[int]:
    """The processes of Ray Data's actors, of this test's own cluster: no other runs here meanwhile."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::MapWorker"):
            found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_a_killed_worker_costs_what_it_had_under_way_and_no_more(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with scripted(slow) as server:
        driver = subprocess.Popen(command(*judging(server, made, out)), stderr=subprocess.PIPE, text=True)
        until(lambda: len(server.paid) > 12)
        os.kill(workers()[0], signal.SIGKILL)
        assert driver.wait(800) == 0, driver.stderr.read() if driver.stderr else ""
        again = sum(count - 1 for count in server.paid.values())
        assert again <= 2  # requests that the worker had under way
        assert len(rows(out / "preferences")) == 60
        paid = sum(server.paid.values())
        assert run(*judging(server, made, out))["preferences"] == 60
        assert sum(server.paid.values()) == paid


@pytest.mark.slow
def test_a_killed_driver_goes_on_and_makes_no_block_twice(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with scripted(slow) as server:
        driver = subprocess.Popen(command(*judging(server, made, out)), stderr=subprocess.DEVNULL)
        until(lambda: len(parts(out)) >= 1)
        driver.kill()
        driver.wait()
        until(lambda: not workers(), 60)  # they end with the driver
        before, paid = parts(out), dict(server.paid)
        assert 0 < len(before) < 6
        found = run(*judging(server, made, out))
        assert found["made_now"] == 6 - len(before)
        assert before.items() <= parts(out).items()
        assert sum(count - 1 for count in server.paid.values()) <= 4  # two workers, two requests each under way
        assert all(server.paid[key] == count for key, count in paid.items() if count > 1)
        assert len(rows(out / "preferences")) == 60
