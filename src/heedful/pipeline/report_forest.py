"""Forest plots: intervals below each other on one scale, as inline SVG in the page's colours."""

from __future__ import annotations

from heedful.core.statistics import Interval
from heedful.pipeline.report_data import Forest, ForestRow, bounds, write
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_svg import Scale, ticks

WIDTH, LEFT, RIGHT = 720, 236, 704
ROW, TOP = 22, 12
STYLES = {"good": "s0", "bad": "s1", "even": "s4"}
SHAPES = ("circle", "diamond", "bar")


def forest(plot: Forest, name: str) -> Safe:
    """A forest plot with its legend. `name` makes the ids of its title and description unique on the page."""
    ends = [end for row in plot.rows for end in (row.interval.low, row.interval.high, *row.marks.values())]
    low, high = min([*ends, plot.line]), max([*ends, plot.line])
    room = 0.04 * (high - low) or 1.0
    scale = Scale(low - room, high + room, LEFT, RIGHT)
    bottom = TOP + ROW * len(plot.rows)
    marks = list(dict.fromkeys(mark for row in plot.rows for mark in row.marks))
    picture = element(
        "svg",
        element("title", plot.name, id=f"{name}-title"),
        element("desc", describe(plot), id=f"{name}-desc"),
        _axis(plot, scale, bottom),
        [_row(row, TOP + ROW * (i + 0.5), scale, marks) for i, row in enumerate(plot.rows)],
        viewBox=f"0 0 {WIDTH} {bottom + 36}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart",
    )
    legend = [element("li", _sample(marks.index(mark)), mark) for mark in marks]
    caption = element("figcaption", plot.name, element("span", plot.note, class_="muted") if plot.note else None)
    key = element("ul", legend, class_="legend") if legend else None
    return element("figure", caption, picture, key, class_="wide")


def describe(plot: Forest) -> str:
    """The plot in words: each line with its interval."""
    told = [f"{row.label}: {write(row.interval.mean, 'hundredths')} ({_ends(row.interval)})." for row in plot.rows]
    return f"{plot.x_label}. {' '.join(told)}"


def _ends(interval: Interval) -> str:
    return bounds(interval, "hundredths")


def _axis(plot: Forest, scale: Scale, bottom: float) -> Safe:
    parts = []
    for value in ticks(scale.low, scale.high, 6):
        x = _u(scale(value))
        parts.append(element("line", x1=x, y1=TOP, x2=x, y2=_u(bottom), class_="grid"))
        parts.append(element("text", write(value, "number"), x=x, y=_u(bottom + 15), text_anchor="middle"))
    nought = _u(scale(plot.line))
    parts.append(element("line", x1=nought, y1=TOP, x2=nought, y2=_u(bottom), class_="axis"))
    parts.append(element("text", plot.x_label, x=RIGHT, y=_u(bottom + 30), text_anchor="end", class_="label"))
    return element("g", parts)


def _row(row: ForestRow, y: float, scale: Scale, marks: list[str]) -> Safe:
    style = STYLES[row.mood]
    low, mean, high = (scale(x) for x in (row.interval.low, row.interval.mean, row.interval.high))
    parts = [
        element("text", row.label, x=LEFT - 12, y=_u(y + 4), text_anchor="end", class_="label"),
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
