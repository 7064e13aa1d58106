"""How far the newest labels can be trusted, kept until something changes: what the studio shows of agreement.

A page may ask at every refresh: while nothing was judged, scored or erased it costs three look-ups. Else the figures
are made once, over a bounded number of judgments, whoever asks.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from heedful.core.rater_cards import RaterCard
from heedful.feedback import judgment_reading, people
from heedful.feedback.judgment_table import JudgmentTable
from heedful.feedback.models import AuditEvent, GroupAnswer, Judgment, Programme
from heedful.feedback.reliability import Reliability, reliability

NEWEST = 10_000
"""Judgments that are looked at; `heedful agreement` looks at all."""
SAMPLES = 400
"""Bootstrap resamples."""
KEPT = 16
"""Programmes whose figures are kept."""
CHANGES = (
    "batch.changed",
    "gold.contest_answered",
    "gold.promoted",
    "gold.retired",
    "gold.revised",
    "gold.scored",
    "gold.unscored",
    "guideline.published",
    "item.withdrawn",
    "judgments.imported",
    "judgments.withdrawn",
    "rater.erased",
    "rules.changed",
)
"""Events after which figures may differ though nobody judged."""
_Stamp = tuple[UUID | None, int | None, int]
_known: OrderedDict[UUID, tuple[_Stamp, Trust]] = OrderedDict()
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Trust:
    """Figures of the newest judgments. Raters go by their ids."""

    found: Reliability
    whole: bool
    """Every judgment is in."""

    def cards(self) -> Mapping[UUID, RaterCard]:
        """Each rater's card, those to act on first."""
        return {UUID(str(card.rater)): card for card in self.found.cards}


def look(programme: Programme) -> Trust:
    """The figures as they are now."""
    stamp = _stamp(programme)
    known = _known.get(programme.pk)
    if known is not None and known[0] == stamp:
        return known[1]
    with _one_at_a_time:
        known = _known.get(programme.pk)
        if known is not None and known[0] == stamp:
            return known[1]
        made = _made(programme)
        _known[programme.pk] = (stamp, made)
        _known.move_to_end(programme.pk)
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return made


def _stamp(programme: Programme) -> _Stamp:
    """Another one whenever the figures may be others: every correction and retraction is a judgment too."""
    last = Judgment.objects.filter(programme=programme).order_by("-pk").values_list("pk", flat=True).first()
    events = AuditEvent.objects.filter(programme=programme.pk, kind__in=CHANGES)
    change = events.order_by("-seq").values_list("seq", flat=True).first()
    told = GroupAnswer.objects.filter(rater__programme=programme).values_list("rater_id", "question", "answer")
    return last, change, hash(frozenset(told))


def _made(programme: Programme) -> Trust:
    table = judgment_reading.read(programme, newest=NEWEST)
    named = tuple(replace(rater, name=rater.key) for rater in table.raters)
    table = replace(table, raters=named, groups=_tellable(programme, table))
    return Trust(reliability(table, samples=SAMPLES), int((~table.again).sum()) < NEWEST)


def _tellable(programme: Programme, table: JudgmentTable) -> dict[str, dict[int, str]]:
    """Answers of which something can be told without giving away what the table of groups hides.

    That an answer is told of says that five raters or more gave it. So one that the table hides is told of only where
    the others that it hides may still be any number below five.
    """
    tables = {table.question: table for table in people.groups(programme)}
    asked: dict[str, Counter[str]] = {question: Counter() for question in tables}
    told = GroupAnswer.objects.filter(rater__programme=programme, rater__erased=None)
    for question, answer in told.values_list("question", "answer"):
        asked[question][answer] += 1
    given: Mapping[str, Mapping[int, str]] = table.groups or {}
    kept = {}
    for question, answers in given.items():
        fine = tellable(tables[question], asked[question]) if question in tables else set()
        kept[question] = {rater: answer for rater, answer in answers.items() if answer in fine}
    return kept


def tellable(table: people.GroupTable, counts: Mapping[str, int]) -> set[str]:
    """The answers of a question of which something can be told: see `_tellable`."""
    shown = {row.answer for row in table.rows if row.raters is not None}
    hidden = {row.answer: counts.get(row.answer, 0) for row in table.rows if row.raters is None}
    large = {answer for answer, count in hidden.items() if answer and count >= people.LEAST}
    open_still = sum(hidden.values()) - people.LEAST * len(large) >= people.LEAST - 1
    return shown | large if open_still else shown


def forget() -> None:
    """Keep no figures: for whoever writes into the store without saying so."""
    with _one_at_a_time:
        _known.clear()
