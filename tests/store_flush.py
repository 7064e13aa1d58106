"""Between tests the tables are emptied, also those whose rows the database refuses to delete."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def install() -> None:
    """Lift the guards of migrations 0002, 0005 and 0007 for the length of a flush."""
    from django.db.backends.sqlite3.base import DatabaseOperations as OfSqlite

    immutable = import_module("heedful.feedback.migrations.0002_immutable")
    guards = import_module("heedful.feedback.migrations.0005_guards")
    words = import_module("heedful.feedback.migrations.0007_field")
    lifted = [*immutable.drop("sqlite"), *words.drop("sqlite")]
    _around(OfSqlite, lifted, [*immutable.create("sqlite"), *words.create("sqlite")])
    try:
        from django.db.backends.postgresql.base import DatabaseOperations as OfPostgresql
    except ImportError:  # its driver is an extra
        return
    made = [*guards.create_truncate("postgresql"), *words.create_truncate("postgresql")]
    _around(OfPostgresql, [*guards.drop_truncate("postgresql"), *words.drop_truncate("postgresql")], made)


def _around(kind: Any, before: list[str], after: list[str]) -> None:
    flush = kind.execute_sql_flush

    def flush_past(self: Any, sql_list: Any) -> None:
        flush(self, [*before, *sql_list, *after])

    kind.execute_sql_flush = flush_past
