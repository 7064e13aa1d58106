"""The report's section on the labels."""

from __future__ import annotations

import math

from heedful.core.statistics import Interval
from heedful.pipeline.report_data import LabelRow, Labels, bounds, write
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_sections import data_table
from heedful.pipeline.report_svg import range_bar

TITLE = "How far the labels can be trusted"
CAPTION = "This data's agreement beside what others have published; other tasks and other people, so no target."


def labels(data: Labels) -> Safe:
    """What to do, what was judged, and the figures."""
    first = element("p", element("strong", data.do))
    notes = [element("p", note) for note in data.notes]
    if not data.rows:
        return element("div", first, notes)
    body = [
        element("tr", element("th", row.name, scope="row"), _value(row), element("td", row.meaning, class_="wide"))
        for row in data.rows
    ]
    return element("div", first, notes, data_table(TITLE, CAPTION, ("Labels", "Figure", "What, or whose"), body))


def said(row: LabelRow) -> str:
    """A row's figure in words: "67.9% (66.4% to 69.3%)"."""
    if isinstance(row.value, str):
        return row.value
    middle = write(row.value.mean, row.kind)
    return f"{middle} ({bounds(row.value, row.kind)})" if _bounded(row.value) else middle


def _bounded(value: Interval) -> bool:
    return math.isfinite(value.low) and math.isfinite(value.high)


def _value(row: LabelRow) -> Safe:
    value = row.value
    if isinstance(value, str):
        return element("td", value)
    middle = element("span", write(value.mean, row.kind))
    if not _bounded(value):
        return element("td", middle)
    bar = range_bar(value, chance=0.5, mood="even") if row.kind == "percent" else None
    return element("td", middle, bar, element("span", bounds(value, row.kind), class_="bounds"))
