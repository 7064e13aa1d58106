"""What goes wrong with a studio under load: its workers are killed, its database is cut off."""

from __future__ import annotations

import os
import random
import threading
import time
import urllib.error
import urllib.request
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
    running: Studio | None = None
    """The studio that it was done to; what it printed is there once it has ended."""

    @contextmanager
    def __call__(self, running: Studio) -> Iterator[None]:
        """For the time of a block."""
        self.running = running
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


SERVING = 4
"""Threads of a worker that has answered something: its own, two that watch, and one that answered."""


def kill_a_worker(running: Studio, dice: random.Random) -> bool:
    """kill -9 to one of the workers that serve, where others do too; whether one was killed."""
    found = [pid for pid in workers(running) if _threads(pid) >= SERVING]
    if len(found) < 2:
        return False
    with suppress(ProcessLookupError):
        os.kill(dice.choice(found), 9)
    return True


def _threads(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


@dataclass
class Cut:
    """A database server that is stopped without warning, and started again."""

    server: Server
    seconds: float
    """How long it is gone."""
    seen: list[tuple[int, str]] = field(default_factory=list)
    """(status, text) of a page that somebody asked for while it was gone."""

    def __call__(self, running: Studio, dice: random.Random) -> bool:
        """Cut, look at a page as somebody who is logged in, and start again."""
        self.server.stop()
        time.sleep(self.seconds)
        asked = urllib.request.Request(
            running.base + "/", headers={"Cookie": "heedful=somebody", "Accept": "text/html"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                self.seen.append((answer.status, answer.read().decode()))
        except urllib.error.HTTPError as answer:
            self.seen.append((answer.code, answer.read().decode()))
        finally:
            self.server.start()
        return True


@dataclass
class Full:
    """A file system that is full for a while."""

    server: Server
    seconds: float

    def __call__(self, running: Studio, dice: random.Random) -> bool:
        """Fill it, wait, make room again."""
        ballast = self.server.inside() / "ballast"
        try:
            with open(ballast, "wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            time.sleep(self.seconds)
        finally:
            ballast.unlink()
        return True
