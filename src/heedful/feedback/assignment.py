"""What a rater is given next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from heedful.feedback import clock, freshness, qualification, queue_rows, queues, share, slots, special, statements
from heedful.feedback.conflict import Conflict
from heedful.feedback.leases import (
    SKIP_REASONS,
    heartbeat,
    hold_rater,
    lease,
    presentation,
    release,
    save_draft,
    show,
    skip,
    take_back_expired,
)
from heedful.feedback.models import (
    Assignment,
    Batch,
    Guideline,
    Programme,
    Purpose,
    Qualification,
    Rater,
    Slot,
    SlotState,
)
from heedful.feedback.programmes import has_consented
from heedful.feedback.queue_rows import About, Place
from heedful.feedback.queues import Cursors, Walk
from heedful.feedback.rules import Rules, rules_of
from heedful.feedback.slots import QUEUED
from heedful.feedback.transactions import writes

__all__ = [
    "SKIP_REASONS",
    "Conflict",
    "current_assignment",
    "heartbeat",
    "next_assignment",
    "release",
    "save_draft",
    "show",
    "skip",
    "why_none",
]
TRIES = 1000
CANDIDATES = 4
"""Slots found before the lease is taken: while others ask at the same time, the first may be gone."""
FAR_OFF = datetime.max.replace(tzinfo=UTC)
LONG_AGO = datetime.min.replace(tzinfo=UTC)


def next_assignment(
    rater: Rater, *, batch: Batch | None = None, resume: bool = False, prefetch: bool = False, show: bool = False
) -> Assignment | None:
    """Lease what a rater judges next, in the order: what they hold already, what is made for them, the queues.

    Args:
        rater: who asks.
        batch: only from this one.
        resume: what is before them already comes first, also after its lease, until somebody takes it back.
        prefetch: ahead of time, beside what they work on: one at most, held for a short while until it is shown.
        show: it is shown as soon as it is leased, in one transaction; what they hold already, and a dialogue, is not.

    Returns:
        their lease, `fresh` if it is a new one; None only when a look through every queue has found nothing for
        them: `why_none` says why.

    Raises:
        Conflict: every free slot was taken by somebody else, a thousand times over.
    """
    for attempt in range(TRIES):
        look = _look(rater, batch, resume, prefetch)
        if look.own is not None:
            return look.own
        if look.barred not in ("", "paused"):
            return None
        found = _take(look, batch, prefetch, attempt > 0, show)
        if found is not None:
            return found
        if look.barred or not (look.again or _overlooked(look)):
            return None
    raise Conflict("too many ask at the same time.", where="queue", mend="Ask again.")


WITHOUT_PAUSE = (Purpose.QUALIFICATION, Purpose.CALIBRATION)
"""What a paused rater is given all the same."""


@dataclass
class Candidate:
    """A free slot that fits, and where the rater's cursors stand once it is taken."""

    place: Place
    known: About
    walk: Walk
    cursors: Cursors


@dataclass
class Look:
    """What was read before anything is written: others go on meanwhile, so a slot may be gone by then."""

    rater: Rater
    rules: Rules
    barred: str
    own: Assignment | None = None
    batches: list[Batch] = field(default_factory=list)
    allowed: list[Batch] = field(default_factory=list)
    """Those whose queues the rater may take from."""
    candidates: list[Candidate] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)
    """Those that found nothing: where they came to is kept all the same."""
    again: bool = False
    """Others took what was found, or something came back: look again."""


def _look(rater: Rater, batch: Batch | None, resume: bool, prefetch: bool) -> Look:
    """Read what a rater could be given."""
    rater, held = _as_they_stand(rater)
    if resume and (current := _shown_last(held)) is not None:
        return Look(rater, rules_of(rater.programme.settings), "", current)
    look = Look(rater, rules_of(rater.programme.settings), _barred(rater))
    if look.barred not in ("", "paused"):
        return look
    look.own = _own(look, held, batch, prefetch)
    if look.own is not None:
        return look
    found = _open(rater, batch)
    look.batches = [one for one, _ in found]
    if look.barred:
        return look
    tests = qualification.required(rater)
    for one, free in found:
        if one.purpose not in QUEUED or not _allowed(rater, one, look.rules, tests):
            continue
        look.allowed.append(one)
        if not free:
            continue
        walk = Walk(rater, one)
        for place, known in walk.places():
            look.candidates.append(Candidate(place, known, walk, walk.stand()))
            if len(look.candidates) == CANDIDATES:
                break
        if look.candidates:
            return look
        look.walks.append(walk)
    return look


