"""`heedful studio` and other commands as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FOREIGN = ("DATABASE_URL", "HEEDFUL_TEST_DATABASE")
"""Variables of the tests' own that a command must not see."""


def environment() -> dict[str, str]:
    """This process's variables without the tests' own."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


def command(*words: str) -> list[str]:
    """The words that run heedful."""
    return [sys.executable, "-m", "heedful.cli.main", *words]


@contextmanager
def studio(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running studio and all that it printed until it was ready."""
    process = subprocess.Popen(
        command("studio", "--folder", str(folder), "--port", "0", *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    printed = ""
    try:
        for line in process.stdout:
            printed += line
            if "Stop with Ctrl-C" in line:
                break
        else:
            pytest.fail(printed)
        yield process, printed
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=300, env=environment())
