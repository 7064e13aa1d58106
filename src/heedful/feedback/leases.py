"""A lease from its taking to its end: shown, renewed, given back, taken back, passed.

A lease is one conditional update of one slot's row: whoever changes the row has it, everybody else looks on.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import F

from heedful.errors import HeedfulError
from heedful.feedback import clock, events, outcomes, slots, statements
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import (
    HELD,
    Assignment,
    AssignmentState,
    Draft,
    Item,
    ItemState,
    Judgment,
    Programme,
    Rater,
    Skip,
    Slot,
    SlotState,
    TaskKind,
)
from heedful.feedback.models.identity import new_id
from heedful.feedback.programmes import has_withdrawn
from heedful.feedback.rules import Rules, rules_of
from heedful.feedback.texts import clean, clean_json
from heedful.feedback.transactions import writes

TAKEN_BACK = 20
"""Expired leases that one request takes back."""
SKIP_REASONS = ("unclear", "unsafe", "language", "expertise", "broken", "other")
_random = random.SystemRandom()


def presentation(indices: Sequence[int], before: Sequence[Sequence[int]]) -> list[int]:
    """A random order to show an item's completions in.

    Of two, the order that fewer raters of the item have seen, so that position cannot tip the item as a whole.
    """
    if len(indices) == 2:
        ahead = [list(indices), list(indices)[::-1]]
        seen = [sum(list(order) == one for order in before) for one in ahead]
        if seen[0] != seen[1]:
            return ahead[0] if seen[0] < seen[1] else ahead[1]
    return _random.sample(list(indices), len(indices))


UNHELD = "SELECT 1 FROM feedback_slot WHERE id = %s AND state = 'free' FOR NO KEY UPDATE SKIP LOCKED"
TAKE = "UPDATE feedback_slot SET state = 'leased', holder = %s, lease_until = %s WHERE id = %s AND state = 'free'"


def lease(
    rater: Rater, slot: Any, item: Any, *, kind: str, purpose: str, pass_number: int, version: int,
    order: Sequence[int], rules: Rules, prefetch: bool, wait: bool, show: bool = False,
) -> Assignment | None:  # fmt: skip
    """Take a free slot; None when somebody else has it, or the rater has had the item.

    Args:
        rater: who takes it; the caller holds their row.
        slot: id of the slot.
        item: id of its item.
        kind: of the item.
        purpose: of the slot.
        pass_number: of the slot.
        version: of the item.
        order: in which its completions are shown.
        rules: for how long.
        prefetch: ahead of time: held for a short while until it is shown.
        wait: where somebody is just changing the slot, see what becomes of it; by default it is passed by.
        show: the rater sees it at once, unless it is a dialogue, whose page says so itself.
    """
    at = clock.now()
    until = at + timedelta(seconds=rules.prefetch_seconds if prefetch else rules.lease_seconds)
    key = new_id()
    if not wait and connection.features.has_select_for_update_skip_locked and not statements.ask(UNHELD, [slot]):
        return None
    show = show and kind != TaskKind.DIALOGUE
    try:
        with transaction.atomic():
            if not statements.change(TAKE, [key, until, slot]):
                return None
            made = Assignment(
                id=key,
                slot_id=slot,
                item_id=item,
                rater=rater,
                purpose=purpose,
                pass_number=pass_number,
                item_version=version,
                order=list(order),
                lease_until=until,
                prefetched=prefetch,
                shown=at if show else None,
            )
            statements.insert(made)
            events.record(
                "assignment.leased", programme=rater.programme_id, actor=rater, assignment=made, slot=slot, item=item,
                rater=rater,
            )  # fmt: skip
            if show:
                events.record("assignment.shown", programme=rater.programme_id, actor=rater, assignment=made)
    except IntegrityError:
        return None
    made.fresh = True
    return made


ENDED = "SELECT 1 FROM feedback_slot WHERE state = 'leased' AND lease_until < %s LIMIT 1"


def take_back_expired(most: int = TAKEN_BACK) -> int:
    """Free slots whose lease has ended, the longest ended first. How many.

    Rows that somebody is just changing are left for another time: nobody waits here.
    """
    at = clock.now()
    if not statements.ask(ENDED, [at]):
        return 0
    ended = Slot.objects.filter(state=SlotState.LEASED, lease_until__lt=at)
    due = dict(ended.order_by("lease_until").values_list("pk", "item_id")[:most])
    held = Item.objects.select_for_update(skip_locked=True, no_key=True).filter(pk__in=set(due.values()))
    items = {item.pk: item for item in held.order_by("pk")}
    ours = [key for key, item in due.items() if item in items]
    count = 0
    for slot in ended.select_for_update(skip_locked=True, no_key=True).filter(pk__in=ours).order_by("lease_until"):
        item = items[slot.item_id]
        holder = slot.holder
        Assignment.objects.filter(pk=holder, state=AssignmentState.LEASED).update(
            state=AssignmentState.EXPIRED, ended=at
        )
        events.record("assignment.expired", programme=item.programme_id, assignment=holder, slot=slot, item=item)
        slots.give_back(slot, item)
        count += 1
    return count


RATER = "SELECT r.erased IS NOT NULL FROM feedback_rater r WHERE r.id = %s"


def hold_rater(key: Any) -> None:
    """Hold a rater's row until the transaction ends; SQLite has one writer at a time anyway.

    Raises:
        Conflict: they were erased meanwhile: nothing is written for them any more.
    """
    [(erased,)] = statements.ask(RATER + statements.to_hold("r"), [key])
    if erased:
        raise Conflict("this rater was erased.", where="rater")


def require_consent(item: Item, rater: Any) -> None:
    """Refuse work of somebody who has withdrawn their consent, and has not agreed again.

    A text that was merely changed since does not stop the work that is under way.

    Raises:
        Conflict: they have.
    """
    if rules_for(item).consent_text and has_withdrawn(rater):
        raise Conflict(
            "you withdrew your consent, so nothing of this is kept.", where="consent", mend="Agree again to go on."
        )


ITEM = "SELECT {i}, {p} FROM feedback_item i JOIN feedback_programme p ON p.id = i.programme_id WHERE i.id = %s"
WORK = "SELECT {a}, {s} FROM feedback_assignment a JOIN feedback_slot s ON s.id = a.slot_id WHERE a.id = %s"


def hold_item(key: Any) -> Item:
    """An item as it stands, its row held until the transaction ends; its programme beside it."""
    item: Item
    [(item, programme)] = statements.rows(ITEM + statements.to_hold("i"), [key], i=Item, p=Programme)
    item.programme = programme
    return item


def hold(assignment: Assignment) -> tuple[Item, Slot, Assignment]:
    """An assignment with its item and slot as they stand, their rows held until the transaction ends."""
    item = hold_item(assignment.item_id)  # who holds it may change its assignments: none of them changes from now on
    [(fresh, slot)] = statements.rows(WORK + statements.to_hold("s"), [assignment.pk], a=Assignment, s=Slot)
    return item, slot, fresh


def tell(assignment: Assignment, fresh: Assignment) -> Assignment:
    """Bring the caller's own object up to date."""
    for name in ("slot_id", "state", "lease_until", "prefetched", "shown", "ended", "active_ms"):
        setattr(assignment, name, getattr(fresh, name))
    return assignment