@writes
def _take(look: Look, batch: Batch | None, prefetch: bool, wait: bool, show: bool) -> Assignment | None:
    """Lease what is made for the rater, or the first candidate that nobody else took."""
    rater = look.rater
    hold_rater(rater.pk)  # two tabs go one after the other
    own = _own(look, _held_by(rater), batch, prefetch)
    if own is not None:
        return own
    if not wait and take_back_expired():
        look.again = True
    made_for = special.offer(rater, look.batches)
    if made_for is not None:
        found = _reserved(rater, made_for, look.rules, prefetch, show)
        if found is not None:
            return found
    for one in look.candidates:
        place = one.place
        if share.reached(rater, one.walk.batch, look.rules.max_share):  # by what another tab took since the look
            look.again = True
            continue
        found = lease(
            rater,
            place.pk,
            place.item,
            kind=place.item_kind,
            purpose=place.purpose,
            pass_number=place.pass_number,
            version=place.item_version,
            order=presentation(one.known.indices[place.item], one.known.orders[place.item]),
            rules=look.rules,
            prefetch=prefetch,
            wait=wait,
            show=show,
        )
        if found is not None:
            one.walk.save(one.cursors)
            return found
        look.again = True
    for walk in look.walks:
        walk.save(walk.stand())
    return None


def _reserved(rater: Rater, slot: Slot, rules: Rules, prefetch: bool, show: bool) -> Assignment | None:
    """Lease a slot that is made for the rater; one they cannot have, since they had the item, closes."""
    known = queue_rows.about([slot.item_id])
    found = lease(
        rater,
        slot.pk,
        slot.item_id,
        kind=slot.item.kind,
        purpose=slot.purpose,
        pass_number=slot.pass_number,
        version=slot.item.version,
        order=presentation(known.indices[slot.item_id], known.orders[slot.item_id]),
        rules=rules,
        prefetch=prefetch,
        wait=True,
        show=show,
    )
    if found is None and Slot.objects.filter(pk=slot.pk, state=SlotState.FREE).exists():
        slots.close(slot, slot.item)
    return found


def _barred(rater: Rater) -> str:
    """Why no work at all is given to a rater, as `why_none` says it; empty when it is."""
    if rater.programme.archived or rater.erased:
        return "done"
    if not has_consented(rater):
        return "consent"
    return "paused" if rater.paused else ""


LEASED = """
SELECT {a}, s.batch_id FROM feedback_assignment a JOIN feedback_slot s ON s.id = a.slot_id
WHERE a.rater_id = %s AND a.state = 'leased'
"""
STANDING = """
SELECT {r}, {p}, {a}, s.batch_id FROM feedback_rater r JOIN feedback_programme p ON p.id = r.programme_id
LEFT JOIN feedback_assignment a ON a.rater_id = r.id AND a.state = 'leased'
LEFT JOIN feedback_slot s ON s.id = a.slot_id
WHERE r.id = %s
"""
Held: TypeAlias = list[tuple[Assignment, Any]]
"""What one rater has on lease, few as it is, and the keys of the batches that it is of."""


def _held_by(rater: Rater) -> Held:
    return [(one, batch) for one, batch in statements.rows(LEASED, [rater.pk], a=Assignment)]


def _as_they_stand(rater: Rater) -> tuple[Rater, Held]:
    """A rater with their programme, and what they hold."""
    found = statements.rows(STANDING, [rater.pk], r=Rater, p=Programme, a=Assignment)
    fresh: Rater = found[0][0]
    fresh.programme = found[0][1]
    return fresh, [(one, batch) for _, _, one, batch in found if one is not None]


