"""What a request says, read so that no wording of it is more than a wrong request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.utils.dateparse import parse_datetime

from heedful.errors import HeedfulError


def json_of(body: bytes) -> Any:
    """A body as JSON.

    Raises:
        HeedfulError: it is none, or is nested deeper than anything is that a page sends.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HeedfulError("the request is no JSON.", where="body") from error


def moment_of(text: str) -> datetime | None:
    """A time with its zone, in UTC; None for what is no such time, or lies outside the years 1 to 9999 there."""
    try:
        found = parse_datetime(text)
        return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
