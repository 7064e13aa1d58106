"""Statements that are written out, and the rows that they give.

What runs at each request of a rater is written out: Django spends more time on composing a query than the database on
answering it. The fields themselves convert what goes in and what comes out, so that a row is the same however it was
read. Statements read alike on both databases; `%s` stands for a value.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import Model

Convert = Callable[[Any, Any, Any], Any]


def key(value: uuid.UUID) -> Any:
    """An id as the database keeps it: SQLite as 32 letters."""
    return value if connection.features.has_native_uuid_field else value.hex


def to_hold(alias: str) -> str:
    """The end of a statement that holds a table's rows until the transaction ends; SQLite has one writer anyway."""
    return f" FOR NO KEY UPDATE OF {alias}" if connection.features.has_select_for_update else ""


def ask(sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """A statement's rows as the database gives them."""
    with connection.cursor() as cursor:
        cursor.execute(sql, [_given(value) for value in values])
        return cursor.fetchall()


def change(sql: str, values: Sequence[Any] = ()) -> int:
    """Run a statement that writes. How many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(sql, [_given(value) for value in values])
        return cursor.rowcount


def rows(sql: str, values: Sequence[Any] = (), /, **models: Any) -> list[tuple[Any, ...]]:
    """A statement's rows, with rows of tables in them.

    Args:
        sql: with "{a}" where the columns of the table with the alias a stand, first of all that is selected.
        values: for each "%s".
        models: the tables by their aliases, in the order in which they are selected.

    Returns:
        for each row one object of each table (None where an outer join found none), then what else was selected.
    """
    tables = [_table(model, connection.vendor) for model in models.values()]
    found = []
    for row in ask(_with_columns(sql, tuple(models.items())), values):
        made: list[Any] = []
        at = 0
        for model, (names, own, converters) in zip(models.values(), tables, strict=True):
            given = list(row[at : at + len(names)])
            at += len(names)
            if given[own] is None:
                made.append(None)
                continue
            for i, convert in converters:
                given[i] = convert(given[i])
            made.append(model.from_db(connection.alias, names, given))
        found.append((*made, *row[at:]))
    return found


@cache
def _with_columns(sql: str, models: tuple[tuple[str, type[Model]], ...]) -> str:
    columns = {
        alias: ", ".join(f'{alias}."{field.column}"' for field in model._meta.concrete_fields)
        for alias, model in models
    }
    return sql.format(**columns)


@cache
def _table(model: type[Model], vendor: str) -> tuple[list[str], int, list[tuple[int, Callable[[Any], Any]]]]:
    """Names of a table's fields, which of them is its key, and how values are read on a kind of database."""
    fields = model._meta.concrete_fields
    converters = []
    for i, field in enumerate(fields):
        column = field.get_col(model._meta.db_table)
        steps = [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]
        if steps:
            converters.append((i, _chain(steps, column)))
    return [field.attname for field in fields], [field.primary_key for field in fields].index(True), converters


def _chain(steps: Sequence[Convert], column: Any) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        for step in steps:
            value = step(value, column, connection)
        return value

    return convert


def insert(row: Model, returning: str = "") -> Any:
    """Write a new row, as `save` would.

    Args:
        row: all of whose values are set, but for a key that the database gives.
        returning: what the database is asked for; its one value is returned.

    Raises:
        IntegrityError: the database refuses it.
    """
    model: Any = type(row)
    sql, fields = _insert(model)
    given = [field.get_db_prep_save(field.pre_save(row, True), connection) for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} RETURNING {returning}" if returning else sql, given)
        answer = cursor.fetchone() if returning else None
    row._state.adding, row._state.db = False, connection.alias
    return answer


@cache
def _insert(model: Any) -> tuple[str, list[Any]]:
    fields = [field for field in model._meta.concrete_fields if not getattr(field, "db_returning", False)]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    return f'INSERT INTO "{model._meta.db_table}" ({columns}) VALUES ({marks})', fields


def _given(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return key(value)
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
