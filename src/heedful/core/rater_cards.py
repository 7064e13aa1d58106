"""A plain-language card for each rater: what their judgments show, what to do about it, and when that cannot be said.

Cards point, they do not punish: nothing here takes a judgment out of the data. P-values of all raters are corrected
together (Benjamini and Hochberg), so that among a thousand careful raters hardly one is pointed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core import rater_statistics
from heedful.core.codes import coded
from heedful.core.multiplicity import adjusted
from heedful.core.statistics import Interval, wilson
from heedful.errors import Sentence

Floats: TypeAlias = NDArray[np.float64]
Weight: TypeAlias = Literal["act", "look", "fine", "few"]
"""Do something now; look closer; nothing stands out; too few judgments to say."""
SURE = 0.01
"""Adjusted p-value at or below which something is pointed at."""
FEW = 10
"""Judgments below which nothing is said of a habit."""


@dataclass(frozen=True)
class Judged:
    """Ordinary judgments in long form, one row each; a column that is not known is nan throughout."""

    item: NDArray[Any]
    rater: NDArray[Any]
    value: NDArray[Any]
    """What was said of the item, in the item's own terms."""
    when: Floats
    """Seconds since any moment."""
    seconds: Floats
    """Active time."""
    stratum: NDArray[Any]
    """The kind of work, for comparing times."""
    prefers_first: Floats
    """1, 0, or nan: a tie, or no comparison."""
    options: NDArray[np.int64]
    """How many values there were to choose among, ties aside: what a guess would have to hit."""


@dataclass(frozen=True)
class Gold:
    """Answers to items whose right answer is known, one row each."""

    rater: NDArray[Any]
    passed: NDArray[Any]
    when: Floats


@dataclass(frozen=True)
class Repeats:
    """Items that a rater judged twice, one row each."""

    rater: NDArray[Any]
    first: NDArray[Any]
    again: NDArray[Any]


@dataclass(frozen=True)
class Measured:
    """A share with how many cases it is over."""

    share: Interval
    of: int


@dataclass(frozen=True)
class Finding:
    """One thing that stands out, and what to do."""

    about: str
    """gold, others, self, speed, runs, position, drift."""
    weight: Weight
    says: str
    do: str


@dataclass(frozen=True)
class RaterCard:
    """What is known of one rater. None: not measured."""

    rater: Any
    judgments: int
    weight: Weight
    """The gravest of the findings'."""
    do: str
    """The one thing to do next."""
    gold: Measured | None = None
    others: Measured | None = None
    self_consistency: Measured | None = None
    speed_factor: float | None = None
    """Median time over that of others at the same work."""
    hasty: float | None = None
    """Share of judgments in under a quarter of the usual time."""
    first_shown: Measured | None = None
    longest_run: rater_statistics.Runs | None = None
    drift: rater_statistics.Drift | None = None
    findings: tuple[Finding, ...] = field(default=())


def cards(
    judged: Judged, gold: Gold | None = None, repeats: Repeats | None = None, *, gold_floor: float = 0.7
) -> list[RaterCard]:
    """A card for each rater, those to act on first, then those with most judgments.

    Pointed at is: gold accuracy whose whole 98% interval lies below the floor; fewer agreements with the others'
    plurality than the crowd has (to be acted on where a guess would have more); less consistency with
    oneself than the crowd has; a median time under half of the others' and three robust deviations away; the same
    place preferred in a longer row than a shuffle has; a place preferred more often than the other; fewer hits (on
    gold, else with others) as time goes on. Each beyond chance at an adjusted p of 0.01, with ten judgments or more.

    Args:
        judged: first judgments of ordinary items, one of each rater and item.
        gold: answers to gold.
        repeats: second judgments.
        gold_floor: accuracy that is asked for.

    Raises:
        ValueError: columns that differ in length.
    """
    names = np.unique(np.concatenate([judged.rater, *(one.rater for one in (gold, repeats) if one is not None)]))
    place = {name: index for index, name in enumerate(names.tolist())}
    evidence: list[dict[str, Any]] = [{} for _ in place]
    count = np.zeros(len(names), dtype=np.int64)
    for name, own in zip(*np.unique(judged.rater, return_counts=True), strict=True):
        count[place[name.item()]] = own
    others = rater_statistics.with_others(judged.item, judged.rater, judged.value)
    _others(judged, others, place, evidence)
    _times(judged, place, evidence)
    _places(judged, place, evidence)
    if gold is not None:
        _gold(gold, place, evidence, gold_floor)
    if repeats is not None:
        _repeats(repeats, place, evidence)
    _drifts(judged, others.row, gold, place, evidence)
    made = [_card(name, int(count[index]), evidence[index]) for name, index in place.items()]
    order = {"act": 0, "look": 1, "fine": 2, "few": 3}
    return sorted(made, key=lambda card: (order[card.weight], -card.judgments))


