"""How far a programme is: counts, pace and forecast, time and money, agreement, what position does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from statistics import median
from uuid import UUID

from django.db.models import Case, Count, F, IntegerField, Min, Q, Value, When
from django.db.models.functions import TruncDate

from heedful.errors import HeedfulError
from heedful.feedback import agreement, clock, pay
from heedful.feedback.forecast import WINDOW, Forecast, forecast
from heedful.feedback.models import (
    Batch,
    BatchState,
    CurrentJudgment,
    Item,
    ItemState,
    Judgment,
    PayRate,
    Programme,
    Purpose,
    RaterKind,
    Slot,
    SlotState,
    TaskKind,
)
from heedful.feedback.ratios import Share, share
from heedful.feedback.rules import Rules, rules_of

ORDINARY = (Purpose.TRAIN, Purpose.CHECK)
SAMPLE = 1_000
"""The newest judgments of a batch that its median time is taken over."""
KNOWN = 5
"""Judgments from which on their own time goes into what is to come."""
DAY = timedelta(days=1)


@dataclass(frozen=True)
class BatchProgress:
    """How far one batch is. Gold, promoted from it, is left out; so are withdrawn items."""

    batch: Batch
    items: int
    done: int
    parked: int
    counted: int
    """Judgments that fill a place."""
    wanted: int
    """Places, filled or not; rises where raters disagree."""
    per_day: float
    """Counted judgments, a mean over the whole days since the first, at most 14."""
    forecast: Forecast | None
    """None: nothing remains, nothing was judged lately, or the batch is not open, or not for everybody."""
    misses_deadline: bool
    """The forecast's own date lies after the batch's deadline."""
    median_seconds: float | None
    """Of active time, of people."""
    hours: float
    cost: Mapping[str, Decimal]
    """By currency."""
    hours_to_go: float
    cost_to_go: Mapping[str, Decimal]
    agreement: Share | None
    """Of pairs of raters of the same item, a tie being an answer of its own; not corrected for chance."""
    first_shown: Share | None
    """Of people's decided comparisons: those that prefer the answer shown first. One half: position does nothing."""

    @property
    def remaining(self) -> int:
        """Judgments still wanted."""
        return self.wanted - self.counted


@dataclass(frozen=True)
class Overview:
    """A programme's batches, the newest first, and all together."""

    batches: tuple[BatchProgress, ...]
    items: int
    done: int
    parked: int
    counted: int
    wanted: int
    hours: float
    cost: Mapping[str, Decimal]
    hours_to_go: float
    cost_to_go: Mapping[str, Decimal]
    agreement: Share | None
    first_shown: Share | None


def overview(programme: Programme, now: datetime | None = None) -> Overview:
    """How far a programme is: a dozen queries, and four for each batch that somebody has judged.

    Args:
        programme: which.
        now: the time; by default the clock's.
    """
    at = now or clock.now()
    figures = _Figures(programme, at)
    rows = tuple(figures.of(batch) for batch in figures.batches)
    ordinary = [row for row in rows if row.batch.purpose in ORDINARY]
    return Overview(
        batches=rows,
        items=sum(row.items for row in ordinary),
        done=sum(row.done for row in ordinary),
        parked=sum(row.parked for row in ordinary),
        counted=sum(row.counted for row in ordinary),
        wanted=sum(row.wanted for row in ordinary),
        hours=sum(row.hours for row in rows),
        cost=_sum(row.cost for row in rows),
        hours_to_go=sum(row.hours_to_go for row in ordinary),
        cost_to_go=_sum(row.cost_to_go for row in ordinary),
        agreement=agreement.overall(one for of in figures.compared.values() for one in of),
        first_shown=share(pair for of in figures.positions.values() for pair in of),
    )


