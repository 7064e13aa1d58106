"""Calibration: everybody judges the same items, then sees and discusses what the others said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from heedful.errors import HeedfulError
from heedful.feedback import clock, events, places, verdicts
from heedful.feedback.models import (
    HELD,
    Account,
    Assignment,
    Batch,
    BatchState,
    CurrentJudgment,
    Item,
    ItemState,
    Membership,
    Purpose,
    Rater,
    RaterKind,
    Role,
    Slot,
)


@dataclass(frozen=True)
class Answer:
    """What one rater said of one item."""

    rater: Rater
    payload: dict[str, Any]
    """Of the item's own indices."""
    rationale: str
    safety_flag: bool
    active_ms: int
    given: datetime


@dataclass(frozen=True)
class CalibrationItem:
    """An item with everybody's answers, those alike beside each other."""

    item: Item
    answers: tuple[Answer, ...]
    agreement: float | None
    """Share of pairs of raters who say the same, ties a class of their own; None below two answers."""


@dataclass(frozen=True)
class Attendance:
    """How far one rater is."""

    rater: Rater
    answered: int
    skipped: int
    items: int


def next_slot(rater: Rater, batches: Sequence[Batch]) -> Slot | None:
    """The next item of an open calibration session that this rater has not had; the same order for everybody."""
    for batch in batches:
        if batch.purpose != Purpose.CALIBRATION or batch.opened_for_discussion is not None:
            continue
        had = Assignment.objects.filter(rater=rater, item__batch=batch, purpose=Purpose.CALIBRATION, state__in=HELD)
        waiting = _items(batch).exclude(pk__in=had.values("item")).select_related("prompt", "batch__guideline")
        for item in waiting:
            if not set(item.prompt.categories) & set(rater.excluded_categories) and not places.wrote(rater, item):
                slot = places.reserve(rater, item, str(Purpose.CALIBRATION))
                if slot is not None:
                    return slot
    return None


def open_for_discussion(batch: Batch, actor: Account) -> Batch:
    """Show everybody's answers to all, and end the session: nobody is given its items any more.

    Raises:
        HeedfulError: the batch is not for calibration, nobody has judged it, or it was opened before.
    """
    if batch.purpose != Purpose.CALIBRATION:
        raise HeedfulError("only a calibration session is opened for discussion.", where="batch")
    with transaction.atomic():
        batch = Batch.objects.select_for_update(no_key=True).get(pk=batch.pk)
        if batch.opened_for_discussion is not None:
            raise HeedfulError("the answers are open already.", where="batch")
        if not _judgments(batch).exists():
            raise HeedfulError("nobody has judged an item yet.", where="batch")
        batch.opened_for_discussion, batch.state = clock.now(), BatchState.CLOSED
        batch.save(update_fields=["opened_for_discussion", "state"])
        for item in Item.objects.select_for_update(no_key=True).filter(batch=batch).order_by("pk"):
            places.close_free(item)
        events.record("calibration.opened", programme=batch.programme_id, actor=actor, batch=batch)
    return batch


def answers(batch: Batch) -> list[CalibrationItem]:
    """Every item with everybody's answers, as they stood when the session was opened for discussion.

    Raises:
        HeedfulError: the batch is not for calibration, or its answers are not open yet.
    """
    if batch.purpose != Purpose.CALIBRATION:
        raise HeedfulError("the batch is no calibration session.", where="batch")
    if batch.opened_for_discussion is None:
        raise HeedfulError("the answers are not open yet.", where="batch", mend="Open the session for discussion.")
    given: dict[Any, list[Answer]] = defaultdict(list)
    rows = _judgments(batch).filter(judgment__created__lte=batch.opened_for_discussion)
    for row in rows.select_related("judgment__rationale", "rater__account").order_by("created", "pk"):
        judgment = row.judgment
        text = judgment.rationale.text if hasattr(judgment, "rationale") else ""
        given[row.item_id].append(
            Answer(row.rater, judgment.payload, text, judgment.safety_flag, judgment.active_ms, judgment.created)
        )
    return [_compare(item, given[item.pk]) for item in _items(batch).select_related("prompt", "batch__guideline")]


def _compare(item: Item, given: list[Answer]) -> CalibrationItem:
    ordered = sorted(given, key=lambda answer: verdicts.classes(item.kind, answer.payload))
    said = [verdicts.classes(item.kind, answer.payload) for answer in ordered]
    pairs = [verdicts.shared(one, other) for one, other in combinations(said, 2)]
    same, of = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return CalibrationItem(item, tuple(ordered), same / of if of else None)


def attendance(batch: Batch) -> list[Attendance]:
    """How far each rater of the programme is, those with most to do first."""
    items = _items(batch).count()
    judged: dict[Any, int] = defaultdict(int)
    for key in _judgments(batch).values_list("rater_id", flat=True):
        judged[key] += 1
    skipped: dict[Any, int] = defaultdict(int)
    skips = Assignment.objects.filter(item__batch=batch, purpose=Purpose.CALIBRATION, skip__isnull=False)
    for key in skips.values_list("rater_id", flat=True):
        skipped[key] += 1
    rows = [Attendance(rater, judged[rater.pk], skipped[rater.pk], items) for rater in members(batch, set(judged))]
    return sorted(rows, key=lambda row: (row.answered + row.skipped, str(row.rater.pk)))


def members(batch: Batch, also: set[Any]) -> QuerySet[Rater]:
    """The people who rate in a batch's programme now, and some others by id."""
    current = Membership.objects.filter(programme=batch.programme_id, role=Role.RATER, ended=None)
    raters = Rater.objects.filter(programme=batch.programme_id, kind=RaterKind.PERSON).select_related("account")
    return raters.filter(account__in=current.values("account")) | raters.filter(pk__in=also)


def _items(batch: Batch) -> QuerySet[Item]:
    open_items = Item.objects.filter(batch=batch, purpose=Purpose.CALIBRATION).exclude(state=ItemState.WITHDRAWN)
    return open_items.order_by("position", "pk")


def _judgments(batch: Batch) -> QuerySet[CurrentJudgment]:
    return CurrentJudgment.objects.filter(item__batch=batch, purpose=Purpose.CALIBRATION, pass_number=1)
