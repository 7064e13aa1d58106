"""A database that goes away, and one that is full: the studio comes back by itself, and nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from studio_load import Report, drive

from postgres_server import Server, server
from studio_faults import Cut, Faults, Full

pytestmark = [pytest.mark.slow, pytest.mark.on_postgresql, pytest.mark.timeout(600)]


def trial(folder: Path, of: Server, database: str, faults: Faults) -> Report:
    """Eight raters at work on a studio of two workers."""
    address = of.address.removesuffix("postgres") + database
    return drive(
        folder, raters=8, items=60, quota=2, think=0.3, seconds=240, workers=2, database=address, faults=faults
    )


def test_the_database_server_is_cut_off_and_comes_back(tmp_path: Path) -> None:
    with server() as own:
        cut = Cut(own, 2.0)
        report = trial(tmp_path, own, "postgres", Faults(cut, (1.5, 4.0)))
    assert report.problems == [], "\n".join(report.lines())
    assert report.counted >= 60
    assert report.resent
    assert cut.seen
    for status, text in cut.seen:
        assert status == 503
        assert 'http-equiv="refresh"' in text
        assert "Nothing that you sent before is lost" in text


def test_the_databases_disk_is_full_and_has_room_again(tmp_path: Path) -> None:
    with server("96m") as own:
        with psycopg.connect(own.address, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{own.small}'".encode())
            connection.execute(b"CREATE DATABASE crowded TABLESPACE small")
        faults = Faults(Full(own, 2.0), (1.0, 3.0))
        report = trial(tmp_path, own, "crowded", faults)
    assert report.problems == [], "\n".join(report.lines())
    assert report.counted >= 60
    assert faults.done
    assert faults.running is not None
    assert "53100" in faults.running.said, "the database was never full when somebody wrote"
