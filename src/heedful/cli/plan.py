"""`heedful plan STAGE`: what a stage will need of memory, before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heedful.cli.command import parse, print_json
from heedful.cli.stages import STAGES
from heedful.errors import HeedfulError, nearest

if TYPE_CHECKING:
    from heedful.pipeline.plan import Plan

NOTES = """The settings are those of the stage; --data and --out may be left out. Only configurations are read: no
weights, no data. docs/memory.md tells how the figures come about, and how far off they were."""
ASSUMED = {"data": "", "out": ""}


def plan(arguments: list[str]) -> int:
    """Print the plan of the stage that is named first."""
    stage, *rest = arguments or ["--help"]
    if stage not in STAGES:
        if stage in ("-h", "--help"):
            print(f"usage: heedful plan STAGE [OPTIONS]\n\n{NOTES}\n\nSTAGE is one of {', '.join(STAGES)}.")
            return 0
        mend = nearest(stage, list(STAGES)) or f"Name one of {', '.join(STAGES)}."
        raise HeedfulError(f"there is no stage {stage!r} to plan.", mend=mend)
    call = parse(STAGES[stage], f"plan {stage}", rest, notes=NOTES, assumed=ASSUMED)
    from heedful.pipeline.plan import plan as make

    made = make(stage, call.settings)
    if call.json:
        print_json(made.describe())
    else:
        _print(made)
    return 0


def _print(made: Plan) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from heedful.pipeline.plan import SHARE, gibibytes, shortage

    table = Table(box=None, padding=(0, 2, 0, 2))
    table.add_column("what", style="cyan")
    table.add_column("when")
    table.add_column("memory", justify="right")
    for need in made.needs:
        table.add_row(Text(need.what), need.when, gibibytes(need.bytes))
    table.add_section()
    table.add_row("at most at a time", f"always + {made.worst}", gibibytes(made.total), style="bold")
    if made.available is not None:
        table.add_row("available", f"{SHARE:.0%} is taken", gibibytes(made.available))
    console = Console()
    console.print(Text(f"{made.stage} on {made.device}", style="bold"))
    console.print(table)
    chosen = "chosen" if made.chosen else "as set"
    console.print(f"micro-batch: {made.micro_batch_tokens} tokens ({chosen})", highlight=False)
    for remark in made.remarks:
        console.print(Text(f"note: {remark}", style="yellow"), soft_wrap=True)
    if not made.fits:
        console.print(Text(f"does not fit: {shortage(made)}", style="bold red"), soft_wrap=True)
