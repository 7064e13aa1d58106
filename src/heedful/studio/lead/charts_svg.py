"""Charts as SVG images: drawn without a window, without script, in colours for a light or a dark page."""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
import threading
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THEMES: dict[str, dict[str, str]] = {
    "light": {"ink": "#4a5160", "grid": "#d9dde5", "mark": "#2f6f6a", "soft": "#2f6f6a", "aim": "#b3541e"},
    "dark": {"ink": "#b9c0cc", "grid": "#3a414d", "mark": "#6fc3ba", "soft": "#6fc3ba", "aim": "#f0a06a"},
}
SVG = "http://www.w3.org/2000/svg"
SIZES = {"wide": (5.2, 2.4), "narrow": (3.5, 2.2)}
"""Width and height in inches; letters are as large in both, so a telephone is given the narrow one."""
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Chart:
    """What to draw: one value, or none, for each label; `low` and `high` are the ends of its interval.

    All sequences have the same length. Labels and axis titles are already in the reader's language.
    """

    kind: Literal["bars", "line", "points", "rows"]
    """Rows lie beneath each other, so that long names can be read; the first is on top."""
    labels: Sequence[str]
    values: Sequence[float | None]
    unit: str
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    bottom: float | None = 0.0
    top: float | None = None
    aim: float | None = None
    """A line to compare with."""

    def inches(self, size: str) -> tuple[float, float]:
        """Width and height of the picture."""
        width, height = SIZES[size]
        return (width, 0.75 + 0.38 * len(self.labels)) if self.kind == "rows" else (width, height)

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height of the wide picture on a page."""
        width, height = self.inches("wide")
        return round(100 * width), round(100 * height)


class Pictured:
    """What is shown with a chart, where there is one."""

    chart: Chart | None

    @property
    def digest(self) -> str:
        """Another one whenever the picture would be another."""
        return hashlib.sha256(repr(self.chart).encode()).hexdigest()[:16]


def draw(chart: Chart, theme: str = "light", size: str = "wide") -> bytes:
    """An SVG document whose text is text.

    Args:
        chart: what to draw.
        theme: "light" or "dark".
        size: "wide" or "narrow".
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    colours = THEMES[theme]
    # rc settings are the process's own, not a figure's: one drawing at a time.
    with _one_at_a_time, warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": ""}):
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the fonts
        figure = Figure(figsize=chart.inches(size), dpi=100, layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        _frame(axes, chart, colours)
        if chart.kind == "rows":
            _rows(axes, chart, colours, 30 if size == "wide" else 18)
        else:
            _marks(axes, chart, colours)
            _ticks(axes, chart, 8 if size == "wide" else 5)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return without_styles(out.getvalue())


def without_styles(svg: bytes) -> bytes:
    """The same picture with attributes in the place of inline styles, which a strict policy refuses."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(svg)
    root.set("stroke-linejoin", "round")
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
        for declaration in parent.attrib.pop("style", "").split(";"):
            name, _, value = (part.strip() for part in declaration.partition(":"))
            if name == "font":
                size = re.search(r"[\d.]+px", value)
                parent.set("font-size", size[0] if size else "9px")
                parent.set("font-family", "system-ui, sans-serif")
            elif name:
                parent.set(name, "system-ui, sans-serif" if name == "font-family" else value)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _frame(axes: Axes, chart: Chart, colours: dict[str, str]) -> None:
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(colours["grid"])
    axes.grid(axis="x" if chart.kind == "rows" else "y", color=colours["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=colours["ink"], labelsize=9, length=0, pad=7)
    (axes.set_xlabel if chart.kind == "rows" else axes.set_ylabel)(chart.unit, color=colours["ink"], fontsize=9)


def _rows(axes: Axes, chart: Chart, colours: dict[str, str], most: int) -> None:
    """A mark and its interval beside each name; an interval without a middle is a thick line."""
    for place, value in enumerate(chart.values):
        low, high = (side[place] if side else None for side in (chart.low, chart.high))
        if low is not None and high is not None:
            width = 1.6 if value is not None else 6
            axes.hlines(place, float(low), float(high), color=colours["soft"], linewidth=width)
        if value is not None:
            axes.plot([value], [place], color=colours["mark"], marker="o", markersize=6, clip_on=False)
    if chart.aim is not None:
        axes.axvline(chart.aim, color=colours["aim"], linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_ylim(len(chart.labels) - 0.4, -0.6)
    axes.set_xlim(left=chart.bottom, right=chart.top)
    lines = [textwrap.wrap(cut(label, 2 * most - 4), most)[:2] for label in chart.labels]
    axes.set_yticks(range(len(chart.labels)), ["\n".join(some) for some in lines])


def cut(name: str, most: int) -> str:
    """A name that fits beside or under its mark."""
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def _marks(axes: Axes, chart: Chart, colours: dict[str, str]) -> None:
    places = range(len(chart.labels))
    known = [i for i in places if chart.values[i] is not None]
    values = [float(chart.values[i] or 0) for i in known]
    if chart.kind == "bars":
        axes.bar(known, values, color=colours["mark"], width=0.7)
    elif chart.kind == "line":
        axes.plot(known, values, color=colours["mark"], linewidth=1.8, marker="o", markersize=4, clip_on=False)
    else:
        axes.plot(known, values, color=colours["mark"], linestyle="none", marker="o", markersize=6, clip_on=False)
    spans = [i for i in known if chart.low and chart.low[i] is not None and chart.high[i] is not None]
    if spans and chart.kind == "line":
        low, high = ([float(side[i] or 0) for i in spans] for side in (chart.low, chart.high))
        axes.fill_between(spans, low, high, color=colours["soft"], alpha=0.18, linewidth=0)
    else:
        for i in spans:
            axes.vlines(i, float(chart.low[i] or 0), float(chart.high[i] or 0), color=colours["soft"], linewidth=1.6)
    if chart.aim is not None:
        axes.axhline(chart.aim, color=colours["aim"], linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_xlim(-0.6, max(len(chart.labels), 1) - 0.4)
    axes.set_ylim(bottom=chart.bottom, top=chart.top)


def _ticks(axes: Axes, chart: Chart, most: int) -> None:
    """At most so many labels, evenly apart, the last one among them; aslant where names would touch each other."""
    from matplotlib.ticker import MaxNLocator

    step = max(1, -(-len(chart.labels) // most))
    places = list(range(len(chart.labels) - 1, -1, -step))[::-1]
    labels = [chart.labels[i] for i in places]
    crowded = chart.kind == "points" and sum(len(label) + 2 for label in labels) > 6 * most
    slant: dict[str, Any] = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(places, labels, **slant)
    if chart.top is None and all(value is None or float(value).is_integer() for value in chart.values):
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
