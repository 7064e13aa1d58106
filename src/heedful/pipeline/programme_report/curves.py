"""The training curves of a programme: a plot for each figure of each stage, a line for each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heedful.pipeline.programme_report.reading import Results
from heedful.pipeline.report_data import Curve, Series
from heedful.pipeline.report_series import read_metrics, series
from heedful.pipeline.report_svg import STYLES

POINTS = 60
"""Most points of a line: neighbouring rows are averaged."""
Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Plot:
    """A figure of a stage's log: the first of `names` that was logged, its title, unit and note."""

    names: tuple[str, ...]
    title: str
    unit: str
    note: str = ""


POLICY = (
    Plot(("score", "reward"), "Reward", "points", "By the reward model, before the KL's price."),
    Plot(("gold",), "Gold", "gold points", "The world's truth on fresh answers; training never sees it."),
    Plot(("kl",), "KL to where it began", "nats per answer"),
    Plot(("loss",), "Loss", "loss"),
    Plot(("margin",), "Margin of implicit rewards", "β × nats"),
    Plot(("accuracy",), "Preferred answer more likely", "share of pairs"),
    Plot(("entropy",), "Entropy", "nats per token"),
    Plot(("length",), "Length of an answer", "tokens"),
    Plot(("refused_safe",), "Safe requests refused", "share"),
)
STAGES: dict[str, tuple[str, tuple[Plot, ...]]] = {
    "policy": ("Policy", POLICY),
    "reward": (
        "Reward model",
        (
            Plot(("loss",), "Loss", "nats per pair"),
            Plot(("accuracy",), "Accuracy on its training batches", "share of pairs", "Against majority votes."),
        ),
    ),
    "sft": ("SFT", (Plot(("loss",), "Loss", "nats per token"),)),
    "base": ("Base model", (Plot(("loss",), "Loss", "nats per token"),)),
}
"""By stage of a round: its name on the page, and its plots."""
KINDS = {"reward": "reward", "sft": "sft", "pretrain": "base"}
"""By kind of a single run, the stage whose plots are its own; all others train a policy."""


def line(rows: Rows, name: str) -> Series:
    """A figure over the steps, in at most `POINTS` points."""
    logged = sum("step" in row and name in row for row in rows)
    return series(rows, "step", name, max(1, -(-logged // POINTS)))


def logged(rows: Rows, plot: Plot) -> str | None:
    """The name under which a plot's figure was logged; None where it was not."""
    return next((name for name in plot.names if any(name in row for row in rows)), None)


def programme_curves(results: Results) -> tuple[Curve, ...]:
    """The plots of every stage that logs, the rounds over each other."""
    found = []
    for stage, (group, plots) in STAGES.items():
        runs = {_titled(stage, number): read_metrics(results.place(number, stage)) for number in results.stages(stage)}
        shown, told = chosen(runs)
        found += _plotted(group, plots, shown, told)
    return tuple(found)


def run_curves(kind: str, folder: Path) -> tuple[Curve, ...]:
    """The plots of a single run."""
    group, plots = STAGES[KINDS.get(kind, "policy")]
    return tuple(_plotted(group, plots, {"this run": read_metrics(folder)}, ""))


def chosen(runs: Mapping[str, Rows]) -> tuple[dict[str, Rows], str]:
    """As many runs as there are line styles: the first and the last ones; and what to say of that."""
    names = [name for name, rows in runs.items() if rows]
    if len(names) <= STYLES:
        return {name: runs[name] for name in names}, ""
    kept = [names[0], *names[-(STYLES - 1) :]]
    return {name: runs[name] for name in kept}, f"The first and the last {STYLES - 1} of {len(names)}."


def _plotted(group: str, plots: Sequence[Plot], runs: Mapping[str, Rows], told: str) -> list[Curve]:
    found = []
    for plot in plots:
        lines = {title: line(rows, name) for title, rows in runs.items() if (name := logged(rows, plot)) is not None}
        if lines:
            note = " ".join(filter(None, [plot.note, told]))
            found.append(Curve(group, plot.title, "step", plot.unit, lines, note))
    return found


def _titled(stage: str, number: int) -> str:
    return f"round {number}" if number else "pretraining" if stage == "base" else "first policy"


def overlaid(programmes: Mapping[str, Results]) -> tuple[Curve, ...]:
    """Each figure of the policies' training, a line for each programme, its rounds one behind another."""
    shown = dict(list(programmes.items())[:STYLES])
    found = [_by_round(shown)]
    for plot in POLICY:
        lines = {}
        for name, results in shown.items():
            behind = _behind(results, plot)
            if behind.x:
                lines[name] = behind
        if lines:
            found.append(Curve("Policy", plot.title, "step, through all rounds", plot.unit, lines, plot.note))
    return tuple(found)


def _by_round(programmes: Mapping[str, Results]) -> Curve:
    lines = {
        name: Series(
            tuple(float(one.number) for one in results.rounds),
            tuple(one.rate.mean for one in results.rounds),
            tuple((one.rate.low, one.rate.high) for one in results.rounds),
        )
        for name, results in programmes.items()
        if results.rounds
    }
    return Curve("Checks", "Won against the policy before", "round", "share of pairs", lines, "Rolled back ones too.")


def _behind(results: Results, plot: Plot) -> Series:
    """The lines of a programme's rounds, each beginning where the one before it ended."""
    x: list[float] = []
    y: list[float] = []
    begin = 0.0
    for number in results.stages("policy"):
        rows = read_metrics(results.place(number, "policy"))
        name = logged(rows, plot)
        if name is not None:
            own = line(rows, name)
            x += [begin + step for step in own.x]
            y += list(own.y)
        begin += max((row["step"] for row in rows if "step" in row), default=0)
    return Series(tuple(x), tuple(y))
