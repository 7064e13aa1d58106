"""The benchmarks that documents name still run. Their figures are nobody's business here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COMMANDS = sorted(path.name for path in BENCHMARKS.glob("*.py") if "ArgumentParser" in path.read_text(encoding="utf-8"))


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=BENCHMARKS.parent, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_generation_has_a_row_for_each_kind_of_lengths() -> None:
    said = run("benchmarks/generation.py", "--model", "tiny", "--rows", "4", "--repeats", "1")
    rows = [line.split() for line in said.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["4", "full"], ["4", "varied"]]
    assert all(float(figure) > 0 for row in rows for figure in row[2:])


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_can_be_imported_and_tells_its_options(name: str) -> None:
    assert "usage:" in run(f"benchmarks/{name}", "--help")