def _own(look: Look, held: Held, batch: Batch | None, prefetch: bool) -> Assignment | None:
    """What a rater holds already: so two tabs, or a double click, do not take two.

    What was fetched ahead for somebody who is now paused, and was not shown yet, is work that they are not given.
    """
    if look.barred:
        held = [(one, of) for one, of in held if one.shown or one.purpose in WITHOUT_PAUSE]
    at, only = clock.now(), batch and statements.key(batch.pk)
    found = [
        one for one, of in held if one.lease_until > at and (one.prefetched or not prefetch) and only in (None, of)
    ]
    return max(found, key=lambda one: (not one.prefetched, one.shown or LONG_AGO, one.created), default=None)


def current_assignment(rater: Rater) -> Assignment | None:
    """What a rater has before them: a reload resumes it, also after its lease, until somebody takes it back."""
    return _shown_last(_held_by(rater))


def _shown_last(held: Held) -> Assignment | None:
    return max((one for one, _ in held if one.shown), key=lambda one: one.shown or LONG_AGO, default=None)


OPEN = """
SELECT {b}, {g}, (
  SELECT min(s.route) FROM feedback_slot s WHERE s.batch_id = b.id AND s.state = 'free' AND s.reserved_for_id IS NULL
) FROM feedback_batch b JOIN feedback_guideline g ON g.id = b.guideline_id
WHERE b.programme_id = %s AND b.state = 'open'
"""
"""With the first route that has a free slot: SQLite would look for any free slot through all that the batch has."""


def _open(rater: Rater, batch: Batch | None) -> list[tuple[Batch, bool]]:
    """Batches that are handed out, the first in line first (by priority, deadline, age), and whether each has a free
    slot for anybody.
    """
    rows = []
    for one, guideline, route in statements.rows(OPEN, [rater.programme_id], b=Batch, g=Guideline):
        one.guideline = guideline
        if batch is None or one.pk == batch.pk:
            rows.append((one, route is not None))
    return sorted(rows, key=lambda row: (-row[0].priority, row[0].deadline or FAR_OFF, row[0].created, row[0].pk))


def _allowed(rater: Rater, batch: Batch, rules: Rules, tests: Sequence[Qualification]) -> bool:
    fits = qualification.may_work(rater, batch, tests) and freshness.may_check(rater, batch, rules)
    return fits and not share.reached(rater, batch, rules.max_share)


def _overlooked(look: Look) -> bool:
    """Whether a free slot for the rater stands somewhere in the queues after all; nothing is held meanwhile."""
    return any(queues.overlooked(look.rater, one) for one in look.allowed)


def why_none(rater: Rater) -> str:
    """Why a rater gets nothing just now.

    Returns:
        "consent", "paused", "qualification" (work waits for who passed a test), "fresh" (what is left is for raters
        who gave no judgments for training), "share" (they have done their largest share), "busy" (others are at work
        on what they could judge; it may come back) or "done".
    """
    rater = Rater.objects.select_related("programme").get(pk=rater.pk)
    barred = _barred(rater)
    if barred:
        return barred
    rules = rules_of(rater.programme.settings)
    batches: Sequence[Batch] = [one for one, _ in _open(rater, None) if one.purpose in QUEUED]
    tests = qualification.required(rater)
    untested = [one for one in batches if not qualification.may_work(rater, one, tests)]
    if any(queues.waits(rater, one) for one in untested):
        return "qualification"
    batches = [one for one in batches if one not in untested]
    reserved = [one for one in batches if not freshness.may_check(rater, one, rules)]
    if any(queues.waits(rater, one) for one in reserved):
        return "fresh"
    full = [one for one in batches if one not in reserved and share.reached(rater, one, rules.max_share)]
    if any(queues.waits(rater, one) for one in full):
        return "share"
    busy = any(queues.in_work(rater, one) for one in batches if one not in reserved and one not in full)
    return "busy" if busy else "done"
