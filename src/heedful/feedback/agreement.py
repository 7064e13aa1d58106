"""How often raters of one item say the same, read from the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, Q, QuerySet, Value

from heedful.feedback import verdicts
from heedful.feedback.models import CurrentJudgment, Programme, Purpose, RaterKind, TaskKind
from heedful.feedback.ratios import Share, share

ORDINARY = (Purpose.TRAIN, Purpose.CHECK)
RECENT = 20_000
"""The newest judgments that a look at single raters takes in."""


@dataclass(frozen=True)
class Compared:
    """One item with two raters or more."""

    same: float
    """Pairs of raters that agree; of a ranking, in the share of its pairs of answers."""
    pairs: int
    last: datetime | None = None
    """When the last of them judged, if that was asked for."""


def votes(programme: Programme | UUID) -> QuerySet[CurrentJudgment]:
    """The first-pass judgments that hold, of ordinary items: what agreement is taken over, gold and tests left out.

    Of an AI judge only those that fill a place are in: the same item under another template or order is no rater more.
    End users are no raters of the programme: theirs never count.
    """
    rows = CurrentJudgment.objects.filter(item__programme=programme, item__purpose__in=ORDINARY, pass_number=1)
    rows = rows.exclude(rater__kind=RaterKind.END_USER)
    return rows.filter(Q(slot__isnull=False) | Q(judge_template="", judge_order=""), purpose__in=ORDINARY)


def by_item(rows: QuerySet[CurrentJudgment], *, dated: bool = False) -> Iterator[Compared]:
    """Each item among these judgments that two raters or more have judged, in no order."""
    groups = rows.filter(item__kind=TaskKind.PAIRWISE).values("item_id").order_by()
    counted = groups.annotate(
        total=Count("pk"),
        a=Count("pk", filter=Q(judgment__payload__strength__lt=0)),
        b=Count("pk", filter=Q(judgment__payload__strength__gt=0)),
        last=Max("created") if dated else Value(0),
    ).filter(total__gte=2)
    for total, a, b, last in counted.values_list("total", "a", "b", "last").iterator():
        same = sum(n * (n - 1) / 2 for n in (a, b, total - a - b))
        yield Compared(same, total * (total - 1) // 2, last if dated else None)
    yield from _graded(rows.filter(item__kind__in=(TaskKind.RANKING, TaskKind.ATTRIBUTES)))


def _graded(rows: QuerySet[CurrentJudgment]) -> Iterator[Compared]:
    """Of rankings and points, whose payloads must be read."""
    twice = rows.values("item").order_by().annotate(total=Count("pk")).filter(total__gte=2)
    given: dict[tuple[UUID, str], list[tuple[datetime, Any]]] = defaultdict(list)
    chosen = rows.filter(item__in=twice.values("item"))
    for item, kind, created, payload in chosen.values_list(
        "item_id", "item__kind", "created", "judgment__payload"
    ).iterator():
        given[item, kind].append((created, payload))
    for (_, kind), said in given.items():
        same, pairs = alike([verdicts.classes(kind, payload) for _, payload in said])
        if pairs:
            yield Compared(same, pairs, max(created for created, _ in said))


def alike(said: Iterable[tuple[int, ...]]) -> tuple[float, int]:
    """Pairs that agree (in the share of their classes), and pairs that can be compared."""
    found = [verdicts.shared(one, other) for one, other in combinations(list(said), 2)]
    shares = [same / of for same, of in found if of]
    return sum(shares), len(shares)


def overall(compared: Iterable[Compared]) -> Share | None:
    """Raw agreement over pairs of raters of the same item, the items' own spread in its interval."""
    return share((one.same, one.pairs) for one in compared)


def by_rater(programme: Programme) -> dict[UUID, Share]:
    """Each rater's agreement with the others who judged the same items, over the newest `RECENT` judgments."""
    newest = votes(programme).filter(item__kind__in=verdicts.COMPARABLE).order_by("-pk")
    fields = ("item_id", "rater_id", "item__kind", "judgment__payload")
    said: dict[UUID, list[tuple[UUID, tuple[int, ...]]]] = defaultdict(list)
    for item, rater, kind, payload in newest.values_list(*fields)[:RECENT]:
        said[item].append((rater, verdicts.classes(kind, payload)))
    rows: dict[UUID, list[tuple[float, int]]] = defaultdict(list)
    for given in said.values():
        for rater, own in given:
            pairs = [verdicts.shared(own, other) for one, other in given if one != rater]
            shares = [same / of for same, of in pairs if of]
            rows[rater].append((sum(shares), len(shares)))
    found = {rater: share(own) for rater, own in rows.items()}
    return {rater: one for rater, one in found.items() if one is not None}


def with_self(programme: Programme) -> dict[UUID, Share]:
    """Each rater's agreement with themselves, on items that were shown to them again."""
    again = CurrentJudgment.objects.filter(
        item__programme=programme, pass_number=2, purpose=Purpose.CHECK, item__kind__in=verdicts.COMPARABLE
    )
    fields = ("item_id", "rater_id", "guideline_id", "item__kind", "judgment__payload")
    second = {row[:3]: row[3:] for row in again.order_by("-pk").values_list(*fields)[:RECENT]}
    first = votes(programme).filter(item__in=again.values("item"))
    rows: dict[UUID, list[tuple[float, int]]] = defaultdict(list)
    for item, rater, guideline, kind, payload in first.values_list(*fields).iterator():
        if (item, rater, guideline) in second:
            _, repeated = second[item, rater, guideline]
            rows[rater].append(alike([verdicts.classes(kind, payload), verdicts.classes(kind, repeated)]))
    found = {rater: share(own) for rater, own in rows.items()}
    return {rater: one for rater, one in found.items() if one is not None}
