"""An agreement report on the terminal."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heedful.cli.agreement_sections import NOTHING, Cell, Kind, Part, headline, parts
from heedful.core.statistics import Interval
from heedful.feedback.reliability import Reliability

MOST = 12
"""Rows of a table."""
WIDE = 140
"""Columns of a terminal from which tables show all that they have."""
ADVICE = "What to do"
LEFT_OUT = {
    "raters": ("What stands out", ADVICE, "With self", "Time", "First shown"),
    "agreement": (ADVICE,),
    "attributes": (ADVICE,),
}
"""Columns that a narrow terminal does without; advice then stands beneath the table."""


def show(found: Reliability) -> None:
    """Print everything."""
    console = Console()
    console.print(_safe(headline(found)), style="bold")
    for part in parts(found):
        console.print()
        console.print(_safe(part.title), style="bold cyan")
        for index, sentence in enumerate(filter(None, part.do)):
            console.print(_safe(sentence), style="green" if index == 0 else "")
        console.print(_table(part, console.width))
        if len(part.rows) > MOST:
            console.print(f"{len(part.rows) - MOST} more rows with --html or --json.", style="dim", highlight=False)
        if console.width < WIDE:
            for line in _beneath(part):
                console.print(_safe(line))
        if part.caption:
            console.print(_safe(part.caption), style="dim")
    for note in found.notes:
        console.print()
        console.print(_safe(note), style="yellow")


def _beneath(part: Part) -> list[str]:
    """What a narrow table has no room for, a line each: advice on all but the first, which stands above."""
    if part.name == "raters":
        return [f"{row[0]}: {row[1]} {row[2]}" for row in part.rows[:MOST] if row[1] != NOTHING]
    if ADVICE not in LEFT_OUT.get(part.name, ()):
        return []
    return [f"{row[0]}: {row[-1]}" for row in part.rows[1 if part.name == "agreement" else 0 : MOST]]


def _table(part: Part, width: int) -> Table:
    out = LEFT_OUT.get(part.name, ()) if width < WIDE else ()
    kept = [index for index, head in enumerate(part.heads) if head not in out]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index in kept:
        text = part.kinds[index] == "text"
        table.add_column(part.heads[index], justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for row in part.rows[:MOST]:
        table.add_row(*(_safe(written(row[index], part.kinds[index])) for index in kept))
    return table


def written(cell: Cell, kind: Kind) -> str:
    """A cell as text: "72% [68, 76]", "0.41 [0.35, 0.47]", "1,200"."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Interval):
        if math.isnan(cell.mean):
            return "not defined"
        middle = written(cell.mean, kind)
        if math.isnan(cell.low) or math.isnan(cell.high):
            return middle
        if kind == "percent":
            return f"{middle} [{100 * cell.low:.0f}, {100 * cell.high:.0f}]"
        return f"{middle} [{_number(cell.low, kind)}, {_number(cell.high, kind)}]"
    if kind == "percent":
        return f"{cell:.0%}"
    return f"{cell:,.0f}" if kind == "count" else _number(cell, kind)


def _number(value: float, kind: Kind) -> str:
    return f"{value:+.2f}" if kind == "gap" else f"{value:.2f}"


def _safe(words: str) -> Text:
    """Text without markup and without control codes: names of batches and groups are other people's."""
    return Text("".join(c if c.isprintable() else "\ufffd" for c in words))
