"""Places for counted judgments: made, given back, closed, and what their state says of their item.

On PostgreSQL rows are held in one order, so that nobody waits in a ring: rater, item, slot, assignment. Whoever
changes an item's counters, or more than one of its slots, holds the item's row first (SQLite has one writer anyway).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from django.db.models import F

from heedful.feedback import clock, events, share, statements
from heedful.feedback.models import (
    Assignment,
    AssignmentState,
    Batch,
    CurrentJudgment,
    Guideline,
    Item,
    ItemState,
    Purpose,
    QueueCursor,
    Rater,
    Slot,
    SlotState,
)
from heedful.feedback.queue_rows import BEFORE_ALL
from heedful.feedback.rules import rules_of
from heedful.feedback.verdicts import disagree

QUEUED = (Purpose.TRAIN, Purpose.CHECK)
"""Purposes whose slots anybody may be given; the others' are made for one rater at a time."""
MOST = 500


def route_of(item: Item) -> str:
    """The queue that an item's slots stand in: "language|expertise", or one of its own for a set of named raters.

    A rater finds the queues that name them by their cursors, which are made with the slots.
    """
    if item.named_raters:
        names = ",".join(sorted(str(key) for key in item.named_raters))
        return "@" + hashlib.sha256(names.encode()).hexdigest()[:40]
    return f"{item.language}|{item.expertise}" if item.language or item.expertise else ""


def make(batch: Batch, items: Sequence[Item]) -> list[Slot]:
    """The free slots of new items, one item's beside each other, in the items' order."""
    made = []
    cursors = {}
    for item in items:
        route = route_of(item)
        made += [
            Slot(
                item=item,
                batch=batch,
                purpose=item.purpose,
                guideline_id=batch.guideline_id,
                route=route,
                priority=item.priority,
                position=item.position * batch.quota_cap + number,
            )
            for number in range(batch.quota)
        ]
        for key in item.named_raters:
            cursors[key, route] = QueueCursor(
                rater_id=key, batch=batch, route=route, lane=1, priority=BEFORE_ALL[0], position=BEFORE_ALL[1]
            )
    Slot.objects.bulk_create(made, batch_size=MOST)
    QueueCursor.objects.bulk_create(cursors.values(), ignore_conflicts=True, batch_size=MOST)
    if made:
        share.grew(batch, len(made))
        rewind(batch, max(item.priority for item in items))
        digest = events.digest_of([str(slot.pk) for slot in made])
        events.record("slots.made", programme=batch.programme_id, batch=batch, count=len(made), digest=digest)
    return made


def rewind(batch: Batch, priority: int = BEFORE_ALL[0]) -> None:
    """Move cursors of lane 1 that have passed a priority back before it."""
    passed = QueueCursor.objects.select_for_update().filter(batch=batch, lane=1, priority__lt=priority)
    keys = list(passed.order_by("rater_id", "route", "lane").values_list("pk", flat=True))
    for start in range(0, len(keys), MOST):
        some = QueueCursor.objects.filter(pk__in=keys[start : start + MOST])
        some.update(priority=priority, position=BEFORE_ALL[1])


def reserve(
    item: Item,
    rater: Rater,
    *,
    purpose: str | None = None,
    pass_number: int = 1,
    guideline: Guideline | None = None,
    batch: Batch | None = None,
) -> Slot:
    """A free slot for one rater: gold, qualification, calibration, a repeat. It is not part of the item's quota."""
    made = Slot.objects.create(
        item=item,
        batch=batch or item.batch,
        purpose=purpose or item.purpose,
        pass_number=pass_number,
        guideline=guideline or (batch or item.batch).guideline,
        reserved_for=rater,
        route=route_of(item),
        lane=0,
        position=clock.rising(),
    )
    events.record("slot.opened", programme=item.programme_id, slot=made, item=item, rater=rater)
    return made


def give_back(slot: Slot, item: Item) -> None:
    """Free a slot that was leased or done: to the end of lane 0, unless its item waits for a manager or is out.

    The caller holds the slot's row, and has seen the item under its row's hold.
    """
    queued = slot.reserved_for_id is None
    out = item.state == ItemState.WITHDRAWN
    out |= queued and (item.state == ItemState.PARKED or item.purpose != slot.purpose)  # promoted to gold meanwhile
    slot.state = SlotState.CLOSED if out else SlotState.FREE
    slot.lane, slot.priority, slot.position = 0, 0, clock.rising()
    slot.holder = slot.lease_until = None
    slot.save(update_fields=["state", "lane", "priority", "position", "holder", "lease_until"])
    if out:
        events.record("slot.closed", programme=item.programme_id, slot=slot, item=item)


