"""The report's pictures: line charts and range bars as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from heedful.core.statistics import Interval
from heedful.pipeline.report_data import Curve, Series, write
from heedful.pipeline.report_html import Safe, element

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 46, 348, 24, 178
STYLES = 6  # how many line colours the style sheet knows
DENSE = 150  # a series with more points is drawn as means of neighbours within their range
BUCKETS = 75

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """A linear map from values to the picture's units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def chart(curve: Curve, name: str) -> Safe:
    """A line chart. `name` makes the ids of its title and description unique on the page."""
    points = [point for series in curve.series.values() for point in finite(series)]
    if not points:
        return element("p", "Nothing was recorded.", class_="muted")
    x_scale = _scale([x for x, _ in points], LEFT, RIGHT, room=0.0)
    ends = [end for series in curve.series.values() for pair in series.bounds for end in pair if math.isfinite(end)]
    y_scale = _scale([*(y for _, y in points), *ends], BOTTOM, TOP, room=0.06)
    lines = [_line(series, i % STYLES, x_scale, y_scale) for i, series in enumerate(curve.series.values())]
    return element(
        "svg",
        element("title", f"{curve.group}: {curve.name}", id=f"{name}-title"),
        element("desc", describe(curve), id=f"{name}-desc"),
        _axes(curve, x_scale, y_scale),
        lines,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart",
    )


def describe(curve: Curve) -> str:
    """The chart in words: where each line starts, ends, and how far it reaches."""
    told = []
    for name, series in curve.series.items():
        points = finite(series)
        if points:
            low, high = min(y for _, y in points), max(y for _, y in points)
            told.append(
                f"{name}: {_short(points[0][1])} at the start ({curve.x_label} {_short(points[0][0])}), "
                f"{_short(points[-1][1])} at the end ({curve.x_label} {_short(points[-1][0])}), "
                f"between {_short(low)} and {_short(high)}."
            )
    return f"{curve.y_label} against {curve.x_label}. " + " ".join(told)


def finite(series: Series) -> list[Point]:
    """The points of a series that can be drawn."""
    pairs = zip(series.x, series.y, strict=True)
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def is_dense(series: Series) -> bool:
    """Whether the series is drawn as means of neighbouring points with their range behind."""
    return len(series.x) > DENSE


def swatch(index: int) -> Safe:
    """The legend's sample of a line. Hidden from screen readers, who get the description."""
    line = element("line", x1=1, y1=5, x2=23, y2=5, class_=f"line s{index % STYLES}")
    return element("svg", line, viewBox="0 0 24 10", class_="swatch", aria_hidden="true")


def range_bar(interval: Interval, *, chance: float | None, goal: float | None = None, mood: str | None = None) -> Safe:
    """An interval of a share on a line from 0 to 1, with marks at chance and at the goal.

    Coloured by `tone` unless a mood ("good", "bad", "even") is given. Hidden from screen readers: the same
    figures stand beside it in words.
    """
    scale = Scale(0.0, 1.0, 4, 156)
    low, mean, high = (scale(min(max(x, 0.0), 1.0)) for x in (interval.low, interval.mean, interval.high))
    marks = [element("line", x1=4, y1=12, x2=156, y2=12, class_="rail")]
    if chance is not None:
        marks.append(element("line", x1=_u(scale(chance)), y1=5, x2=_u(scale(chance)), y2=19, class_="chance"))
    if goal is not None:
        marks.append(element("path", d=f"M{_u(scale(goal))} 5.5 l-3.5 -5 h7 z", class_="goal"))
    width = max(high - low, 2.0)
    marks.append(element("rect", x=_u(low), y=8, width=_u(width), height=8, rx=2, class_="span"))
    marks.append(element("rect", x=_u(mean - 1.25), y=5.5, width=2.5, height=13, rx=1, class_="dot"))
    found = mood or tone(interval, chance)
    return element("svg", marks, viewBox="0 0 160 22", class_=f"range {found}", aria_hidden="true")


def share_bar(share: float) -> Safe:
    """A bar of a share from 0 to 1; hidden from screen readers."""
    bar = element("rect", x=0, y=2, width=_u(max(1.0, 100 * share)), height=6, rx=2, class_="bar")
    return element("svg", bar, viewBox="0 0 100 10", class_="share", aria_hidden="true")


