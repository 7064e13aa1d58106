"""The page of `heedful compare`: who is better, by whom, at equal length and in equal style, and for whom."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from heedful.core.statistics import Interval
from heedful.data.records import Conversation
from heedful.evaluation.contest import Contest, Duel
from heedful.pipeline.report_data import (
    Explanation,
    Forest,
    ForestRow,
    ReportData,
    SampleAnswer,
    SampleRow,
    bounds,
    say_win_rate,
    write,
)
from heedful.pipeline.run_folder import code_version

SAMPLES, LONGEST_NAME = 6, 34
"""Prompts whose answers are shown; letters of a name in a plot."""

HALF = 0.5


def report_data(
    found: Mapping[str, Contest], prompts: Sequence[Conversation], texts: Mapping[str, Sequence[Sequence[str]]]
) -> ReportData:
    """The page as plain values: see `heedful.pipeline.report`.

    Args:
        found: what each judge says, by its name.
        prompts, texts: [P] prompts and, by model, [P][K] answers; empty where only judgments are known.
    """
    first = next(iter(found.values()))
    models = [row.model for row in first.models]
    return ReportData(
        title="Which is better, and for whom",
        subtitle=f"{len(models)} models: {', '.join(models)}. "
        + " ".join(f"{name}: {one.judgments:,} judgments on {one.clusters:,} prompts." for name, one in found.items()),
        headline=_headline(found),
        forests=(*_strengths(found), *_rates(found), *_parts(found), *_worth(found)),
        curves_title="Win rates and strengths",
        curves_lead=True,
        explanations=(*(_told(name, one) for name, one in found.items()), _reading()),
        samples=tuple(_samples(prompts, texts)),
        sample_note="The first prompts, spread over the whole list; none was picked by hand.",
        lineage={"heedful": code_version(), "python": sys.version.split()[0], "judges": ", ".join(found)},
    )


def _headline(found: Mapping[str, Contest]) -> str:
    """What the first judge says of the two strongest, and whether the others agree."""
    (name, first), *others = found.items()
    places = {row.model: i for i, row in enumerate(first.models)}
    if not first.duels:
        return f"By {name}, no two of these models were judged on the same prompts."
    duel = min(first.duels, key=lambda one: sorted((places[one.a], places[one.b])))
    duel = duel if places[duel.a] < places[duel.b] else turned(duel)
    said = say_win_rate(duel.a, duel.b, duel.rate, where=f"{duel.clusters:,} prompts, by {name}")
    told = [f"by {other}, {_of(duel, one)}" for other, one in others if _of(duel, one)]
    return f"{said} The same pair {'; '.join(told)}." if told else said


def _of(duel: Duel, contest: Contest) -> str:
    """The same pair by another judge: "61.0% (55.1% to 66.8%)"."""
    for one in contest.duels:
        if {one.a, one.b} == {duel.a, duel.b}:
            rate = (one if one.a == duel.a else turned(one)).rate
            return f"{write(rate.mean, 'percent')} ({bounds(rate, 'percent')})"
    return ""


def turned(duel: Duel) -> Duel:
    """A duel with the two sides exchanged."""

    def other(rate: Interval) -> Interval:
        return Interval(1 - rate.mean, 1 - rate.high, 1 - rate.low)

    return Duel(
        a=duel.b,
        b=duel.a,
        pairs=duel.pairs,
        clusters=duel.clusters,
        rate=other(duel.rate),
        standard_error=duel.standard_error,
        wins=duel.losses,
        ties=duel.ties,
        losses=duel.wins,
        sign_p=duel.sign_p,
        length_controlled=other(duel.length_controlled),
        style_controlled=other(duel.style_controlled),
        by={name: other(rate) for name, rate in duel.by.items()},
    )


def _strengths(found: Mapping[str, Contest]) -> list[Forest]:
    forests = []
    for name, one in found.items():
        rows = []
        for row in one.models:
            rows.append(ForestRow(_short(row.model), row.strength, _mood(row.strength, 0.0)))
            rows.append(ForestRow("in equal style", row.in_equal_style, _mood(row.in_equal_style, 0.0)))
        apart = "" if one.connected else " Some models were never compared with the rest: theirs is another scale."
        note = f"Logits; a lead of 1 is odds of e to 1, and 0 is the mean of all.{apart}"
        forests.append(Forest(f"Strength, by {name}", "strength (Bradley and Terry)", tuple(rows), note))
    return forests


def _rates(found: Mapping[str, Contest]) -> list[Forest]:
    """A plot for each two models: raw, at equal length and in equal style, by each judge."""
    forests = []
    for title, duels in _pairs(found).items():
        rows = []
        for judge, duel in duels:
            told = f"{_short(judge)}: " if len(found) > 1 else ""
            rates = (
                ("raw", duel.rate),
                ("equal length", duel.length_controlled),
                ("equal style", duel.style_controlled),
            )
            rows += [ForestRow(f"{told}{name}", rate, _mood(rate)) for name, rate in rates]
        forests.append(Forest(title, "share of pairs that the first wins", tuple(rows), line=HALF, kind="percent"))
    return forests


def _parts(found: Mapping[str, Contest]) -> list[Forest]:
    """A plot for each two models and judge: by topic and by group of raters."""
    forests = []
    for title, duels in _pairs(found).items():
        for judge, duel in duels:
            if duel.by:
                rows = tuple(ForestRow(_short(name), rate, _mood(rate)) for name, rate in duel.by.items())
                name = f"{title}, by topic and group of raters ({judge})"
                forests.append(Forest(name, "share of pairs that the first wins", rows, line=HALF, kind="percent"))
    return forests


def _pairs(found: Mapping[str, Contest]) -> dict[str, list[tuple[str, Duel]]]:
    """What each judge says of every two models, the side first that the first judge finds stronger."""
    places = {row.model: i for i, row in enumerate(next(iter(found.values())).models)}
    pairs: dict[str, list[tuple[str, Duel]]] = {}
    for judge, one in found.items():
        for duel in one.duels:
            own = duel if places.get(duel.a, 0) <= places.get(duel.b, 0) else turned(duel)
            pairs.setdefault(f"{own.a} against {own.b}", []).append((judge, own))
    return pairs


def _worth(found: Mapping[str, Contest]) -> list[Forest]:
    forests = []
    for name, one in found.items():
        moved = [(style, worth) for style, worth in one.length.worth.items() if worth.low != worth.high]
        if moved:
            rows = tuple(ForestRow(style, worth, _mood(worth, 0.0)) for style, worth in moved)
            note = "Beside the models' strengths: for an answer that has all of it against one that has none."
            forests.append(Forest(f"What style is worth, by {name}", "logits", rows, note))
    return forests


def _mood(rate: Interval, line: float = HALF) -> str:
    return "good" if rate.low > line else "bad" if rate.high < line else "even"


def _short(name: str) -> str:
    """A name that fits beside a plot: its end tells more than its beginning."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


