"""Between tests the tables are emptied, also those whose rows the database refuses to delete."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def install() -> None:
    """Lift the triggers of migration 0002 for the length of a flush. On PostgreSQL a flush truncates: none fire."""
    from django.db.backends.sqlite3.base import DatabaseOperations

    guards = import_module("heedful.feedback.migrations.0002_immutable")
    flush = DatabaseOperations.execute_sql_flush

    def flush_past(self: Any, sql_list: Any) -> None:
        flush(self, [*guards.drop("sqlite"), *sql_list, *guards.create("sqlite")])

    DatabaseOperations.execute_sql_flush = flush_past  # type: ignore[method-assign]
