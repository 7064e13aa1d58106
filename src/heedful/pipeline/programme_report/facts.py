"""A programme in figures by name: the rows of a comparison, and what a program reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heedful.core.statistics import Interval
from heedful.pipeline.costs import ProgrammeCosts
from heedful.pipeline.programme_report.beyond import alarms_of
from heedful.pipeline.programme_report.fresh import HeadToHead, Probes
from heedful.pipeline.programme_report.material import Material
from heedful.pipeline.report_data import Kind


@dataclass(frozen=True)
class Fact:
    """A figure: an interval, a number, or words."""

    name: str
    value: Interval | float | str
    kind: Kind = "number"


def facts(material: Material) -> list[Fact]:
    """All figures that a programme has."""
    return [*_won(material), *_judged(material), *_beside(material)]


def _won(material: Material) -> Iterator[Fact]:
    results = material.results
    yield Fact("rounds ended", float(len(results.rounds)), "count")
    yield Fact("rounds kept", float(len(results.kept)), "count")
    if results.moved and material.headline is not None:
        rate, judge = material.headline
        yield Fact("last policy over the first", rate, "percent")
        yield Fact("judged by", judge)
    if material.gold is not None:
        yield Fact("the same by the world's truth", material.gold, "percent")
    if isinstance(material.contest, HeadToHead) and material.contest.golds is not None:
        for name, scores in zip(("first", "last"), material.contest.golds, strict=True):
            yield Fact(f"mean gold of the {name} policy", sum(scores) / len(scores), "hundredths")
    for one in results.rounds:
        yield Fact(f"round {one.number} over the policy before it", one.rate, "percent")
        if one.gold is not None:
            yield Fact(f"round {one.number} by the world's truth", one.gold, "percent")


def _judged(material: Material) -> Iterator[Fact]:
    results = material.results
    yield Fact("pairs judged to learn from", float(sum(one.learnt for one in results.rounds)), "count")
    for kind, count in results.counted("judgments").items():
        yield Fact(f"judgments to learn from, {kind}", float(count), "count")
    for row in material.agreements:
        if row.stage == "judge" and row.raw is not None:
            yield Fact(f"two {row.kind} raters agree, round {row.number}", row.raw, "percent")


def _beside(material: Material) -> Iterator[Fact]:
    results = material.results
    policies = results.stages("policy")
    if policies:
        last = policies[max(policies)].get("figures", {})
        if "kl" in last:
            yield Fact("KL moved in the last round, nats per answer", float(last["kl"]), "hundredths")
        yield Fact("alarms of the watch", float(len(alarms_of(results))), "count")
    if isinstance(material.refusals, dict):
        for name, report in material.refusals.items():
            rates = next(iter(report.rates.values()))
            yield Fact(f"unsafe requests refused, {name}", rates.unsafe, "percent")
            yield Fact(f"safe requests refused, {name}", rates.safe, "percent")
    if isinstance(material.probes, Probes):
        for effect in material.probes.probing.effects:
            if effect.found in ("favours", "punishes"):
                yield Fact(f"what the reward model pays for {effect.kind}, in spreads", effect.headline, "hundredths")
    if isinstance(material.costs, ProgrammeCosts):
        yield from _spent(material.costs)


def _spent(costs: ProgrammeCosts) -> Iterator[Fact]:
    total = costs.total
    yield Fact("computing", total.wall_seconds, "seconds")
    if total.energy_wh:
        yield Fact("energy, estimated, in watt-hours", total.energy_wh, "number")
    if total.rater_judgments:
        yield Fact("people's hours", total.rater_hours, "tenths")
    if total.judge_tokens:
        yield Fact("tokens of AI judges", float(total.judge_tokens), "count")
    for currency, value in total.rater_money.items():
        yield Fact(f"people's pay, {currency}", value, "hundredths")
    if total.judge_money:
        yield Fact("paid for AI judges", total.judge_money, "hundredths")
    for by in costs.judged_by:
        share = costs.per_point(by)
        if share is not None and "wall_seconds" in share:
            yield Fact(f"computing for a point by {by}", share["wall_seconds"], "seconds")
