"""A studio as a process, and raters who use it over HTTP as its page's script does. Imports no Django."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
PATIENCE = 60.0
START = 120.0
"""Seconds that a studio may take until it answers: several workers start at once on a machine that others share."""
IDLE = 3.0
"""Seconds after which a connection is not used again: the server closes one that is idle for five."""


@dataclass
class Studio:
    """A running studio."""

    process: subprocess.Popen[str]
    base: str
    folder: Path
    database: str
    said: str = ""
    """The last lines that it printed; once it has ended."""

    def kill(self) -> None:
        """SIGKILL, to all its processes: nothing is tidied up."""
        for pid in [*children(self.process.pid), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.process.wait()

    def seconds(self) -> float:
        """Processor time of all its processes so far."""
        ticks = 0
        for pid in [self.process.pid, *children(self.process.pid)]:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Processes that a process started, and those that they did."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(one) for one in task.read_text(encoding="ascii").split()]
    return found + [deeper for one in found for deeper in children(one)]


@contextmanager
def studio(folder: Path, database: str = "", flags: Sequence[str] = (), before: Sequence[str] = ()) -> Iterator[Studio]:
    """Serve a folder on a free port of loopback.

    Args:
        folder: of the studio.
        database: address; by default the folder's own SQLite file.
        flags: further ones of `heedful studio`.
        before: a program to start it with, and its arguments, e.g. strace.

    Raises:
        RuntimeError: it ends at once; with what it said.
    """
    command = [*before, sys.executable, "-m", "heedful.cli.main", "studio", "--folder", str(folder), "--port", "0"]
    command += [*(("--database", database) if database else ()), *flags]
    environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "HEEDFUL_TEST_DATABASE")}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    printed = ""
    said: deque[str] = deque(maxlen=200)
    reader = threading.Thread(target=_read, args=(process.stdout, said), daemon=True)
    running = Studio(process, "", folder, database or str(folder / "feedback.db"))
    try:
        for line in process.stdout:
            printed += line
            if "Stop with Ctrl-C" in line:
                break
        found = re.search(r"The studio is at (\S+)/\n", printed)
        if found is None:
            raise RuntimeError(printed)
        running.base = found[1]
        reader.start()  # a full pipe would hold the server up
        _wait(running)
        yield running
    finally:
        running.kill()
        if running.base:
            reader.join()
            running.said = "".join(said)
        process.stdout.close()


def _read(lines: IO[str], said: deque[str]) -> None:
    said.extend(lines)


def _wait(running: Studio) -> None:
    until = time.monotonic() + START
    while time.monotonic() < until:
        with suppress(OSError, http.client.HTTPException):
            if Session(running.base).call("GET", "/health/").status == 200:
                return
        if running.process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("the studio does not answer")


@contextmanager
def scratch(server: str) -> Iterator[str]:
    """A database of its own on a PostgreSQL server, gone afterwards; without a server "", which means SQLite.

    Args:
        server: address of a database there, which need not exist.
    """
    if not server:
        yield ""
        return
    import psycopg

    name = f"heedful_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(urlsplit(server)._replace(path="/postgres").geturl(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def store(
    command: str, folder: Path, database: str, *, program: Path = HERE / "studio_store.py", **given: Any
) -> dict[str, Any]:
    """Run a command of `studio_store.py`, or of another program like it, in a process of its own; read its answer.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    line = [sys.executable, str(program), command, "--folder", str(folder), "--database", database]
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))}
    done = subprocess.run(line, input=json.dumps(given), capture_output=True, text=True, env=os.environ | paths)
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@dataclass(frozen=True)
class Answer:
    """What came back, and when: seconds since the epoch."""

    status: int
    data: dict[str, Any]
    sent: float
    received: float

    @property
    def seconds(self) -> float:
        return self.received - self.sent


class Session:
    """One browser: a cookie and a connection."""

    def __init__(self, base: str, cookie: str = "") -> None:
        self.host = urlsplit(base).netloc
        self.cookies = {"heedful": cookie} if cookie else {}
        self.connection: http.client.HTTPConnection | None = None
        self.used = 0.0

    def twin(self) -> Session:
        """The same browser on a connection of its own."""
        made = Session(f"http://{self.host}")
        made.cookies = self.cookies
        return made

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send a request; JSON both ways.

        Raises:
            OSError, http.client.HTTPException: no answer came.
        """
        if self.connection is None or time.monotonic() - self.used > IDLE:
            self.close()
            self.connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
            self.connection.connect()
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if method == "POST":
            headers |= {"Content-Type": "application/json", "Accept": "application/json"}
            headers["X-CSRFToken"] = self.cookies.get("heedful-csrf", "")
        sent = time.time()
        began = time.perf_counter()
        try:
            self.connection.request(method, path, json.dumps(body or {}) if method == "POST" else None, headers)
            reply = self.connection.getresponse()
            text = reply.read()
        except BaseException:
            self.close()
            raise
        taken = time.perf_counter() - began
        self.used = time.monotonic()
        for name, value in reply.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies = {**self.cookies, key: rest.partition(";")[0]}
        json_came = reply.headers.get_content_type() == "application/json"
        return Answer(reply.status, json.loads(text) if json_came else {}, sent, sent + taken)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
