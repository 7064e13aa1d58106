"""Logs of the studio: lines for people or JSON for a collector, with the request's id and without what people wrote.

A record of a request names its page by its pattern in the URLconf, never by its path, which may hold an invitation's
token. An exception is told by its type and the places in the code: its message may quote a value out of a row.
"""

from __future__ import annotations

import json
import logging
import os
import re
import traceback
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

REQUESTS = "heedful.studio.requests"
"""The logger of one line a request."""
SERVER = "heedful.studio.server"
"""The logger of the server's processes."""
OURS = ("heedful", "uvicorn")
"""Loggers whose messages are made of our words and numbers alone."""
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,63}")
"""An id that a proxy may give a request."""
FRAMES = 12
"""Frames of an exception that are told, the innermost."""
request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that this thread answers."""


def new_id(given: str = "") -> str:
    """A request's id: what its proxy gave it, if that is one; else a new one."""
    return given if ID.fullmatch(given) else uuid.uuid4().hex


def page_of(request: Any) -> str:
    """The pattern of a request's page, as in `p/<slug:slug>/rate/`; "" where none fits."""
    match = getattr(request, "resolver_match", None)
    return str(match.route) if match is not None else ""


def told(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says, without what people wrote and without who they are."""
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _message(record),
        "process": os.getpid(),
    }
    if own := request_id.get() or getattr(getattr(record, "request", None), "heedful_id", ""):
        found["request"] = own
    found |= getattr(record, "facts", {})
    if record.exc_info and record.exc_info[1] is not None:
        found |= _exception(record.exc_info[1])
    return found


def _message(record: logging.LogRecord) -> str:
    """Of our own loggers, the message; of others, its template: what is filled in may be anybody's words."""
    request = getattr(record, "request", None)
    if request is not None:  # Django's: "%s: %s", of the reason and the path
        status = getattr(record, "status_code", "")
        return f"{status} {getattr(request, 'method', '')} {page_of(request) or '(no page)'}".strip()
    return record.getMessage() if record.name.split(".")[0] in OURS else str(record.msg)


def _exception(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    cause = error.__cause__
    found = {
        "exception": type(error).__name__,
        "at": [f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if cause is not None:
        found["cause"] = type(cause).__name__
        if code := getattr(cause, "sqlstate", None):
            found["sqlstate"] = code
    return found


class ToldAlready(logging.Filter):
    """Leaves out Django's own word on an outage: `heedful.studio.outage` has told of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is kept."""
        return getattr(record, "status_code", None) != 503


class JsonFormatter(logging.Formatter):
    """One line of JSON a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return json.dumps(told(record), default=str)


class TextFormatter(logging.Formatter):
    """A line a record for people, and an exception's places below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The text."""
        found = told(record)
        head = f"{found['time']} {found['level'].upper()} {found['message']}"
        notes = [found.get("exception", ""), found.get("cause", ""), found.get("sqlstate", "")]
        if any(notes):
            head += f" ({', '.join(filter(None, notes))})"
        if "request" in found:
            head += f" [request {found['request']}]"
        return "\n".join([head, *(f"  {place}" for place in found.get("at", ()))])


def settings(log_format: str) -> dict[str, Any]:
    """Django's setting LOGGING: `json` tells each request too, `text` only what went wrong."""
    formatter = JsonFormatter if log_format == "json" else TextFormatter
    own = {"level": "INFO" if log_format == "json" else "WARNING"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"told_already": {"()": f"{ToldAlready.__module__}.{ToldAlready.__name__}"}},
        "formatters": {"own": {"()": f"{formatter.__module__}.{formatter.__name__}"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "own"}},
        "root": {"handlers": ["console"], "level": "WARNING"},
        "loggers": {
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
            "django.request": {"level": "ERROR", "filters": ["told_already"]},  # what a client did wrong is no news
            "axes": {"level": "CRITICAL"},  # it names who failed to log in, and from where
            "httpx2": {"level": "WARNING"},
            "uvicorn": {"handlers": [], "propagate": True},
            "uvicorn.error": {"handlers": [], "propagate": True, "level": "WARNING"},
            "uvicorn.access": {"handlers": [], "propagate": False},
            REQUESTS: own,
            SERVER: {"level": "INFO"},
        },
    }