def _told(name: str, one: Contest) -> Explanation:
    lines = []
    for duel in one.duels:
        figures = f"{duel.wins:,} wins, {duel.ties:,} ties, {duel.losses:,} losses of {duel.pairs:,} pairs"
        lines.append(
            f"{duel.a} against {duel.b}: {figures}; exact sign test with one vote a prompt p = {duel.sign_p:.3g}."
        )
    if one.length.longer is not None:
        lines.append(
            f"It prefers the longer answer in {write(one.length.longer, 'percent')} of {one.length.pairs:,} pairs that "
            f"differ by more than 30 characters."
        )
    lengths = ", ".join(f"{row.model} {write(row.words, 'tenths')}" for row in one.models)
    return Explanation(f"By {name}", (*lines, f"Mean length in words: {lengths}."))


def _reading() -> Explanation:
    return Explanation(
        "How to read this",
        (
            "Ties count half. Intervals are 95%, from resampling prompts (topics in the embedded world); those of "
            "people speak of these raters. At equal length and in equal style are regressions read at no difference: "
            "trust them where either side is the longer one often enough.",
            "A reward that one of the models was trained on flatters it. Topics and groups are many looks at the same "
            "judgments: one interval in twenty leaves out the truth. Groups of fewer than five raters are not shown.",
        ),
    )


def _samples(prompts: Sequence[Conversation], texts: Mapping[str, Sequence[Sequence[str]]]) -> list[SampleRow]:
    step = max(1, len(prompts) // SAMPLES)
    return [
        SampleRow(prompts[i], "", tuple(SampleAnswer(name, own[i][0], {}) for name, own in texts.items()))
        for i in range(0, len(prompts), step)
    ][:SAMPLES]
