"""Bringing a store up to date: once, however many processes start at the same time, and without holding people up.

A change of a table waits for whoever reads it, and everybody else waits behind it. So each waits for a lock only a few
seconds, gives way, and tries again (PostgreSQL's `lock_timeout`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, OperationalError, connections
from django.db.transaction import Atomic

from heedful.errors import HeedfulError
from heedful.feedback import advisory

LOCK_SECONDS = 3
"""How long one attempt waits for a table, in all of which its raters wait too."""
TRIES = 20
PAUSE = 1.0
"""Seconds between two attempts."""
TIMEOUT = "55P03"
"""PostgreSQL's `lock_not_available`."""


def pending(alias: str = DEFAULT_DB_ALIAS) -> list[tuple[str, str]]:
    """(app, name) of this version's migrations that a database has not seen. What a newer version added is fine.

    Raises:
        django.db.Error: the database does not answer.
    """
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connections[alias])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [(migration.app_label, migration.name) for migration, _ in plan]


def migrate(alias: str = DEFAULT_DB_ALIAS) -> list[tuple[str, str]]:
    """Apply what is pending; (app, name) of what this call applied.

    Who comes second waits for the first, and then has nothing to do.

    Raises:
        HeedfulError: others hold a table for too long; what is applied stays, and the next call goes on.
        django.db.Error: the database does not answer, or refuses.
    """
    if not pending(alias):
        return []
    connection = connections[alias]
    with _alone(connection, alias):
        left = pending(alias)
        for again in range(TRIES - 1, -1, -1):
            try:
                _apply(connection, alias)
                break
            except OperationalError as error:
                if getattr(error.__cause__, "sqlstate", "") != TIMEOUT:
                    raise
                if not again:
                    raise HeedfulError(
                        "others hold a table of the store, so that it cannot be changed.",
                        where="migrate",
                        mend="End long transactions (a backup, a report), then run heedful studio migrate again.",
                    ) from error
            time.sleep(PAUSE)
    return left


def _apply(connection: Any, alias: str) -> None:
    from django.core.management import call_command

    if connection.vendor != "postgresql":
        call_command("migrate", database=alias, verbosity=0, interactive=False)
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
    depth = len(connection.atomic_blocks)
    try:
        call_command("migrate", database=alias, verbosity=0, interactive=False)
    except BaseException as error:
        _unwind(connection, depth, error)
        raise
    finally:
        with suppress(Error), connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")


def _unwind(connection: Any, depth: int, error: BaseException) -> None:
    """Roll back transactions that a failed migration has left open.

    Django's schema editor runs what it has put off (foreign keys) as its block ends; where that fails, it never ends
    the transaction (`BaseDatabaseSchemaEditor.__exit__`), and the connection could do nothing more.
    """
    while len(connection.atomic_blocks) > depth:
        Atomic(connection.alias, savepoint=True, durable=False).__exit__(type(error), error, error.__traceback__)


@contextmanager
def _alone(connection: Any, alias: str) -> Iterator[None]:
    """One at a time: by PostgreSQL's lock, or by one on the folder of SQLite's file."""
    if connection.vendor == "postgresql":
        with advisory.held(advisory.MIGRATE, wait=True, alias=alias):
            yield
        return
    if connection.is_in_memory_db():
        yield
        return
    folder = os.open(Path(connection.settings_dict["NAME"]).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
