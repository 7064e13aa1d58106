"""The store's clock: the one place that asks for the time, so that a test can move it."""

from __future__ import annotations

import threading
import time
from datetime import datetime

from django.utils import timezone

_lock = threading.Lock()
_last = 0


def now() -> datetime:
    """The time, aware, in UTC."""
    return timezone.now()


def rising() -> int:
    """A number above all that this process was given before, and near the time in nanoseconds."""
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns())
        return _last
