"""Several server processes behind one socket, by uvicorn's own supervisor: whoever ends is replaced.

SIGHUP replaces the workers one by one, each by a process that reads the code anew, while the others serve.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from socket import socket

from uvicorn.config import Config
from uvicorn.supervisors import Multiprocess

from heedful.errors import HeedfulError
from heedful.studio import logs, metrics
from heedful.studio.static import collect

YOUNG = 20.0
"""Seconds after its start in which a worker that ends with an error counts as one that cannot start."""
log = logging.getLogger(logs.SERVER)


class Workers(Multiprocess):
    """The supervisor; `run` returns when it was told to stop."""

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._begun: dict[int, float] = {}
        self._terminal = sys.stdin is not None and sys.stdin.isatty()
        self.failed = False

    def run(self) -> None:
        """Serve until told to stop.

        Raises:
            HeedfulError: workers do not start.
        """
        metrics.WORKERS.set(self.processes_num)
        super().run()
        if self.failed:
            raise HeedfulError("the workers do not start.", where="workers", mend="See the log above.")

    def keep_subprocess_alive(self) -> None:
        """Replace who has ended; give up where a new worker ends with an error of its own."""
        if self.should_exit.is_set():
            return
        before = list(self.processes)
        for process in before:
            self._begun.setdefault(process.pid or 0, time.monotonic())
        super().keep_subprocess_alive()
        stopped = self.should_exit.is_set()  # uvicorn stops where a worker says itself that it cannot start
        for old, new in zip(before, self.processes, strict=True):
            if old.exitcode is None or (old is new and not stopped):  # alive, or dead since that look: the next one's
                continue
            age = time.monotonic() - self._begun.pop(old.pid or 0, 0.0)
            metrics.dead(old.pid or 0)
            if stopped or (old.exitcode > 0 and age < YOUNG):
                log.error("worker %d could not start (exit code %d)", old.pid or 0, old.exitcode)
                self.failed = True
                self.should_exit.set()
                return
            metrics.RESTARTS.inc()
            log.warning("worker %d ended (exit code %d); %d takes its place", old.pid or 0, old.exitcode, new.pid or 0)
        metrics.WORKERS.set(len(self.processes))

    def handle_hup(self) -> None:
        """Replace the workers one by one; where the studio runs in a terminal that was closed, stop."""
        if self._terminal:
            self.handle_term()
            return
        collect()
        before = [process.pid for process in self.processes]
        log.info("workers are replaced one by one")
        self.restart_all()
        for pid, process in zip(before, self.processes, strict=False):
            if pid is not None and pid != process.pid:
                metrics.dead(pid)


def end_with_parent() -> None:
    """Have this worker stop when its supervisor is gone: nobody would replace it, or tell it to stop."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()