def close(slot: Slot, item: Item) -> None:
    """Close a slot for good: of a reserved one that its rater passed."""
    slot.state, slot.holder, slot.lease_until = SlotState.CLOSED, None, None
    slot.save(update_fields=["state", "holder", "lease_until"])
    events.record("slot.closed", programme=item.programme_id, slot=slot, item=item)


def park(item: Item, actor: Any = None) -> None:
    """An item waits for a manager: its free slots close. The caller holds the item's row."""
    Item.objects.filter(pk=item.pk).update(state=ItemState.PARKED)
    free = Slot.objects.select_for_update().filter(item=item, state=SlotState.FREE, reserved_for=None).order_by("pk")
    keys = list(free.values_list("pk", flat=True))
    Slot.objects.filter(pk__in=keys).update(state=SlotState.CLOSED)
    events.record("item.parked", programme=item.programme_id, actor=actor, item=item, slots=keys)
    item.state = ItemState.PARKED


def withdraw(item: Item, actor: Any = None) -> None:
    """An item is out for good: slots that are not done close, work on it is given back. The caller holds its row."""
    Item.objects.filter(pk=item.pk).update(state=ItemState.WITHDRAWN, version=F("version") + 1)
    live = Slot.objects.select_for_update().filter(item=item, state__in=(SlotState.FREE, SlotState.LEASED))
    keys = list(live.order_by("pk").values_list("pk", flat=True))
    held = Assignment.objects.filter(item=item, state=AssignmentState.LEASED).order_by("pk")
    released = list(held.values_list("pk", flat=True))
    held.update(state=AssignmentState.RELEASED, ended=clock.now())
    Slot.objects.filter(pk__in=keys).update(state=SlotState.CLOSED, holder=None, lease_until=None)
    events.record(
        "item.withdrawn", programme=item.programme_id, actor=actor, item=item, slots=keys, assignments=released
    )
    item.state = ItemState.WITHDRAWN


STATES = "SELECT state FROM feedback_slot WHERE item_id = %s AND reserved_for_id IS NULL"
SETTLED = "UPDATE feedback_item SET state = %s WHERE id = %s"


def settle(item: Item) -> None:
    """Set an item done or open by its slots, and open a further one where raters disagree.

    The caller holds the item's row. Slots made for one rater do not count.
    """
    if item.purpose not in QUEUED:
        return
    states = [state for (state,) in statements.ask(STATES, [item.pk])]
    waiting = SlotState.FREE in states or SlotState.LEASED in states
    done = states.count(SlotState.DONE)
    if not waiting and done:
        waiting = _further(item, len(states) - states.count(SlotState.CLOSED))
    if waiting or not done:
        if item.state == ItemState.DONE:
            statements.change(SETTLED, ["open", item.pk])
            events.record("item.reopened", programme=item.programme_id, item=item)
    elif item.state == ItemState.OPEN:
        statements.change(SETTLED, ["done", item.pk])
        events.record("item.done", programme=item.programme_id, item=item)


def _further(item: Item, places: int) -> bool:
    """Open one more slot if the item's counted judgments disagree and its batch's cap allows it."""
    [(cap,)] = statements.ask("SELECT quota_cap FROM feedback_batch WHERE id = %s", [item.batch_id])
    if places >= cap or item.state not in (ItemState.OPEN, ItemState.DONE):
        return False
    counted = CurrentJudgment.objects.filter(item=item, slot__isnull=False, slot__reserved_for=None)
    payloads = list(counted.values_list("judgment__payload", flat=True))
    if not disagree(item.kind, payloads, rules_of(item.programme.settings).disagreement):
        return False
    further(item, Batch.objects.get(pk=item.batch_id))
    return True


def further(item: Item, batch: Batch, actor: Any = None) -> Slot:
    """Open one more slot for anybody, ahead of those never handed out. The caller holds the item's row."""
    made = Slot.objects.create(
        item=item,
        batch=batch,
        purpose=item.purpose,
        guideline_id=batch.guideline_id,
        route=route_of(item),
        lane=0,
        position=clock.rising(),
    )
    share.grew(batch, 1)
    Item.objects.filter(pk=item.pk).update(extra_slots=F("extra_slots") + 1)
    events.record("slot.opened", programme=item.programme_id, actor=actor, slot=made, item=item)
    return made
