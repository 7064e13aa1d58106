"""What the next item costs when much has been judged: rows examined and time, at several sizes.

    python benchmarks/studio_queue.py --judgments 10000 100000 1000000
    .ci/with-postgres sh -c 'python benchmarks/studio_queue.py --database "$HEEDFUL_TEST_DATABASE"'

Each size is a programme of its own in one database that must be empty at first (`studio_rows.build`): N judgments of
many raters, among them a head of the queue of N / 20 items that the measured rater has done while a slot of each is
still free for others, then fresh items. Measured is what `next_assignment` examines, the rater submitting in between:
on SQLite the steps of its virtual machine (each row looked at costs a few), on PostgreSQL the rows that scans return.
Figures are medians. At the end the fresh items are withdrawn, and the rater is told that there is no work: that is
proven by a look at every slot that is still free, so it grows with them.

A million judgments take some 5 GB of disk and, on one core, two minutes or so to build.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from studio_rows import HEAD, build, hastened

__all__ = ["build", "measure"]
OTHERS = 5000


def _others() -> None:
    """Another programme's raters, each with a cursor, prompts and answers: small tables would be read whole, which
    tells nothing of large ones.
    """
    from heedful.feedback import content, programmes
    from heedful.feedback.models import Account, Completion, Prompt, QueueCursor, Rater

    of = programmes.create_programme("others", account=Account.objects.create(username="others"))
    batch = content.create_batch(of, "others")
    raters = [Rater(programme=of, kind="simulated", name=f"r{i}") for i in range(OTHERS)]
    prompts = [Prompt(programme=of, messages=[{"role": "user", "content": f"{i}"}], key=f"{i}") for i in range(OTHERS)]
    Rater.objects.bulk_create(raters)
    QueueCursor.objects.bulk_create(
        QueueCursor(rater=one, batch=batch, lane=1, priority=0, position=i) for i, one in enumerate(raters)
    )
    Prompt.objects.bulk_create(prompts)
    Completion.objects.bulk_create(Completion(prompt=one, text="a") for one in prompts)


@contextmanager
def examined() -> Iterator[list[int]]:
    """Count what the database examines in the block; the list then holds one number."""
    from django.db import connection

    found: list[int] = []
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        steps = [0]

        def step() -> int:
            steps[0] += 1
            return 0

        connection.connection.set_progress_handler(step, 1)
        try:
            yield found
        finally:
            connection.connection.set_progress_handler(None, 1)
        found.append(steps[0])
    else:
        before = _returned(connection)
        yield found
        found.append(_returned(connection) - before)


def _returned(connection: Any) -> int:
    """Rows that scans of the store's tables have returned in this database so far."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables "
            "WHERE relname LIKE 'feedback_%%'",
            [],
        )
        return int(cursor.fetchone()[0] or 0)


def measure(of: SimpleNamespace, rounds: int = 11) -> tuple[float, float, float]:
    """Medians of rows (or steps) examined and seconds of the next item, and of seconds of the submission."""
    from heedful.feedback import assignment, submission

    costs, waits, keeps = [], [], []
    for _ in range(rounds):
        began = time.perf_counter()
        with examined() as cost:
            held = assignment.next_assignment(of.rater)
        between = time.perf_counter()
        assert held is not None, "no work, though fresh items stand in the queue"
        submission.submit(held, {"strength": 1}, key=str(held.pk), item_version=1)
        costs += cost
        waits.append(between - began)
        keeps.append(time.perf_counter() - between)
    return statistics.median(costs), statistics.median(waits), statistics.median(keeps)


def nothing(of: SimpleNamespace) -> float:
    """Median of seconds until the rater is told that there is no work, once the fresh items are out."""
    from heedful.feedback import assignment, content
    from heedful.feedback.models import Item

    for item in Item.objects.filter(batch=of.batch, position__gte=of.fresh):
        content.withdraw_item(item)
    waits = []
    for _ in range(5):
        began = time.perf_counter()
        assert assignment.next_assignment(of.rater) is None, "work, though the rater has done all that is left"
        waits.append(time.perf_counter() - began)
    return statistics.median(waits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--database", default="", help="an empty database; by default a SQLite file of its own")
    parser.add_argument("--limit", type=float, default=1.5, help="largest cost over the smallest; more exits with 1")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        from heedful.feedback.setup import setup

        setup(given.database or f"sqlite:///{Path(folder) / 'bench.db'}")
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        _others()
        costs = []
        for size in given.judgments:
            began = time.perf_counter()
            with hastened():
                of = build(size)
            built = time.perf_counter() - began
            cost, wait, keep = measure(of)
            none = nothing(of)
            costs.append(cost)
            print(
                f"{size:>9,} judgments: {cost:8,.0f} examined, next item {1000 * wait:6.1f} ms, "
                f"submit {1000 * keep:6.1f} ms; no work, past {size // HEAD:,} slots, {1000 * none:6.1f} ms "
                f"(built in {built:.0f} s)",
                flush=True,
            )
        ratio = max(costs) / min(costs)
        print(f"largest over smallest: {ratio:.2f}")
        raise SystemExit(ratio > given.limit)


if __name__ == "__main__":
    main()
