"""Numbers and names as a sentence has them."""

from __future__ import annotations

from collections.abc import Sequence

FEW = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def counted(count: int, name: str) -> str:
    """A count in words: "three rounds"."""
    return f"{FEW[count] if count < len(FEW) else f'{count:,}'} {name}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Names as they are listed: "a, b and c"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
