"""Moving a store between databases: every row, proven by content."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from hypothesis import given
from hypothesis import strategies as st

from feedback.hostile import hostile_texts
from feedback_factories import batch, item, programme, rater
from feedback_quality import answer, take
from feedback_stores import contents, url_of_default
from heedful.errors import HeedfulError
from heedful.feedback import erasure, rows, setup
from heedful.feedback.databases import opened
from heedful.feedback.journal import entries
from heedful.feedback.models import Account, AuditEvent, Item, Judgment, PayRate, Prompt, Rationale, Tombstone
from heedful.feedback.transfer import _tables, migrate

SERVER = os.environ.get("HEEDFUL_TEST_DATABASE", "")
pytestmark = pytest.mark.usefixtures("beside")
threads = pytest.mark.django_db(transaction=True)  # another connection reads what is committed


@pytest.fixture
def store() -> Iterator[None]:
    """A store with something in it, on the tests' own database."""
    journal = erasure.journal_of("default")
    journal.unlink(missing_ok=True)
    with transaction.atomic():
        of = programme()
        people = [rater(of) for _ in range(2)]
        made = batch(of, quota=2)
        for number, text in enumerate(hostile_texts()[:-1]):
            item(made, text=text, answers=[text, "other"], priority=number % 3)
        for who in people:
            for strength in (-2, 0, 3):
                answer(take(who), strength=strength)
    first = Judgment.objects.order_by("pk")[0]
    Rationale.objects.create(judgment=first, text="\u202e because \U0001f600")
    PayRate.objects.create(programme=of, per_hour=Decimal("12.50"), per_judgment=Decimal("0.0500"), begins=_at())
    numbers = {"large": 10**20, "small": 1e-7, "whole": 3.0, "huge": 1.5e300, "minus": -0.0, "deep": [{"b": 1, "a": 2}]}
    Prompt.objects.filter(pk=first.item.prompt_id).update(source=numbers)
    yield
    journal.unlink(missing_ok=True)


