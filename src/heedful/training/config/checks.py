"""Refusing settings that mean nothing, with the place they stand in."""

from __future__ import annotations

from heedful.errors import HeedfulError


def require(ok: bool, what: str, where: str) -> None:
    if not ok:
        raise HeedfulError(what, where=where, mend="Correct the value.")


def at_least(lowest: float, where: str, **values: float) -> None:
    """Refuse numbers below `lowest` (or not numbers at all); `where` is the block they stand in."""
    for name, value in values.items():
        require(value >= lowest, f"{name} is {value}; it must be {lowest} or more.", f"{where}{name}")


def share(where: str, **values: float) -> None:
    """Refuse numbers outside 0 to 1."""
    for name, value in values.items():
        require(0 <= value <= 1, f"{name} is {value}; it must lie in 0 to 1.", f"{where}{name}")
