"""Locks that hold across processes and machines, kept by PostgreSQL for as long as the connection that took them lives.

Who is killed holds nothing any more. SQLite has one machine and one writer: there they are always given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DEFAULT_DB_ALIAS, Error, connections

MIGRATE, HANDING_OUT = "migrate", "handing-out"


def number(name: str) -> int:
    """The 64-bit number by which PostgreSQL knows a lock."""
    return int.from_bytes(hashlib.sha256(f"heedful:{name}".encode()).digest()[:8], "big", signed=True)


@contextmanager
def held(name: str, *, wait: bool, alias: str = DEFAULT_DB_ALIAS) -> Iterator[bool]:
    """Hold a lock for the time of the block; whether it was given.

    Args:
        name: of the lock.
        wait: until whoever has it lets it go; else the block runs at once, with False.
        alias: of the database.
    """
    connection = connections[alias]
    if connection.vendor != "postgresql":
        yield True
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_{'' if wait else 'try_'}advisory_lock(%s)", [number(name)])
        given = wait or bool(cursor.fetchone()[0])
    try:
        yield given
    finally:
        if given:
            with suppress(Error), connection.cursor() as cursor:  # a connection that is gone holds nothing
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number(name)])
