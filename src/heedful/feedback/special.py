"""Work that is made for one rater: tests, calibration, gold, repeats."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from heedful.feedback import calibration, clock, places, qualification, slots, statements
from heedful.feedback.models import (
    HELD,
    Adjudication,
    Assignment,
    AssignmentState,
    Batch,
    CurrentJudgment,
    GoldKey,
    Guideline,
    ItemCompletion,
    ItemState,
    Judgment,
    OpenedVotes,
    Purpose,
    Rater,
    Slot,
    SlotState,
)
from heedful.feedback.patterns import KINDS
from heedful.feedback.rules import Rules, rules_of

OUT = (ItemState.WITHDRAWN, ItemState.PARKED)
REPEAT_AFTER = 10
"""A rater sees an item again at the earliest when they had this many others since."""


def offer(rater: Rater, batches: Sequence[Batch]) -> Slot | None:
    """A free slot reserved for this rater, or None when ordinary work is next.

    First the test that they are taking, then open calibration sessions; gold and repeats come among ordinary work, and
    only while there is some. A paused rater is given tests and calibration alone.

    Args:
        rater: who asks.
        batches: the open ones, for whatever purpose, in the order in which they are handed out.
    """
    with transaction.atomic(savepoint=False):
        slot = qualification.next_slot(rater, batches) or calibration.next_slot(rater, batches)
        if slot is not None or rater.paused is not None:
            return slot
        rules = rules_of(rater.programme.settings)
        return _given_back(rater) or _gold(rater, batches, rules) or _repeat(rater, batches, rules)


RESERVED = "SELECT 1 FROM feedback_slot WHERE reserved_for_id = %s AND state = 'free' LIMIT 1"


def _given_back(rater: Rater) -> Slot | None:
    """A gold item or a repeat that was made for this rater, and came back when its lease ended."""
    if not statements.ask(RESERVED, [rater.pk]):
        return None
    own = Slot.objects.filter(reserved_for=rater, state=SlotState.FREE)
    waiting = own.filter(Q(purpose=Purpose.GOLD) | Q(purpose=Purpose.CHECK, pass_number__gte=2))
    for slot in waiting.select_related("item").order_by("position", "pk"):
        active = slot.purpose != Purpose.GOLD or GoldKey.objects.filter(item=slot.item_id, retired=None).exists()
        if active and slot.item.state not in OUT:
            return slot
        slots.close(slot, slot.item)
    return None


def gap(rate: float, *seed: object) -> int:
    """How many ordinary assignments go before the next special one: geometric, so that nobody can foresee it.

    Args:
        rate: share of assignments that are special, above 0.
        seed: what the draw depends on; the same seed gives the same gap.
    """
    if rate >= 1:
        return 0
    return int(math.log(_uniform(*seed)) / math.log1p(-rate))


def _uniform(*seed: object) -> float:
    """A number above 0, at most 1, from the hash of the seed."""
    digest = hashlib.sha256("|".join(str(part) for part in seed).encode()).digest()
    return (int.from_bytes(digest[:8], "big") + 1) / 2**64


def _due(rater: Rater, rate: float, what: str, earlier: QuerySet[Slot]) -> bool:
    """Whether enough ordinary assignments went by since the last special one of its kind.

    The gap is drawn from the rater and the count of earlier ones. No more rows are read than the gap is long, however
    many assignments the rater had.
    """
    if rate <= 0:
        return False
    times = list(earlier.order_by("created").values_list("created", flat=True))
    wanted = gap(rate, what, rater.pk, len(times))
    since = Assignment.objects.filter(rater=rater)
    if times:  # the special one itself came since; all states are named, so that an index serves
        wanted += 1
        since = since.filter(state__in=AssignmentState.values, created__gt=times[-1])
    return since.order_by()[:wanted].count() >= wanted if wanted else True


def _work(rater: Rater, batches: Sequence[Batch]) -> list[tuple[Batch, str, Guideline]]:
    """The ordinary work at hand: of each batch, the kind of task and the guideline of one free slot."""
    found = []
    tests = qualification.required(rater)
    for batch in batches:
        if batch.purpose not in qualification.ORDINARY:
            continue
        free = Slot.objects.filter(batch=batch, state=SlotState.FREE, reserved_for=None)
        slot = next(iter(free.select_related("item", "guideline").order_by()[:1]), None)
        if slot is not None and qualification.may_work(rater, batch, tests):
            found.append((batch, slot.item.kind, slot.guideline))
    return found


def _gold(rater: Rater, batches: Sequence[Batch], rules: Rules) -> Slot | None:
    if not _due(rater, rules.gold_rate, "gold", Slot.objects.filter(reserved_for=rater, purpose=Purpose.GOLD)):
        return None
    work = {kind: guideline for _batch, kind, guideline in reversed(_work(rater, batches))}
    for key in _unmet(rater, list(work)):
        guideline = work[key.item.kind]
        names = {str(attribute["name"]) for attribute in guideline.attributes}
        asked = {name for one in key.acceptable for row in one.get("scores", {}).values() for name in row}
        if asked <= names and places.suits(rater, key.item):
            return places.reserve(rater, key.item, str(Purpose.GOLD), guideline=guideline)
    return None


def _unmet(rater: Rater, kinds: Sequence[str]) -> list[GoldKey]:
    """Active keys that this rater has nothing to do with: the least shown first, then in an order of their own."""
    item = OuterRef("item")
    keys = (
        GoldKey.objects.filter(item__programme=rater.programme_id, item__purpose=Purpose.GOLD, item__kind__in=kinds)
        .filter(retired=None, active_from__lte=clock.now())
        .exclude(item__state__in=OUT)
        .exclude(Exists(Assignment.objects.filter(item=item, rater=rater, state__in=HELD)))
        .exclude(Exists(Judgment.objects.filter(item=item, rater=rater)))
        .exclude(Exists(ItemCompletion.objects.filter(item=item, completion__author=rater)))
    )
    if rater.account_id is not None:
        keys = keys.exclude(Exists(Adjudication.objects.filter(item=item, adjudicator=rater.account_id)))
        keys = keys.exclude(Exists(OpenedVotes.objects.filter(item=item, account=rater.account_id)))
    shown = Count("item__slots", filter=Q(item__slots__purpose=Purpose.GOLD))
    found = list(keys.select_related("item__prompt", "item__batch").annotate(shown=shown))
    return sorted(found, key=lambda key: (key.shown, _uniform(rater.pk, key.pk)))


def _repeat(rater: Rater, batches: Sequence[Batch], rules: Rules) -> Slot | None:
    """An item that the rater judged some time ago, once more: for checking, never for training."""
    repeats = Slot.objects.filter(reserved_for=rater, purpose=Purpose.CHECK, pass_number__gte=2)
    if not _due(rater, rules.repeat_rate, "repeat", repeats):
        return None
    work = {batch.pk for batch, _kind, _guideline in _work(rater, batches)}
    for judgment in _own(rater):
        item = judgment.item
        if item.batch_id in work and item.kind in KINDS and item.state not in OUT and item.purpose != Purpose.GOLD:
            slot = places.reserve(rater, item, str(Purpose.CHECK), guideline=judgment.guideline, pass_number=2)
            if slot is not None:
                return slot
    return None


def _own(rater: Rater) -> list[CurrentJudgment]:
    """Some of the rater's own judgments that hold, none of their last few, in an order that they cannot foresee."""
    held = CurrentJudgment.objects.filter(rater=rater, pass_number=1, purpose__in=qualification.ORDINARY)
    recent = held.select_related("item__batch", "guideline").order_by("-created", "-pk")
    older = list(recent[REPEAT_AFTER : REPEAT_AFTER + 40])
    return sorted(older, key=lambda one: _uniform("repeat", rater.pk, one.pk))
