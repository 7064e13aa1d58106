"""The queues of free slots, and how far each rater has looked through them.

A batch has a queue for each route and lane, in the order (-priority, position). A rater's cursor says that all slots
up to it were taken, or were not for them; so the next look starts there, however much has been judged. Slots that
come back go to the end of lane 0. What a cursor may have passed wrongly (a lease that was rolled back, an item that
was given back unseen while its other slots stood before the cursor) is found by `overlooked`, which looks through
everything and is asked before "no work" is said.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from heedful.feedback import queue_rows
from heedful.feedback.models import Batch, ItemState, QueueCursor, Rater, Slot, SlotState
from heedful.feedback.queue_rows import BEFORE_ALL, FIELDS, About, Place, Queue, Stand, about

CHUNK = 8
"""Slots read at a time."""
MANY = 20
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LANES = (0, 1)
Cursors: TypeAlias = dict[Queue, Stand]
"""The priority and position that were passed last, of each queue."""


def fits(rater: Rater, place: Place, known: About) -> bool:
    """Whether a free slot is for a rater."""
    return (
        place.item_state == ItemState.OPEN
        and place.purpose == place.item_purpose
        and (not place.named or str(rater.pk) in place.named)
        and not set(rater.excluded_categories) & set(place.categories)
        and rater.pk not in known.authors[place.item]
        and (rater.account_id is None or rater.account_id not in known.adjudicators[place.item])
        and (rater.pk, place.purpose, place.pass_number) not in known.held[place.item]
        and (rater.pk, place.purpose, place.pass_number, place.guideline) not in known.judged[place.item]
    )


def reads(rater: Rater, route: str) -> bool:
    """Whether a rater has the language and the expertise that a route asks for.

    A rater who lists no language reads every one; "en" reads "en-GB" too.
    """
    language, _, expertise = route.partition("|")
    tags = [str(tag).lower() for tag in rater.languages]
    spoken = not language or not tags or any(f"{language.lower()}-".startswith(f"{tag}-") for tag in tags)
    return spoken and (not expertise or expertise in rater.expertise)


def routes_of(rater: Rater, batch: Batch) -> tuple[list[str], Cursors]:
    """The batch's routes with free slots that a rater may take, and the rater's cursors.

    A queue for named raters is found by the cursor that each of them was given.
    """
    found, cursors = queue_rows.stand(rater, batch.pk)
    named = {route for route, _ in cursors}
    return [route for route in found if (route in named if route.startswith("@") else reads(rater, route))], cursors


@dataclass(frozen=True)
class Step:
    """How far a queue is passed once its place is taken or does not fit; at the queue's end there is no place."""

    route: str
    passed: Stand
    place: Place | None
    known: About


class Walk:
    """One rater's look through one batch's queues, from their cursors on."""

    def __init__(self, rater: Rater, batch: Batch) -> None:
        self.rater = rater
        self.batch = batch
        self.routes, self.cursors = routes_of(rater, batch)
        self.moved: set[tuple[str, int]] = set()

    def places(self) -> Iterator[tuple[Place, About]]:
        """Slots that fit the rater, best first: lane 0 of all routes before lane 1. The cursors move along."""
        stands = {(route, lane): self._stand(route, lane) for lane in LANES for route in self.routes}
        heads = queue_rows.after(self.batch.pk, stands, CHUNK)
        known = about(place.item for places in heads.values() for place in places)
        for lane in LANES:
            queues = [self._queue(route, lane, heads[route, lane], known) for route in self.routes]
            for step in heapq.merge(*queues, key=lambda step: (-step.passed[0], step.passed[1])):
                self.cursors[step.route, lane] = step.passed
                self.moved.add((step.route, lane))
                if step.place is not None and fits(self.rater, step.place, step.known):
                    yield step.place, step.known

    def _stand(self, route: str, lane: int) -> Stand:
        return self.cursors.get((route, lane), BEFORE_ALL)

    def _queue(self, route: str, lane: int, some: Sequence[Place], known: About) -> Iterator[Step]:
        """A queue's slots from the cursor on, of which the first are at hand; where none of some fits, those that come
        after are left out by the database.
        """
        passed, end, near = self._stand(route, lane), None, True
        while True:
            for place in some:
                yield Step(route, (place.priority, place.position), place, known)
            if len(some) < CHUNK:
                break
            passed = (some[-1].priority, some[-1].position)
            near = near and any(fits(self.rater, place, known) for place in some)
            end = None if near else queue_rows.end(self.batch.pk, route, lane)
            stands = {(route, lane): passed}
            some = queue_rows.after(self.batch.pk, stands, CHUNK, new_to=None if near else self.rater)[route, lane]
            known = about(place.item for place in some)
        if end is not None and (-end[0], end[1]) > (-passed[0], passed[1]):
            yield Step(route, end, None, known)

    def stand(self) -> Cursors:
        """The cursors that have moved, as they stand now."""
        return {key: self.cursors[key] for key in sorted(self.moved)}

    def save(self, cursors: Cursors) -> None:
        """Keep how far the rater has looked."""
        queue_rows.passed(self.rater, self.batch.pk, cursors)


def overlooked(rater: Rater, batch: Batch) -> bool:
    """Look through a batch's queues from their heads; a slot that fits moves the cursor back before it.

    The proof behind "no work": False means that no free slot of the batch is for this rater.
    """
    place = _first(rater, batch)
    if place is None:
        return False
    QueueCursor.objects.update_or_create(
        rater=rater,
        batch=batch,
        route=place.route,
        lane=place.lane,
        defaults={"priority": place.priority, "position": place.position - 1},
    )
    return True


def waits(rater: Rater, batch: Batch) -> bool:
    """Whether a free slot of a batch fits a rater."""
    return _first(rater, batch) is not None


def in_work(rater: Rater, batch: Batch) -> bool:
    """Whether somebody is at work on what the rater could judge as well."""
    leased = Slot.objects.filter(state=SlotState.LEASED, lease_until__gt=EPOCH)  # few: the index holds no others
    ours = [row for row in leased.values_list("batch_id", "pk") if row[0] == batch.pk]
    rows = Slot.objects.filter(pk__in=[pk for _, pk in ours], reserved_for=None)
    places = [Place(*row) for row in rows.values_list(*FIELDS)]
    known = about([place.item for place in places])
    return any(
        (reads(rater, place.route) or str(rater.pk) in place.named) and fits(rater, place, known) for place in places
    )


def _first(rater: Rater, batch: Batch) -> Place | None:
    """The first free slot of a batch that fits a rater, cursors aside."""
    routes, _ = routes_of(rater, batch)
    left = {(route, lane): BEFORE_ALL for lane in LANES for route in routes}
    while left:
        found = queue_rows.after(batch.pk, left, MANY, new_to=rater)
        for place in (place for places in found.values() for place in places):
            if fits(rater, place, About()):  # the statement has left out what was done with the items
                return place
        left = {
            queue: (places[-1].priority, places[-1].position) for queue, places in found.items() if len(places) == MANY
        }
    return None
