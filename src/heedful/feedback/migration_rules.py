"""What a migration may do while the version before it still runs: add what that version does not see.

Expand, migrate, contract. A new table, a column that may be empty or that the database fills, an index that is built
without locking: old code goes on beside them. What takes something away, renames it, or makes the database refuse what
old code writes belongs into a later version, when no old code runs any more. An operation that this module does not
know counts as trouble, so that nothing is let through unlooked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

BEFORE = "0007_field"
"""The last migration that was made before there were rules. 0.1.0 will hold it, and nothing runs before 0.1.0."""
DATA = "safe_while_serving"
"""An attribute of a RunPython function, or of a RunSQL operation: why it neither locks for long nor breaks old code."""


def troubles_of(app: str, name: str) -> list[str]:
    """Why the old version has to stop before a migration of ours is applied; empty: it may run on.

    Migrations of dependencies are not looked at: theirs run with a new version of a dependency alone.
    """
    from django.db.migrations.loader import MigrationLoader

    if app != "feedback":
        return []
    loader = MigrationLoader(None)
    return troubles(loader.disk_migrations[app, name], loader.project_state((app, name), at_end=False))


def troubles(migration: Any, before: Any) -> list[str]:
    """Why a migration may not run beside the old version: one sentence an operation.

    Args:
        migration: which.
        before: the state of the models (Django's `ProjectState`) that it starts from.
    """
    fields = {(model, name): field for (_, model), of in before.models.items() for name, field in of.fields.items()}
    return list(_told(migration.operations, fields, new=set()))


def _told(operations: Any, before: Mapping[tuple[str, str], Any], new: set[str]) -> Iterator[str]:
    from django.db.migrations import operations as ops

    for operation in operations:
        kind, model = type(operation).__name__, getattr(operation, "model_name", "")
        if isinstance(operation, ops.CreateModel):
            new.add(operation.name_lower)
        elif getattr(operation, "model_name_lower", None) in new:
            continue  # of a table that this migration makes: nobody reads it yet
        elif isinstance(operation, ops.AddField):
            yield from _column(operation)
        elif isinstance(operation, ops.AlterField):
            if _stored(operation.field) == _stored(before.get((operation.model_name_lower, operation.name_lower))):
                continue  # choices and help texts are in no table
            yield f"AlterField {model}.{operation.name} may rewrite or lock its table, or refuse what old code writes"
        elif isinstance(operation, ops.RunPython):
            if not getattr(operation.code, DATA, ""):
                yield f"RunPython {operation.code.__name__} does not say why it is safe ({DATA})"
        elif isinstance(operation, ops.RunSQL):
            if not getattr(operation, DATA, ""):
                yield f"RunSQL does not say why it is safe ({DATA})"
        elif isinstance(operation, ops.SeparateDatabaseAndState):
            yield from _told(operation.database_operations, before, new)
        elif kind == "AddIndex":
            yield f"AddIndex on {model} locks its table against writing: build it CONCURRENTLY"
        elif kind not in HARMLESS:
            yield f"{kind} {model or getattr(operation, 'name', '')}".rstrip() + " takes away, renames or locks"


def _stored(field: Any) -> Any:
    """What of a field the database knows."""
    if field is None:
        return None
    _, kind, positional, named = field.deconstruct()
    return kind, positional, {key: value for key, value in named.items() if key not in field.non_db_attrs}


HARMLESS = frozenset({"AddIndexConcurrently", "AlterModelManagers", "AlterModelOptions"})
"""Operations that take no lock that anybody waits for, or touch no table."""


def _column(operation: Any) -> Iterator[str]:
    from django.db.models import NOT_PROVIDED

    field, where = operation.field, f"AddField {operation.model_name}.{operation.name}"
    if field.many_to_many:
        return  # a table of its own
    if field.unique or field.primary_key:
        yield f"{where} is unique: its index locks the table while it is built"
    if not field.null and field.db_default is NOT_PROVIDED:
        yield f"{where} may not be empty and the database does not fill it (db_default): old code's rows are refused"
    if field.remote_field is not None and field.db_constraint:
        yield f"{where} is a foreign key with a constraint: adding it locks both tables"
    elif field.db_index and not field.unique:
        yield f"{where} has an index, which locks the table while it is built: add it CONCURRENTLY afterwards"
