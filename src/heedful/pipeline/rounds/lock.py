"""One process at a time works on a programme; a second is told who. Imports no torch."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from heedful.errors import HeedfulError
from heedful.files import explain

LOCK = ".round.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a programme. The system lets go of it when the process ends, however it ends: nothing stale stays behind.

    Raises:
        HeedfulError: another process holds it, named by its number, machine and since when; or no right to write.
    """
    path = folder / LOCK
    try:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise explain(error, path) from error
    with file:
        try:
            _take(file)
        except BlockingIOError as error:
            who = holder(folder) or {"pid": "?", "host": "?", "since": "?"}
            raise HeedfulError(
                f"process {who['pid']} on {who['host']} works on this programme, since {who['since']}.",
                where=str(folder),
                mend="Wait for it, or end it; heedful round --status shows how far it is.",
            ) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": since}, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _take(file: IO[str], tries: int = 10) -> None:
    """Take the lock; somebody who only looks who has it (`holder`) lets go of it at once, so it is tried again."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
            time.sleep(0.05)


def holder(folder: Path) -> dict[str, Any] | None:
    """Who holds a programme, as `pid`, `host` and `since`; None where nobody does."""
    path = folder / LOCK
    try:
        with open(path, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return json.loads(file.read() or "null") or {"pid": "?", "host": "?", "since": "?"}
    except (OSError, ValueError):
        return None
    return None
