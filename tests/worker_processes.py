"""Workers of a run as real processes on this machine, joined by gloo. Shared by the tests of several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port of the loopback address that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start_workers(count: int, work: Callable[..., None], *given: Any) -> list[Any]:
    """Processes with the environment of torchrun, each of which calls `work`; the first call waits for imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["heedful.pipeline.stages.online", "heedful.pipeline.stages.preference", "heedful.pipeline.stages.reward"]
    )
    port = free_port()
    started = []
    for rank in range(count):
        one = context.Process(target=_worker, args=(rank, count, port, work, given))
        one.start()
        started.append(one)
    return started


def run_workers(count: int, work: Callable[..., None], *given: Any, timeout: float = 300) -> list[int]:
    """Exit codes of the workers, by rank."""
    started = start_workers(count, work, *given)
    for one in started:
        one.join(timeout)
        if one.is_alive():
            one.kill()
    return [one.exitcode for one in started]


def _worker(rank: int, count: int, port: int, work: Callable[..., None], given: Sequence[Any]) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    work(*given)


def train(runs: Sequence[tuple[str, Any]]) -> None:
    """Run stages one after another with the workers that this process is one of."""
    from heedful.cli.stages import run_stage
    from heedful.training.joining import joined

    with joined(runs[0][1].launch, "cpu"):
        for stage, settings in runs:
            run_stage(stage, settings)


def command(words: Sequence[str], log: Path) -> None:
    """Be a worker by the entry that a launcher calls; the exit code is the command's. What it says goes to a file."""
    from heedful.cli.launching import run_worker

    said = os.open(said_by(log, int(os.environ["RANK"])), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.exit(run_worker(words))


def command_until_full(words: Sequence[str], log: Path, out: Path, rank: int) -> None:
    """`command`; once there is a checkpoint, files of this one worker may not grow any more: its disk is full."""
    import resource
    import signal

    from heedful.training.folders import checkpoints

    def fill() -> None:
        while not checkpoints(out):
            time.sleep(0.01)
        most = 30_000  # logs are shorter, weights are longer
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if int(os.environ["RANK"]) == rank:
        threading.Thread(target=fill, daemon=True).start()
    command(words, log)


def said_by(log: Path, rank: int) -> Path:
    """Where a worker's words are."""
    return log.with_name(f"{log.name}.{rank}")


def curve(out: Path) -> list[dict[str, float]]:
    """The figures of each step of a run."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
