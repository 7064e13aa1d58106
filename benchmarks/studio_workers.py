"""Requests a second and how long raters wait, with 1, 2, 4 workers behind one PostgreSQL.

    .ci/with-postgres sh -c 'python benchmarks/studio_workers.py --server "$HEEDFUL_TEST_DATABASE"'

Each trial is one of `studio_load.py`'s, on a fresh folder and an empty database: raters do what the page's script does.
Once they hardly read, so that the studio is kept busy: how much it serves. Once they read for some seconds: how long
they wait. Raters, database and studio share the machine, whose cores and load are printed: on two cores more workers
cannot serve more, only cost more, and the figures say how much.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from studio_load import Report, drive
from studio_process import scratch

HEAD = ("workers", "reading s", "requests a second", "next+submit p50 ms", "p99 ms", "processor ms each", "load before")


def trial(server: str, workers: int, read: float, given: argparse.Namespace) -> Report:
    """One trial on an empty database."""
    with tempfile.TemporaryDirectory() as folder, scratch(server) as database:
        return drive(
            Path(folder),
            raters=given.raters,
            items=given.items,
            quota=2,
            think=read,
            seconds=given.seconds,
            workers=workers,
            database=database,
        )


def row(workers: int, read: float, report: Report) -> str:
    """A line of the table."""
    half, most = (1000 * report.percentile("next+submit", share) for share in (0.5, 0.99))
    rate = report.requests / report.seconds
    cells = (str(workers), f"{read:g}", f"{rate:.0f}", f"{half:.0f}", f"{most:.0f}", f"{report.cost:.1f}")
    return f"| {' | '.join((*cells, f'{report.load:.1f}'))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="a PostgreSQL server; databases are made there, and removed")
    parser.add_argument("--workers", type=int, nargs="+", default=(1, 2, 4))
    parser.add_argument("--read", type=float, nargs="+", default=(0.05, 5.0), help="mean seconds a rater reads an item")
    parser.add_argument("--raters", type=int, default=32)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each trial")
    given = parser.parse_args()
    rows, wrong = [], []
    for read in given.read:
        for workers in given.workers:
            report = trial(given.server, workers, read, given)
            rows.append(row(workers, read, report))
            wrong += report.problems
            print(f"{workers} workers, {read:g} s of reading", *report.lines(), "", sep="\n", flush=True)
    print(
        f"{given.raters} raters, {os.cpu_count()} cores", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", sep="\n"
    )
    print(*rows, sep="\n")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