def rules_for(item: Item) -> Rules:
    """The rules of an item's programme."""
    return rules_of(item.programme.settings)


def _renew(slot: Slot, fresh: Assignment, rules: Rules) -> bool:
    """A full lease from now on, if the slot is still the assignment's."""
    if fresh.state != AssignmentState.LEASED or slot.holder != fresh.pk:
        return False
    slot.lease_until = fresh.lease_until = clock.now() + timedelta(seconds=rules.lease_seconds)
    slot.save(update_fields=["lease_until"])
    return True


@writes
def show(assignment: Assignment) -> Assignment:
    """The rater sees it now: its time starts, and it has a full lease. Shown again, the lease is renewed.

    Raises:
        Conflict: it is over, or its lease ended and was taken back.
    """
    item, slot, fresh = hold(assignment)
    if not _renew(slot, fresh, rules_for(item)):
        raise Conflict("this item is no longer yours.", where="assignment", mend="Ask for the next one.")
    first = fresh.shown is None
    fresh.shown = fresh.shown or clock.now()
    fresh.prefetched = False
    fresh.save(update_fields=["lease_until", "shown", "prefetched"])
    if first:
        events.record("assignment.shown", programme=item.programme_id, actor=fresh.rater_id, assignment=fresh)
    return tell(assignment, fresh)


@writes
def heartbeat(assignment: Assignment, active_ms: int) -> bool:
    """The rater is at work: the lease is renewed. Whether it is still theirs.

    Args:
        assignment: at which.
        active_ms: time at work on it so far, as the page counts it; it never falls.
    """
    item, slot, fresh = hold(assignment)
    held = _renew(slot, fresh, rules_for(item))
    fresh.active_ms = worked(fresh, active_ms)
    if held or fresh.state in (AssignmentState.EXPIRED, AssignmentState.RELEASED):
        fresh.save(update_fields=["lease_until", "active_ms"])
    tell(assignment, fresh)
    return held


