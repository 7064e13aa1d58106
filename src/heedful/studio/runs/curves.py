"""A run's figures as small pictures: drawn as SVG in the page, so that they follow its colours and cost next to
nothing while a run is watched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 308, 10, 126
POINTS = 160
"""Most points of a line: more are averaged in groups."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, at a place in the picture."""

    place: float
    label: str


@dataclass(frozen=True)
class Whisker:
    """A value with its interval, in the picture."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Picture:
    """What to draw. All places are in a picture of `WIDTH` by `HEIGHT`."""

    path: str
    last: tuple[float, float] | None
    ticks: tuple[Tick, ...]
    steps: tuple[Tick, ...]
    marks: tuple[float, ...] = ()
    """Where something happened, across."""
    whiskers: tuple[Whisker, ...] = ()
    aim: float | None = None
    """A line to compare with, from the top."""


def line(points: Sequence[tuple[int, float]], marks: Sequence[int] = ()) -> Picture:
    """A curve over steps.

    Args:
        points: (step, value), steps rising; at least one.
        marks: steps at which something happened.
    """
    low, high = _span([value for _, value in points])
    first, last = points[0][0], points[-1][0]
    some = [(_across(step, first, last), _up(value, low, high)) for step, value in fewer(points)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in some)
    return Picture(
        path,
        some[-1],
        ticks=_ticks(low, high),
        steps=_steps(first, last),
        marks=tuple(_across(step, first, last) for step in marks if first <= step <= last),
    )


def shares(points: Sequence[tuple[int, float, float, float]], last: int) -> Picture:
    """Shares of 0 to 1 with their intervals, against one half: (step, value, low, high)."""
    some = tuple(
        Whisker(_across(step, 0, last), *(_up(value, 0.0, 1.0) for value in values)) for step, *values in points
    )
    ticks = tuple(Tick(_up(share, 0.0, 1.0), f"{share:.0%}") for share in (0.0, 0.5, 1.0))
    return Picture("", None, ticks, _steps(0, last), whiskers=some, aim=_up(0.5, 0.0, 1.0))


def fewer(points: Sequence[tuple[int, float]], most: int = POINTS) -> list[tuple[int, float]]:
    """At most about so many points: neighbours averaged, the last step kept as it is."""
    size = max(1, math.ceil(len(points) / most))
    if size == 1:
        return list(points)
    groups = [points[i : i + size] for i in range(0, len(points) - 1, size)]
    found = [(some[len(some) // 2][0], math.fsum(value for _, value in some) / len(some)) for some in groups]
    return [*[one for one in found if one[0] < points[-1][0]], points[-1]]


def words(value: float) -> str:
    """A number for people: three figures, no more."""
    if value != 0 and (abs(value) >= 10_000 or abs(value) < 0.001):
        return f"{value:.1e}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        reach = abs(low) / 2 or 0.5
        return low - reach, high + reach
    return low, high


def _ticks(low: float, high: float) -> tuple[Tick, ...]:
    """Up to five round numbers within a span."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    size = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / size - 1e-9)
    values = [n * size for n in range(first, math.floor(high / size + 1e-9) + 1)]
    decimals = max(0, -math.floor(math.log10(size) + 1e-9))
    told = [words(value) if decimals > 4 or abs(value) >= 10_000 else f"{value:.{decimals}f}" for value in values]
    return tuple(Tick(_up(value, low, high), label) for value, label in zip(values, told, strict=True))


def _steps(first: int, last: int) -> tuple[Tick, ...]:
    ends = (first,) if first == last else (first, last)
    return tuple(Tick(_across(step, first, last), str(step)) for step in ends)


def _across(step: int, first: int, last: int) -> float:
    return float(RIGHT) if last == first else round(LEFT + (RIGHT - LEFT) * (step - first) / (last - first), 1)


def _up(value: float, low: float, high: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * (min(max(value, low), high) - low) / (high - low), 1)
