"""The one place that configures Django."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from heedful.errors import HeedfulError

DATABASE = "feedback.db"
BUSY_SECONDS = 30
SQLITE_SETTINGS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "recursive_triggers": 1}
"""What every connection asserts; synchronous 2 is FULL. Without recursive triggers INSERT OR REPLACE would pass by
those that refuse to delete."""
CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""How soon a PostgreSQL server that is gone without a word is noticed: in the address, each may be said otherwise."""
APPS = ("django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "heedful.feedback")


def database(url: str) -> dict[str, Any]:
    """Django's settings of a database.

    Args:
        url: `sqlite:///path/to/feedback.db`, a plain path, or `postgresql://user:password@host:port/name`.

    Raises:
        HeedfulError: a scheme that is neither, or an address without a database name.
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "sqlite") or (len(parts.scheme) == 1 and os.name == "nt"):
        name = url.removeprefix("sqlite:///") if parts.scheme == "sqlite" else url
        if not name or name.startswith("sqlite:"):
            raise HeedfulError(
                "a SQLite address names a file.", where=_safe(url), mend="Write sqlite:///feedback.db, or a path."
            )
        path = Path(name).absolute()
        if not path.parent.is_dir():
            raise HeedfulError("the folder of the database is not there.", where=str(path), mend="Make it first.")
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; "
        pragmas += "PRAGMA recursive_triggers=ON; "
        pragmas += "PRAGMA temp_store=MEMORY;"  # else each savepoint begins a file, which holds what people wrote
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(path),
            "CONN_MAX_AGE": None,
            "OPTIONS": {"timeout": BUSY_SECONDS, "transaction_mode": "IMMEDIATE", "init_command": pragmas},
        }
    if parts.scheme in ("postgresql", "postgres"):
        name = unquote(parts.path.lstrip("/"))
        if not name:
            raise HeedfulError(
                "the address names no database.", where=_safe(url), mend="Write postgresql://user@host/name."
            )
        try:
            port = parts.port
        except ValueError as error:
            raise HeedfulError("the port is no number.", where=_safe(url), mend="Correct DATABASE_URL.") from error
        if find_spec("psycopg") is None:
            raise HeedfulError(
                "PostgreSQL needs the package psycopg.", mend="Install it: pip install 'heedful[postgres]'."
            )
        query = dict(parse_qsl(parts.query))
        options = {**CONNECTION, **query, "options": f"{query.get('options', '')} -c synchronous_commit=on".strip()}
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(parts.hostname or ""),
            "PORT": str(port or ""),
            "CONN_MAX_AGE": None,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": options,
        }
    raise HeedfulError(
        f"{parts.scheme!r} is no database that heedful knows.",
        where=_safe(url),
        mend="Give sqlite:///FILE or postgresql://USER@HOST/NAME.",
    )


def _safe(url: str) -> str:
    """The address without its password, fit for a message."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def setup(url: str | None = None, more: Mapping[str, Any] | None = None) -> None:
    """Configure Django on a database; a second call in one process must name the same one.

    Args:
        url: of the database; by default DATABASE_URL, or `feedback.db` in the working folder.
        more: the web face's own settings; `INSTALLED_APPS` there are added to the store's.

    Raises:
        HeedfulError: the address is wrong, or this process already serves another database.
    """
    import django
    from django.conf import settings

    chosen = database(url or os.environ.get("DATABASE_URL") or DATABASE)
    if settings.configured:
        current = settings.DATABASES["default"]
        if any((current.get(key) or "") != (chosen.get(key) or "") for key in ("ENGINE", "NAME", "HOST", "PORT")):
            raise HeedfulError(f"this process already serves {current['NAME']}.", mend="Start another process.")
        return
    extra = dict(more or {})
    apps = [*APPS, *(app for app in extra.pop("INSTALLED_APPS", ()) if app not in APPS)]
    settings.configure(
        **{
            "DATABASES": {"default": chosen},
            "INSTALLED_APPS": apps,
            "AUTH_USER_MODEL": "feedback.Account",
            "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
            "USE_TZ": True,
            "TIME_ZONE": "UTC",
            **extra,
        }
    )
    from django.db.backends.signals import connection_created

    connection_created.connect(assert_settings, dispatch_uid="heedful.feedback")
    django.setup()


def assert_settings(connection: Any, **_: Any) -> None:
    """Refuse a connection that does not keep what it acknowledges.

    Raises:
        HeedfulError: the database runs with weaker settings than the store asks for.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            found = {}
            for name in SQLITE_SETTINGS:
                cursor.execute(f"PRAGMA {name}")
                found[name] = cursor.fetchone()[0]
            memory = connection.is_in_memory_db()
            wrong = {k: v for k, v in found.items() if v != SQLITE_SETTINGS[k] and not (memory and k == "journal_mode")}
        else:
            cursor.execute("SHOW synchronous_commit")
            value = cursor.fetchone()[0]
            wrong = {} if value == "on" else {"synchronous_commit": value}
    if wrong:
        connection.close()
        raise HeedfulError(
            f"the database does not keep what it acknowledges: {wrong}.",
            where=str(connection.settings_dict["NAME"]),
            mend="Put it on a local disk that allows write-ahead logging, or set synchronous_commit to on.",
        )
