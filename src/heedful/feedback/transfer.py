"""Moving a store from one database to another, SQLite or PostgreSQL, and proving that nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connections, models, transaction
from django.db.models import Model

from heedful.errors import HeedfulError
from heedful.feedback import rows
from heedful.feedback.databases import opened, require_current, require_file, unreachable

MADE_BY_MIGRATION = ("contenttypes.ContentType", "auth.Permission")
"""Tables that a fresh database has rows in; the source's take their place."""


@dataclass(frozen=True)
class Table:
    """One table that was moved."""

    rows: int
    sha256: str
    """Of its content, equal in both databases."""


@dataclass(frozen=True)
class Moved:
    """What was moved."""

    tables: dict[str, Table]
    left: tuple[str, ...]
    """Tables of the source that no installed app knows."""
    erased: int
    """Subjects that were erased again in the target."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "tables": {name: {"rows": table.rows, "sha256": table.sha256} for name, table in self.tables.items()},
            "left": list(self.left),
            "erased": self.erased,
        }


def migrate(source_url: str, target_url: str) -> Moved:
    """Move every row into an empty database, in one transaction, and compare both by content.

    The source is not changed; nobody can write to it meanwhile (PostgreSQL: what they write is not moved), so stop
    the studio first. What was erased is erased in the target too.

    Args:
        source_url: of a store of this version.
        target_url: of a database that is empty, or (SQLite) not there yet.

    Raises:
        HeedfulError: the source is not fit, the target is not empty, it refuses a row (with its table), or both
            differ in the end; the target is then left without a row.
    """
    require_file(source_url)
    with opened(source_url) as source, opened(target_url) as target:
        if source == target:
            raise HeedfulError("both addresses are the same database.", where="target", mend="Name another target.")
        require_current(source)
        _prepare(target)
        chosen = _tables()
        with transaction.atomic(using=target), transaction.atomic(using=source):
            if connections[source].vendor == "postgresql":
                with connections[source].cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            for model in chosen:
                if model._meta.label in MADE_BY_MIGRATION:
                    model._base_manager.using(target).all().delete()
            tables = {model._meta.db_table: _move(model, source, target) for model in chosen}
            _reset_sequences(chosen, target)
            from heedful.feedback import erasure

            erased = erasure.apply_tombstones(target, [erasure.journal_of(source)])
        return Moved(tables, _unknown(source, chosen), erased)


def _tables() -> list[type[Model]]:
    """Every table of the installed apps, in the order of dependency."""
    from django.apps import apps

    found = [
        model for model in apps.get_models(include_auto_created=True) if model._meta.managed and not model._meta.proxy
    ]
    return rows.in_order(found)


def _prepare(target: str) -> None:
    """Make the tables, in a database that has no rows."""
    from django.core.management import call_command
    from django.db import DatabaseError

    connection = connections[target]
    where = str(connection.settings_dict["NAME"])
    try:
        there = set(connection.introspection.table_names())
    except DatabaseError as error:
        raise unreachable(error, where) from error
    known = {model._meta.db_table: model for model in _tables()}
    for name in sorted(there - {"django_migrations"}):
        model = known.get(name)
        if model is None:
            raise HeedfulError(f"the target has the table {name!r}.", where=where, mend="Give an empty database.")
        if model._meta.label not in MADE_BY_MIGRATION and model._base_manager.using(target).exists():
            raise HeedfulError(
                f"the target is not empty: {name} has rows.", where=where, mend="Give an empty database."
            )
    call_command("migrate", database=target, verbosity=0, interactive=False)


def _move(model: type[Model], source: str, target: str) -> Table:
    """Copy a table, read the copy, and compare."""
    table = model._meta.db_table
    try:
        rows.write(model, (_fit(model, row) for row in rows.read(model, source)), target)
    except IntegrityError as error:
        reason = str(error).strip().splitlines()[0]
        raise HeedfulError(f"the target refuses a row ({reason}).", where=table) from error
    before, after = rows.digest(rows.read(model, source)), rows.digest(rows.read(model, target))
    if before != after:
        raise HeedfulError(
            f"{before[0]} rows became {after[0]} that differ from them.", where=table, mend="Report this, please."
        )
    return Table(*after)


def _fit(model: type[Model], row: Sequence[Any]) -> Sequence[Any]:
    """A row that PostgreSQL takes too: SQLite knows no length of a text, and keeps NUL.

    Raises:
        HeedfulError: with table, row and column.
    """
    for field, value in zip(rows.fields_of(model), row, strict=True):
        what = ""
        if isinstance(value, str) and "\0" in value:
            what = "it holds a NUL character, which PostgreSQL cannot keep."
        elif isinstance(value, str) and isinstance(field, models.CharField) and len(value) > (field.max_length or 1e9):
            what = f"it has {len(value)} characters; the column takes {field.max_length}."
        if what:
            raise HeedfulError(what, where=f"{model._meta.db_table} {row[0]}, {field.column}")
    return row


def _reset_sequences(chosen: Sequence[type[Model]], target: str) -> None:
    """Let numbers that the database gives go on behind those that were moved."""
    from django.core.management.color import no_style

    connection = connections[target]
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(chosen)):
            cursor.execute(statement)


def _unknown(source: str, chosen: Sequence[type[Model]]) -> tuple[str, ...]:
    known = {model._meta.db_table for model in chosen} | {"django_migrations"}
    return tuple(sorted(set(connections[source].introspection.table_names()) - known))
