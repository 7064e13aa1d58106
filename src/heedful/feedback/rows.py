"""Rows of any table as they are: read, written unchanged into another database, and hashed."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import DatabaseError, IntegrityError, connections, models
from django.db.models import Field, ForeignKey, Model
from django.db.models.sql import InsertQuery

from heedful.errors import HeedfulError

CHUNK = 500
_EXACT = 2**53


def fields_of(model: type[Model]) -> list[Field[Any, Any]]:
    """A table's own columns."""
    return list(model._meta.concrete_fields)


def in_order(chosen: Iterable[type[Model]]) -> list[type[Model]]:
    """Tables in the order of dependency: what is pointed at stands before what points.

    A table that points at itself, or at one that points back, is no hindrance: constraints are checked at the end.
    """
    left = {model: _points_at(model) for model in chosen}
    order: list[type[Model]] = []
    while left:
        ready = [model for model, needs in left.items() if not needs & (set(left) - {model})]
        for model in sorted(ready or [next(iter(left))], key=lambda one: one._meta.label):
            order.append(model)
            del left[model]
    return order


def _points_at(model: type[Model]) -> set[type[Model]]:
    return {f.remote_field.model for f in fields_of(model) if isinstance(f, ForeignKey)}


def read(model: type[Model], alias: str = "default", **where: Any) -> Iterator[tuple[Any, ...]]:
    """A table's rows, each a tuple in the order of `fields_of`, ordered by primary key."""
    names = [field.attname for field in fields_of(model)]
    rows = model._base_manager.using(alias).filter(**where).order_by("pk").values_list(*names)
    yield from rows.iterator(chunk_size=CHUNK)


def write(
    model: type[Model],
    rows: Iterable[Sequence[Any]],
    alias: str = "default",
    *,
    only: Callable[[Field[Any, Any]], bool] = lambda field: True,
) -> int:
    """Insert rows as they are, times of creation included; how many.

    Args:
        model: the table.
        rows: values in the order of `fields_of`.
        alias: the database.
        only: which columns the rows have; the database gives the others.

    Raises:
        HeedfulError: the database refuses a value, with the table.
        IntegrityError: a row is there already.
    """
    fields = [field for field in fields_of(model) if only(field)]
    count = 0
    for some in _chunks(rows, CHUNK):
        made = [model(**{f.attname: value for f, value in zip(fields, row, strict=True)}) for row in some]
        size = connections[alias].ops.bulk_batch_size(fields, made) or len(made)  # type: ignore[arg-type]
        try:
            for start in range(0, len(made), max(1, size)):
                manager: Any = model._base_manager.db_manager(alias)
                # raw: without the fields' own say (auto_now_add would change the time of creation)
                manager._insert(made[start : start + size], fields=fields, using=alias, raw=True)
        except IntegrityError:
            raise
        except (DatabaseError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise HeedfulError(f"the database refuses a row ({reason}).", where=model._meta.db_table) from error
        count += len(made)
    return count


def inserts(*groups: Sequence[Model]) -> list[tuple[str, Any]]:
    """Statements (with their values) that insert new rows, to be run later, in a transaction that is then short.

    Args:
        groups: unsaved rows, those of a group of one table; a later group may point at an earlier one's.
    """
    connection = connections["default"]
    statements: list[tuple[str, Any]] = []
    for group in groups:
        if not group:
            continue
        model = type(group[0])
        fields = fields_of(model)
        size = connection.ops.bulk_batch_size(fields, list(group))  # type: ignore[arg-type]
        size = max(1, min(size, CHUNK))
        for start in range(0, len(group), size):
            query = InsertQuery(model)
            query.insert_values(fields, list(group[start : start + size]))
            statements += query.get_compiler(using="default").as_sql()
    return statements


def _chunks(rows: Iterable[Sequence[Any]], size: int) -> Iterator[list[Sequence[Any]]]:
    some: list[Sequence[Any]] = []
    for row in rows:
        some.append(row)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def digest(rows: Iterable[Sequence[Any]]) -> tuple[int, str]:
    """(count, hash) of rows, whatever their order, equal on SQLite and PostgreSQL for equal content."""
    total = count = 0
    for row in rows:
        text = json.dumps([canonical(value) for value in row], separators=(",", ":"), ensure_ascii=True)
        total = (total + int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")) % 2**256
        count += 1
    return count, f"{total:064x}"


def canonical(value: Any) -> Any:
    """A value as JSON, in one form: databases write numbers and keys of objects in ways of their own."""
    if isinstance(value, dict):
        return {key: canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [canonical(one) for one in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else _number(float(value))
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, memoryview | bytes):
        return bytes(value).hex()
    return str(value)


def _number(value: float) -> Any:
    return int(value) if value.is_integer() and abs(value) <= _EXACT else repr(value)


def as_json(value: Any) -> Any:
    """A column's value as JSON, to be read back by `from_json`."""
    if isinstance(value, uuid.UUID | Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value


def from_json(field: Field[Any, Any], value: Any) -> Any:
    """A column's value from JSON.

    Raises:
        HeedfulError: it is none, with the field's name.
    """
    name = field.attname
    if value is None:
        if not field.null:
            raise HeedfulError("it must not be null.", where=name)
        return None
    wanted = _target(field)
    ok = {
        models.BooleanField: lambda: isinstance(value, bool),
        models.IntegerField: lambda: isinstance(value, int) and not isinstance(value, bool),
        models.FloatField: lambda: isinstance(value, int | float) and not isinstance(value, bool),
        models.JSONField: lambda: True,
    }
    kind = next((kind for kind in ok if isinstance(wanted, kind)), None)
    if not (ok[kind]() if kind else isinstance(value, str)):
        raise HeedfulError(f"{type(value).__name__} does not belong here.", where=name)
    try:
        found = wanted.to_python(value)
        if not isinstance(wanted, models.JSONField):
            wanted.run_validators(found)
        if wanted.choices and found not in dict(wanted.flatchoices):
            raise HeedfulError(f"{value!r} is none of its values.", where=name)
    except HeedfulError:
        raise
    except Exception as error:
        message = "; ".join(getattr(error, "messages", None) or [str(error)])
        raise HeedfulError(f"{message}", where=name) from error
    return found


def _target(field: Field[Any, Any]) -> Field[Any, Any]:
    """A foreign key's kind of value is that of what it points at."""
    while isinstance(field, ForeignKey):
        field = field.target_field
    return field
