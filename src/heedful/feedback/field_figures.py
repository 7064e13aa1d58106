"""What came from use, in figures for the lead: how much, what became of it, and thumbs up over time by model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import TruncDate, TruncWeek

from heedful.feedback import clock
from heedful.feedback.models import FieldEvent, FieldKind, FieldOutcome, FieldRefusal, Item, ItemState, Programme
from heedful.feedback.ratios import Share, share

DAILY = 31
"""Up to so many days a point is a day; beyond, a week."""


@dataclass(frozen=True)
class ModelRow:
    """What came of one model's answers."""

    policy: str
    outcomes: Mapping[str, int]
    """By `FieldOutcome`."""
    no_consent: int
    kinds: Mapping[str, int]
    """Of those kept, by `FieldKind`."""
    thumbs: Share | None
    """Share of thumbs up among those kept, with an interval over users; None without one."""

    @property
    def received(self) -> int:
        """All that came."""
        return sum(self.outcomes.values()) + self.no_consent

    @property
    def kept(self) -> int:
        """What was kept."""
        return self.outcomes.get(str(FieldOutcome.KEPT), 0)


@dataclass(frozen=True)
class Overview:
    """What came from use in the last days."""

    models: tuple[ModelRow, ...]
    """By name; those of which most was received first."""
    total: ModelRow
    found: Mapping[str, int]
    """How often each pattern was found, and taken out, in what was kept."""
    users: int
    """Different end users of whom something was kept."""


@dataclass(frozen=True)
class Point:
    """Thumbs up of one model in a day or week."""

    begins: date
    thumbs: Share


def overview(programme: Programme, days: int) -> Overview:
    """The figures of the last days."""
    rows = _events(programme, days)
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows.values("policy", "outcome", "kind").order_by().annotate(count=Count("pk")):
        outcomes[row["policy"]][row["outcome"]] += row["count"]
        if row["outcome"] == FieldOutcome.KEPT:
            kinds[row["policy"]][row["kind"]] += row["count"]
    refusals = FieldRefusal.objects.filter(programme=programme, day__gte=_since(days).date())
    told = refusals.values("policy").order_by().annotate(total=Sum("count"))
    refused = {row["policy"]: int(row["total"]) for row in told}
    thumbs = _thumbs(rows)
    names = sorted({*outcomes, *refused})
    models = [
        ModelRow(name, outcomes[name], refused.get(name, 0), kinds[name], share(thumbs.get(name, {}).values()))
        for name in names
    ]
    kept = rows.filter(outcome=FieldOutcome.KEPT)
    found: Counter[str] = Counter()
    for one in kept.exclude(found={}).values_list("found", flat=True).iterator():
        found.update(one)
    return Overview(
        tuple(sorted(models, key=lambda row: (-row.received, row.policy))),
        ModelRow(
            "", _sum(outcomes), sum(refused.values()), _sum(kinds), share(_of_all_models(thumbs).values())
        ),
        dict(found),
        kept.values("user").distinct().count(),
    )  # fmt: skip


Tallies = dict[UUID, tuple[int, int]]
"""By user: thumbs up, and thumbs."""


def _thumbs(rows: QuerySet[FieldEvent]) -> dict[str, Tallies]:
    """By model and user, of what was kept."""
    found: dict[str, Tallies] = defaultdict(dict)
    kept = rows.filter(outcome=FieldOutcome.KEPT, kind=FieldKind.THUMB, user__isnull=False)
    for policy, user, up, count in kept.values_list("policy", "user", "up").order_by().annotate(count=Count("pk")):
        hits, cases = found[policy].get(user, (0, 0))
        found[policy][user] = (hits + (count if up else 0), cases + count)
    return found


def _of_all_models(thumbs: Mapping[str, Tallies]) -> Tallies:
    found: Tallies = {}
    for own in thumbs.values():
        for user, (hits, cases) in own.items():
            before = found.get(user, (0, 0))
            found[user] = (before[0] + hits, before[1] + cases)
    return found


def over_time(programme: Programme, policy: str, days: int) -> list[Point]:
    """Thumbs up of one model, by day or, of more than `DAILY` days, by week; times without a thumb are not there."""
    truncate = TruncDate if days <= DAILY else TruncWeek
    kept = _events(programme, days).filter(
        outcome=FieldOutcome.KEPT, kind=FieldKind.THUMB, policy=policy, user__isnull=False
    )
    by: dict[date, Tallies] = defaultdict(dict)
    grouped = kept.annotate(begins=truncate("created")).values_list("begins", "user", "up").order_by()
    for begins, user, up, count in grouped.annotate(count=Count("pk")):
        day = begins.date() if isinstance(begins, datetime) else begins
        hits, cases = by[day].get(user, (0, 0))
        by[day][user] = (hits + (count if up else 0), cases + count)
    shares = ((day, share(own.values())) for day, own in sorted(by.items()))
    return [Point(day, found) for day, found in shares if found is not None]


def items(programme: Programme, *, policy: str = "", kind: str = "") -> QuerySet[Item]:
    """What was kept and still holds, the newest first."""
    rows = Item.objects.filter(programme=programme, batch__field_intake__isnull=False).order_by("-created", "-pk")
    rows = rows.exclude(state=ItemState.WITHDRAWN)
    if policy:
        rows = rows.filter(judgments__field_event__policy=policy)
    if kind:
        rows = rows.filter(judgments__field_event__kind=kind)
    return rows.select_related("prompt", "batch")


def _since(days: int) -> datetime:
    return clock.now() - timedelta(days=days)


def _events(programme: Programme, days: int) -> QuerySet[FieldEvent]:
    return FieldEvent.objects.filter(programme=programme, created__gte=_since(days))


def _sum(parts: Mapping[str, Counter[str]]) -> Counter[str]:
    return sum(parts.values(), Counter[Any]())
