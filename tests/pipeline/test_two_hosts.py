"""Two hosts under torchrun, and the cable between them: a short cut changes nothing, a long one ends both with a word.

The hosts are network namespaces with loopback addresses of their own (`two_hosts.py`); the disk is shared, as it has
to be.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heedful.files import read_manifest
from heedful.training.folders import checkpoints
from heedful.training.settings import to_yaml
from stage_runs import config, write_inputs, write_model
from two_hosts import Hosts, two_hosts
from worker_processes import curve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PATIENCE = 40.0
TO_END = 60.0
"""Seconds for two busy processes and their agents to end in, beside the patience."""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_hosts() as made:
        yield made


@pytest.fixture(scope="module")
def given(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hosts")
    write_inputs(folder / "inputs")
    write_model(folder / "model")
    with training(hosts, folder, folder / "uncut", 300.0) as agents:
        assert [one.wait(600) for one in agents] == [0, 0], "\n".join(said(folder / "uncut"))
    return folder


class Training:
    """One of torchrun's agents on each host, with a worker each; none is left when the block ends."""

    def __init__(self, agents: list[subprocess.Popen[str]]) -> None:
        self.agents = agents

    def __enter__(self) -> list[subprocess.Popen[str]]:
        return self.agents

    def __exit__(self, *of: object) -> None:
        for one in self.agents:
            if one.poll() is None:
                one.send_signal(signal.SIGTERM)
                try:
                    one.wait(40)
                except subprocess.TimeoutExpired:
                    one.kill()


def training(hosts: Hosts, given: Path, out: Path, patience: float) -> Training:
    """Begin a run, or go on with one, as docs/scale.md says."""
    made = config("sft", given / "inputs", given / "model", given, out, epochs=30.0, launch={"patience": patience})
    path = given / f"{out.name}.yaml"
    path.write_text(to_yaml(made), encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--master-addr", hosts.address(0), "--master-port", "29500"]
    command = ["-m", "heedful", "sft", "--config", str(path)]
    starts = [[*torchrun, "--node-rank", str(rank), *command] for rank in (0, 1)]
    agents = [hosts.start(rank, one, f"{out}.said-{rank}", OMP_NUM_THREADS="1") for rank, one in enumerate(starts)]
    return Training(agents)


def said(out: Path) -> list[str]:
    return [Path(f"{out}.said-{rank}").read_text() for rank in (0, 1)]


def wait_for(happened: Callable[[], bool], seconds: float) -> float:
    """How long it took."""
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


def steps(out: Path) -> int:
    return len(curve(out)) if (out / "metrics.jsonl").exists() else 0


def same_bytes(one: Path, other: Path) -> None:
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert [row["loss"] for row in curve(one)] == [row["loss"] for row in curve(other)]


def test_a_short_cut_changes_no_bit(hosts: Hosts, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "short"
    with training(hosts, given, out, 300.0) as agents:
        wait_for(lambda: steps(out) >= 3, 400)
        hosts.cut()
        time.sleep(1)  # what was on its way has arrived
        before = steps(out)
        time.sleep(5)
        assert steps(out) <= before + 1  # they wait
        hosts.heal()
        assert [one.wait(600) for one in agents] == [0, 0], "\n".join(said(out))
    same_bytes(given / "uncut", out)


def test_a_long_cut_ends_both_with_a_word_and_the_run_goes_on(hosts: Hosts, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "long"
    with training(hosts, given, out, PATIENCE) as agents:
        wait_for(lambda: steps(out) >= 3, 400)
        hosts.cut()
        try:
            wait_for(lambda: all(one.poll() is not None for one in agents), PATIENCE + TO_END)
        finally:
            hosts.heal()
        assert [one.returncode for one in agents] == [1, 1]  # torchrun's own
    for rank, told in enumerate(said(out)):
        assert f"worker {rank} of 2: another worker has not answered for {PATIENCE:g} s" in told
        assert "Run the same command again: it goes on from the last checkpoint" in told
        assert "(exitcode: 2)" in told  # the worker's
    assert read_manifest(out) is None
    assert not list(out.rglob("*tmp"))
    (left,) = checkpoints(out)
    assert read_manifest(left) is not None
    at = int(left.name.removeprefix("step-"))
    assert at >= 2  # one is written every second step
    with training(hosts, given, out, 300.0) as agents:
        assert [one.wait(600) for one in agents] == [0, 0], "\n".join(said(out))
    assert f"going on from step {at}" in said(out)[0]
    same_bytes(given / "uncut", out)
