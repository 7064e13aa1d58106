"""Whether this process may be sent requests: its database answers, and has the tables of this version."""

from __future__ import annotations

from django.db import Error

from heedful.feedback import migrating


def why_not() -> str:
    """Why this process is not ready; empty if it is."""
    try:
        left = migrating.pending()
    except Error:
        return "the database does not answer"
    return f"{len(left)} migrations are not applied" if left else ""
