"""Functions that write all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import OperationalError, connection, transaction

P = ParamSpec("P")
R = TypeVar("R")
TRIES = 5
AGAIN = ("40001", "40P01")
"""What PostgreSQL says when two transactions waited for each other and one was ended."""


def writes(act: Callable[P, R]) -> Callable[P, R]:
    """Run a function in one transaction; begin again when the server ended it for another's sake.

    Inside a caller's transaction it is a part of that one, and the error is the caller's.
    """

    @wraps(act)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        tries = 1 if connection.in_atomic_block else TRIES
        for left in range(tries - 1, -1, -1):
            try:
                with transaction.atomic():
                    return act(*args, **kwargs)
            except OperationalError as error:
                if not left or getattr(error.__cause__, "sqlstate", "") not in AGAIN:
                    raise
        raise AssertionError

    return run
