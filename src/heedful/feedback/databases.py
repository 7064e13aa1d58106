"""A second database beside the one that Django was configured on, and whether one is fit for use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback import setup as store

_SAME = ("ENGINE", "NAME", "HOST", "PORT")


@contextmanager
def opened(url: str) -> Iterator[str]:
    """The alias of a database for the time of the block: "default" for the one that Django runs on.

    Where Django was not configured at all, it is, on this database.

    Raises:
        HeedfulError: the address is wrong.
    """
    from django.conf import settings

    chosen = store.database(url)
    if not settings.configured:
        store.setup(url)
    from django.db import connections

    if _same(chosen, connections["default"].settings_dict):
        yield "default"
        return
    alias = next(f"beside-{n}" for n in range(100) if f"beside-{n}" not in connections.databases)
    connections.databases[alias] = connections.configure_settings({"default": chosen})["default"]
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.databases[alias]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(str(one.get(key) or "") == str(other.get(key) or "") for key in _SAME)


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite database; None for PostgreSQL.

    Raises:
        HeedfulError: the address is wrong.
    """
    chosen = store.database(url)
    return Path(chosen["NAME"]) if chosen["ENGINE"].endswith("sqlite3") else None


def require_file(url: str) -> None:
    """Refuse the address of a SQLite file that is not there: opening it would make an empty one.

    Raises:
        HeedfulError: there is no such file.
    """
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        raise HeedfulError(
            "there is no database here.",
            where=str(path),
            mend="Name one with --database, or make one: heedful studio.",
        )


def require_current(alias: str) -> None:
    """Refuse a database whose tables are not this version's.

    Raises:
        HeedfulError: it was never migrated, or not up to this version; or it cannot be reached.
    """
    from django.db import DatabaseError, connections
    from django.db.migrations.executor import MigrationExecutor

    where = str(connections[alias].settings_dict["NAME"])
    try:
        executor = MigrationExecutor(connections[alias])
    except DatabaseError as error:
        raise unreachable(error, where) from error
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise HeedfulError(
            "its tables are not those of this version of heedful.", where=where, mend="Start heedful studio on it once."
        )


def unreachable(error: Exception, where: str) -> HeedfulError:
    """The error for a database that cannot be opened."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return HeedfulError(f"the database cannot be opened ({reason}).", where=where, mend="Check its address.")


@contextmanager
def steady(alias: str = "default") -> Iterator[None]:
    """A block that reads one state of the database throughout, while others go on writing. It must not write.

    Inside a transaction of the caller's, it is that one.
    """
    from django.db import connections, transaction

    connection = connections[alias]
    if connection.in_atomic_block:
        yield
        return
    if connection.vendor == "postgresql":
        with transaction.atomic(using=alias), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
        return
    with connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")  # Django's own would be IMMEDIATE, and shut out who writes
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
