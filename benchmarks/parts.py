"""Parts of a study, each in a process of its own with one thread, some at a time; what is finished is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

PartT = TypeVar("PartT")


def run_parts(
    waiting: Sequence[PartT],
    command: Callable[[PartT], Sequence[str]],
    log: Callable[[PartT], Path],
    *,
    jobs: int,
    ready: Callable[[PartT], bool] = lambda part: True,
    finished: Callable[[PartT], object] = lambda part: None,
) -> int:
    """Run parts to their end, or until one fails, which ends the others; returns 0, or 1 where one failed.

    Args:
        waiting: the parts that are not done, in the order in which they are to begin.
        command: what runs a part.
        log: where a part's output goes, after what stands there.
        jobs: how many at a time.
        ready: whether what a part builds on is done.
        finished: is told of each part that ended well.
    """
    left, running = list(waiting), dict[int, tuple[PartT, subprocess.Popen[bytes]]]()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    while left or running:
        able = next((part for part in left if ready(part)), None)
        if able is not None and len(running) < jobs:
            left.remove(able)
            log(able).parent.mkdir(parents=True, exist_ok=True)
            with open(log(able), "ab") as file:
                process = subprocess.Popen(command(able), env=environment, stdout=file, stderr=file)
            running[process.pid] = (able, process)
            continue
        if not running:
            print(f"nothing that {left} build on is left to run", file=sys.stderr)
            return 1
        time.sleep(0.5)
        for pid, (part, process) in list(running.items()):
            if process.poll() is None:
                continue
            del running[pid]
            if process.returncode:
                print(f"{part} failed: see {log(part)}", file=sys.stderr)
                for _, other in running.values():
                    other.terminate()
                return 1
            finished(part)
    return 0
