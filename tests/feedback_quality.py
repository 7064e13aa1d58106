"""What the tests of gold, qualification, calibration, adjudication and the overview do again and again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from heedful.feedback import clock
from heedful.feedback.assignment import next_assignment, show
from heedful.feedback.models import Assignment, Batch, Item, Judgment, Purpose, Rater, SlotState
from heedful.feedback.payloads import to_shown
from heedful.feedback.submission import submit

_keys = itertools.count(1)


def answer(assignment: Assignment, *, active_ms: int = 1000, **payload: Any) -> Judgment:
    """Submit a payload that speaks of the item's own indices, as a page would send it that was open for so long."""
    at_work(assignment, active_ms)
    shown = to_shown(assignment.item.kind, payload, assignment.order)
    version = assignment.item_version
    return submit(assignment, shown, key=f"key-{next(_keys)}", item_version=version, active_ms=active_ms)


def at_work(assignment: Assignment, milliseconds: int) -> None:
    """As if the item had been shown so long ago: no page counts more time than that."""
    shown = clock.now() - timedelta(milliseconds=milliseconds)
    Assignment.objects.filter(pk=assignment.pk).update(shown=shown)


def take(rater: Rater, **how: Any) -> Assignment:
    """The rater's next assignment, shown to them."""
    found = next_assignment(rater, **how)
    assert found is not None
    return show(found)


def judge(rater: Rater, strength: int = 1, *, active_ms: int = 1000) -> Judgment:
    """Take the next item and compare."""
    return answer(take(rater), active_ms=active_ms, strength=strength)


def special_batch(made: Batch) -> Batch:
    """A batch made by the factories, as `open_batch` makes one for single raters: without free slots."""
    made.slots.filter(state=SlotState.FREE, reserved_for=None).delete()
    return made


def gold_item(made: Batch, item: Item) -> Item:
    """An item as if it came in a batch of gold."""
    item.slots.all().delete()
    item.purpose = Purpose.GOLD
    item.save()
    return item


@contextmanager
def at(when: datetime) -> Iterator[datetime]:
    """The store's clock, and the time that rows are stamped with, at a moment."""
    with patch("django.utils.timezone.now", return_value=when), patch.object(clock, "now", return_value=when):
        yield when


def days(count: float) -> timedelta:
    """So many days."""
    return timedelta(days=count)
