"""What the next item costs when much has been judged: rows examined and time, at several sizes.

    python benchmarks/studio_queue.py --judgments 10000 100000 1000000
    python benchmarks/studio_queue.py --database postgresql://heedful@127.0.0.1/heedful_bench --judgments 10000 100000

Each size is a programme of its own in one database that must be empty at first: N judgments of many raters, then a
head of the queue of N / 20 items that the measured rater has done while a slot of each is still free for others, then
fresh items. Measured is what `next_assignment` examines, the rater submitting in between: on SQLite the steps of its
virtual machine (each row looked at costs a few), on PostgreSQL the rows that scans return. Figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CHUNK = 2000
RATERS = 20
FRESH = 200
HEAD = 20
"""One item in so many as there are judgments stands in the head of the queue."""


def build(judgments: int, *, share: float = 1.0) -> SimpleNamespace:
    """A programme with that many judgments: `rater`, `batch`, `programme`."""
    from heedful.feedback import content, programmes
    from heedful.feedback.models import Account, BatchState, Programme, Prompt, Rater

    number = Account.objects.count()
    lead = Account.objects.create(username=f"lead-{number}")
    of = programmes.create_programme(f"bench {number}", account=lead)
    Programme.objects.filter(pk=of.pk).update(settings={"max_share": share})
    raters = [Rater.objects.create(programme=of, kind="simulated", name=f"r{i}") for i in range(RATERS)]
    batch = content.create_batch(of, "bench", quota=2)
    prompt = Prompt.objects.create(programme=of, messages=[{"role": "user", "content": "Which?"}], key="0" * 16)
    answers = [content.Completion.objects.create(prompt=prompt, text=text) for text in "ab"]
    made = SimpleNamespace(programme=of, batch=batch, rater=raters[0], raters=raters, prompt=prompt, answers=answers)
    head = judgments // HEAD
    position = 0
    for size, by in ((head, (0,)), ((judgments - head) // 2, (1, 2)), (FRESH, ())):
        for start in range(0, size, CHUNK):
            count = min(CHUNK, size - start)
            _items(made, position, count, by)
            position += count
    batch.state = BatchState.OPEN
    batch.save()
    return made


def _others() -> None:
    """Other programmes' raters, so that small tables are not read whole, which tells nothing of the large ones."""
    from heedful.feedback import programmes
    from heedful.feedback.models import Account, Rater

    of = programmes.create_programme("others", account=Account.objects.create(username="others"))
    Rater.objects.bulk_create(Rater(programme=of, kind="simulated", name=f"r{i}") for i in range(5000))


def _items(of: SimpleNamespace, first: int, count: int, by: tuple[int, ...]) -> None:
    """Items with two slots; `by` says which raters have filled one each (rotating, but 0 is the measured one)."""
    from django.db import transaction

    from heedful.feedback import models

    at = datetime.now(UTC)
    items, entries, places, leases, said, holding = [], [], [], [], [], []
    base = {"programme": of.programme, "batch": of.batch, "kind": "pairwise", "purpose": "train"}
    for position in range(first, first + count):
        state = "done" if len(by) == 2 else "open"
        item = models.Item(
            programme=of.programme, batch=of.batch, prompt=of.prompt, kind="pairwise", purpose="train",
            state=state, position=position,
        )  # fmt: skip
        items.append(item)
        entries += [models.ItemCompletion(item=item, completion=one, index=i) for i, one in enumerate(of.answers)]
        for number in range(2):
            slot = models.Slot(
                item=item, batch=of.batch, purpose="train", guideline_id=of.batch.guideline_id,
                position=position * 2 + number,
            )  # fmt: skip
            places.append(slot)
            if number >= len(by):
                continue
            who = of.rater if by[number] == 0 else of.raters[1 + (position + by[number]) % (RATERS - 1)]
            lease = models.Assignment(
                slot=slot, item=item, rater=who, purpose="train", item_version=1, order=[0, 1], state="submitted",
                lease_until=at, ended=at,
            )  # fmt: skip
            slot.state, slot.holder = "done", lease.pk
            leases.append(lease)
            judgment = models.Judgment(
                **base, item=item, rater=who, assignment=lease, guideline_id=of.batch.guideline_id,
                payload={"strength": 1, "both_bad": False, "both_good": False}, order=[0, 1],
                idempotency_key=str(lease.pk), request_sha256="0" * 64,
            )  # fmt: skip
            said.append(judgment)
            holding.append(
                models.CurrentJudgment(
                    judgment=judgment,
                    slot=slot,
                    item=item,
                    rater=who,
                    purpose="train",
                    guideline_id=of.batch.guideline_id,
                )
            )
    with transaction.atomic():
        for model, rows in (
            (models.Item, items), (models.ItemCompletion, entries), (models.Slot, places),
            (models.Assignment, leases), (models.Judgment, said), (models.CurrentJudgment, holding),
        ):  # fmt: skip
            model._default_manager.bulk_create(rows, batch_size=CHUNK)
        if by == (0,):  # where the measured rater's own work has brought their cursor
            models.QueueCursor.objects.update_or_create(
                rater=of.rater, batch=of.batch, route="", lane=1,
                defaults={"priority": 0, "position": (first + count) * 2 - 1},
            )  # fmt: skip


@contextmanager
def hastened() -> Iterator[None]:
    """Build without waiting for the disk; what is measured afterwards waits again."""
    from django.db import connection

    sqlite = connection.vendor == "sqlite"
    before = ("PRAGMA synchronous=OFF", "PRAGMA cache_size=-400000") if sqlite else ("SET synchronous_commit=off",)
    after = ("PRAGMA synchronous=FULL", "PRAGMA cache_size=-2000") if sqlite else ("SET synchronous_commit=on",)
    for statements in (before, after):
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        if statements is before:
            yield


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
        from django.db import connection

        call_command("migrate", verbosity=0)
        _others()
        costs = []
        for size in given.judgments:
            began = time.perf_counter()
            with hastened():
                of = build(size)
            if connection.vendor == "postgresql":
                connection.cursor().execute("ANALYZE")
            built = time.perf_counter() - began
            cost, wait, keep = measure(of)
            costs.append(cost)
            print(
                f"{size:>9,} judgments: {cost:8,.0f} examined, next item {1000 * wait:6.1f} ms, "
                f"submit {1000 * keep:6.1f} ms (built in {built:.0f} s)",
                flush=True,
            )
        ratio = max(costs) / min(costs)
        print(f"largest over smallest: {ratio:.2f}")
        raise SystemExit(ratio > given.limit)


if __name__ == "__main__":
    main()