def _card(name: Any, judgments: int, found: Mapping[str, Any]) -> RaterCard:
    findings = tuple(sorted(found.get("findings", ()), key=lambda one: one.weight != "act"))
    fields = {key: value for key, value in found.items() if key not in ("findings", "hits")}
    if findings:
        return RaterCard(name, judgments, findings[0].weight, findings[0].do, findings=findings, **fields)
    known = [one.of for key in ("gold", "others") if (one := found.get(key)) is not None]
    if max(known, default=0) < FEW:
        do = Sentence("Too few judgments to compare: give this rater items that others judge too, or gold.")
        return RaterCard(name, judgments, "few", do, **fields)
    return RaterCard(name, judgments, "fine", Sentence("Nothing stands out: carry on."), **fields)


def _point(evidence: dict[str, Any], about: str, weight: Weight, says: str, do: str) -> None:
    evidence.setdefault("findings", []).append(Finding(about, weight, says, do))


def _measured(hits: float, of: int) -> Measured | None:
    return Measured(wilson(hits, of), of) if of > 0 else None


def _others(
    judged: Judged, found: rater_statistics.WithOthers, place: Mapping[Any, int], evidence: list[dict[str, Any]]
) -> None:
    p = adjusted(np.where(found.compared >= FEW, found.p, np.nan))
    crowd = found.agreed.sum() / max(1, found.compared.sum())
    chances = np.where(found.row >= 0, 1 / judged.options, 0.0)
    guesses = np.bincount(np.searchsorted(found.names, judged.rater), weights=chances, minlength=len(found.names))
    rows = zip(found.names.tolist(), found.agreed, found.compared, p, guesses, strict=True)
    for name, agreed, of, chance, guess in rows:
        own = evidence[place[name]]
        own["others"] = measured = _measured(int(agreed), int(of))
        if measured is None or not chance <= SURE:
            continue
        if wilson(int(agreed), int(of), level=0.998).high < guess / of:
            _point(
                own,
                "others",
                "act",
                Sentence(
                    "Agrees with the others less often than a guess would ({share:.0%}; all raters {crowd:.0%}).",
                    share=measured.share.mean,
                    crowd=crowd,
                ),
                Sentence("Talk to them now: do they mix up the answers, or read the rubric the other way round?"),
            )
        else:
            _point(
                own,
                "others",
                "look",
                Sentence(
                    "Agrees with the others less than chance explains ({share:.0%}; all raters {crowd:.0%}).",
                    share=measured.share.mean,
                    crowd=crowd,
                ),
                Sentence("Different is not wrong: read some of their items with them, and give them gold."),
            )


def _times(judged: Judged, place: Mapping[Any, int], evidence: list[dict[str, Any]]) -> None:
    found = rater_statistics.speed(judged.rater, judged.seconds, judged.stratum)
    rows = zip(found.names.tolist(), found.factor, found.z, found.hasty, found.judgments, strict=True)
    for name, factor, z, hasty, count in rows:
        own = evidence[place[name]]
        own["speed_factor"], own["hasty"] = float(factor), float(hasty)
        if count >= FEW and factor < 0.5 and z < -3:
            _point(
                own,
                "speed",
                "look",
                Sentence("Takes {factor:.0%} of the time that others take for the same work.", factor=float(factor)),
                Sentence(
                    "Check their gold and a few of their reasons: quick and right is fine, quick and careless is not."
                ),
            )


def _places(judged: Judged, place: Mapping[Any, int], evidence: list[dict[str, Any]]) -> None:
    found = rater_statistics.first_shown(judged.rater, judged.prefers_first)
    p = adjusted(np.where(found.decided >= FEW, found.p, np.nan))
    for name, first, of, chance in zip(found.names.tolist(), found.first, found.decided, p, strict=True):
        own = evidence[place[name]]
        own["first_shown"] = measured = _measured(int(first), int(of))
        if measured is not None and chance <= SURE:
            share = measured.share.mean
            says = (
                Sentence("Prefers what is shown first in {share:.0%} of comparisons.", share=share)
                if share > 0.5
                else Sentence("Prefers what is shown second in {share:.0%} of comparisons.", share=1 - share)
            )
            do = Sentence("Ask for shorter sessions, and that both answers are read to the end before choosing.")
            if max(share, 1 - share) >= 0.9:
                do = Sentence("Talk to them now: nearly every answer goes to one place, whatever is in it.")
            _point(own, "position", "act" if max(share, 1 - share) >= 0.9 else "look", says, do)
    runs = {}
    for name, rows in _rows_of(judged.rater, judged.when):
        sides = judged.prefers_first[rows]
        sides = sides[~np.isnan(sides)]
        if len(sides) >= FEW:
            runs[name] = rater_statistics.longest_run(sides)
    for (name, run), chance in zip(runs.items(), adjusted([one.p for one in runs.values()]), strict=True):
        own = evidence[place[name]]
        own["longest_run"] = run
        if chance <= SURE:
            _point(
                own,
                "runs",
                "look",
                Sentence(
                    "Chose the same place {longest} times in a row, which a shuffle of their answers hardly has.",
                    longest=run.longest,
                ),
                Sentence("Look at the items of that stretch: somebody may have pressed one key to get through."),
            )


