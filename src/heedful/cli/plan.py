"""`heedful plan STAGE`: what a stage will need of memory, before it runs; with --gpus, on GPUs that are not at hand."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from heedful.cli.command import parse, print_json
from heedful.cli.stages import STAGES
from heedful.errors import HeedfulError, nearest
from heedful.training.config.cluster import ClusterConfig

if TYPE_CHECKING:
    from rich.table import Table

    from heedful.pipeline.cluster_plan import ClusterPlan
    from heedful.pipeline.plan import Need, Plan

NOTES = """The settings are those of the stage; --data and --out may be left out. Only configurations are read: no
weights, no data. docs/memory.md tells how the figures come about, and how far off they were. With --gpus 8xH200 the
plan is of those GPUs: memory of each, time of a step, traffic (docs/scale.md)."""
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
    call = parse(planned(STAGES[stage]), f"plan {stage}", rest, notes=NOTES, assumed=ASSUMED)
    cluster: ClusterConfig = call.settings.cluster
    made: Any
    show: Any = _print
    if cluster.gpus is None:
        from heedful.pipeline.plan import plan as make

        made = make(stage, call.settings)
    else:
        from heedful.pipeline.plan_cluster import plan_cluster

        made, show = plan_cluster(stage, call.settings, cluster), _print_cluster
    if call.json:
        print_json(made.describe())
    else:
        show(made)
    return 0


def planned(stage: type[Any]) -> type[Any]:
    """A stage's settings with one block more, of the GPUs that are planned for."""
    cluster = ("cluster", ClusterConfig, dataclasses.field(default=ClusterConfig()))
    made = dataclasses.make_dataclass(stage.__name__, [cluster], bases=(stage,), frozen=True)
    made.__doc__ = stage.__doc__
    return made


def _table(needs: tuple[Need, ...]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from heedful.pipeline.plan import gibibytes

    table = Table(box=None, padding=(0, 2, 0, 2))
    table.add_column("what", style="cyan")
    table.add_column("when")
    table.add_column("memory", justify="right")
    for need in needs:
        table.add_row(Text(need.what), need.when, gibibytes(need.bytes))
    table.add_section()
    return table


def _print(made: Plan) -> None:
    from rich.console import Console
    from rich.text import Text

    from heedful.pipeline.plan import SHARE, gibibytes, shortage

    table = _table(made.needs)
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


def _print_cluster(made: ClusterPlan) -> None:
    from rich.console import Console
    from rich.text import Text

    from heedful.pipeline.cluster_plan import SHARE
    from heedful.pipeline.plan import gibibytes
    from heedful.pipeline.plan_cluster import lacking

    table = _table(made.needs)
    table.add_row("at most at a time", f"always + {made.worst}", gibibytes(made.total), style="bold")
    table.add_row("of each GPU", f"{SHARE:.0%} is taken", gibibytes(made.memory))
    console = Console()
    console.print(Text(f"{made.stage} on {made.gpus}, {made.layout}", style="bold"))
    sizes = ", ".join(f"{name} {size / 1e9:.3f}B" for name, size in made.parameters.items())
    console.print(Text(f"weights: {sizes}"), soft_wrap=True)
    console.print(table)
    rows = f"{made.rows} x {made.width} tokens"
    console.print(f"micro-batch of a GPU: {made.micro_batch_tokens} tokens ({rows})", highlight=False)
    if made.phases is not None:
        _print_times(made, console)
    for remark in made.remarks:
        console.print(Text(f"note: {remark}", style="yellow"), soft_wrap=True)
    if not made.fits:
        console.print(Text(f"does not fit: {lacking(made)}", style="bold red"), soft_wrap=True)


def _print_times(made: ClusterPlan, console: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    assert made.phases is not None
    assert made.seconds is not None
    assert made.traffic is not None
    table = Table(box=None, padding=(0, 2, 0, 2))
    table.add_column("of a step", style="cyan")
    for name in ("device s", "wires s", "sent"):
        table.add_column(name, justify="right")
    for one in made.phases:
        table.add_row(Text(one.what), f"{one.arithmetic:.2f}", f"{one.wires:.2f}", f"{one.traffic / 1e9:.1f} GB")
    table.add_section()
    table.add_row("a step", f"{made.seconds:.2f}", "", f"{made.traffic / 1e9:.1f} GB", style="bold")
    console.print(table)
    console.print(f"a day: {made.per_day:,.0f} {made.unit}", highlight=False)
    if made.cost_per_1000 is not None:
        console.print(f"1,000 of them cost {made.cost_per_1000:,.3f}", highlight=False)
