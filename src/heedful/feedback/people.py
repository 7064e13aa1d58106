"""Raters: what each did and earned, and who they are together, never one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from statistics import median
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Max, Q, Window
from django.db.models.functions import RowNumber, TruncMonth

from heedful.core.statistics import wilson
from heedful.feedback import agreement, clock, pay
from heedful.feedback.gold import Accuracy
from heedful.feedback.models import (
    Assignment,
    CurrentJudgment,
    GoldOutcome,
    GroupAnswer,
    Judgment,
    PayRate,
    Programme,
    Rater,
    RaterKind,
    Skip,
)
from heedful.feedback.payloads import to_shown
from heedful.feedback.pseudonyms import Pseudonyms
from heedful.feedback.ratios import Share
from heedful.feedback.rules import rules_of

LEAST = 5
"""Cells with fewer raters are never shown."""
SAMPLE = 200
"""Newest judgments of a rater that their median time is taken over."""


@dataclass(frozen=True)
class RaterRow:
    """A rater on the lead's page."""

    rater: Rater
    judgments: int
    """That hold, whatever they are for."""
    hours: float
    """Active; of people only."""
    cost: Mapping[str, Decimal]
    median_seconds: float | None
    gold: Accuracy
    skips: int
    agreement: Share | None
    """With others who judged the same items lately."""
    consistency: Share | None
    """With themselves, on items that they were shown again."""
    last_seen: datetime | None
    """When they last began or gave a judgment."""


def table(programme: Programme) -> list[RaterRow]:
    """Every rater of a programme, whoever was seen last first. End users are none of its raters."""
    asked = Rater.objects.filter(programme=programme).exclude(kind=RaterKind.END_USER)
    raters = list(asked.select_related("account"))
    held = _counts(CurrentJudgment.objects.filter(rater__programme=programme), "rater_id")
    skips = _counts(Skip.objects.filter(assignment__rater__programme=programme), "assignment__rater_id")
    work = pay.work(programme, ["rater"])
    times = _median_seconds(programme)
    golds = gold_accuracies(programme)
    agreed, consistent = agreement.by_rater(programme), agreement.with_self(programme)
    seen = _last_seen(programme)
    rows = []
    for rater in raters:
        own = work.get((rater.pk,), pay.Work())
        rows.append(
            RaterRow(
                rater=rater,
                judgments=held.get(rater.pk, 0),
                hours=own.hours,
                cost=own.cost,
                median_seconds=times.get(rater.pk),
                gold=golds.get(rater.pk, Accuracy(0, 0, None)),
                skips=skips.get(rater.pk, 0),
                agreement=agreed.get(rater.pk),
                consistency=consistent.get(rater.pk),
                last_seen=seen.get(rater.pk),
            )
        )
    return sorted(rows, key=lambda row: (row.last_seen is None, -(row.last_seen or clock.now()).timestamp()))


def _counts(rows: Any, field: str) -> dict[UUID, int]:
    grouped = rows.values(field).order_by().annotate(count=Count("pk"))
    return {row[field]: row["count"] for row in grouped}


def _median_seconds(programme: Programme) -> dict[UUID, float]:
    own = Judgment.objects.filter(programme=programme, assignment__isnull=False, supersedes=None)
    place = Window(RowNumber(), partition_by=F("rater_id"), order_by=F("created").desc())
    newest = own.annotate(place=place).filter(place__lte=SAMPLE)
    times: dict[UUID, list[int]] = defaultdict(list)
    for rater, ms in newest.values_list("rater_id", "active_ms"):
        times[rater].append(ms)
    return {rater: median(found) / 1000 for rater, found in times.items()}


def gold_accuracies(programme: Programme) -> dict[UUID, Accuracy]:
    """Each rater's accuracy on all gold they judged, upheld contests left out."""
    counted = GoldOutcome.objects.filter(Q(upheld__isnull=True) | Q(upheld=False), rater__programme=programme)
    grouped = counted.values("rater_id").order_by()
    rows = grouped.annotate(judged=Count("pk"), right=Count("pk", filter=Q(passed=True)))
    return {row["rater_id"]: Accuracy(row["judged"], row["right"], wilson(row["right"], row["judged"])) for row in rows}


def _last_seen(programme: Programme) -> dict[UUID, datetime]:
    found: dict[UUID, datetime] = {}
    for rows in (
        Judgment.objects.filter(programme=programme).values("rater_id").order_by().annotate(last=Max("created")),
        Assignment.objects.filter(rater__programme=programme, shown__isnull=False)
        .values("rater_id")
        .order_by()
        .annotate(last=Max("shown")),
    ):
        for row in rows:
            key, last = row["rater_id"], row["last"]
            found[key] = max(found.get(key, last), last)
    return found


@dataclass(frozen=True)
class Past:
    """A judgment on a rater's own page: what they said, in the letters that they saw, and whether it holds."""

    judgment: UUID
    item: UUID
    kind: str
    given: datetime
    seconds: float
    shown: dict[str, Any]
    """The payload about A, B, ...; of a demonstration or an edit {"text"}."""
    rationale: str
    holds: bool
    """False: it was corrected or undone since."""


