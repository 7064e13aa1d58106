"""The parts of an agreement report as plain tables, from which the terminal and the page are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

from heedful.core.agreement_advice import DIFFERENT, on_batches
from heedful.core.rater_cards import Measured, RaterCard
from heedful.core.statistics import Interval
from heedful.feedback.group_figures import METHOD, GroupFigures
from heedful.feedback.reliability import AgreementRow, Reliability
from heedful.pipeline.report_data import Curve, Series

Kind: TypeAlias = Literal["text", "percent", "number", "count", "gap"]
Cell: TypeAlias = "str | float | Interval | None"
SHOWN = 40
"""Rows of a table on the page; the terminal shows fewer."""
NOTHING = "nothing"
"""That stands out of a rater."""
SOURCES = {"person": "people", "ai": "AI judges", "simulated": "simulated raters"}


@dataclass(frozen=True)
class Part:
    """A section: what to do, then a table, and perhaps a curve."""

    name: str
    title: str
    do: tuple[str, ...]
    """Sentences above the table; the first says what to do."""
    heads: tuple[str, ...]
    kinds: tuple[Kind, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    curve: Curve | None = None


def parts(found: Reliability) -> list[Part]:
    """Every section that has something to show."""
    made = [*_overall(found), *_sources(found), *_time(found), *_batches(found), *_cards(found), *_groups(found)]
    return [part for part in made if part.rows]


def headline(found: Reliability) -> str:
    """The programme in a sentence."""
    counts = f"{found.judgments:,} judgments of {found.items:,} items by {found.raters:,} raters."
    main = found.kinds[0] if found.kinds else None
    if main is None:
        return f"{counts} Nothing was judged by two raters, so nobody knows how far they agree: raise the quota to 2."
    return f"{counts} Two raters say the same in {main.raw.mean:.0%} of cases ({main.of}). {main.do}"


def _overall(found: Reliability) -> Iterator[Part]:
    heads = ("On", "Raw agreement", "Krippendorff's α", "Gwet's AC", "Judged twice", "What to do")
    kinds: tuple[Kind, ...] = ("text", "percent", "number", "number", "count", "text")
    rows = tuple((row.of, row.raw, row.alpha, row.gwet, row.items, row.do) for row in found.kinds)
    why = (
        "Raw agreement is not corrected for chance; α is, and falls where one answer dominates; AC (AC1, of points "
        "AC2) does not. Intervals (95%) resample whole prompts."
    )
    yield Part("agreement", "Agreement", (found.kinds[0].do if found.kinds else "",), heads, kinds, rows, why)
    if found.rankings is not None:
        told = found.rankings
        do = "Too few rankings to say: have more items ranked by two raters."
        if told.rho.low > 0.5:
            do = "Raters order the answers much alike: whole rankings are worth their time."
        elif told.rho.high < 0.5:
            do = "Raters order the answers differently: ask for the best alone, or for comparisons of two."
        row = ("whole rankings", told.w, told.rho, told.items)
        caption = (
            "W is 1 where all rank alike; by chance it is one over the number of raters, and the correlation is 0."
        )
        yield Part(
            "rankings", "Rankings", (do,), ("On", "Kendall's W", "Mean correlation of two raters", "Items"),
            ("text", "number", "number", "count"), (row,), caption,
        )  # fmt: skip
    rows = tuple((row.of, row.raw, row.alpha, row.gwet, row.items, row.do) for row in found.attributes)
    yield Part("attributes", "Attributes", (_worst(found.attributes),), heads, kinds, rows, "α and AC2 are ordinal.")
    yield _anchors(found)


def _worst(rows: Sequence[AgreementRow]) -> str:
    measured = [row for row in rows if row.alpha is not None and row.alpha.mean == row.alpha.mean]
    if not measured:
        return ""
    lowest = min(measured, key=lambda row: row.alpha.mean if row.alpha else 0.0)
    return f"Begin with {lowest.of!r}, on which raters agree least. {lowest.do}"


def _anchors(found: Reliability) -> Part:
    rows: list[tuple[Cell, ...]] = []
    do: tuple[str, ...] = ("Have items judged by two raters: without that no ceiling can be told.",)
    if found.ceiling is not None:
        ceiling = found.ceiling
        do = (ceiling.do,)
        rows.append(
            (
                "yours, decided comparisons",
                ceiling.agreement,
                f"{ceiling.ceiling.low:.0%} to {ceiling.ceiling.high:.0%}",
            )
        )
        do += (
            f"Over the interval of the agreement the ceiling lies between {ceiling.widest.low:.0%} and "
            f"{ceiling.widest.high:.0%}. Its low end holds if pairs are clear or coin tosses, its high end if all are "
            "equally hard.",
        )
    for one in found.anchors:
        margin = one.margin
        value: Cell = (
            one.agreement if margin is None else Interval(one.agreement, one.agreement - margin, one.agreement + margin)
        )
        rows.append((one.name, value, one.source))
    caption = "Always taking the longer answer agrees with people nearly as often as they do with each other."
    return Part(
        "ceiling", "How good a reward model can be", do, ("Agreement", "Share", "Ceiling, or source"),
        ("text", "percent", "text"), tuple(rows), caption,
    )  # fmt: skip


def _sources(found: Reliability) -> Iterator[Part]:
    rows = tuple((SOURCES.get(row.part, row.part), row.raw, row.alpha, row.items) for row in found.sources)
    caption = "Raters of one kind with each other, and people with machines, on the same items."
    do = found.sources_do or "People alone judged: nothing to compare them with."
    yield Part(
        "sources", "By source", (do,), ("Raters", "Raw agreement", "α", "Judged twice"),
        ("text", "percent", "number", "count"), rows, caption,
    )  # fmt: skip


def _time(found: Reliability) -> Iterator[Part]:
    if not found.time:
        return
    days = [date.fromisoformat(row.part).toordinal() for row in found.time]
    bounds = tuple((row.raw.low, row.raw.high) for row in found.time)
    series = Series(tuple(float(day - days[0]) for day in days), tuple(row.raw.mean for row in found.time), bounds)
    curve = Curve("Over time", "Raw agreement", "days since the first", "share", {"raw agreement": series})
    rows = tuple((row.part, row.raw, row.items) for row in found.time)
    caption = "Items by the day of their last judgment."
    yield Part(
        "time", "Over time", (found.time_do,), ("From", "Raw agreement", "Judged twice"),
        ("text", "percent", "count"), rows, caption, curve if len(rows) > 1 else None,
    )  # fmt: skip


def _batches(found: Reliability) -> Iterator[Part]:
    if len(found.batches) < 2:
        return
    ordered = sorted(found.batches, key=lambda row: row.raw.mean)
    whole = next((row.raw.mean for row in found.kinds if row.of == ordered[0].of), float("nan"))
    do = on_batches(ordered[0].raw, ordered[0].part, whole)
    rows = tuple((row.part, row.raw, row.alpha, row.items) for row in ordered[:SHOWN])
    yield Part(
        "batches", "By batch", (do,), ("Batch", "Raw agreement", "α", "Judged twice"),
        ("text", "percent", "number", "count"), rows, f"The lowest first. {_cut(ordered, 'batches')}",
    )  # fmt: skip


def _cards(found: Reliability) -> Iterator[Part]:
    rows = tuple(_card(card) for card in found.cards[:SHOWN])
    heads = (
        *("Rater", "What stands out", "What to do", "Judgments", "With the others"),
        *("Gold", "With self", "Time", "First shown"),
    )
    shares: tuple[Kind, ...] = ("percent", "percent", "percent", "text", "percent")
    kinds: tuple[Kind, ...] = ("text", "text", "text", "count", *shares)
    caption = (
        "With the others: agreement with what most others say of the item, their own vote left out. Time: the median "
        f"over that of others at like work. {_cut(found.cards, 'raters')}"
    )
    yield Part("raters", "Raters", (found.cards_do,), heads, kinds, rows, caption)


def _card(card: RaterCard) -> tuple[Cell, ...]:
    def share(measured: Measured | None) -> Interval | None:
        return measured.share if measured is not None else None

    says = " ".join(one.says for one in card.findings) or NOTHING
    time = "" if card.speed_factor is None else f"{card.speed_factor:.1f}×"
    shares = (share(card.others), share(card.gold), share(card.self_consistency))
    return (str(card.rater), says, card.do, card.judgments, *shares, time, share(card.first_shown))


def _groups(found: Reliability) -> Iterator[Part]:
    for number, figures in enumerate(found.groups or ()):
        yield from _group(figures, f"groups-{number}")


def _group(figures: GroupFigures, name: str) -> Iterator[Part]:
    title = f"Groups by {figures.question}"
    more = []
    if figures.omnibus is not None:
        one = figures.omnibus
        more.append(
            f"Within a group raters agree in {one.within:.0%} of pairs, between groups in {one.between:.0%} "
            f"(p = {one.p:.3f}, groups shuffled among raters)."
        )
    shares = figures.shares.shares if figures.shares is not None else {}
    rows: list[tuple[Cell, ...]] = [
        (answer, count, shares.get(answer, 0.0)) for answer, count in figures.raters.items()
    ]
    rows = rows or [("none of five raters or more", None, None)]
    yield Part(
        name, title, (figures.do, *more), ("Group", "Raters", "Share of the labels"), ("text", "count", "percent"),
        tuple(rows), "Groups of fewer than five raters are left out.",
    )  # fmt: skip
    tested = len(figures.topics) + len(figures.items)
    found = [*figures.topics, *(one for one in figures.items if one.adjusted_p <= DIFFERENT)]
    lines = tuple(
        (
            f"item {one.topic}: {one.group}" if position >= len(figures.topics) else f"{one.topic}: {one.group}",
            one.mean, one.others, one.difference, f"{one.adjusted_p:.3f}",
            "differs" if one.adjusted_p <= DIFFERENT else "not told apart",
        )
        for position, one in enumerate(found[:SHOWN])
    )  # fmt: skip
    caption = (
        f"A group's mean less all others' (95%, over raters). p by shuffling groups among raters, corrected by "
        f"{METHOD}, separately over {len(figures.topics)} topics and {len(figures.items)} single items."
    )
    differing = sum(one.adjusted_p <= DIFFERENT for one in found)
    do = (
        f"{differing} of {tested} differences go beyond chance: say so where you describe the data."
        if differing
        else "Nothing to do: no difference goes beyond chance, though small ones may hide in few raters."
    )
    heads = ("Prefers", "Group's mean", "Others' mean", "Difference", "p", "Verdict")
    yield Part(f"{name}-differences", f"What they prefer, by {figures.question}", (do,), heads,
        ("text", "number", "number", "gap", "text", "text"), lines, caption)  # fmt: skip
    if figures.reweighted:
        moved = max(figures.reweighted, key=lambda one: abs(one.population - one.labels))
        do = (
            f"The largest move is of {moved.topic!r}, from {moved.labels:.2f} to {moved.population:.2f}: quote the "
            "re-weighted figure."
        )
        weighted = tuple((one.topic, one.labels, one.population, one.effective) for one in figures.reweighted)
        caption = "Each judgment weighs its group's share in the population over its share of the labels."
        yield Part(f"{name}-population", f"Re-weighted to your population, by {figures.question}", (do,),
            ("Prefers", "As labelled", "In the population", "Worth so many judgments"),
            ("text", "number", "number", "count"), weighted, caption)  # fmt: skip


def _cut(rows: Sequence[object], what: str) -> str:
    return f"The first {SHOWN} of {len(rows):,} {what}; --json has all." if len(rows) > SHOWN else ""
