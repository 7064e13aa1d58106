"""The report's tables in the terminal, by rich. Nothing in the data is taken for markup or control codes."""

from __future__ import annotations

import re

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from heedful.core.statistics import Interval
from heedful.pipeline.report_data import COLUMNS, Kind, Labels, MethodRow, Number, ReportData, bounds, write
from heedful.pipeline.report_labels import TITLE, said
from heedful.pipeline.report_svg import tone

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
WIDE = 110
_COLOURS = {"good": "green", "bad": "red", "even": "yellow"}


def render_terminal(data: ReportData, console: Console) -> None:
    """Print the headline, the methods by split, the controls and the stages.

    Below 110 columns the table of methods keeps the intervals of its shares alone, and leaves out `more`.
    """
    console.print(Panel(_headline(data), title=_text(data.title), title_align="left", border_style="cyan"))
    for split in dict.fromkeys(row.split for row in data.methods):
        rows = [row for row in data.methods if row.split == split]
        console.print(_methods(split, rows, wide=console.width >= WIDE))
    if data.labels is not None:
        console.print(_labels(data.labels))
    if data.controls:
        console.print(_controls(data))
    if data.findings:
        console.print(_findings(data))
    if data.stages:
        console.print(_stages(data))


def _titled(title: str, *columns: str) -> Table:
    return Table(
        *columns,
        title=_text(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _labels(data: Labels) -> Table:
    table = _titled(TITLE, "Labels", "Figure", "What, or whose")
    for row in data.rows:
        table.add_row(*(_text(words) for words in (row.name, said(row), row.meaning)))
    table.caption, table.caption_justify = _text(data.do), "left"
    return table


def _headline(data: ReportData) -> Text:
    parts = [_text(data.headline, "bold")]
    for figure in data.figures:
        line = _text(f"{figure.label}: ").append_text(_number(figure.value, figure.kind, inline=True))
        if figure.goal:
            reached = figure.goal.reached_by(figure.value)
            words = figure.goal.words(figure.value, figure.kind)
            line.append(f"  {words}", "green" if reached else "red")
        parts.append(line)
    return Text("\n").join(parts)


def _methods(split: str, rows: list[MethodRow], *, wide: bool) -> Table:
    table = _titled(split)
    table.add_column("Method", min_width=14)
    extra = list(dict.fromkeys(name for row in rows for name in row.more)) if wide else []
    for name in ("Win rate", *(column.heading for column in COLUMNS), *extra):
        table.add_column(_text(name), justify="right", no_wrap=True)
    for row in rows:
        cells = [_number(row.win_rate, "percent", chance=0.5) if row.win_rate else Text("baseline", "dim")]
        for column in COLUMNS:
            value = column.of(row)
            spread = wide or column.kind == "percent"
            cells.append(_number(value if spread else _middle(value), column.kind))
        cells += [_number(row.more.get(name), "number") for name in extra]
        table.add_row(_text(row.method), *cells)
    return table


def _controls(data: ReportData) -> Table:
    table = _titled("Controls", "Control", "Win rate", "Expected", "Outcome")
    for row in data.controls:
        outcome = Text("as expected", "green") if row.as_expected else Text("not as expected", "red")
        table.add_row(_text(row.name), _number(row.win_rate, "percent"), _text(row.expected), outcome)
    return table


def _findings(data: ReportData) -> Table:
    table = _titled("Data findings", "Source", "Finding")
    table.add_column("Count", justify="right")
    table.add_column("Done")
    for row in data.findings:
        table.add_row(_text(row.source), _text(row.kind), write(row.count, "count"), _text(row.action))
    return table


def _stages(data: ReportData) -> Table:
    table = _titled("Cost", "Stage")
    table.show_footer = True
    peaks = [row.peak_memory for row in data.stages if row.peak_memory is not None]
    table.columns[0].footer = "All stages"
    total = write(sum(row.seconds for row in data.stages), "seconds")
    table.add_column("Wall time", justify="right", footer=total)
    table.add_column("Memory so far", justify="right", footer=write(max(peaks), "bytes") if peaks else "–")
    for row in data.stages:
        memory = "–" if row.peak_memory is None else write(row.peak_memory, "bytes")
        table.add_row(_text(row.name), write(row.seconds, "seconds"), memory)
    return table


def _number(value: Number | str | None, kind: Kind, *, chance: float | None = None, inline: bool = False) -> Text:
    if value is None:
        return Text("–", "dim")
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, Interval):
        return Text(write(float(value), kind))
    style = _COLOURS[tone(value, chance)] if chance is not None else ""
    if inline:
        return Text(write(value.mean, kind)).append(f" ({bounds(value, kind)})", "dim")
    spread = f"{write(value.low, kind)}–{write(value.high, kind)}".replace("%–", "–")
    return Text(write(value.mean, kind), style).append(f"\n{spread}", "dim")


def _middle(value: Number | str | None) -> Number | str | None:
    return value.mean if isinstance(value, Interval) else value


def _text(value: str, style: str = "") -> Text:
    return Text(_CONTROL.sub("\ufffd", value), style)
