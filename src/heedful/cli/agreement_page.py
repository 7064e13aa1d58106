"""An agreement report as one HTML page: no script, nothing loaded, light and dark."""

from __future__ import annotations

import math
from pathlib import Path

from heedful.cli.agreement_sections import Cell, Kind, Part, headline, parts
from heedful.cli.agreement_terminal import written
from heedful.core.statistics import Interval
from heedful.feedback.reliability import Reliability
from heedful.files import atomic_write
from heedful.pipeline.report import document
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_sections import data_table
from heedful.pipeline.report_svg import chart, range_bar


def write_page(path: Path, found: Reliability) -> None:
    """Write the page, atomically.

    Raises:
        HeedfulError: the folder cannot be written, or the disk is full.
    """
    with atomic_write(path) as file:
        file.write(page(found))


def page(found: Reliability) -> str:
    """The page. The same figures give the same bytes."""
    title = f"Can the labels of {found.programme} be trusted?"
    header = element(
        "header",
        element("p", "heedful agreement", class_="eyebrow"),
        element("h1", title),
        element("p", headline(found), class_="headline"),
        [element("p", note, class_="muted") for note in found.notes],
    )
    return document(title, header, [(part.name, part.title, _body(part)) for part in parts(found)])


def _body(part: Part) -> Safe:
    sentences = [text for text in part.do if text]
    first = element("p", element("strong", sentences[0])) if sentences else None
    reach = _reach(part)
    rows = [
        element(
            "tr",
            *(_cell(cell, kind, i == 0, reach) for i, (cell, kind) in enumerate(zip(row, part.kinds, strict=True))),
        )
        for row in part.rows
    ]
    numbers = tuple(i for i, kind in enumerate(part.kinds) if kind in ("number", "count"))
    figure = None
    if part.curve is not None:
        caption = element("figcaption", part.curve.name, element("span", part.curve.note, class_="muted"))
        figure = element("div", element("figure", caption, chart(part.curve, f"{part.name}-chart")), class_="charts")
    rest = [element("p", text) for text in sentences[1:]]
    return element("div", first, rest, figure, data_table(part.title, part.caption, part.heads, rows, numbers=numbers))


def _cell(cell: Cell, kind: Kind, first: bool, reach: float) -> Safe:
    words = written(cell, kind)
    if first:
        return element("th", words, scope="row")
    if isinstance(cell, Interval) and words.endswith("]"):
        middle, _, bounds = words.removesuffix("]").partition(" [")
        low, _, high = bounds.partition(", ")
        return element(
            "td", element("span", middle), _bar(cell, kind, reach), _bounds(low, high, kind), class_=_side(kind)
        )
    return element("td", words, class_="wide" if len(words) > 40 else _side(kind))


def _bounds(low: str, high: str, kind: Kind) -> Safe:
    return element("span", f"{low} to {high}{'%' if kind == 'percent' else ''}", class_="bounds")


def _side(kind: Kind) -> str | None:
    return "n" if kind in ("number", "count") else None


def _bar(cell: Interval, kind: Kind, reach: float) -> Safe | None:
    """The interval on a line; of a difference nought is in the middle. Coloured alike: no side is the better one."""
    if kind == "percent":
        return range_bar(cell, chance=0.5, mood="even")
    if kind == "gap":
        shown = Interval(*(0.5 + value / (2 * reach) for value in (cell.mean, cell.low, cell.high)))
        return range_bar(shown, chance=0.5, mood="even")
    return None


def _reach(part: Part) -> float:
    """The largest distance from nought that a difference's interval has."""
    ends = [
        abs(end)
        for row in part.rows
        for cell, kind in zip(row, part.kinds, strict=True)
        if kind == "gap" and isinstance(cell, Interval)
        for end in (cell.low, cell.high)
        if math.isfinite(end)
    ]
    return max([*ends, 1e-9])
