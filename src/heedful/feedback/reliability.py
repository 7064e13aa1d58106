"""How far a programme's labels can be trusted: every figure of `heedful agreement`. Needs no Django."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from heedful.core import agreement_advice as advice
from heedful.core.agreement import Coefficient, Votes, across, alpha, gwet, raw, tabulate
from heedful.core.ceilings import ANCHORS, Anchor, Ceiling, accuracy_ceiling
from heedful.core.codes import coded
from heedful.core.concordance import Concordance, concordance
from heedful.core.rater_cards import RaterCard, cards
from heedful.core.statistics import Interval
from heedful.errors import Sentence
from heedful.feedback import judgment_table as views
from heedful.feedback.group_figures import GroupFigures, group_figures
from heedful.feedback.judgment_table import Aspect, JudgmentTable

MACHINES = ("ai", "simulated")
PERIODS = 12
"""Parts of time at most."""
DAY = 86400.0


@dataclass(frozen=True)
class AgreementRow:
    """How far some judgments agree."""

    part: str
    """Which: all, people, a batch, a group, a period."""
    of: str
    """On what."""
    raw: Interval
    """Share of pairs of judgments of one item that say the same."""
    alpha: Interval | None = None
    """Krippendorff's, at the level that `level` names. None where it was not asked for; nan where not defined."""
    level: str = ""
    gwet: Interval | None = None
    """AC1 of a choice, AC2 (ordinal weights) of points."""
    judgments: int = 0
    items: int = 0
    """Items (of rankings pairs of answers, of points answers) with two judgments or more."""
    do: str = ""


@dataclass(frozen=True)
class CeilingRange:
    """What the agreement on decided comparisons implies for a reward model."""

    agreement: Interval
    ceiling: Ceiling
    """At the agreement itself."""
    widest: Ceiling
    """Over its interval."""
    do: str


@dataclass(frozen=True)
class Reliability:
    """Everything that `heedful agreement` shows."""

    programme: str
    judgments: int
    raters: int
    items: int
    kinds: tuple[AgreementRow, ...]
    """By kind of task."""
    attributes: tuple[AgreementRow, ...]
    sources: tuple[AgreementRow, ...]
    """By kind of rater, and of people with machines."""
    sources_do: str
    batches: tuple[AgreementRow, ...]
    time: tuple[AgreementRow, ...]
    """By period, the earliest first; `part` is the day it begins."""
    time_do: str
    rankings: Concordance | None
    ceiling: CeilingRange | None
    anchors: tuple[Anchor, ...]
    cards: tuple[RaterCard, ...]
    """Raters by name."""
    cards_do: str
    groups: tuple[GroupFigures, ...] | None
    """None where the store does not tell groups."""
    notes: tuple[str, ...] = field(default=())