def _gold(gold: Gold, place: Mapping[Any, int], evidence: list[dict[str, Any]], floor: float) -> None:
    names, who = coded(np.asarray(gold.rater))
    right = np.bincount(who, weights=np.asarray(gold.passed, dtype=np.float64), minlength=len(names))
    for name, hits, of in zip(names.tolist(), right, np.bincount(who, minlength=len(names)), strict=True):
        own = evidence[place[name]]
        own["gold"] = measured = _measured(float(hits), int(of))
        if wilson(float(hits), int(of), level=0.98).high < floor and measured is not None:
            _point(
                own,
                "gold",
                "act",
                Sentence(
                    "Right on {share:.0%} of {of} gold items; {floor:.0%} is asked for.",
                    share=measured.share.mean,
                    of=measured.of,
                    floor=floor,
                ),
                Sentence("Pause them and go through the failed gold together; then a calibration session."),
            )


def _repeats(repeats: Repeats, place: Mapping[Any, int], evidence: list[dict[str, Any]]) -> None:
    found = rater_statistics.with_self(repeats.rater, repeats.first, repeats.again)
    rest, of_rest = found.same.sum() - found.same, found.repeated.sum() - found.repeated
    rate = np.divide(rest, of_rest, out=np.full(len(rest), np.nan), where=of_rest > 0)
    p = rater_statistics.binomial_below(found.same, found.repeated, rate)
    p = adjusted(np.where(found.repeated >= FEW, p, np.nan))
    for name, same, of, chance in zip(found.names.tolist(), found.same, found.repeated, p, strict=True):
        own = evidence[place[name]]
        own["self_consistency"] = measured = _measured(int(same), int(of))
        if measured is not None and chance <= SURE:
            _point(
                own,
                "self",
                "look",
                Sentence(
                    "Says the same of an item shown again in only {share:.0%} of cases.", share=measured.share.mean
                ),
                Sentence("Nobody agrees with others more than with themselves: go through the rubric with them."),
            )


def _drifts(
    judged: Judged,
    others: NDArray[np.int64],
    gold: Gold | None,
    place: Mapping[Any, int],
    evidence: list[dict[str, Any]],
) -> None:
    """A trend on gold where there is enough of it, else against the others (`WithOthers.row`)."""
    known = others >= 0
    sources = [(judged.rater[known], others[known], judged.when[known], 3 * FEW)]
    if gold is not None:
        sources.append((gold.rater, np.asarray(gold.passed, dtype=np.int64), gold.when, 2 * FEW))
    found: dict[Any, rater_statistics.Drift] = {}
    for rater, hit, when, least in sources:
        for name, rows in _rows_of(rater, when):
            if len(rows) >= least and np.isfinite(when[rows]).all():
                found[name] = rater_statistics.drift(when[rows], hit[rows])
    for (name, one), chance in zip(found.items(), adjusted([one.p for one in found.values()]), strict=True):
        own = evidence[place[name]]
        own["drift"] = one
        if chance <= SURE and one.z < 0:
            _point(
                own,
                "drift",
                "look",
                Sentence("Fell from {early:.0%} to {late:.0%} as time went on.", early=one.early, late=one.late),
                Sentence(
                    "Ask what changed: tired, bored, or another reading of the rubric? A calibration session helps."
                ),
            )


def _rows_of(rater: ArrayLike, when: ArrayLike) -> list[tuple[Any, NDArray[np.int64]]]:
    """Each rater's rows in the order of time."""
    names, who = coded(np.asarray(rater))
    if not len(names):
        return []
    order = np.lexsort((np.asarray(when), who))
    ends = np.cumsum(np.bincount(who))
    return list(zip(names.tolist(), np.split(order, ends[:-1]), strict=True))
