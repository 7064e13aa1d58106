"""The report of refusals: how often safe requests are refused, against how often unsafe ones are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.data.records import Message
from heedful.evaluation.refusal_rates import RefusalReport
from heedful.pipeline.report_data import (
    Curve,
    Explanation,
    Forest,
    ForestRow,
    ReportData,
    SampleAnswer,
    SampleRow,
    Series,
)
from heedful.pipeline.run_folder import code_version


def report_data(found: Mapping[str, RefusalReport], source: str) -> ReportData:
    """The report as plain values: see `heedful.pipeline.report`.

    Args:
        found: by policy. source: which prompts these are.
    """
    judges = list(dict.fromkeys(name for report in found.values() for name in report.rates))
    first = next(iter(found.values()))
    return ReportData(
        title="Refusals",
        subtitle=f"{', '.join(found)} on {first.prompts} prompts of {source}, {first.samples} answers to each.",
        headline=" ".join(f"{name}: {report.rates[judges[0]].verdict}" for name, report in found.items()),
        forests=tuple(_forest(judge, found) for judge in judges),
        curves=tuple(_plane(judge, found) for judge in judges),
        curves_title="Safe against unsafe",
        curves_lead=True,
        explanations=(_reading(found),),
        samples=tuple(row for name, report in found.items() for row in _examples(name, report)),
        sample_note=f"The first safe requests that were refused and unsafe ones that were not, by {judges[0]}.",
        lineage={"heedful": code_version(), "python": sys.version.split()[0], "prompts": source},
    )


def over_training(rows: Sequence[Mapping[str, Any]]) -> ReportData:
    """The page of a run whose watch measured refusals (`pipeline.conservatism`): one against the other, and over steps.

    Args:
        rows: in order, the starting policy first.
    """
    first, last = rows[0], rows[-1]
    name = f"step {last['step']}"
    return ReportData(
        title="Conservatism through training",
        subtitle=f"{last['requests']} requests asked {len(rows)} times, refusals told by {last['by']}.",
        headline=said_of(first, last),
        curves=training_curves(rows),
        curves_title="Safe against unsafe",
        curves_lead=True,
        samples=tuple(
            SampleRow((Message("user", prompt),), "safe, and refused", (SampleAnswer(name, text, {}),))
            for prompt, text in last["over_refused"]
        ),
        sample_note="The first safe requests that the last policy refused.",
        lineage={"heedful": code_version(), "python": sys.version.split()[0]},
    )


def said_of(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """What became of refusals between two rows, in words that claim no more than their intervals allow."""
    told = []
    for name in ("safe", "unsafe"):
        before, after = first[name], last[name]
        apart = after["low"] > before["high"] or after["high"] < before["low"]
        figures = f"{before['mean']:.0%} to {after['mean']:.0%} of {name} requests"
        told.append(figures if apart else f"{figures} (no clear change)")
    return f"From step {first['step']} to step {last['step']} the policy went from refusing {', and '.join(told)}."


def training_curves(rows: Sequence[Mapping[str, Any]], group: str = "Refusals") -> tuple[Curve, ...]:
    """Refusal of unsafe against refusal of safe requests, a point for each row; and both over the steps."""
    safe, unsafe, steps = ([row[name] for row in rows] for name in ("safe", "unsafe", "step"))
    means, both = [row["mean"] for row in safe], [row["mean"] for row in unsafe]
    ends = [tuple((row["low"], row["high"]) for row in side) for side in (safe, unsafe)]
    plane = {
        "no difference made": Series((0.0, 1.0), (0.0, 1.0)),
        "the run": Series(tuple(means), tuple(both)),
        f"the start, step {steps[0]}": Series((means[0],), (both[0],), ends[1][:1]),
        f"the end, step {steps[-1]}": Series((means[-1],), (both[-1],), ends[1][-1:]),
    }
    over = {
        "unsafe requests": Series(tuple(map(float, steps)), tuple(both), ends[1]),
        "safe requests": Series(tuple(map(float, steps)), tuple(means), ends[0]),
    }
    note = "Up and to the left is good; on the line, safe and unsafe requests are treated alike."
    return (
        Curve(group, "Unsafe against safe", "safe requests refused", "unsafe requests refused", plane, note),
        Curve(group, "Refused over the run", "step", "share of requests", over),
    )


def _plane(judge: str, found: Mapping[str, RefusalReport]) -> Curve:
    """Refusal of unsafe requests (up is good) against refusal of safe ones (left is good)."""
    series = {"no difference made": Series((0.0, 1.0), (0.0, 1.0))}
    for name, report in found.items():
        rates = report.rates[judge]
        ends = ((rates.unsafe.low, rates.unsafe.high),)
        series[name] = Series((rates.safe.mean,), (rates.unsafe.mean,), ends)
    note = "Up and to the left is good; on the line, safe and unsafe requests are treated alike."
    return Curve(judge, "Unsafe against safe", "safe requests refused", "unsafe requests refused", series, note)


def _forest(judge: str, found: Mapping[str, RefusalReport]) -> Forest:
    rows = []
    for name, report in found.items():
        rates = report.rates[judge]
        rows += [ForestRow(f"{name}: unsafe", rates.unsafe, "good"), ForestRow(f"{name}: safe", rates.safe, "bad")]
    return Forest(f"Refused, by {judge}", "share of requests", tuple(rows), kind="percent")


def _reading(found: Mapping[str, RefusalReport]) -> Explanation:
    lines = []
    for name, report in found.items():
        for judge, rates in report.rates.items():
            types = [f"{kind} {_share(safe)} / {_share(unsafe)}" for kind, (safe, unsafe) in rates.by_type.items()]
            lines.append(f"{name}, by {judge}: refused of safe / of unsafe requests: {'; '.join(types)}.")
        if report.agreement is not None:
            lines.append(f"{name}: rules and judge say the same of {report.agreement:.1%} of answers.")
    return Explanation("By type of request", tuple(lines))


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.0%}"


def _examples(name: str, report: RefusalReport) -> list[SampleRow]:
    rows = [("safe, and refused", row) for row in report.over_refused]
    rows += [("unsafe, and not refused", row) for row in report.complied]
    return [
        SampleRow((Message("user", prompt),), title, (SampleAnswer(name, text, {}),)) for title, (prompt, text) in rows
    ]
