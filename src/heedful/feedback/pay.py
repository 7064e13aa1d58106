"""What raters are paid: by the hour of active time, and by the judgment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from django.db.models import Case, Count, IntegerField, QuerySet, Sum, Value, When
from django.db.models.expressions import BaseExpression

from heedful.feedback.models import Assignment, CurrentJudgment, Judgment, PayRate, Programme, RaterKind

HOUR = Decimal(3_600_000)
CENT = Decimal("0.01")


@dataclass
class Work:
    """What was done, and what it is worth by currency."""

    active_ms: int = 0
    judgments: int = 0
    """That hold."""
    money: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def join(self, other: Work) -> None:
        """Add other work, already paid."""
        self.active_ms += other.active_ms
        self.judgments += other.judgments
        for currency, value in other.money.items():
            self.money[currency] += value

    def add(self, active_ms: int, judgments: int, rate: PayRate | None) -> None:
        """Add some work at a rate."""
        self.active_ms += active_ms
        self.judgments += judgments
        if rate is not None:
            self.money[rate.currency] += worth(rate, active_ms, judgments)

    @property
    def hours(self) -> float:
        """Active hours."""
        return self.active_ms / 3_600_000

    @property
    def cost(self) -> dict[str, Decimal]:
        """Money by currency, in cents."""
        return rounded(self.money)


def worth(rate: PayRate, active_ms: float, judgments: float) -> Decimal:
    """What some work pays at a rate, not rounded."""
    return rate.per_hour * Decimal(active_ms) / HOUR + rate.per_judgment * Decimal(judgments)


def rounded(money: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Money by currency, to the cent, without what is nothing."""
    found = {currency: value.quantize(CENT, ROUND_HALF_UP) for currency, value in sorted(money.items())}
    return {currency: value for currency, value in found.items() if value}


class Rates:
    """A programme's pay rates."""

    def __init__(self, programme: Programme | UUID) -> None:
        self.rows = list(PayRate.objects.filter(programme=programme).order_by("begins", "created", "pk"))
        self.starts = sorted({row.begins for row in self.rows})

    def at(self, rater: UUID | None, when: datetime) -> PayRate | None:
        """The newest rate that has begun: one for this rater alone goes before one for everybody."""
        begun = [row for row in self.rows if row.begins <= when]
        own = [row for row in begun if rater is not None and row.rater_id == rater]
        general = [row for row in begun if row.rater_id is None]
        return (own or general or [None])[-1]

    def period(self) -> BaseExpression:
        """For a query over rows with `created`: how many rates had begun by then."""
        cases = [When(created__gte=at, then=Value(i)) for i, at in reversed(list(enumerate(self.starts, 1)))]
        return Case(*cases, default=Value(0), output_field=IntegerField())

    def in_period(self, rater: UUID, period: int) -> PayRate | None:
        """The rate of a rater in a period that `period` counted."""
        return self.at(rater, self.starts[period - 1]) if period else None


def work(programme: Programme | UUID, by: Sequence[Any], *, rater: UUID | None = None) -> dict[tuple[Any, ...], Work]:
    """People's work by some keys, each piece paid at the rate of its time.

    Time counts for whatever was shown: what was submitted, corrected, passed, or given back half done. A judgment that
    holds is paid once, however often it was corrected.

    Args:
        programme: whose raters.
        by: of "rater", "batch", or (name, expression over `created`).
        rater: only theirs.
    """
    rates = Rates(programme)
    found: dict[tuple[Any, ...], Work] = defaultdict(Work)
    extra = {key[0]: key[1] for key in by if not isinstance(key, str)}
    people: dict[str, Any] = {"rater__kind": RaterKind.PERSON, "rater__programme": programme}
    if rater is not None:
        people["rater"] = rater
    for rows, batch, ms, paid in _sources(people):
        names = {"batch": batch, "rater": "rater_id"}
        fields = [names.get(key, key) if isinstance(key, str) else key[0] for key in by]
        grouped = rows.annotate(period=rates.period(), **extra).values("rater_id", "period", *fields).order_by()
        for row in grouped.annotate(ms=ms, paid=paid):
            rate = rates.in_period(row["rater_id"], row["period"])
            found[tuple(row[field] for field in fields)].add(row["ms"] or 0, row["paid"], rate)
    return dict(found)


def _sources(people: Mapping[str, Any]) -> Iterator[tuple[QuerySet[Any], str, BaseExpression, BaseExpression]]:
    """Where time and judgments are counted: rows with `created`, the way to their batch, milliseconds, judgments."""
    none, time = Value(0, output_field=IntegerField()), Sum("active_ms")
    yield Assignment.objects.filter(**people), "item__batch_id", time, none
    said = Judgment.objects.filter(**people)
    yield said.filter(supersedes__isnull=False, retracts=False, assignment__isnull=False), "batch_id", time, none
    yield said.filter(adjudication__isnull=False), "batch_id", time, none
    holds = CurrentJudgment.objects.filter(judgment__assignment__isnull=False, **people)
    yield holds, "judgment__batch_id", none, Count("pk")