def history(rater: Rater, limit: int = 100, before: datetime | None = None) -> list[Past]:
    """A rater's own judgments, the newest first. Nothing here tells gold from other items.

    Args:
        rater: whose.
        limit: how many at most.
        before: only those given before; for the next page.
    """
    own = Judgment.objects.filter(rater=rater, assignment__isnull=False, retracts=False)
    if before is not None:
        own = own.filter(created__lt=before)
    rows = own.select_related("rationale", "current", "demonstration__completion", "edit__completion")
    return [
        Past(
            judgment=row.pk,
            item=row.item_id,
            kind=row.kind,
            given=row.created,
            seconds=row.active_ms / 1000,
            shown=_shown(row),
            rationale=row.rationale.text if hasattr(row, "rationale") else "",
            holds=hasattr(row, "current"),
        )
        for row in rows.order_by("-created", "-pk")[:limit]
    ]


def _shown(judgment: Judgment) -> dict[str, Any]:
    for name in ("demonstration", "edit"):
        if hasattr(judgment, name):
            return {"text": getattr(judgment, name).completion.text}
    return to_shown(judgment.kind, judgment.payload, judgment.order) if judgment.order else judgment.payload


@dataclass(frozen=True)
class Month:
    """What a rater did and earned in a month (UTC)."""

    month: date
    judgments: int
    hours: float
    pay: Mapping[str, Decimal]
    """By currency."""


def pay_by_month(rater: Rater) -> list[Month]:
    """A rater's work and pay, the newest month first."""
    month = TruncMonth("created", tzinfo=UTC)
    rows = pay.work(rater.programme_id, [("month", month)], rater=rater.pk)
    found = [Month(key[0].date(), work.judgments, work.hours, work.cost) for key, work in rows.items()]
    return sorted((row for row in found if row.hours or row.judgments), key=lambda row: row.month, reverse=True)


def pay_rate(rater: Rater, when: datetime | None = None) -> PayRate | None:
    """The rate that a rater is paid by: the newest that has begun; one of their own goes before the programme's."""
    return pay.Rates(rater.programme_id).at(rater.pk, when or clock.now())


@dataclass(frozen=True)
class Group:
    """A row of a group table."""

    answer: str
    """Empty: prefers not to say."""
    raters: int | None
    """None: under five, or hidden so that another cannot be worked out."""
    share: float | None


@dataclass(frozen=True)
class GroupTable:
    """How raters answered a question about themselves, so far as it can be told without telling of one."""

    question: str
    total: int | None
    """Raters who answered; None where it would give a hidden cell away."""
    rows: tuple[Group, ...]


def groups(programme: Programme) -> list[GroupTable]:
    """The programme's group questions in their order, answers in theirs, with "prefer not to say" last."""
    given: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    answers = GroupAnswer.objects.filter(rater__programme=programme, rater__erased=None)
    for question, answer, count in answers.values_list("question", "answer").order_by().annotate(count=Count("pk")):
        given[question][answer] += count
    tables = []
    for asked in rules_of(programme.settings).group_questions:
        name = str(asked["name"])
        known = [str(answer) for answer in asked.get("answers", ())]
        counts = given.pop(name, {})
        tables.append(_table(name, {answer: counts.get(answer, 0) for answer in [*known, *counts, ""]}))
    return tables + [_table(name, counts) for name, counts in sorted(given.items())]  # questions asked before


def _table(question: str, counts: Mapping[str, int]) -> GroupTable:
    ordered = sorted(counts, key=lambda answer: answer == "")
    shown, total = suppress({answer: counts[answer] for answer in ordered})
    rows = tuple(
        Group(answer, count, count / total if count is not None and total else None) for answer, count in shown.items()
    )
    return GroupTable(question, total, rows)


def suppress(counts: Mapping[str, int], least: int = LEAST) -> tuple[dict[str, int | None], int | None]:
    """Hide small cells of a table, and as many others as it takes that none can be worked out from the total.

    Cells under `least`, zeros too, are hidden. Where any is, the next smallest follow until two or more are hidden and
    together they hold `least` raters or more. If they never do, everything is hidden, the total too.

    Returns:
        counts with None for what is hidden; the total, or None.
    """
    hidden = {answer for answer, count in counts.items() if count < least}
    for answer in sorted(counts, key=lambda answer: (counts[answer], answer)):
        enough = len(hidden) >= 2 and sum(counts[one] for one in hidden) >= least
        if not hidden or enough:
            break
        hidden.add(answer)
    safe = not hidden or (len(hidden) >= 2 and sum(counts[one] for one in hidden) >= least)
    shown = {answer: None if answer in hidden else count for answer, count in counts.items()}
    return shown, sum(counts.values()) if safe else None


def pseudonyms(raters: Iterable[UUID], key: bytes) -> dict[UUID, str]:
    """Raters' names in one export: the same within it, unlike those under any other key; see `Pseudonyms`."""
    names = Pseudonyms(key)
    return {rater: str(names.of(rater)) for rater in raters}
