"""A programme with any number of judgments, written in few statements: the rows that the store's services would leave.

Each table is filled by one INSERT ... SELECT over counted numbers, in which every id can be reckoned from a number, so
that no table is read to fill another. A million judgments are some nine million rows. `hastened` leaves out what only
guards against a power cut or a wrong key; `tests/feedback/test_feedback_rows_built.py` proves a small build right by
the store's own replay and by the database's own look at its keys.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

RATERS = 20
FRESH = 200
HEAD = 20
"""One item in so many as there are judgments stands in the head of the queue."""
PAYLOAD = {"strength": 1, "both_bad": False, "both_good": False}
KINDS = {name: number for number, name in enumerate(("rater", "item", "entry", "slot", "lease", "judgment", "current"))}
"""What an id is of: a part of the id."""
TIMED = {"active_ms": 900}


def build(judgments: int, *, share: float = 1.0) -> SimpleNamespace:
    """A programme with that many judgments: `programme`, `batch`, `rater`, `raters`, `fresh`.

    A head of the queue of judgments / 20 items that `rater` has done while a slot of each is free for others; items
    that two of the others have done; then fresh ones, from the position `fresh` on.
    """
    from django.db import transaction

    from heedful.feedback import content, events, programmes
    from heedful.feedback.models import Account, Completion, Programme, Prompt, QueueCursor, Rater

    number = Account.objects.count()
    lead = Account.objects.create(username=f"lead-{number}")
    of = programmes.create_programme(f"bench {number}", account=lead)
    Programme.objects.filter(pk=of.pk).update(settings={"max_share": share})
    batch = content.create_batch(of, "bench", quota=2)
    prompt = Prompt.objects.create(programme=of, messages=[{"role": "user", "content": "Which?"}], key="0" * 16)
    answers = [Completion.objects.create(prompt=prompt, text=text) for text in "ab"]
    head = judgments // HEAD
    done = head + (judgments - head) // 2
    size = done + FRESH
    rows = _Rows(number, head, done, time.time() - 2 * size - 86_400)
    raters = [
        Rater.objects.create(id=rows.key("rater", i), programme=of, kind="simulated", name=f"r{i}")
        for i in range(RATERS)
    ]
    with transaction.atomic():
        rows.write(of, batch, prompt, answers, size)
        for what in ("items.added", "slots.made"):
            events.record(what, programme=of, batch=batch, count=size if what == "items.added" else 2 * size)
        QueueCursor.objects.bulk_create(
            QueueCursor(rater=one, batch=batch, lane=1, priority=0, position=2 * (done if i else head) - 1)
            for i, one in enumerate(raters)
        )
    content.open_batch(batch, actor=lead)
    return SimpleNamespace(programme=of, batch=batch, rater=raters[0], raters=raters, fresh=done)


class _Rows:
    """The rows of one programme as expressions of a number n: of an item, or of a slot, which is 2 * item + 0 or 1.

    Args:
        number: of the programme.
        head: items that rater 0 alone has done.
        done: items that were worked on, those of the head included.
        begin: seconds since the epoch when it all began; a second a slot.
    """

    def __init__(self, number: int, head: int, done: int, begin: float) -> None:
        from django.db import connection

        self.connection = connection
        self.sqlite = connection.vendor == "sqlite"
        self.number, self.head, self.done, self.begin = number, head, done, int(begin)
        self.taken = f"n < {2 * done} AND (n >= {2 * head} OR n %% 2 = 0)"
        """Of a slot: whether it holds a judgment."""
        self.rater = f"CASE WHEN n < {2 * head} THEN 0 ELSE 1 + (n / 2 + n %% 2 + 1) %% {RATERS - 1} END"

    # --- ids and times, reckoned here and there alike ---

    def key(self, kind: str, n: int) -> uuid.UUID:
        """An id of version 7: a millisecond that rises with n, what it is of, which programme, n."""
        at = self.begin * 1000 + n
        return uuid.UUID(f"{at:012x}7{KINDS[kind]:03x}8{self.number:03x}{n:012x}")

    def text(self, kind: str, n: str) -> str:
        """`key` as an expression, in its usual form."""
        at = f"({self.begin * 1000} + {n})"
        parts = (self._hex(f"({at} >> 16)", 8), self._hex(f"({at} & 65535)", 4), self._hex(n, 12))
        return f"({parts[0]} || '-' || {parts[1]} || '-7{KINDS[kind]:03x}-8{self.number:03x}-' || {parts[2]})"

    def id(self, kind: str, n: str) -> str:
        """`key` as an expression, as its column holds it."""
        text = self.text(kind, n)
        return f"replace({text}, '-', '')" if self.sqlite else text

    def _hex(self, n: str, width: int) -> str:
        return f"printf('%%0{width}x', {n})" if self.sqlite else f"lpad(to_hex(({n})::bigint), {width}, '0')"

    def at(self, seconds: str) -> str:
        """A time, so many seconds after the begin."""
        since = f"{self.begin} + {seconds}"
        return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', {since}, 'unixepoch')" if self.sqlite else f"to_timestamp({since})"

    def json(self, **ids: str) -> str:
        """An object of texts."""
        pairs = [f"""'"{name}": "' || {text} || '"'""" for name, text in ids.items()]
        return "'{' || " + " || ', ' || ".join(pairs) + " || '}'"

    # --- the tables ---

    def write(self, of: Any, batch: Any, prompt: Any, answers: list[Any], size: int) -> None:
        """Fill every table."""
        from heedful.feedback import events, models

        common = {"purpose": "train", "batch": batch}
        pair = {"programme": of, "kind": "pairwise", **common}
        rated = {"rater": self.id("rater", self.rater), "item": self.id("item", "n / 2")}
        lease, slot, judgment = (self.id(kind, "n") for kind in ("lease", "slot", "judgment"))
        order = "'[' || (n %% 2) || ', ' || (1 - n %% 2) || ']'"
        first, second = (f"'{one.pk.hex if self.sqlite else one.pk}'" for one in answers)
        self._fill(
            models.Item, size, pair | {"prompt": prompt}, id=self.id("item", "n"), created=self.at("0"), position="n",
            state=f"CASE WHEN n >= {self.head} AND n < {self.done} THEN 'done' ELSE 'open' END",
        )  # fmt: skip
        self._fill(
            models.ItemCompletion, 2 * size, {}, id=self.id("entry", "n"), created=self.at("0"), item=rated["item"],
            completion=f"CASE n %% 2 WHEN 0 THEN {first} ELSE {second} END", index="n %% 2",
        )  # fmt: skip
        self._fill(
            models.Slot, 2 * size, common | {"guideline": batch.guideline}, id=slot, created=self.at("0"),
            item=rated["item"], position="n", state=f"CASE WHEN {self.taken} THEN 'done' ELSE 'free' END",
            holder=f"CASE WHEN {self.taken} THEN {lease} END",
        )  # fmt: skip
        done = {"count": 2 * self.done, "where": self.taken}
        self._fill(
            models.Assignment, **done, fixed={"purpose": "train", "item_version": 1, "state": "submitted"} | TIMED,
            id=lease, created=self.at("n"), slot=slot, order=order, lease_until=self.at("n + 1800"),
            shown=self.at("n"), ended=self.at("n + 1"), **rated,
        )  # fmt: skip
        self._fill(
            models.Judgment, **done, fixed=pair | {"guideline": batch.guideline, "payload": PAYLOAD} | TIMED,
            id=judgment, created=self.at("n + 1"), assignment=lease, order=order, shown=self.at("n"),
            idempotency_key=self.text("lease", "n"), request_sha256=self._hex("n", 64), **rated,
        )  # fmt: skip
        self._fill(
            models.CurrentJudgment, **done, fixed={"purpose": "train", "guideline": batch.guideline},
            id=self.id("current", "n"), created=self.at("n + 1"), judgment=judgment, slot=slot, **rated,
        )  # fmt: skip
        self._events(of, events.digest_of(PAYLOAD))

    def _events(self, of: Any, digest: str) -> None:
        """What the services would have told: of each slot in turn, and that its item is done."""
        from heedful.feedback.models import AuditEvent

        lease, item = {"assignment": self.text("lease", "n")}, {"item": self.text("item", "n / 2")}
        who = {"slot": self.text("slot", "n"), "rater": self.text("rater", self.rater)}
        told = {
            "assignment.leased": self.json(**lease, **who, **item),
            "assignment.shown": self.json(**lease),
            "judgment.submitted": self.json(judgment=self.text("judgment", "n"), **lease, **who, **item),
            "item.done": self.json(**item),
        }
        kinds = " ".join(f"WHEN {step} THEN '{kind}'" for step, kind in enumerate(told))
        ids = " ".join(f"WHEN {step} THEN {value}" for step, value in enumerate(told.values()))
        self._fill(
            AuditEvent, 2 * self.done, {"programme": of.pk}, steps=len(told), at=self.at("n + step / 2"),
            kind=f"CASE step {kinds} END", ids=f"CASE step {ids} END",
            where=f"({self.taken}) AND (step < 3 OR n >= {2 * self.head} AND n %% 2 = 1)",
            actor=f"CASE WHEN step < 3 THEN {self.id('rater', self.rater)} END",
            digest=f"CASE step WHEN 2 THEN '{digest}' ELSE '' END",
        )  # fmt: skip

    def _fill(
        self, model: Any, count: int, fixed: dict[str, Any], *, where: str = "1 = 1", steps: int = 1, **given: str
    ) -> None:
        """Fill a table with a row for each n below `count`, and each step of it, for which a condition holds.

        Args:
            model: the table.
            count: how many numbers.
            fixed: values of fields that are the same in each row; those not named have their defaults.
            where: the condition.
            steps: of each number.
            given: of the other fields, expressions of n and step.
        """
        columns, values, bound = [], [], []
        for field in model._meta.concrete_fields:
            if field.name == "seq":  # the database's own
                continue
            if field.name not in given:
                value = fixed.get(field.name, field.get_default())
                bound.append(field.get_db_prep_save(getattr(value, "pk", value), self.connection))
            expression = given.get(field.name, "%s")
            columns.append(f'"{field.column}"')
            values.append(expression if self.sqlite else f"CAST({expression} AS {field.cast_db_type(self.connection)})")
        last = count * steps - 1
        counted = (
            f"(WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < {last}) SELECT i FROM c) c"
            if self.sqlite
            else f"generate_series(0, {last}::bigint) AS c(i)"
        )
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) SELECT {', '.join(values)} "
                f"FROM (SELECT i / {steps} AS n, i %% {steps} AS step FROM {counted}) s WHERE {where}",
                bound,
            )


@contextmanager
def hastened() -> Iterator[None]:
    """Build without waiting for the disk or checking keys; what follows waits and checks again.

    On PostgreSQL that needs a superuser, as the throw-away server of `.ci/with-postgres` has one.
    """
    from django.db import connection

    if connection.vendor == "sqlite":
        before = ("foreign_keys=OFF", "journal_mode=OFF", "synchronous=OFF", "cache_size=-400000")
        after = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-2000")
        statements = [[f"PRAGMA {one}" for one in some] for some in (before, after)]
    else:
        statements = [
            ["SET synchronous_commit=off", "SET session_replication_role=replica"],
            ["SET synchronous_commit=on", "SET session_replication_role=origin", "ANALYZE"],
        ]
    for some in statements:
        with connection.cursor() as cursor:
            for one in some:
                cursor.execute(one)
        if some is statements[0]:
            yield
