"""Rate limits that hold across server processes: one atomic count for each key and window of time."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from django.db import connection

from heedful.feedback import clock
from heedful.feedback.models import RateWindow

_COUNT = (
    "INSERT INTO {table} ({key}, {window}, {count}) VALUES (%s, %s, %s) "
    "ON CONFLICT ({key}, {window}) DO UPDATE SET {count} = {table}.{count} + EXCLUDED.{count} RETURNING {count}"
)


def wait(key: str, most: int, seconds: int, count: int = 1) -> int:
    """Count one request (or several), and say how long to wait if it is one too many.

    Args:
        key: what is limited, as in "token:<id>"; it is hashed, so it may hold an address.
        most: requests in a window.
        seconds: the length of a window; windows stand side by side from the epoch on.
        count: how many to count.

    Returns:
        0 if the request may go on, else the whole seconds until the next window.
    """
    now = clock.now()
    begins = int(now.timestamp()) // seconds * seconds
    name = hashlib.sha256(key.encode()).hexdigest() + f":{seconds}"
    if _count(name, datetime.fromtimestamp(begins, UTC), count) <= most:
        return 0
    return max(1, begins + seconds - int(now.timestamp()))


def _count(key: str, window: datetime, more: int) -> int:
    names = {name: connection.ops.quote_name(name) for name in ("key", "window", "count")}
    sql = _COUNT.format(table=connection.ops.quote_name(RateWindow._meta.db_table), **names)
    with connection.cursor() as cursor:
        cursor.execute(sql, [key, connection.ops.adapt_datetimefield_value(window), more])
        count = int(cursor.fetchone()[0])
    if count == more:  # a new window: the key's old ones are of no use
        RateWindow.objects.filter(key=key, window__lt=window).delete()
        RateWindow.objects.filter(window__lt=window - timedelta(days=1)).delete()
    return count