def _at() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def with_tables(path: Path) -> str:
    """The address of a store without rows, its tables made already where that is quick."""
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(connection.settings_dict["NAME"])) as own, closing(sqlite3.connect(path)) as copy:
            tables = [row[0] for row in own.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")]
            for statement in tables:
                if "sqlite_sequence" not in statement:
                    copy.execute(statement)
            done = own.execute("SELECT id, app, name, applied FROM django_migrations").fetchall()
            copy.executemany("INSERT INTO django_migrations (id, app, name, applied) VALUES (?, ?, ?, ?)", done)
            copy.commit()
    return f"sqlite:///{path}"


@threads
def test_every_row_is_moved_and_proven(store: None, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path / 'moved.db'}"
    before = contents("default")
    moved = migrate(url_of_default(), target)
    assert {name: (table.rows, table.sha256) for name, table in moved.tables.items()} == before
    assert moved.tables["feedback_judgment"].rows == 6
    assert moved.left == ()
    with opened(target) as alias:
        assert contents(alias) == before
        kept = Judgment.objects.using(alias).order_by("pk")[0]
        assert kept.created == Judgment.objects.order_by("pk")[0].created
        event = AuditEvent.objects.using(alias).create(kind="later")
        assert event.seq > max(AuditEvent.objects.values_list("seq", flat=True))
        with connections[alias].cursor() as cursor, pytest.raises(Exception, match="never change"):
            cursor.execute("DELETE FROM feedback_judgment")
    assert not [name for name in connections.databases if name != "default"]


@threads
@pytest.mark.on_postgresql
def test_there_and_back(store: None, tmp_path: Path) -> None:
    """PostgreSQL to SQLite and into a fresh PostgreSQL database."""
    import psycopg

    before = contents("default")
    file = f"sqlite:///{tmp_path / 'moved.db'}"
    migrate(url_of_default(), file)
    name = f"moved_{uuid.uuid4().hex[:12]}"
    given = connection.settings_dict
    where = {"host": given["HOST"], "port": given["PORT"], "user": given["USER"], "password": given["PASSWORD"]}
    with psycopg.connect(**where, dbname="postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        back = url_of_default().rpartition("/")[0] + f"/{name}"
        try:
            moved = migrate(file, back)
            assert {table: (t.rows, t.sha256) for table, t in moved.tables.items()} == before
            with opened(back) as alias:
                event = AuditEvent.objects.using(alias).create(kind="later")
                assert event.seq > max(AuditEvent.objects.values_list("seq", flat=True))
            with pytest.raises(HeedfulError, match="not empty"):
                migrate(file, back)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@threads
def test_the_target_must_be_empty_and_another(store: None, tmp_path: Path) -> None:
    url = url_of_default()
    with pytest.raises(HeedfulError, match="the same database"):
        migrate(url, url)
    target = with_tables(tmp_path / "moved.db")
    migrate(url, target)
    with pytest.raises(HeedfulError, match="not empty: feedback_account has rows"):
        migrate(url, target)
    with pytest.raises(HeedfulError, match="no database here"):
        migrate(f"sqlite:///{tmp_path / 'none.db'}", target)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("no database at all, but a text")
    with pytest.raises(HeedfulError, match="cannot be opened"):
        migrate(f"sqlite:///{tmp_path / 'text.db'}", f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(HeedfulError, match="no database that heedful knows"):
        migrate("mysql://x/y", target)


@threads
def test_what_was_erased_is_erased_in_the_target_too(store: None, tmp_path: Path) -> None:
    who = Judgment.objects.order_by("pk")[0].rater
    url = url_of_default()
    erasure.erase_rater(who)
    Rationale.objects.update(text="it came back")
    Tombstone.objects.all().delete()
    (tmp_path / "new").mkdir()
    target = with_tables(tmp_path / "new" / "moved.db")
    moved = migrate(url, target)
    assert moved.erased == 1
    with opened(target) as alias:
        assert Rationale.objects.using(alias).get().text == ""
        assert Tombstone.objects.using(alias).filter(subject=who.pk).exists()
    assert ("rater", who.pk) in list(entries(tmp_path / "new" / "erasures.jsonl"))


@threads
@pytest.mark.on_sqlite  # PostgreSQL takes no such row to begin with
def test_a_row_that_the_target_cannot_keep_is_named_and_nothing_is_half_moved(store: None, tmp_path: Path) -> None:
    one = Item.objects.order_by("pk")[0]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE feedback_item SET expertise = %s WHERE id = %s", ["x" * 99, one.pk.hex])
    target = with_tables(tmp_path / "moved.db")
    with pytest.raises(HeedfulError, match=rf"feedback_item {one.pk}, expertise: it has 99 characters"):
        migrate(url_of_default(), target)
    with opened(target) as alias:
        assert not Account.objects.using(alias).exists()


@pytest.mark.django_db
def test_a_process_serves_one_database_and_opens_others_beside_it(tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="already serves"):
        setup.setup(f"sqlite:///{tmp_path / 'other.db'}")
    with opened(url_of_default()) as alias:
        assert alias == "default"
    with opened(f"sqlite:///{tmp_path / 'a.db'}") as one, opened(f"sqlite:///{tmp_path / 'b.db'}") as other:
        assert one != other
        for beside in (one, other):
            with connections[beside].cursor() as cursor:
                cursor.execute("PRAGMA synchronous")
                assert cursor.fetchone() == (2,)


def test_tables_come_in_the_order_of_dependency() -> None:
    order = _tables()
    place = {model: index for index, model in enumerate(order)}
    for model in order:
        for needed in rows._points_at(model) - {model}:
            assert place[needed] < place[model], f"{model} before {needed}"


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
jsons = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@given(st.lists(st.tuples(st.uuids(), jsons), max_size=6), st.randoms())
def test_a_digest_knows_content_and_not_order(given: list[tuple[Any, ...]], random: Any) -> None:
    shuffled = list(given)
    random.shuffle(shuffled)
    assert rows.digest(shuffled) == rows.digest(given)
    assert rows.digest([*given, (uuid.UUID(int=0), "more")]) != rows.digest(given)


@given(jsons)
def test_a_digest_does_not_know_how_a_database_writes_numbers_and_keys(value: Any) -> None:
    """PostgreSQL keeps numbers exactly and in decimals, and orders keys; SQLite keeps the text."""

    def as_postgres(found: Any) -> Any:
        if isinstance(found, dict):
            return {key: as_postgres(found[key]) for key in sorted(found, key=lambda k: (len(k), k))}
        if isinstance(found, list):
            return [as_postgres(one) for one in found]
        if isinstance(found, float):
            text = format(Decimal(repr(found)), "f")
            return float(text) if "." in text else int(text)
        return found

    assert rows.digest([(as_postgres(value),)]) == rows.digest([(value,)])
