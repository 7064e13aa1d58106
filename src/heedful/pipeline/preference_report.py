"""The report of a run on preferences: where the log-probabilities went, and whether that is a cause for worry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heedful.pipeline.report_data import Curve, Explanation, Figure, Labels, ReportData, Series, write

STILL = 0.05
"""Nats per answer below which a log-probability counts as unmoved."""

LAST = 0.1
"""Share of the steps, at the end and at the beginning, that a figure is the mean of."""

REMEDIES = (
    "If the chosen answers are good enough to imitate, their fall can be held: add a likelihood term "
    "(--loss 'sigmoid + 0.2*sft'), take a loss that sets the chosen answer a goal of its own (apo-zero) or stops at a "
    "finite margin (ipo), raise --beta, or train fewer steps. If they are merely the better of two poor answers, the "
    "fall is right: the run moves away from both."
)


@dataclass(frozen=True)
class Movement:
    """How far the log-probabilities of the preferred and of the other answers moved, in nats per answer."""

    chosen: float
    rejected: float

    @property
    def margin(self) -> float:
        """What the run won between the two."""
        return self.chosen - self.rejected

    @property
    def pushed_down(self) -> float:
        """The share of the margin that was won by pushing the rejected answers down, from 0 to 1."""
        return min(1.0, max(0.0, -self.rejected / self.margin)) if self.margin > 0 else 0.0


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def movement(rows: Sequence[Mapping[str, float]], beta: float, *, against_start: bool) -> Movement | None:
    """The movement over a run, from its metrics; None where a label never came up.

    Args:
        beta: what implicit rewards were multiplied by.
        against_start: rewards are measured against the policy at its start, which frees them of which records a batch
            happened to hold. Otherwise the first steps' log-probabilities are compared with the last ones'.
    """
    moved = []
    for side in ("chosen", "rejected"):
        name = f"{side}_reward" if against_start else f"{side}_logprob"
        values = [row[name] for row in rows if name in row]
        if not values:
            return None
        count = max(1, round(LAST * len(values)))
        end = sum(values[-count:]) / count
        moved.append(end / beta if against_start else end - sum(values[:count]) / count)
    return Movement(*moved)


def explain(moved: Movement) -> Explanation:
    """Which case of "the chosen log-prob falls" a run is, in plain words."""
    chosen, rejected, margin = (_nats(value) for value in (moved.chosen, moved.rejected, moved.margin))
    figures = (
        f"Over the run the log-probability of a preferred answer moved by {chosen}, that of the other one by "
        f"{rejected}: a margin of {margin}."
    )
    share = write(moved.pushed_down, "percent")
    if moved.margin <= STILL:
        case = (
            "The run did not tell the answers apart: the margin did not grow. Look at the learning rate and the data."
        )
        return Explanation("The margin did not grow", (figures, case))
    if moved.chosen >= STILL:
        down = f"{share} of the margin was won by pushing the rejected answers down."
        case = f"The preferred answers became more likely, which is what one hopes for. {down}"
        return Explanation("The chosen log-prob rises", (figures, case))
    if moved.chosen > -STILL:
        case = f"The preferred answers stayed as likely as they were; {share} of the margin came from the others' fall."
        return Explanation("The chosen log-prob stays", (figures, case))
    case = (
        "Both fell, and the rejected answers fell further: all of the margin was won by pushing down. This is usual "
        "under relative losses such as DPO's. They ask only for the difference of the two, and answers that share "
        "most of their words fall together; the probability goes to answers that are in no pair."
    )
    return Explanation("The chosen log-prob falls", (figures, case, REMEDIES))


def preference_report(
    title: str,
    rows: Sequence[Mapping[str, float]],
    beta: float,
    *,
    against_start: bool,
    labels: Labels | None = None,
) -> ReportData:
    """The report of a run from its metrics, a row a step, and from what its labels are worth."""
    moved = movement(rows, beta, against_start=against_start)
    last = rows[-1]
    figures = []
    if moved is not None:
        figures += [
            Figure("Preferred answers", moved.chosen, "hundredths", "log-prob gained, nats per answer"),
            Figure("Other answers", moved.rejected, "hundredths", "log-prob gained, nats per answer"),
            Figure("Won by pushing down", moved.pushed_down, "percent", "share of the margin"),
        ]
    if "held_out_accuracy" in last:
        figures.append(Figure("Held-out accuracy", last["held_out_accuracy"], "percent", chance=0.5))
    explained = () if moved is None else (explain(moved),)
    return ReportData(
        title,
        f"{len(rows)} steps",
        explained[0].paragraphs[0] if explained else "",
        tuple(figures),
        explanations=explained,
        curves=tuple(_curves(rows, against_start)),
        labels=labels,
    )


def _curves(rows: Sequence[Mapping[str, float]], against_start: bool) -> list[Curve]:
    since = "log pi/ref times beta: what each answer gained over the reference" if against_start else ""
    plots = (
        ("Log-probabilities", "nats per answer", ("chosen_logprob", "rejected_logprob"), ""),
        ("Implicit rewards", "reward", ("chosen_reward", "rejected_reward"), since),
        ("Margin", "reward", ("margin", "held_out_margin"), ""),
        ("Accuracy", "share", ("accuracy", "held_out_accuracy"), ""),
        ("Loss", "loss", ("loss", "held_out_loss"), ""),
    )
    curves = []
    for name, unit, keys, note in plots:
        series = {}
        for key in keys:
            points = [(float(row["step"]), row[key]) for row in rows if key in row]
            if points:
                series[key.replace("_", " ")] = Series(*(tuple(part) for part in zip(*points, strict=True)))
        if series:
            curves.append(Curve("dpo", name, "step", unit, series, note))
    return curves


def _nats(value: float) -> str:
    return f"{'+' if value > 0 else ''}{write(value, 'hundredths')} nats"
