"""How much of a batch one rater may fill.

Two counts are kept in rows, so that asking costs the same however much is judged: the slots of a batch, and those of
them that a rater has filled. A row is made when its count is first needed, and kept from then on; without a largest
share there are none.
"""

from __future__ import annotations

import math
from typing import Any

from django.db import connection
from django.db.models import F, QuerySet

from heedful.feedback import statements
from heedful.feedback.models import Assignment, AssignmentState, Batch, Rater, Slot, Tally


def reached(rater: Rater, batch: Batch, most: float) -> bool:
    """Whether a rater holds or has filled their largest share of a batch's slots; one slot is always theirs.

    Args:
        rater: who asks for more.
        batch: of which.
        most: share of its slots, 0 to 1; at 1 nothing is counted.
    """
    if most >= 1:
        return False
    ours = Assignment.objects.filter(rater=rater, slot__batch=batch, slot__reserved_for=None)
    total = _kept(batch.pk, None, Slot.objects.filter(batch=batch, reserved_for=None))
    filled = _kept(batch.pk, rater.pk, ours.filter(state=AssignmentState.SUBMITTED))
    held = ours.filter(state=AssignmentState.LEASED).count()
    return filled + held >= max(1, math.floor(most * total + 1e-9))


def _kept(batch: Any, rater: Any, rows: QuerySet[Any]) -> int:
    """A kept count; where it is not kept yet, counted, and in a transaction kept from now on."""
    found = Tally.objects.filter(batch=batch, rater=rater).values_list("count", flat=True).first()
    if found is None:
        found = rows.count()
        if connection.in_atomic_block:
            Tally.objects.bulk_create([Tally(batch_id=batch, rater_id=rater, count=found)], ignore_conflicts=True)
    return found


def grew(batch: Batch, slots: int) -> None:
    """Further slots were made for anybody."""
    Tally.objects.filter(batch=batch, rater=None).update(count=F("count") + slots)


FILLED = "UPDATE feedback_tally SET count = count + %s WHERE batch_id = %s AND rater_id = %s"


def filled(slot: Slot, rater: Any, by: int) -> None:
    """A rater has filled a slot (1), or has taken their judgment back (-1)."""
    if slot.reserved_for_id is None:
        statements.change(FILLED, [by, slot.batch_id, rater])
