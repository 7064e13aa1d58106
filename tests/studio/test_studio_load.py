"""Many raters at once over HTTP: nothing lost, nothing double, nobody sent away while there is work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from studio_load import drive
from studio_process import scratch

SERVER = os.environ.get("HEEDFUL_TEST_DATABASE", "")
LIMIT = 0.3 if SERVER else 0.5
"""Seconds for the next item and its submission together, of 99 in 100."""
THINK = 5.0
"""Seconds that each rater reads: fewer than any person needs, and 32 of them still ask for six judgments a second."""


@pytest.fixture
def database() -> Iterator[str]:
    with scratch(SERVER) as made:
        yield made


def test_eight_raters_at_once_lose_and_double_nothing(tmp_path: Path, database: str) -> None:
    report = drive(tmp_path, raters=8, items=30, quota=2, think=0.02, seconds=60, database=database)
    assert report.problems == []
    assert 60 <= report.counted + 6 <= report.judgments + 6, "a few items may be passed by three, and wait"
    assert report.told_none >= 8, "everybody was told of no work at the end, and rightly so"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_thirty_two_raters_are_served_in_time(tmp_path: Path, database: str) -> None:
    workers = 2 if SERVER else 1  # two would fight over SQLite's one writer
    report = drive(
        tmp_path, raters=32, items=600, think=THINK, seconds=300, database=database, quota=2, workers=workers
    )
    assert report.problems == [], "\n".join(report.lines())
    assert len(report.waits["next+submit"]) >= 600
    assert report.percentile("next+submit", 0.99) <= LIMIT, "\n".join(report.lines())
