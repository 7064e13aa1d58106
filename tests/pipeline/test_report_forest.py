"""Forest plots: where the marks land, the words beside them, and the page that holds one."""

from __future__ import annotations

import re

from heedful.core.statistics import Interval
from heedful.pipeline.report import build_report
from heedful.pipeline.report_data import Forest, ForestRow, ReportData
from heedful.pipeline.report_forest import LEFT, RIGHT, describe, forest

PLOT = Forest(
    "Probes",
    "spreads",
    (
        ForestRow("padding <b>", Interval(1.0, 0.5, 2.0), "bad", {"gold": -0.5}),
        ForestRow("lists", Interval(0.0, -0.5, 0.5)),
    ),
)


def test_marks_land_where_their_values_are() -> None:
    svg = forest(PLOT, "f")
    low, high = -0.5 - 0.1, 2.0 + 0.1

    def at(value: float) -> str:
        return f"{LEFT + (value - low) / (high - low) * (RIGHT - LEFT):.1f}"

    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="(\d)" class="([^"]+)"', svg)
    assert circles[:3] == [
        (at(1.0), "23.0", "4", "point s1"),
        (at(-0.5), "23.0", "3", "point s2"),
        (at(0.0), "45.0", "4", "point s4"),
    ]
    assert f'x1="{at(0.5)}" y1="23.0" x2="{at(2.0)}" y2="23.0"' in svg
    assert f'x1="{at(0.0)}" y1="12" x2="{at(0.0)}" y2="56.0" class="axis"' in svg
    assert "padding &lt;b&gt;" in svg
    assert ">gold<" in svg


def test_the_plot_in_words() -> None:
    assert describe(PLOT) == "spreads. padding <b>: 1.00 (0.50 to 2.00). lists: 0.00 (−0.50 to 0.50)."


def test_a_page_shows_it_among_its_plots() -> None:
    page = build_report(ReportData("t", "s", "h", forests=(PLOT,), curves_title="The probes"))
    assert page.count('role="img"') == 1
    assert "The probes" in page
