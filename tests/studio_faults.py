"""What goes wrong with a studio under load: its workers are killed, its database is cut off."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from studio_process import Studio

from postgres_server import Server


def workers(running: Studio) -> list[int]:
    """The server processes of a studio that has several; not the one that watches over them, nor its helpers."""
    found = []
    for path in Path(f"/proc/{running.process.pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(one) for one in path.read_text(encoding="ascii").split()]
    return sorted(pid for pid in found if "spawn_main" in _line(pid))


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return ""


@dataclass
class Faults:
    """Something that is done again and again while a trial runs."""

    act: Callable[[Studio, random.Random], bool]
    pause: tuple[float, float]
    """Seconds between two, at least and at most."""
    seed: int = 0
    done: list[float] = field(default_factory=list)

    @contextmanager
    def __call__(self, running: Studio) -> Iterator[None]:
        """For the time of a block."""
        dice, stop = random.Random(self.seed), threading.Event()

        def run() -> None:
            while not stop.wait(dice.uniform(*self.pause)):
                if self.act(running, dice):
                    self.done.append(time.monotonic())

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def kill_a_worker(running: Studio, dice: random.Random) -> bool:
    """kill -9 to any of the workers; whether one was there."""
    found = workers(running)
    if not found:
        return False
    with suppress(ProcessLookupError):
        os.kill(dice.choice(found), 9)
    return True


def cut_the_power(server: Server, seconds: float) -> Callable[[Studio, random.Random], bool]:
    """Stop a database server without warning, and start it again after so many seconds."""

    def act(running: Studio, dice: random.Random) -> bool:
        server.stop()
        time.sleep(seconds)
        server.start()
        return True

    return act
