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
from heedful.feedback.queue_rows import FIELDS, About, Place, about
from heedful.feedback.slots import BEFORE_ALL

CHUNK = 8
"""Slots read at a time."""
MANY = 100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LANES = (0, 1)
Cursors: TypeAlias = dict[tuple[str, int], tuple[int, int]]
"""Route and lane to the priority and position that were passed last."""


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


def routes_of(rater: Rater, batch: Batch, named: Sequence[str]) -> list[str]:
    """The batch's routes with free slots that a rater may take; `named` are the queues that name them."""
    found = queue_rows.routes(batch.pk)
    return [route for route in found if (route in named if route.startswith("@") else reads(rater, route))]


@dataclass(frozen=True)
class Step:
    """How far a queue is passed once its place is taken or does not fit; at the queue's end there is no place."""

    route: str
    passed: tuple[int, int]
    place: Place | None
    known: About


class Walk:
    """One rater's look through one batch's queues, from their cursors on."""

    def __init__(self, rater: Rater, batch: Batch) -> None:
        self.rater = rater
        self.batch = batch
        rows = QueueCursor.objects.filter(rater=rater, batch=batch)
        self.cursors: Cursors = {
            (route, lane): (priority, position)
            for route, lane, priority, position in rows.values_list("route", "lane", "priority", "position")
        }
        named = [route for route, _ in self.cursors if route.startswith("@")]
        self.routes = routes_of(rater, batch, named)
        self.moved: set[tuple[str, int]] = set()

    def places(self) -> Iterator[tuple[Place, About]]:
        """Slots that fit the rater, best first: lane 0 of all routes before lane 1. The cursors move along."""
        for lane in LANES:
            queues = [self._queue(route, lane) for route in self.routes]
            for step in heapq.merge(*queues, key=lambda step: (-step.passed[0], step.passed[1])):
                self.cursors[step.route, lane] = step.passed
                self.moved.add((step.route, lane))
                if step.place is not None and fits(self.rater, step.place, step.known):
                    yield step.place, step.known

    def _queue(self, route: str, lane: int) -> Iterator[Step]:
        """A queue's slots from the cursor on; where those at hand do not fit, others are left out by the database."""
        passed = self.cursors.get((route, lane), BEFORE_ALL)
        near = True
        while True:
            end = None if near else queue_rows.end(self.batch.pk, route, lane)
            some = queue_rows.after(self.batch.pk, route, lane, passed, CHUNK, new_to=None if near else self.rater)
            known = about([place.item for place in some])
            for place in some:
                yield Step(route, (place.priority, place.position), place, known)
            if len(some) < CHUNK:
                break
            passed = (some[-1].priority, some[-1].position)
            near = near and any(fits(self.rater, place, known) for place in some)
        if end is not None and (-end[0], end[1]) > (-passed[0], passed[1]):
            yield Step(route, end, None, known)

    def stand(self) -> Cursors:
        """The cursors that have moved, as they stand now."""
        return {key: self.cursors[key] for key in sorted(self.moved)}

    def save(self, cursors: Cursors) -> None:
        """Keep how far the rater has looked."""
        rows = [
            QueueCursor(
                rater=self.rater, batch=self.batch, route=route, lane=lane, priority=priority, position=position
            )
            for (route, lane), (priority, position) in cursors.items()
        ]
        if rows:
            QueueCursor.objects.bulk_create(
                rows,
                update_conflicts=True,
                unique_fields=("rater", "batch", "route", "lane"),
                update_fields=("priority", "position"),
            )


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
    named = QueueCursor.objects.filter(rater=rater, batch=batch, route__startswith="@")
    routes = routes_of(rater, batch, list(named.values_list("route", flat=True)))
    for lane in LANES:
        for route in routes:
            passed = BEFORE_ALL
            while some := queue_rows.after(batch.pk, route, lane, passed, MANY, new_to=rater):
                for place in some:
                    if fits(rater, place, About()):  # the statement has left out what was done with the items
                        return place
                passed = (some[-1].priority, some[-1].position)
    return None
