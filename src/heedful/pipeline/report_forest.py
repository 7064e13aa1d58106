"""Forest plots: intervals below each other on one scale, as inline SVG in the page's colours."""

from __future__ import annotations

from dataclasses import dataclass

from heedful.core.statistics import Interval
from heedful.pipeline.report_data import Forest, ForestRow, bounds, write
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_svg import Scale, ticks

WIDTH, LEFT, RIGHT = 720, 236, 704
ROW, TOP = 22, 12
STYLES = {"good": "s0", "bad": "s1", "even": "s4"}
SHAPES = ("circle", "diamond", "bar")


@dataclass(frozen=True)
class Layout:
    """Where a plot's parts stand, in the picture's units; a label stands beside its line, or above it."""

    width: float
    left: float
    right: float
    row: float
    above: bool

    def line(self, index: int) -> float:
        """The height of a row's line."""
        return TOP + self.row * (index + (0.72 if self.above else 0.5))


WIDE = Layout(WIDTH, LEFT, RIGHT, ROW, above=False)
NARROW = Layout(340, 12, 328, 38, above=True)
"""For a narrow screen, where the wide one's letters would be too small to read."""


def forest(plot: Forest, name: str) -> Safe:
    """A forest plot with its legend. `name` makes the ids of its title and description unique on the page."""
    marks = list(dict.fromkeys(mark for row in plot.rows for mark in row.marks))
    wide = element(
        "svg",
        element("title", plot.name, id=f"{name}-title"),
        element("desc", describe(plot), id=f"{name}-desc"),
        _drawn(plot, WIDE, marks),
        viewBox=_box(plot, WIDE),
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart when-wide",
    )
    narrow = element(
        "svg", _drawn(plot, NARROW, marks), viewBox=_box(plot, NARROW), aria_hidden="true", class_="chart when-narrow"
    )
    legend = [element("li", _sample(marks.index(mark)), mark) for mark in marks]
    caption = element("figcaption", plot.name, element("span", plot.note, class_="muted") if plot.note else None)
    key = element("ul", legend, class_="legend") if legend else None
    return element("figure", caption, wide, narrow, key, class_="wide")


def describe(plot: Forest) -> str:
    """The plot in words: each line with its interval."""
    told = [f"{row.label}: {write(row.interval.mean, plot.kind)} ({_ends(row.interval, plot)})." for row in plot.rows]
    return f"{plot.x_label}. {' '.join(told)}"


def _ends(interval: Interval, plot: Forest) -> str:
    return bounds(interval, plot.kind)


def _box(plot: Forest, layout: Layout) -> str:
    return f"0 0 {layout.width} {_u(_bottom(plot, layout) + 36)}".replace(".0", "")


def _bottom(plot: Forest, layout: Layout) -> float:
    return TOP + layout.row * len(plot.rows)


def _drawn(plot: Forest, layout: Layout, marks: list[str]) -> list[Safe]:
    ends = [end for row in plot.rows for end in (row.interval.low, row.interval.high, *row.marks.values())]
    low, high = min([*ends, plot.line]), max([*ends, plot.line])
    room = 0.04 * (high - low) or 1.0
    scale = Scale(low - room, high + room, layout.left, layout.right)
    rows = [_row(row, layout.line(i), scale, marks, layout) for i, row in enumerate(plot.rows)]
    return [_axis(plot, scale, layout), *rows]


def _axis(plot: Forest, scale: Scale, layout: Layout) -> Safe:
    parts, bottom = [], _bottom(plot, layout)
    for value in ticks(scale.low, scale.high, 3 if layout.above else 6):
        x = _u(scale(value))
        parts.append(element("line", x1=x, y1=TOP, x2=x, y2=_u(bottom), class_="grid"))
        parts.append(element("text", _tick(value, plot), x=x, y=_u(bottom + 15), text_anchor="middle"))
    nought = _u(scale(plot.line))
    parts.append(element("line", x1=nought, y1=TOP, x2=nought, y2=_u(bottom), class_="axis"))
    parts.append(element("text", plot.x_label, x=layout.right, y=_u(bottom + 30), text_anchor="end", class_="label"))
    return element("g", parts)


def _tick(value: float, plot: Forest) -> str:
    return write(value, "percent").replace(".0%", "%") if plot.kind == "percent" else write(value, "number")


def _row(row: ForestRow, y: float, scale: Scale, marks: list[str], layout: Layout) -> Safe:
    style = STYLES[row.mood]
    low, mean, high = (scale(x) for x in (row.interval.low, row.interval.mean, row.interval.high))
    label = {"x": 2, "y": _u(y - 12)} if layout.above else {"x": layout.left - 12, "y": _u(y + 4), "text_anchor": "end"}
    parts = [
        element("text", row.label, **label, class_="label"),  # type: ignore[arg-type]
        element("line", x1=_u(low), y1=_u(y), x2=_u(high), y2=_u(y), class_=f"bound {style}"),
        element("circle", cx=_u(mean), cy=_u(y), r=4, class_=f"point {style}"),
    ]
    parts += [_mark(marks.index(name), scale(value), y) for name, value in row.marks.items()]
    return element("g", parts)


def _mark(index: int, x: float, y: float) -> Safe:
    """A mark's own shape and colour: gold and baselines beside the interval."""
    shape = SHAPES[index % len(SHAPES)]
    style = f"point s{(2, 3, 5)[index % 3]}"
    if shape == "diamond":
        return element("path", d=f"M{_u(x)} {_u(y - 5)} l4 5 l-4 5 l-4 -5 z", class_=style)
    if shape == "bar":
        return element("rect", x=_u(x - 1.5), y=_u(y - 6), width=3, height=12, class_=style)
    return element("circle", cx=_u(x), cy=_u(y), r=3, class_=style)


def _sample(index: int) -> Safe:
    return element("svg", _mark(index, 12, 6), viewBox="0 0 24 12", class_="swatch", aria_hidden="true")


def _u(value: float) -> str:
    """A length in the picture's units, to a tenth."""
    return f"{value:.1f}"
