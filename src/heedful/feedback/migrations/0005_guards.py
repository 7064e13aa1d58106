"""What the database refuses, completed: to empty a table whose rows never change, and a snapshot's entry that says
something else than the judgment and the snapshot that it names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.db import migrations

TABLES = import_module("heedful.feedback.migrations.0002_immutable").TABLES
ENTRY = "feedback_snapshotentry_is_true"
SAYS = "an entry says what its judgment and its snapshot say"
_TRUE = (
    "EXISTS (SELECT 1 FROM feedback_judgment j JOIN feedback_snapshot s ON s.id = NEW.snapshot_id "
    "WHERE j.id = NEW.judgment_id AND j.purpose = NEW.purpose AND j.item_id = NEW.item_id "
    "AND s.training = NEW.training AND s.programme_id = j.programme_id)"
)


def create_truncate(vendor: str) -> list[str]:
    """The statements that have PostgreSQL refuse TRUNCATE, which fires no trigger of a row. SQLite knows none."""
    if vendor != "postgresql":
        return []
    return [
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION feedback_refuse()"
        for table in TABLES
    ]


def drop_truncate(vendor: str) -> list[str]:
    """The statements that let PostgreSQL truncate again."""
    return [f"DROP TRIGGER {table}_no_truncate ON {table}" for table in TABLES] if vendor == "postgresql" else []


def create_entry(vendor: str) -> list[str]:
    """The statements that make the trigger on new entries of snapshots."""
    if vendor != "postgresql":
        head = f"CREATE TRIGGER {ENTRY} BEFORE INSERT ON feedback_snapshotentry FOR EACH ROW"
        return [f"{head} WHEN NOT {_TRUE} BEGIN SELECT RAISE(ABORT, '{SAYS}'); END"]
    return [
        "CREATE FUNCTION feedback_entry_is_true() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NOT {_TRUE} THEN RAISE EXCEPTION '{SAYS}' USING ERRCODE = 'integrity_constraint_violation'; END IF; "
        "RETURN NEW; END $$",
        f"CREATE TRIGGER {ENTRY} BEFORE INSERT ON feedback_snapshotentry FOR EACH ROW "
        "EXECUTE FUNCTION feedback_entry_is_true()",
    ]


def drop_entry(vendor: str) -> list[str]:
    """The statements that remove it."""
    if vendor != "postgresql":
        return [f"DROP TRIGGER {ENTRY}"]
    return [f"DROP TRIGGER {ENTRY} ON feedback_snapshotentry", "DROP FUNCTION feedback_entry_is_true()"]


def forwards(apps: Any, editor: Any) -> None:
    vendor = editor.connection.vendor
    for statement in [*create_truncate(vendor), *create_entry(vendor)]:
        editor.execute(statement, params=None)


def backwards(apps: Any, editor: Any) -> None:
    vendor = editor.connection.vendor
    for statement in [*drop_entry(vendor), *drop_truncate(vendor)]:
        editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies = (("feedback", "0004_tally"),)
    operations = (migrations.RunPython(forwards, backwards),)
