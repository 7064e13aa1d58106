"""Places at an item for one rater alone, and who may be given one."""

from __future__ import annotations

from django.db import transaction

from heedful.feedback import queues, slots
from heedful.feedback.models import HELD, Assignment, Guideline, Item, ItemCompletion, Judgment, Rater, Slot, SlotState

TAKEN = (SlotState.FREE, SlotState.LEASED, SlotState.DONE)


def reserve(
    rater: Rater, item: Item, purpose: str, *, guideline: Guideline | None = None, pass_number: int = 1
) -> Slot | None:
    """A free place at an item for this rater alone: the one that waits for them already, or a new one.

    Args:
        rater: whom it is for.
        item: any item of the programme, done or not.
        purpose: of the judgment.
        guideline: shown beside it; by default the batch's.
        pass_number: 2 and up where the rater judges the item again.

    Returns:
        None where the rater holds the place already, has filled it, or passed the item.
    """
    with transaction.atomic():
        Rater.objects.select_for_update(no_key=True).get(pk=rater.pk)  # a rater's two tabs come here in turn
        own = Slot.objects.filter(item=item, reserved_for=rater, purpose=purpose, pass_number=pass_number)
        found = own.filter(state__in=TAKEN).first()
        if found is not None:
            return found if found.state == SlotState.FREE else None
        had = Assignment.objects.filter(item=item, rater=rater, purpose=purpose, pass_number=pass_number)
        if had.filter(state__in=HELD).exists():
            return None
        return slots.reserve(item, rater, purpose=purpose, pass_number=pass_number, guideline=guideline)


def close_free(item: Item, **which: object) -> int:
    """Close an item's free places; whoever holds one may finish. The caller holds the item's row.

    Args:
        item: whose.
        which: further conditions on the places.

    Returns:
        how many closed.
    """
    free = Slot.objects.select_for_update().filter(item=item, state=SlotState.FREE, **which).order_by("pk")
    found = list(free)
    for slot in found:
        slots.close(slot, item)
    return len(found)


def suits(rater: Rater, item: Item) -> bool:
    """Whether a rater may be shown an item: named, or reads its language and knows its subject; did not opt out."""
    if set(item.prompt.categories) & set(rater.excluded_categories):
        return False
    if item.named_raters:
        return str(rater.pk) in {str(one) for one in item.named_raters}
    return queues.reads(rater, slots.route_of(item))


def wrote(rater: Rater, item: Item) -> bool:
    """Whether a rater wrote or edited one of an item's answers."""
    return ItemCompletion.objects.filter(item=item, completion__author=rater).exists()


def judged(rater: Rater, item: Item) -> bool:
    """Whether a rater ever judged an item, for whatever purpose, undone or not."""
    return Judgment.objects.filter(item=item, rater=rater).exists()
