"""A store of an earlier version comes up to date with every row, and what a migration promises to carry over."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.db.migrations.executor import MigrationExecutor

from feedback_factories import batch, item, programme, rater
from feedback_quality import answer, take
from feedback_stores import url_of_default
from heedful.feedback import erasure
from heedful.feedback.databases import opened, require_current
from heedful.feedback.models import Account, Item
from heedful.feedback.transfer import migrate

pytestmark = [
    pytest.mark.usefixtures("beside"),
    pytest.mark.django_db(transaction=True),  # another connection reads what is committed
    pytest.mark.on_sqlite,
]
INCIDENTAL = {"django_migrations", "django_content_type", "auth_permission", "sqlite_sequence"}


@pytest.fixture
def store() -> Iterator[None]:
    journal = erasure.journal_of("default")
    journal.unlink(missing_ok=True)
    with transaction.atomic():
        of = programme()
        made = batch(of, quota=2)
        for number in range(3):
            item(made, text=f"question {number} 😀", answers=["one", "other"])
        for who in (rater(of), rater(of)):
            for strength in (-2, 0, 3):
                answer(take(who), strength=strength)
    yield
    journal.unlink(missing_ok=True)


def tables(path: Path) -> dict[str, tuple[tuple[str, ...], list[Any]]]:
    """The columns and rows of every table of a SQLite store, as the file has them."""
    with closing(sqlite3.connect(path)) as file:
        names = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for name in set(names) - INCIDENTAL:
            cursor = file.execute(f"SELECT * FROM {name}")
            found[name] = tuple(column[0] for column in cursor.description), sorted(cursor, key=repr)
    return found


@pytest.mark.parametrize("version", ["0001_initial", "0003_pushes", "0005_guards"])
def test_an_older_store_comes_up_to_date_with_every_row(store: None, version: str, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    migrate(url_of_default(), f"sqlite:///{path}")
    with opened(f"sqlite:///{path}") as alias:
        call_command("migrate", "feedback", version, database=alias, verbosity=0)
        apps = MigrationExecutor(connections[alias]).loader.project_state([("feedback", version)]).apps
        opener, opened_item = Account.objects.using(alias).all()[0].pk, Item.objects.using(alias).all()[0].pk
        apps.get_model("feedback", "AuditEvent").objects.using(alias).create(
            kind="adjudication.given_up", actor=opener, ids={"item": str(opened_item)}
        )
    before = tables(path)
    assert len(before["feedback_judgment"][1]) == 6
    assert "feedback_openedvotes" not in before

    with opened(f"sqlite:///{path}") as alias:
        call_command("migrate", database=alias, verbosity=0)
        require_current(alias)
    after = tables(path)
    assert before.keys() <= after.keys()
    for name, (columns, rows) in before.items():
        now, found = after[name]
        places = [now.index(column) for column in columns]
        assert sorted((tuple(row[place] for place in places) for row in found), key=repr) == rows, name
    columns, rows = after["feedback_openedvotes"]
    (row,) = rows
    told = dict(zip(columns, row, strict=True))
    assert (told["account_id"], told["item_id"]) == (opener.hex, opened_item.hex)
    with closing(sqlite3.connect(path)) as file, pytest.raises(sqlite3.DatabaseError, match="never change"):
        file.execute("DELETE FROM feedback_judgment")