def reliability(
    table: JudgmentTable,
    *,
    population: Mapping[str, Mapping[str, float]] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Reliability:
    """All figures of a table.

    Args:
        table: the judgments.
        population: by question, the share of each answer in the population that labels should speak for.
        samples: bootstrap resamples, of whole prompts.
        seed: of the resamples and shuffles.

    Raises:
        ValueError: the population names a question or an answer that nobody gave.
    """
    found = views.aspects(table)
    draw = _Draw(_places(item.prompt for item in table.items)[1], samples, seed)
    named = {one.name: one for one in found}
    choices = [one for one in found if one.name in (views.COMPARED, views.DECIDED, views.STRONG, views.RANKED)]
    scored = [one for one in found if one not in choices]
    main = named.get(views.COMPARED) or named.get(views.RANKED) or (found[0] if found else None)
    groups = None if table.groups is None else group_figures(table, main, population=population, seed=seed)
    sources, sources_do = _sources(draw, main, table)
    time = _time(draw, main, table)
    index = {place: rater.name for place, rater in enumerate(table.raters)}
    made = [
        _named(card, index)
        for card in cards(views.judged(table), table.gold, views.repeats(table), gold_floor=table.gold_floor)
    ]
    return Reliability(
        programme=table.programme,
        judgments=int((~table.again).sum()),
        raters=len(table.raters),
        items=len(coded(table.item)[0]),
        kinds=tuple(_told(row, one) for one in choices if (row := draw.row("all", one))),
        attributes=tuple(_told(row, one) for one in scored if (row := draw.row("all", one))),
        sources=sources,
        sources_do=sources_do,
        batches=_batches(draw, main, table),
        time=time,
        time_do=advice.on_time([row.raw for row in time]),
        rankings=_rankings(table, samples, seed),
        ceiling=_ceiling(draw, named),
        anchors=ANCHORS,
        cards=tuple(made),
        cards_do=advice.on_cards(made),
        groups=groups,
        notes=_notes(table),
    )


@dataclass(frozen=True)
class _Draw:
    """Rows of agreement, all with the same resampling."""

    prompts: NDArray[np.int64]
    """[items] which belong to one prompt."""
    samples: int
    seed: int

    def votes(self, one: Aspect, chosen: NDArray[np.bool_] | None = None) -> Votes:
        """An aspect's judgments as votes, clustered by prompt."""
        kept = np.ones(len(one.unit), dtype=bool) if chosen is None else chosen
        return tabulate(
            one.unit[kept],
            one.rater[kept],
            one.value[kept],
            cluster=self.prompts[one.item[kept]],
            values=list(one.scale),
        )

    def row(
        self, part: str, one: Aspect, chosen: NDArray[np.bool_] | None = None, *, full: bool = True
    ) -> AgreementRow | None:
        """A row of figures, raw agreement alone unless `full`; None where no unit was judged twice."""
        votes = self.votes(one, chosen)
        if not votes.items:
            return None
        made = AgreementRow(part, one.name, self.of(raw(), votes), judgments=votes.judgments, items=votes.items)
        if not full:
            return made
        corrected = [self.of(coefficient, votes) for coefficient in (alpha(one.level), gwet(one.weights))]
        return replace(made, alpha=corrected[0], level=one.level, gwet=corrected[1])

    def of(self, coefficient: Coefficient, votes: Votes) -> Interval:
        """A coefficient's interval; without bounds where all items are of one prompt."""
        try:
            return coefficient.interval(votes, samples=self.samples, seed=self.seed)
        except ValueError as error:
            if "one cluster" not in str(error):
                raise
            return Interval(coefficient.of(votes), float("nan"), float("nan"))


def _told(row: AgreementRow, one: Aspect) -> AgreementRow:
    """A row with what to do about it."""
    if one.name in (views.COMPARED, views.DECIDED, views.RANKED):
        per_item = round(row.judgments / max(1, row.items))
        return replace(row, do=advice.on_agreement(row.raw, row.items, per_item=min(per_item, 9), alpha=row.alpha))
    assert row.alpha is not None
    return replace(row, do=advice.on_attribute(row.alpha, row.items))


def _sources(draw: _Draw, main: Aspect | None, table: JudgmentTable) -> tuple[tuple[AgreementRow, ...], str]:
    """Raw agreement within each kind of rater, and of people with machines."""
    if main is None:
        return (), ""
    names, kind_of = _places(rater.kind for rater in table.raters)
    own = kind_of[main.rater]
    there = sorted(coded(own)[0].tolist(), key=lambda code: (names[code] != "person", names[code]))
    rows = [row for code in there if (row := draw.row(names[code], main, own == code))]
    machine = np.isin(kind_of, [code for code, name in enumerate(names) if name in MACHINES])[main.rater]
    if not machine.any():
        return tuple(rows), ""
    crossed = None
    if not machine.all():
        width = len(main.scale)
        place = np.searchsorted(np.array(main.scale), main.value) + width * machine
        votes = tabulate(main.unit, main.rater, place, cluster=draw.prompts[main.item], values=list(range(2 * width)))
        both = votes.patterns[:, :width].sum(1) * votes.patterns[:, width:].sum(1)
        if both.any():
            items = int((both > 0)[votes.member].sum())
            crossed = AgreementRow("people with machines", main.name, draw.of(across(width), votes), items=items)
            rows.append(crossed)
    people = next((row.raw for row in rows if row.part == "person"), None)
    return tuple(rows), advice.on_judges(people, crossed.raw if crossed else None)


def _batches(draw: _Draw, main: Aspect | None, table: JudgmentTable) -> tuple[AgreementRow, ...]:
    if main is None:
        return ()
    names, of_item = _places(item.batch for item in table.items)
    batch = of_item[main.item]
    return tuple(row for code, name in enumerate(names) if (row := draw.row(name, main, batch == code)))


def _time(draw: _Draw, main: Aspect | None, table: JudgmentTable) -> tuple[AgreementRow, ...]:
    """Raw agreement by period: units by their last judgment; days, weeks or more, so that there are twelve at most."""
    if main is None:
        return ()
    when = table.when[main.row]
    units, unit = coded(main.unit)
    last = np.full(len(units), -np.inf)
    np.maximum.at(last, unit, when)
    day = np.floor(last / DAY)
    span = day.max() - day.min() + 1
    step = next((days for days in (1, 7, 28, 91, 365) if span <= days * PERIODS), float(np.ceil(span / PERIODS)))
    period = ((day - day.min()) // step)[unit]
    rows = []
    for number in np.unique(period).tolist():
        begins = np.datetime64(int(day.min() + number * step), "D")
        row = draw.row(str(begins), main, period == number, full=False)
        rows += [row] if row is not None else []
    return tuple(rows)


def _rankings(table: JudgmentTable, samples: int, seed: int) -> Concordance | None:
    ranks, prompts = views.rankings(table)
    try:
        return concordance(ranks, prompts, samples=samples, seed=seed)
    except ValueError:
        return None


def _ceiling(draw: _Draw, named: Mapping[str, Aspect]) -> CeilingRange | None:
    """From decided comparisons, or from pairs of ranked answers that no rater of the pair tied."""
    one = named.get(views.DECIDED) or named.get(views.RANKED)
    if one is None:
        return None
    votes = draw.votes(one, one.value != 0)
    if not votes.items:
        return None
    found = draw.of(raw(), votes)
    ends = [end if end == end else found.mean for end in (found.low, found.high)]
    middle = accuracy_ceiling(found.mean)
    widest = Ceiling(accuracy_ceiling(ends[0]).low, accuracy_ceiling(ends[1]).high)
    return CeilingRange(found, middle, widest, advice.on_ceiling(middle))


def _places(given: Iterable[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Different names as they first come, and where among them each stands."""
    known: dict[str, int] = {}
    codes = [known.setdefault(name, len(known)) for name in given]
    return list(known), np.array(codes, dtype=np.int64)


def _named(card: RaterCard, names: Mapping[int, str]) -> RaterCard:
    return replace(card, rater=names[int(card.rater)])


def _notes(table: JudgmentTable) -> tuple[str, ...]:
    notes = []
    if table.groups is None:
        notes.append(
            Sentence("Groups and gold answers are not told through a studio's API: run this at the database for them.")
        )
    elif table.gold is None:
        notes.append(
            Sentence("Nobody has answered gold: without it, how good a rater is can only be told from the others.")
        )
    return tuple(notes)