@writes
def save_draft(assignment: Assignment, payload: Mapping[str, Any], revision: int, active_ms: int) -> int:
    """Keep unfinished work, and renew the lease. After its end the work is kept all the same.

    Args:
        assignment: whose draft.
        payload: as the page keeps it, in the order shown.
        revision: of the draft that it goes on from; 0 for the first.
        active_ms: time at work so far.

    Returns:
        the draft's new revision.

    Raises:
        Conflict: another tab saved since, or the work is submitted or passed.
        HeedfulError: the payload is no JSON object, or holds text that cannot be kept.
    """
    if not isinstance(payload, Mapping):
        raise HeedfulError("a draft is a JSON object.", where="payload")
    kept = clean_json(dict(payload), "payload")
    hold_rater(assignment.rater_id)
    item, slot, fresh = hold(assignment)
    require_consent(item, fresh.rater_id)
    if fresh.state not in (AssignmentState.LEASED, AssignmentState.EXPIRED, AssignmentState.RELEASED):
        raise Conflict("this work is finished.", where="assignment", mend="Ask for the next item.")
    saved = Draft.objects.filter(assignment=fresh, revision=revision).update(
        payload=kept, revision=F("revision") + 1, saved=clock.now()
    )
    if not saved:
        if revision != 0 or Draft.objects.filter(assignment=fresh).exists():
            raise Conflict("another tab saved this item since.", where="draft", mend="Reload the page.")
        Draft.objects.create(assignment=fresh, payload=kept, revision=1)
    _renew(slot, fresh, rules_for(item))
    fresh.active_ms = worked(fresh, active_ms)
    fresh.save(update_fields=["lease_until", "active_ms"])
    tell(assignment, fresh)
    return revision + 1


def milliseconds(value: Any) -> int:
    """A count of milliseconds from a page, at most a day.

    Raises:
        HeedfulError: it is no whole number, or below 0.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise HeedfulError("{value!r} is no count of milliseconds.", where="active_ms", value=value)
    return min(value, 86_400_000)


def worked(fresh: Assignment, active_ms: Any) -> int:
    """Milliseconds at work on an assignment: as its page counts them, no more than have gone by since it was shown.

    They never fall. After an undo it is shown anew, and the time before counts too.

    Raises:
        HeedfulError: the page's count is none.
    """
    told = milliseconds(active_ms)
    most = 0 if fresh.shown is None else max(0, (clock.now() - fresh.shown) // timedelta(milliseconds=1))
    if told > most:
        most += max(Judgment.objects.filter(assignment=fresh).values_list("active_ms", flat=True), default=0)
    return max(fresh.active_ms, min(told, most))


@writes
def release(assignment: Assignment) -> None:
    """Give an item back, e.g. on logging out: somebody else gets it next, or the same rater again.

    One that is over already stays as it is.
    """
    item, slot, fresh = hold(assignment)
    if fresh.state == AssignmentState.LEASED:
        fresh.state, fresh.ended = AssignmentState.RELEASED, clock.now()
        fresh.save(update_fields=["state", "ended"])
        events.record(
            "assignment.released", programme=item.programme_id, actor=fresh.rater_id, assignment=fresh, slot=slot,
            item=item,
        )  # fmt: skip
        slots.give_back(slot, item)
    tell(assignment, fresh)


@writes
def skip(assignment: Assignment, reason: str, note: str = "", active_ms: int = 0) -> Skip:
    """Pass an item: its slot is free for others, it never comes back to this rater, and after a few it is parked.

    Passing it again changes nothing.

    Raises:
        Conflict: it is submitted already, or the rater has the item again in another tab.
        HeedfulError: the reason is none of `SKIP_REASONS`, or the note cannot be kept.
    """
    if reason not in SKIP_REASONS:
        raise HeedfulError(
            "{reason!r} is no reason.",
            where="reason",
            mend="Give {known}.",
            reason=reason,
            known=", ".join(SKIP_REASONS),
        )
    clean(note, "note", longest=10_000)
    hold_rater(assignment.rater_id)
    item, slot, fresh = hold(assignment)
    if fresh.state == AssignmentState.SKIPPED:
        return Skip.objects.get(assignment=fresh)
    if fresh.state in (AssignmentState.SUBMITTED, AssignmentState.SURPLUS):
        raise Conflict("this item is submitted already.", where="assignment", mend="Undo it first.")
    leased = fresh.state == AssignmentState.LEASED
    again = Assignment.objects.filter(
        item=item, rater=fresh.rater_id, purpose=fresh.purpose, pass_number=fresh.pass_number, state__in=HELD
    ).exclude(pk=fresh.pk)
    if again.exists():
        raise Conflict("you have this item again.", where="assignment", mend="Reload the page.")
    fresh.state, fresh.ended = AssignmentState.SKIPPED, clock.now()
    fresh.active_ms = worked(fresh, active_ms)
    fresh.save(update_fields=["state", "ended", "active_ms"])
    made = Skip.objects.create(assignment=fresh, reason=reason, note=note)
    Draft.objects.filter(assignment=fresh).delete()
    events.record(
        "assignment.skipped", programme=item.programme_id, actor=fresh.rater_id, assignment=fresh, slot=slot,
        item=item, digest=events.digest_of([reason, note]),
    )  # fmt: skip
    if leased and slot.reserved_for_id is None:
        slots.give_back(slot, item)
    elif leased or (slot.reserved_for_id and slot.state == SlotState.FREE):
        slots.close(slot, item)
    if slot.reserved_for_id is None:
        Item.objects.filter(pk=item.pk).update(skips=F("skips") + 1)
        if item.skips + 1 >= rules_for(item).skips_to_park and item.state == ItemState.OPEN:
            slots.park(item)
    outcomes.after_skip(fresh)
    tell(assignment, fresh)
    return made
