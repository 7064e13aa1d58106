"""One turn of work that goes on beside requests: a failure is told, and the next turn tries again."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import InterfaceError, OperationalError, close_old_connections

_down: set[str] = set()
"""Workers whose database does not answer, so that each outage is told once."""


def attempt(name: str, act: Callable[[], object], log: logging.Logger) -> None:
    """Do it once, on a connection that is fit for use.

    Args:
        name: of the worker, for the log.
        act: the work.
        log: where a failure is told; a database that does not answer, once until it answers again.
    """
    close_old_connections()
    try:
        act()
    except (OperationalError, InterfaceError) as error:
        if name not in _down:
            log.warning("the database does not serve the worker %s (%s); it tries again", name, type(error).__name__)
        _down.add(name)
    except Exception:
        log.exception("the worker %s failed; it goes on", name)
    else:
        if name in _down:
            log.warning("the database serves the worker %s again", name)
        _down.discard(name)
