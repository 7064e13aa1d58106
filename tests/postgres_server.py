"""A PostgreSQL server of a test's own, to stop, start again and fill up; `.ci/with-postgres` is for the rest."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


@dataclass
class Server:
    """A server that runs, or was stopped."""

    bin: Path
    folder: Path
    port: int
    space: str = ""
    """Size of a file system of its own, in memory, where tables may lie (`small`); "" for none."""

    @property
    def address(self) -> str:
        """Of a database on it, which need not exist."""
        return f"postgresql://heedful@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it; gone connections are the clients' business."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories={self.folder}"
        words = [
            self.bin / "pg_ctl",
            "-D",
            self.folder / "data",
            "-w",
            "-l",
            self.folder / "log",
            "-o",
            options,
            "start",
        ]
        line = [*self._as(), *map(str, words)]
        if self.space:  # in a mount namespace of its own, which goes with the server
            mount = f"mount -t tmpfs -o size={self.space},uid=$(id -u postgres),mode=700 none {self.small}"
            line = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *line]
        subprocess.run(line, check=True, capture_output=True, timeout=120, cwd=self.folder)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `immediate` is as good as a power cut."""
        words = [self.bin / "pg_ctl", "-D", self.folder / "data", "-m", mode, "stop"]
        subprocess.run([*self._as(), *map(str, words)], capture_output=True, timeout=120, cwd=self.folder)

    @property
    def small(self) -> Path:
        """The folder of the small file system, as the server sees it."""
        return self.folder / "small"

    def inside(self) -> Path:
        """The same folder, as others reach it: through the server's own namespace."""
        pid = (self.folder / "data" / "postmaster.pid").read_text().split()[0]
        return Path(f"/proc/{pid}/root{self.small}")

    @staticmethod
    def _as() -> list[str]:
        return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root


@contextmanager
def server(space: str = "") -> Iterator[Server]:
    """A server with nothing in it, gone afterwards. Where there are no programs of it, skip; in CI, fail.

    Args:
        space: size of a small file system for tables, as in "32m"; needs root.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    why = "" if found else "PostgreSQL's server programs are not here"
    if space and (os.geteuid() != 0 or shutil.which("unshare") is None):
        why = "a file system of its own needs root and unshare"
    if why:
        (pytest.fail if IN_CI else pytest.skip)(why)
    folder = Path(tempfile.mkdtemp(prefix="heedful-postgres-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Server(found[-1].parent, folder, probe.getsockname()[1], space)
    made.small.mkdir()
    if os.geteuid() == 0:
        for path in (folder, made.small):
            shutil.chown(path, "postgres")
    try:
        words = [
            made.bin / "initdb",
            "-D",
            folder / "data",
            "-U",
            "heedful",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        subprocess.run([*made._as(), *map(str, words)], check=True, capture_output=True, timeout=120, cwd=folder)
        made.start()
        yield made
    finally:
        with suppress(subprocess.SubprocessError):
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)
