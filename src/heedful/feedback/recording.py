"""Judgments that come without an assignment: an AI judge's, a simulated rater's, imported ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Q

from heedful.errors import HeedfulError
from heedful.feedback import outcomes, slots, wire
from heedful.feedback.keeping import Said, earlier, keep, payload_of, tell_of
from heedful.feedback.leases import hold_item, hold_rater
from heedful.feedback.models import (
    Assignment,
    AssignmentState,
    CurrentJudgment,
    Guideline,
    Item,
    ItemCompletion,
    Judgment,
    Provenance,
    Rater,
    RaterKind,
    Slot,
    SlotState,
)
from heedful.feedback.texts import LONGEST_CONTENT, clean
from heedful.feedback.transactions import writes


@writes
def record(
    item: Item,
    rater: Rater,
    payload: Mapping[str, Any],
    *,
    key: str,
    order: Sequence[int] = (),
    judge_template: str = "",
    judge_order: str = "",
    rationale: str = "",
    safety_flag: bool = False,
    active_ms: int = 0,
    text: str | None = None,
    pass_number: int = 1,
    guideline: Guideline | None = None,
    counts: bool = True,
    provenance: wire.Provenance | None = None,
) -> Judgment:
    """Keep a judgment that comes without an assignment: an AI judge's, a simulated rater's, an imported one.

    Args:
        item: that was judged.
        rater: who judged.
        payload: in the item's own order.
        key: chosen by whoever brings it; the same again is the same judgment.
        order: the item's indices in the order that the rater saw, if any is known.
        judge_template: of an AI judge: version of its prompt template.
        judge_order: of an AI judge: the order it saw, as "0,1".
        rationale: free text.
        safety_flag: the rater holds the item to be dangerous.
        active_ms: time at work.
        text: the answer, of a demonstration or an edit.
        pass_number: 2 and up: the rater judges the item again.
        guideline: that was followed; by default the batch's.
        counts: take a free slot of the item; where none is left, the rater fills one already, or this is False,
            the judgment is kept as surplus. An end user's fills no place, and is none: raters are asked as often
            as the batch says.
        provenance: of an AI judge: how it came about; kept with the judgment when it is first kept.

    Raises:
        Conflict: the key came with something else, or this rater's judgment is there already.
        HeedfulError: the payload or a text is not as it should be, or the rater wrote a completion of the item.
    """
    said = Said(payload, key, rationale, safety_flag, active_ms, text)
    for field, value, most in (("judge_template", judge_template, 80), ("judge_order", judge_order, 20)):
        clean(value, field, longest=most)
    told = None if provenance is None else checked_provenance(provenance)
    followed = guideline or item.batch.guideline
    shown = list(order)
    digest = said.digest("record", item.pk, shown, judge_template, judge_order, pass_number, str(followed.pk), counts)
    hold_rater(rater.pk)
    item = hold_item(item.pk)
    again = earlier(rater.pk, key, digest)
    if again is not None:
        return again
    _may_record(item, rater, shown, followed)
    kept, completion = payload_of(item, followed.pk, said, None, rater.pk)
    asked = rater.kind != RaterKind.END_USER
    slot = _free_for(item, rater, followed, pass_number) if counts and asked else None
    made = Judgment(
        purpose=item.purpose,
        pass_number=pass_number,
        judge_template=judge_template,
        judge_order=judge_order,
        item_version=item.version,
        payload=kept,
        order=shown,
        active_ms=said.active_ms,
        surplus=slot is None and (asked or not counts),
        request_sha256=digest,
    )
    keep(made, item, rater.pk, followed.pk, slot, said, completion)
    if told is not None:
        Provenance.objects.create(judgment=made, **told)
    tell_of("judgment.recorded", made, slot)
    if slot is not None:
        slots.settle(item)
    outcomes.after_judgment(made)
    return made


def checked_provenance(given: wire.Provenance) -> dict[str, Any]:
    """The columns of a provenance.

    Raises:
        HeedfulError: a value is not as it should be, with the field.
    """
    for name in ("cost", "temperature"):
        value = getattr(given, name)
        if value is not None and (not math.isfinite(value) or value < 0):
            raise HeedfulError("{value!r} is no number from 0 on.", where=f"provenance.{name}", value=value)
    for name in ("prompt_tokens", "completion_tokens"):
        if getattr(given, name) < 0:
            raise HeedfulError("tokens are counted from 0 on.", where=f"provenance.{name}")
    return {
        "model": clean(given.model, "provenance.model", longest=300),
        "temperature": given.temperature,
        "cost": given.cost,
        "prompt_tokens": given.prompt_tokens,
        "completion_tokens": given.completion_tokens,
        "replies": [
            {
                "text": clean(one["text"], f"provenance.replies[{i}].text", longest=LONGEST_CONTENT),
                "finish": clean(one.get("finish", ""), f"provenance.replies[{i}].finish", longest=40),
            }
            for i, one in enumerate(given.replies)
        ],
    }


def _may_record(item: Item, rater: Rater, order: list[int], guideline: Guideline) -> None:
    own = (rater.programme_id, guideline.programme_id)
    if own != (item.programme_id, item.programme_id):
        raise HeedfulError("rater, guideline and item are of different programmes.", where="item")
    entries = ItemCompletion.objects.filter(item=item)
    if order and sorted(order) != list(range(entries.count())):
        raise HeedfulError("{order} does not name each completion once.", where="order", order=order)
    if entries.filter(completion__author=rater).exists():
        raise HeedfulError("nobody judges what they wrote.", where="rater")


def _free_for(item: Item, rater: Rater, guideline: Guideline, pass_number: int) -> Slot | None:
    """A free slot of the item, held; none for a rater who has one: in this pass they count once."""
    place = Q(item=item, purpose=item.purpose, pass_number=pass_number, guideline=guideline, reserved_for=None)
    own = CurrentJudgment.objects.filter(item=item, rater=rater, purpose=item.purpose, pass_number=pass_number)
    held = Assignment.objects.filter(
        item=item, rater=rater, purpose=item.purpose, pass_number=pass_number, state=AssignmentState.LEASED
    )
    if own.filter(slot__isnull=False).exists() or held.exists():
        return None
    free = Slot.objects.select_for_update(no_key=True).filter(place, state=SlotState.FREE).order_by("lane", "position")
    return free.first()
