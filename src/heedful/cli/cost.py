"""`heedful cost`: what a programme cost, by round and stage, and for each point that it won."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from heedful.cli.command import parse, print_json

if TYPE_CHECKING:
    from heedful.pipeline.costs import ProgrammeCosts, Spent

NOTES = """Energy is an estimate: (processor seconds x cost.watts_per_core of the recipe + joules that the GPU's driver
counted) / 3600, in watt-hours. A point is a percentage point of the win rate above one half."""
COLUMNS = ("time", "processor", "GPU", "energy", "people", "pay", "AI requests")


@dataclass(frozen=True)
class CostConfig:
    """What a programme cost so far: people's hours and pay, AI judges' requests, the machine's time and energy."""

    folder: tyro.conf.Positional[Path] = Path()
    """The programme's folder."""


def cost(arguments: list[str]) -> int:
    """Parse the settings and tell."""
    call = parse(CostConfig, "cost", arguments, notes=NOTES)
    from heedful.pipeline.costs import programme_costs

    found = programme_costs(call.settings.folder)
    print_json(as_dict(found)) if call.json else show(found)
    return 0


def as_dict(found: ProgrammeCosts) -> dict[str, Any]:
    """Costs as JSON: the records, and what they come to."""
    rounds = [
        {
            "number": one.number,
            "promoted": one.promoted,
            "spent": asdict(one.spent),
            "stages": [asdict(stage) for stage in one.stages],
            "gains": [{**asdict(gain), "points": gain.points, "per_point": one.per_point(gain)} for gain in one.gains],
        }
        for one in found.rounds
    ]
    return {
        "folder": found.folder,
        "watts_per_core": found.watts_per_core,
        "total": asdict(found.total),
        "rounds": rounds,
        "ledgers": [asdict(one) for one in found.ledgers],
        "unmeasured": found.unmeasured,
        "won": {by: {"points": found.won(by), "per_point": found.per_point(by)} for by in found.judged_by},
    }


def show(found: ProgrammeCosts) -> None:
    """A table of rounds and stages, then what a point cost."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    console.print(_table(found))
    for line in lines(found):
        console.print(Text(line), soft_wrap=True)


def _table(found: ProgrammeCosts) -> Any:
    """Stages, rounds and ledgers, a row each; columns that hold nothing are left out."""
    from rich.table import Table
    from rich.text import Text

    rows: list[tuple[str, str, list[str]]] = []
    for one in found.rounds:
        for stage in one.stages:
            name = f"  {stage.number}/{stage.stage}" + ("" if stage.done else " (so far)")
            rows.append((name, "", row(stage.spent, measured=stage.measured)))
        rows.append((f"round {one.number}", "cyan", row(one.spent)))
    rows += [(f"  {ledger.path}", "", row(ledger.spent)) for ledger in found.ledgers]
    rows.append(("all", "bold", row(found.total)))
    filled = [at for at in range(len(COLUMNS)) if any(cells[at] for _, _, cells in rows)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("stage", *(COLUMNS[at] for at in filled)):
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    for name, style, cells in rows:
        table.add_row(Text(name, style=style), *(cells[at] for at in filled))
    return table


def lines(found: ProgrammeCosts) -> list[str]:
    """What a point cost in each round and in all, and what the figures leave open, a line each."""
    said = []
    for one in found.rounds:
        for gain in one.gains:
            low, high = (100 * (end - 0.5) for end in (gain.low, gain.high))
            each = one.per_point(gain)
            so = f"a point cost {told(each)}" if each else "no point was won"
            won = f"round {one.number} won {gain.points:+.1f} points by {gain.by} [{low:+.1f}, {high:+.1f}]"
            said.append(f"{won}; {so}.")
    for by in found.judged_by:
        each = found.per_point(by)
        if each is not None:
            won = f"The rounds that were kept won {found.won(by):.1f} points by {by}"
            said.append(f"{won}; of all that was spent a point cost {told(each)}.")
    open_now = [one.path for one in found.ledgers if one.in_use]
    if open_now:
        said.append(f"A run has {', '.join(open_now)} open just now: what it takes is not counted.")
    if found.unmeasured:
        said.append(f"Made before costs were written down, with their time alone: {', '.join(found.unmeasured)}.")
    if found.watts_per_core:
        watts = " or ".join(f"{one:g}" for one in found.watts_per_core)
        said.append(f"Energy is an estimate: {watts} W for a busy core (cost.watts_per_core), and what GPUs counted.")
    return said


def row(spent: Spent, *, measured: bool = True) -> list[str]:
    """The cells of a row; what is nothing is left empty."""
    pay = ", ".join(f"{value:.2f} {currency}" for currency, value in spent.rater_money.items())
    people = f"{spent.rater_hours:.2f} h" if spent.rater_judgments or spent.rater_hours else ""
    asked = f"{spent.judge_requests} ({spent.judge_money:.2f})" if spent.judge_requests else ""
    gpu = energy(spent.gpu_joules / 3600) if spent.gpu_joules else ""
    if not measured:
        return [seconds(spent.wall_seconds), "?", "", "?", people, pay, asked]
    return [seconds(spent.wall_seconds), seconds(spent.cpu_seconds), gpu, energy(spent.energy_wh), people, pay, asked]


def seconds(value: float) -> str:
    """A time for people."""
    if value >= 2 * 3600:
        return f"{value / 3600:.1f} h"
    return f"{value / 60:.1f} min" if value >= 120 else f"{value:.1f} s"


def energy(watt_hours: float) -> str:
    """Energy for people."""
    for size, unit in ((1000.0, "kWh"), (1.0, "Wh")):
        if watt_hours >= size:
            return f"{watt_hours / size:.2f} {unit}"
    return f"{1000 * watt_hours:.2f} mWh"


def told(each: Mapping[str, Any]) -> str:
    """What a point cost, in words."""
    parts = [f"{energy(each['energy_wh'])}"] if "energy_wh" in each else []
    parts += [f"{seconds(each['cpu_seconds'])} of a processor"] if "cpu_seconds" in each else []
    parts += [f"{each['rater_hours']:.2f} hours of people"] if "rater_hours" in each else []
    parts += [f"{each['rater_judgments']:.1f} of their judgments"] if "rater_judgments" in each else []
    parts += [f"{value:.2f} {currency}" for currency, value in each.get("rater_money", {}).items()]
    parts += [f"{each['judge_requests']:.1f} requests to AI judges"] if "judge_requests" in each else []
    parts += [f"{each['judge_money']:.2f} for them"] if "judge_money" in each else []
    return ", ".join(parts) or "nothing that was measured"
