"""Training on a Ray cluster of several processes: what one process learns, also when a worker is killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from heedful.training.folders import checkpoints
from stage_runs import write_inputs, write_model
from worker_processes import curve

pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray-train")
    write_inputs(folder / "inputs")
    write_model(folder / "model")
    return folder


def command(given: Path, out: Path, *more: Any) -> list[str]:
    words = ["sft", "--model", given / "model", "--data", given / "inputs" / "demonstrations.jsonl", "--out", out]
    words += ["--batch-size", 4, "--max-length", 64, "--held-out", 0.1, "--loading.device", "cpu"]
    words += ["--checkpoint-every", 1, "--sample-every", 0, "--no-tensorboard", "--learning-rate", 1e-3, *more]
    return [sys.executable, "-m", "heedful.cli.main", *(str(word) for word in words)]


def run(*words: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=800)


def same(one: Path, other: Path) -> None:
    before, now = curve(one), curve(other)
    assert [row["step"] for row in now] == [row["step"] for row in before]
    assert [row["loss"] for row in now] == pytest.approx([row["loss"] for row in before], rel=1e-3)
    first, second = (load_file(out / "model.safetensors") for out in (one, other))
    for name, value in first.items():
        assert torch.allclose(value, second[name], rtol=1e-3, atol=1e-4), name


RAY = ("--launch.launcher", "ray", "--launch.workers", "2")


def test_two_workers_of_a_cluster_learn_what_one_process_learns(given: Path, tmp_path: Path) -> None:
    done = run(given, tmp_path / "ray", *RAY)
    assert done.returncode == 0, done.stderr
    assert run(given, tmp_path / "alone").returncode == 0
    same(tmp_path / "alone", tmp_path / "ray")


def test_what_is_wrong_is_told_and_not_tried_again(given: Path, tmp_path: Path) -> None:
    done = run(given, tmp_path / "ray", *RAY, "--template", "nowhere.jinja")
    assert done.returncode == 2
    assert "nowhere.jinja" in done.stdout + done.stderr


def workers() -> list[int]:
    """The processes that train, of this test's own cluster: no other runs here meanwhile."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::") and b"TrainWorker" in words:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_a_killed_worker_is_started_again_from_the_last_checkpoint(given: Path, tmp_path: Path) -> None:
    more = ("--epochs", 20)
    driver = subprocess.Popen(command(given, tmp_path / "ray", *RAY, *more), stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 600
    while not checkpoints(tmp_path / "ray"):
        assert driver.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(workers()[-1], signal.SIGKILL)
    told = driver.communicate(timeout=800)[1]
    assert driver.returncode == 0, told
    assert run(given, tmp_path / "alone", *more).returncode == 0
    same(tmp_path / "alone", tmp_path / "ray")