def _sum(parts: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for part in parts:
        for currency, value in part.items():
            found[currency] += value
    return dict(sorted(found.items()))


class _Figures:
    """What the database says of all batches of a programme, each figure in one query."""

    def __init__(self, programme: Programme, now: datetime) -> None:
        self.programme, self.now = programme, now
        self.rules = rules_of(programme.settings)
        self.rates = pay.Rates(programme)
        asked = programme.batches.filter(field_intake=None)  # what end users judged, nobody was asked for
        self.batches = list(asked.select_related("guideline").order_by("-created", "-pk"))
        self.items = self._items()
        self.slots = self._slots()
        self.days = self._days()
        self.payers = pay.work(programme, ["batch", "rater"])
        self.work: dict[UUID, pay.Work] = defaultdict(pay.Work)
        for (batch, _), own in self.payers.items():
            self.work[batch].join(own)
        votes = agreement.votes(programme)
        self.compared = {
            batch.pk: list(agreement.by_item(votes.filter(item__batch=batch)))
            for batch in self.batches
            if batch.purpose in ORDINARY and batch.pk in self.days
        }
        self.positions = positions(programme)

    def _items(self) -> dict[tuple[UUID, str], int]:
        own = Item.objects.filter(programme=self.programme, purpose=F("batch__purpose"))
        rows = own.values("batch_id", "state").order_by().annotate(count=Count("pk"))
        return {(row["batch_id"], row["state"]): row["count"] for row in rows}

    def _slots(self) -> dict[tuple[UUID, str], int]:
        live = (SlotState.FREE, SlotState.LEASED, SlotState.DONE)
        own = Slot.objects.filter(batch__programme=self.programme, state__in=live, item__purpose=F("batch__purpose"))
        counted = own.filter(Q(reserved_for=None) | ~Q(batch__purpose__in=ORDINARY))
        rows = counted.values("batch_id", "state").order_by().annotate(count=Count("pk"))
        return {(row["batch_id"], row["state"]): row["count"] for row in rows}

    def _days(self) -> dict[UUID, tuple[datetime, list[int]]]:
        """Of each batch: when it was first judged, and the counted judgments of each of the last days."""
        rows = CurrentJudgment.objects.filter(
            slot__batch__programme=self.programme, slot__reserved_for=None, purpose__in=ORDINARY
        )
        grouped = rows.values("slot__batch_id").order_by()
        first = {row["slot__batch_id"]: row["first"] for row in grouped.annotate(first=Min("created"))}
        cases = [When(created__gt=self.now - (i + 1) * DAY, then=Value(i)) for i in range(WINDOW)]
        lately = rows.filter(created__gt=self.now - WINDOW * DAY, created__lte=self.now)
        by_day = lately.annotate(day=Case(*cases, output_field=IntegerField())).values("slot__batch_id", "day")
        counts: dict[UUID, list[int]] = defaultdict(lambda: [0] * WINDOW)
        for row in by_day.order_by().annotate(count=Count("pk")):
            counts[row["slot__batch_id"]][row["day"]] = row["count"]
        return {batch: (began, counts[batch]) for batch, began in first.items()}

    def of(self, batch: Batch) -> BatchProgress:
        """One batch."""
        states = {state: self.items.get((batch.pk, state), 0) for state in ItemState.values}
        slots = {state: self.slots.get((batch.pk, state), 0) for state in SlotState.values}
        counted = slots[SlotState.DONE]
        wanted = counted + slots[SlotState.FREE] + slots[SlotState.LEASED]
        per_day, ahead = self._pace(batch, wanted - counted)
        work = self.work[batch.pk]
        hours_to_go, cost_to_go = self._to_go(batch, work, counted, wanted - counted)
        late = ahead is not None and batch.deadline is not None
        return BatchProgress(
            batch=batch,
            items=sum(states.values()) - states[ItemState.WITHDRAWN],
            done=states[ItemState.DONE],
            parked=states[ItemState.PARKED],
            counted=counted,
            wanted=wanted,
            per_day=per_day,
            forecast=ahead,
            misses_deadline=late and (ahead.finish is None or ahead.finish > batch.deadline),  # type: ignore[union-attr]
            median_seconds=_median_seconds(batch) if counted else None,
            hours=work.hours,
            cost=work.cost,
            hours_to_go=hours_to_go,
            cost_to_go=cost_to_go,
            agreement=agreement.overall(self.compared.get(batch.pk, ())),
            first_shown=share(self.positions[batch.pk]),
        )

    def _pace(self, batch: Batch, remaining: int) -> tuple[float, Forecast | None]:
        if batch.pk not in self.days:
            return 0.0, None
        first, by_day = self.days[batch.pk]
        age = self.now - first
        whole = min(WINDOW, max(1, age // DAY))
        counts = by_day[:whole]
        ahead = forecast(remaining, counts, age, self.now) if batch.state == BatchState.OPEN else None
        return sum(counts) / whole, ahead

    def _to_go(self, batch: Batch, work: pay.Work, counted: int, remaining: int) -> tuple[float, Mapping[str, Decimal]]:
        """Hours and money for what remains: at the batch's own time and raters, where it has any yet."""
        if batch.purpose not in ORDINARY or batch.state == BatchState.CLOSED or remaining <= 0:
            return 0.0, {}
        seconds = work.active_ms / 1000 / counted if counted >= KNOWN else self.rules.seconds_per_judgment
        money: dict[str, Decimal] = defaultdict(Decimal)
        shares = {rater: own.active_ms for (of, rater), own in self.payers.items() if of == batch.pk}
        total = sum(shares.values())
        for rater, ms in shares.items() if total else [(None, 1)]:
            rate = self.rates.at(rater, self.now)
            if rate is not None:
                part = ms / (total or 1) * remaining
                money[rate.currency] += pay.worth(rate, seconds * 1000 * part, part)
        return seconds * remaining / 3600, pay.rounded(money)


def _median_seconds(batch: Batch) -> float | None:
    own = Judgment.objects.filter(batch=batch, rater__kind=RaterKind.PERSON, assignment__isnull=False, retracts=False)
    times = list(own.filter(supersedes=None).order_by("-pk").values_list("active_ms", flat=True)[:SAMPLE])
    return median(times) / 1000 if times else None


def positions(programme: Programme) -> dict[UUID, list[tuple[int, int]]]:
    """Of each batch and rater: decided comparisons that prefer the answer shown first, and all decided ones."""
    shown = agreement.votes(programme).filter(
        rater__kind=RaterKind.PERSON, judgment__assignment__isnull=False, item__kind=TaskKind.PAIRWISE
    )
    a, b = Q(judgment__payload__strength__lt=0), Q(judgment__payload__strength__gt=0)
    grouped = shown.values("item__batch_id", "rater_id").order_by()
    rows = grouped.annotate(
        first=Count("pk", filter=Q(judgment__order__0=0) & a | Q(judgment__order__0=1) & b),
        decided=Count("pk", filter=a | b),
    )
    found: dict[UUID, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        found[row["item__batch_id"]].append((row["first"], row["decided"]))
    return found


@dataclass(frozen=True)
class Series:
    """Figures by day (UTC), the oldest first; each list is as long as `days`."""

    days: tuple[date, ...]
    judgments: Mapping[str, tuple[int, ...]]
    """By kind of rater, those that judged at all: judgments given on the day that hold."""
    median_seconds: tuple[float | None, ...]
    """Of people's active time."""
    agreement: tuple[Share | None, ...]
    """Of items whose last judgment came on the day."""


def series(programme: Programme, days: int = 30, now: datetime | None = None) -> Series:
    """What charts show.

    Raises:
        HeedfulError: days outside 1 to 366.
    """
    if not 1 <= days <= 366:
        raise HeedfulError("{days} is not in 1 to 366.", where="days", days=days)
    today = (now or clock.now()).astimezone(UTC).date()
    dates = tuple(today - timedelta(days=i) for i in range(days - 1, -1, -1))
    since = datetime(dates[0].year, dates[0].month, dates[0].day, tzinfo=UTC)
    day = TruncDate("judgment__created", tzinfo=UTC)
    held = CurrentJudgment.objects.filter(judgment__programme=programme, judgment__created__gte=since)
    kinds: dict[str, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    counted = held.annotate(day=day).values("day", "rater__kind").order_by().annotate(count=Count("pk"))
    for row in counted:
        kinds[row["rater__kind"]][row["day"]] += row["count"]
    times: dict[date, list[int]] = defaultdict(list)
    people = held.filter(rater__kind=RaterKind.PERSON, judgment__assignment__isnull=False).annotate(day=day)
    for on, ms in people.values_list("day", "judgment__active_ms").iterator():
        times[on].append(ms)
    compared: dict[date, list[agreement.Compared]] = defaultdict(list)
    recent = held.values("item").order_by()
    for one in agreement.by_item(agreement.votes(programme).filter(item__in=recent), dated=True):
        if one.last is not None:
            compared[one.last.astimezone(UTC).date()].append(one)
    return Series(
        days=dates,
        judgments={kind: tuple(found[on] for on in dates) for kind, found in sorted(kinds.items())},
        median_seconds=tuple(median(times[on]) / 1000 if times[on] else None for on in dates),
        agreement=tuple(agreement.overall(compared[on]) for on in dates),
    )


@dataclass(frozen=True)
class Estimate:
    """What a batch will ask for, before anybody has judged."""

    judgments: int
    """Counted ones."""
    most: int
    """If every item went up to the cap because raters disagree."""
    special: int
    """Gold and repeats beside them."""
    hours: float
    hours_most: float
    currency: str
    cost: Decimal | None
    """None without a pay rate."""
    cost_most: Decimal | None


def estimate(items: int, quota: int, rules: Rules, rate: PayRate | None, *, quota_cap: int | None = None) -> Estimate:
    """Judgments, hours and money that a batch will take.

    Args:
        items: in the batch.
        quota: judgments wanted for each.
        rules: for the share of gold and repeats, and the seconds a judgment takes.
        rate: pay.
        quota_cap: the most judgments for an item; by default the quota.

    Raises:
        HeedfulError: gold and repeats leave no room for anything else.
    """
    extra = rules.gold_rate + rules.repeat_rate
    if extra >= 1:
        raise HeedfulError("gold and repeats leave no room for anything else.", where="rules.gold_rate")
    judgments, most = items * quota, items * max(quota, quota_cap or quota)

    def all_in(count: int) -> tuple[int, float, Decimal | None]:
        total = round(count / (1 - extra))
        cost = None
        if rate is not None:
            cost = pay.worth(rate, total * rules.seconds_per_judgment * 1000, total).quantize(pay.CENT)
        return total - count, total * rules.seconds_per_judgment / 3600, cost

    special, hours, cost = all_in(judgments)
    _, hours_most, cost_most = all_in(most)
    return Estimate(judgments, most, special, hours, hours_most, rate.currency if rate else "", cost, cost_most)