def tone(interval: Interval, chance: float | None) -> str:
    """ "good" where the whole interval lies above chance, "bad" below, "even" otherwise."""
    if chance is None:
        return "even"
    return "good" if interval.low > chance else "bad" if interval.high < chance else "even"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round values within low..high: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * m for m in (1, 2, 2.5, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def thin(points: Sequence[Point]) -> tuple[list[Point], list[tuple[float, float, float]]]:
    """Means of neighbouring points, and the band (x, lowest, highest) that they came from."""
    edges = [round(i * len(points) / BUCKETS) for i in range(BUCKETS + 1)]
    means, band = [], []
    for start, end in pairwise(edges):
        part = points[start:end]
        x = sum(px for px, _ in part) / len(part)
        ys = [py for _, py in part]
        means.append((x, sum(ys) / len(ys)))
        band.append((x, min(ys), max(ys)))
    return means, band


def _line(series: Series, style: int, x_scale: Scale, y_scale: Scale) -> Safe:
    points = finite(series)
    parts: list[Safe] = []
    if is_dense(series) and len(points) > DENSE:
        points, band = thin(points)
        rising = all(a[0] <= b[0] for a, b in pairwise(points))
        if rising:
            edge = [(x, low) for x, low, _ in band] + [(x, high) for x, _, high in reversed(band)]
            parts.append(element("polygon", points=_path(edge, x_scale, y_scale), class_=f"band s{style}"))
        runs = [points]
    else:
        runs = _runs(series)
    parts += [
        element("polyline", points=_path(run, x_scale, y_scale), class_=f"line s{style}")
        for run in runs
        if len(run) > 1
    ]
    for x, (low, high) in zip(series.x, series.bounds, strict=False):
        if all(map(math.isfinite, (x, low, high))):
            place = _u(x_scale(x))
            ends = {"x1": place, "y1": _u(y_scale(low)), "x2": place, "y2": _u(y_scale(high))}
            parts.append(element("line", **ends, class_=f"bound s{style}"))
    if len(points) <= 24:
        parts += [
            element("circle", cx=_u(x_scale(x)), cy=_u(y_scale(y)), r=2.6, class_=f"point s{style}") for x, y in points
        ]
    return element("g", parts)


def _runs(series: Series) -> list[list[Point]]:
    """The series cut where a point is not finite."""
    runs: list[list[Point]] = [[]]
    for x, y in zip(series.x, series.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return runs


def _axes(curve: Curve, x_scale: Scale, y_scale: Scale) -> Safe:
    parts = []
    y_ticks = ticks(y_scale.low, y_scale.high)
    for value, label in zip(y_ticks, _labels(y_ticks), strict=True):
        y = _u(y_scale(value))
        parts.append(element("line", x1=LEFT, y1=y, x2=RIGHT, y2=y, class_="grid"))
        parts.append(element("text", label, x=LEFT - 6, y=_u(y_scale(value) + 3.6), text_anchor="end"))
    x_ticks = ticks(x_scale.low, x_scale.high)
    if all(float(x).is_integer() for series in curve.series.values() for x, _ in finite(series)):
        x_ticks = [value for value in x_ticks if value.is_integer()]  # there is no round one and a half
    for value, label in zip(x_ticks, _labels(x_ticks), strict=True):
        x = x_scale(value)
        parts.append(element("line", x1=_u(x), y1=BOTTOM, x2=_u(x), y2=BOTTOM + 4, class_="axis"))
        anchor = "end" if x > RIGHT - 8 else "middle"
        parts.append(element("text", label, x=_u(x), y=BOTTOM + 16, text_anchor=anchor))
    parts.append(element("line", x1=LEFT, y1=BOTTOM, x2=RIGHT, y2=BOTTOM, class_="axis"))
    parts.append(element("text", curve.y_label, x=2, y=12, class_="label"))
    parts.append(element("text", curve.x_label, x=RIGHT, y=HEIGHT - 6, text_anchor="end", class_="label"))
    return element("g", parts)


def _labels(values: Sequence[float]) -> list[str]:
    """Tick labels with just the decimals that their step needs."""
    if not values:
        return []
    largest = max(abs(value) for value in values)
    if largest >= 10_000:
        return [f"{value / 1000:g}k".replace("-", "−") for value in values]
    step = min((b - a for a, b in pairwise(values)), default=largest or 1.0)
    decimals = next((d for d in range(8) if abs(round(step, d) - step) < step * 1e-6), 8)
    return [f"{value + 0.0:.{decimals}f}".replace("-", "−") for value in values]


def _scale(values: Sequence[float], start: float, end: float, *, room: float) -> Scale:
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        pad = abs(low) * 0.1 or 1.0
        return Scale(low - pad, high + pad, start, end)
    pad = (high - low) * room
    return Scale(low - pad, high + pad, start, end)


def _path(points: Sequence[Point], x_scale: Scale, y_scale: Scale) -> str:
    return " ".join(f"{_u(x_scale(x))},{_u(y_scale(y))}" for x, y in points)


def _short(value: float) -> str:
    return write(value, "number")


def _u(value: float) -> str:
    """A length in the picture's units, to a tenth."""
    return f"{value:.1f}"
