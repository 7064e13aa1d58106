"""What raters said, kept: judgments, corrections, undone ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from heedful.feedback import clock, events, outcomes, share, sight, slots, statements
from heedful.feedback.conflict import Conflict
from heedful.feedback.keeping import Said, earlier, holding, keep, payload_of, tell_of
from heedful.feedback.leases import hold, hold_rater, require_consent, rules_for, tell, worked
from heedful.feedback.models import (
    HELD,
    Assignment,
    AssignmentState,
    Item,
    ItemState,
    Judgment,
    Purpose,
    Rater,
    Slot,
    SlotState,
)
from heedful.feedback.recording import record
from heedful.feedback.transactions import writes

__all__ = ["Conflict", "correct", "record", "submit", "undo"]


@writes
def submit(
    assignment: Assignment,
    shown: Mapping[str, Any],
    *,
    key: str,
    item_version: int,
    rationale: str = "",
    safety_flag: bool = False,
    active_ms: int = 0,
    text: str | None = None,
) -> Judgment:
    """Keep what a rater said. Once it returns, it is on disk.

    Work whose lease has ended is kept too: it counts if its slot, or another of the item, is free; else as surplus.

    Args:
        assignment: that it answers.
        shown: the payload, in the order that the rater saw.
        key: chosen by the page; the same again is the same submission.
        item_version: that the page showed.
        rationale: free text.
        safety_flag: the rater holds the item to be dangerous.
        active_ms: time at work.
        text: the answer, of a demonstration or an edit.

    Returns:
        the judgment; for a retry, the one that is there.

    Raises:
        Conflict: the key came with something else, the item has changed, the work was submitted or passed already, or
            it is late and the rater has had to do with the item's verdict; they withdrew their consent, or were erased.
        HeedfulError: the payload or a text is not as it should be, with the field.
    """
    said = Said(shown, key, rationale, safety_flag, active_ms, text)
    rater = assignment.rater_id
    hold_rater(rater)
    digest = said.digest("submit", assignment.pk, item_version)
    again = earlier(rater, key, digest)
    if again is not None:
        return again
    item, own, fresh = hold(assignment)
    if item.version != item_version:
        raise Conflict("the item has changed since it was shown.", where="item_version", mend="Reload the page.")
    require_consent(item, rater)
    said.check(rules_for(item))
    payload, completion = payload_of(item, own.guideline_id, said, fresh.order, rater)
    slot = _place(fresh, own, item)
    purpose = item.purpose if own.reserved_for_id is None else fresh.purpose  # e.g. promoted to gold meanwhile
    judgment = Judgment(
        assignment=fresh,
        purpose=purpose,
        pass_number=fresh.pass_number,
        item_version=item.version,
        payload=payload,
        order=fresh.order,
        active_ms=worked(fresh, said.active_ms),
        shown=fresh.shown,
        surplus=slot is None,
        request_sha256=digest,
    )
    keep(judgment, item, rater, own.guideline_id, slot, said, completion)
    fresh.state = AssignmentState.SUBMITTED if slot else AssignmentState.SURPLUS
    fresh.ended, fresh.prefetched, fresh.active_ms = clock.now(), False, judgment.active_ms
    fresh.slot = slot or own
    fresh.save(update_fields=["state", "ended", "prefetched", "active_ms", "slot"])
    statements.change("DELETE FROM feedback_draft WHERE assignment_id = %s", [fresh.pk])
    tell_of("judgment.submitted", judgment, slot, assignment=fresh)
    if slot is not None:
        share.filled(slot, rater, 1)
        slots.settle(item)
    outcomes.after_judgment(judgment)
    tell(assignment, fresh)
    return judgment


def _place(fresh: Assignment, own: Slot, item: Item) -> Slot | None:
    """The slot that an assignment's work fills; None where all are gone. Rater, item and own slot are held.

    Raises:
        Conflict: the work was submitted or passed already, here or in another tab; or the rater has had to do with the
            item's verdict since.
    """
    if fresh.state in (AssignmentState.SUBMITTED, AssignmentState.SURPLUS):
        raise Conflict("this item is submitted already.", where="assignment", mend="Reload the page.")
    if fresh.state == AssignmentState.SKIPPED:
        raise Conflict("you passed this item.", where="assignment", mend="Ask for the next one.")
    if fresh.state == AssignmentState.LEASED and own.holder == fresh.pk:
        return own
    _require_unseen(item, fresh.rater_id)
    again = Assignment.objects.filter(
        item=item, rater=fresh.rater_id, purpose=fresh.purpose, pass_number=fresh.pass_number, state__in=HELD
    )
    other = again.exclude(pk=fresh.pk).first()
    if other is not None:
        if other.state != AssignmentState.LEASED:
            raise Conflict("you have judged or passed this item since.", where="assignment", mend="Reload the page.")
        taken = Slot.objects.select_for_update(no_key=True).get(pk=other.slot_id)
        other.state, other.ended = AssignmentState.RELEASED, clock.now()
        other.save(update_fields=["state", "ended"])
        events.record(
            "assignment.released", programme=item.programme_id, actor=fresh.rater_id, assignment=other, slot=taken,
            item=item,
        )  # fmt: skip
        slots.give_back(taken, item)
    free = Slot.objects.select_for_update(no_key=True).filter(
        item=item,
        state=SlotState.FREE,
        reserved_for=own.reserved_for_id,
        purpose=own.purpose,
        pass_number=own.pass_number,
        guideline=own.guideline_id,
    )
    found = list(free.order_by("pk"))
    return next((slot for slot in found if slot.pk == own.pk), found[0] if found else None)


def _require_unseen(item: Item, rater: Any) -> None:
    """Refuse what somebody says of an item whose verdict they give, or whose votes they asked to see.

    Raises:
        Conflict: they do.
    """
    account = Rater.objects.values_list("account", flat=True).get(pk=rater)
    if account is not None and sight.judges_no_more(item, account):
        raise Conflict(
            "you have seen or decided what others said of this item.", where="item", mend="Ask for the next one."
        )


@writes
def correct(
    judgment: Judgment,
    shown: Mapping[str, Any],
    *,
    key: str,
    rationale: str = "",
    safety_flag: bool = False,
    active_ms: int = 0,
    text: str | None = None,
) -> Judgment:
    """Put another verdict in the place of one that holds: a new row that supersedes it, in the same slot.

    Args:
        judgment: that holds.
        shown: the payload, in the order that the rater saw at first.
        key: as for `submit`.
        rationale: the new one; the old stays with the old row.
        safety_flag: as for `submit`.
        active_ms: time at work on the correction.
        text: as for `submit`.

    Raises:
        Conflict: the judgment holds no longer, the key came with something else, the rater has had to do with the
            item's verdict, withdrew their consent or was erased.
        HeedfulError: the payload or a text is not as it should be, with the field.
    """
    said = Said(shown, key, rationale, safety_flag, active_ms, text)
    rater = judgment.rater_id
    hold_rater(rater)
    digest = said.digest("correct", judgment.pk)
    again = earlier(rater, key, digest)
    if again is not None:
        return again
    item, held = holding(judgment)
    require_consent(item, rater)
    _require_unseen(item, rater)
    said.check(rules_for(item))
    payload, completion = payload_of(item, judgment.guideline_id, said, judgment.order or None, rater)
    slot = held.slot
    held.delete()
    made = Judgment(
        assignment=judgment.assignment,
        purpose=judgment.purpose if item.purpose != Purpose.GOLD else item.purpose,
        pass_number=judgment.pass_number,
        judge_template=judgment.judge_template,
        judge_order=judgment.judge_order,
        item_version=item.version,
        payload=payload,
        order=judgment.order,
        active_ms=said.active_ms,
        shown=judgment.shown,
        surplus=slot is None,
        supersedes=judgment,
        request_sha256=digest,
    )
    keep(made, item, rater, judgment.guideline_id, slot, said, completion)
    tell_of("judgment.corrected", made, slot, supersedes=judgment, assignment=judgment.assignment_id)
    if slot is not None:
        slots.settle(item)
    outcomes.after_judgment(made)
    return made


@writes
def undo(judgment: Judgment, *, key: str) -> Judgment:
    """Take a judgment back: a new row that retracts it; the item lies before the rater again, leased.

    Where the slot went to others meanwhile (it was surplus), or the item is withdrawn, there is no lease: what is
    submitted then is late work.

    Returns:
        the row that retracts.

    Raises:
        Conflict: the judgment holds no longer, the key came with something else, the rater has had to do with the
            item's verdict, or was erased.
    """
    said = Said({}, key, "", False, 0, None)
    rater = judgment.rater_id
    hold_rater(rater)
    digest = said.digest("undo", judgment.pk)
    again = earlier(rater, key, digest)
    if again is not None:
        return again
    item, held = holding(judgment)
    _require_unseen(item, rater)
    slot = held.slot and Slot.objects.select_for_update(no_key=True).get(pk=held.slot_id)
    held.delete()
    made = Judgment.objects.create(
        programme_id=judgment.programme_id,
        batch_id=judgment.batch_id,
        item=item,
        rater_id=rater,
        assignment=judgment.assignment,
        kind=judgment.kind,
        purpose=judgment.purpose,
        pass_number=judgment.pass_number,
        guideline_id=judgment.guideline_id,
        judge_template=judgment.judge_template,
        judge_order=judgment.judge_order,
        item_version=item.version,
        payload={},
        order=judgment.order,
        surplus=judgment.surplus,
        retracts=True,
        supersedes=judgment,
        idempotency_key=key,
        request_sha256=digest,
    )
    tell_of("judgment.retracted", made, slot, supersedes=judgment, assignment=judgment.assignment_id)
    _reopen(judgment, item, slot)
    if slot is not None:
        if judgment.assignment_id is not None:
            share.filled(slot, rater, -1)
        slots.settle(item)
    outcomes.after_judgment(made)
    return made


def _reopen(judgment: Judgment, item: Item, slot: Slot | None) -> None:
    """After an undo: the assignment has its slot again, on a lease; without one, it is over."""
    fresh = judgment.assignment_id and Assignment.objects.get(pk=judgment.assignment_id)
    if fresh is None or slot is None or item.state == ItemState.WITHDRAWN:
        if fresh is not None:
            fresh.state = AssignmentState.EXPIRED
            fresh.save(update_fields=["state"])
        if slot is not None:
            slots.give_back(slot, item)
        return
    until = clock.now() + timedelta(seconds=rules_for(item).lease_seconds)
    slot.state, slot.holder, slot.lease_until = SlotState.LEASED, fresh.pk, until
    slot.save(update_fields=["state", "holder", "lease_until"])
    fresh.state, fresh.ended, fresh.lease_until, fresh.shown = AssignmentState.LEASED, None, until, clock.now()
    fresh.save(update_fields=["state", "ended", "lease_until", "shown"])
    events.record(
        "assignment.leased", programme=item.programme_id, actor=fresh.rater_id, assignment=fresh, slot=slot, item=item,
        rater=fresh.rater_id,
    )  # fmt: skip
