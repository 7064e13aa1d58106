"""The report: one HTML page that needs nothing but itself, and the same table in the terminal.

The page asks the network for nothing, runs no script (its content policy forbids both), follows the
reader's light or dark theme, and reads on a phone. All text in it is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from heedful.files import atomic_write
from heedful.pipeline import report_labels
from heedful.pipeline import report_sections as sections
from heedful.pipeline.report_data import (
    ControlRow,
    Curve,
    Figure,
    FindingRow,
    Goal,
    MethodRow,
    ReportData,
    SampleAnswer,
    SampleRow,
    Series,
    StageRow,
    say_win_rate,
)
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_terminal import render_terminal

FOOTER = "Made by heedful. This page is whole in itself: it loads nothing and runs no script."

__all__ = [
    "ControlRow",
    "Curve",
    "Figure",
    "FindingRow",
    "Goal",
    "MethodRow",
    "ReportData",
    "SampleAnswer",
    "SampleRow",
    "Series",
    "StageRow",
    "build_report",
    "document",
    "render_terminal",
    "say_win_rate",
    "write_report",
]


def build_report(data: ReportData) -> str:
    """The report as one HTML document. The same data gives the same bytes."""
    return document(data.title, _header(data), _sections(data))


def document(title: str, header: Safe, parts: Sequence[tuple[str, str, Safe]]) -> str:
    """A whole page in the report's style.

    Args:
        title: of the page.
        header: what stands above the sections.
        parts: (id, heading, body) of each section.
    """
    links = [element("li", element("a", title, href=f"#{name}")) for name, title, _ in parts]
    blocks = [_section(name, title, body) for name, title, body in parts]
    page = element(
        "div",
        header,
        element("nav", element("ul", links), aria_label="Sections") if links else None,
        element("main", blocks, id="main"),
        element("footer", element("p", FOOTER)),
        class_="page",
    )
    skip = element("a", "Skip to the results", href="#main", class_="skip")
    return f"<!doctype html>\n{element('html', _head(title), element('body', skip, page), lang='en')}\n"


def write_report(path: Path, data: ReportData) -> None:
    """Write the report to a file, atomically.

    Raises:
        HeedfulError: the folder cannot be written, or the disk is full.
    """
    with atomic_write(path) as file:
        file.write(build_report(data))


def _head(title: str) -> Safe:
    style = files("heedful.pipeline").joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("title", title),
        element("style", Safe(style)),
    )


def _header(data: ReportData) -> Safe:
    return element(
        "header",
        element("p", "heedful report", class_="eyebrow"),
        element("h1", data.title),
        element("p", data.subtitle, class_="subtitle") if data.subtitle else None,
        element("p", data.headline, class_="headline") if data.headline else None,
        sections.headline_figures(data.figures) if data.figures else None,
    )


def _section(name: str, title: str, body: Safe) -> Safe:
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, body, id=name, aria_labelledby=f"{name}-title")


def _sections(data: ReportData) -> list[tuple[str, str, Safe]]:
    """(id, heading, body) of every part that has something to show."""
    parts: list[tuple[str, str, Safe]] = []
    plots = [("curves", data.curves_title, sections.curves(data))]
    plots = plots if data.forests or data.curves or data.tables else []
    if data.curves_lead:
        parts += plots
    if data.methods:
        parts.append(("methods", "Methods compared", sections.methods(data)))
    if data.explanations:
        parts.append(("meaning", "What this means", sections.explanations(data.explanations)))
    if data.labels is not None:
        parts.append(("labels", report_labels.TITLE, report_labels.labels(data.labels)))
    if data.samples:
        parts.append(("samples", "Answers side by side", sections.samples(data)))
    if data.controls:
        parts.append(("controls", "Controls", sections.controls(data.controls)))
    if not data.curves_lead:
        parts += plots
    if data.findings:
        parts.append(("findings", "Data findings", sections.findings(data.findings)))
    if data.stages or data.lineage:
        parts.append(("stages", "Cost and lineage", sections.stages(data.stages, data.lineage)))
    return parts
