"""Judgments, audit events, guidelines and snapshots never change: the database itself refuses UPDATE and DELETE."""

from __future__ import annotations

from typing import Any

from django.db import migrations

TABLES = (
    "feedback_judgment",
    "feedback_auditevent",
    "feedback_guideline",
    "feedback_snapshot",
    "feedback_snapshotentry",
)


def create(vendor: str) -> list[str]:
    """The statements that make the triggers."""
    made = []
    if vendor == "postgresql":
        made.append(
            "CREATE FUNCTION feedback_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'rows of % never change', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; "
            "END $$"
        )
    for table in TABLES:
        for act in ("UPDATE", "DELETE"):
            head = f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} FOR EACH ROW"
            if vendor == "postgresql":
                made.append(f"{head} EXECUTE FUNCTION feedback_refuse()")
            else:
                made.append(f"{head} BEGIN SELECT RAISE(ABORT, 'rows of {table} never change'); END")
    return made


def drop(vendor: str) -> list[str]:
    """The statements that remove them."""
    on = " ON {table}" if vendor == "postgresql" else ""
    names = [
        f"DROP TRIGGER {table}_no_{act}" + on.format(table=table) for table in TABLES for act in ("update", "delete")
    ]
    return [*names, "DROP FUNCTION feedback_refuse()"] if vendor == "postgresql" else names


def forwards(apps: Any, editor: Any) -> None:
    for statement in create(editor.connection.vendor):
        editor.execute(statement, params=None)


def backwards(apps: Any, editor: Any) -> None:
    for statement in drop(editor.connection.vendor):
        editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies = (("feedback", "0001_initial"),)
    operations = (migrations.RunPython(forwards, backwards),)
