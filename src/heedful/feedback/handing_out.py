"""In which order the items of a batch are handed out, by the programme's rule `selection`.

"order" is as imported, "random" the control, "information" puts first where the next judgment tells most about which
answer is better, given all that was judged so far and by whom (`heedful.core.selection.CrowdInformation`). Whatever the
rule, an item's own priority comes first, slots that came back come before all others, and quotas, routes and who may
judge what stay as they are. Priorities are set by a command or by the server's worker, never while a rater waits.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from django.db import connection
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Length
from numpy.typing import NDArray

from heedful.core.crowd import length_difference
from heedful.core.rater_aware import rater_aware
from heedful.core.selection import CrowdInformation, candidates
from heedful.feedback import advisory, events, export_select, slots
from heedful.feedback.background import attempt
from heedful.feedback.export_consensus import Gathered, gather
from heedful.feedback.models import Batch, BatchState, CurrentJudgment, ItemCompletion, Programme, Slot, SlotState
from heedful.feedback.pulls import pseudonyms
from heedful.feedback.rules import rules_of
from heedful.feedback.slots import QUEUED
from heedful.feedback.transactions import writes

CHUNK = 200
"""Slots written in one transaction."""
LEVELS = 1000
"""Priorities lie from minus this to this, so that an item that comes in later, at 0, stands in the middle."""
DIGITS = 6
"""Nats, rounded so, that make two pairs alike."""
PAUSE = 60.0
"""Seconds between the worker's looks."""
REST = 20
"""The worker rests so many times as long as its last work took."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ordered:
    """What was done with a batch."""

    name: str
    selection: str
    places: int
    """Free slots that were never handed out."""
    moved: int
    """Of them, those whose priority changed."""
    note: str = ""
    """Why the rule could not be followed; empty where it was."""


class Waiting(NamedTuple):
    """A free slot that was never handed out."""

    pk: Any
    item: Any
    own: int
    """Its item's own priority."""
    kind: str
    position: int
    priority: int


def reorder(programme: Programme) -> list[Ordered]:
    """Put the free slots of a programme's open batches in the order that its rule says.

    Raters go on meanwhile. Slots are written some hundreds at a time; what was put in its place stays there if the rest
    is cut off, and the next run goes on.
    """
    selection = rules_of(programme.settings).selection
    look = _Look(programme)
    found = []
    batches = Batch.objects.filter(programme=programme, state=BatchState.OPEN, purpose__in=QUEUED)
    for batch in batches.order_by("created", "pk"):
        waiting = _waiting(batch)
        if not waiting:
            continue
        note, worth = "", np.zeros(len(waiting))
        if selection == "random":
            worth = np.array([_draw(batch, one.item) for one in waiting])
        elif selection == "information":
            note, worth = look.information(batch, waiting)
        if note:
            found.append(Ordered(batch.name, selection, len(waiting), 0, note))
            continue
        wanted = [one.own for one in waiting] if selection == "order" else levels([one.own for one in waiting], worth)
        found.append(Ordered(batch.name, selection, len(waiting), _write(batch, waiting, wanted)))
    return found


def levels(own: Sequence[int], worth: NDArray[np.float64]) -> list[int]:
    """Priorities, by items' own priority and then by worth: ranks, spread from `LEVELS` down to minus it.

    Those alike in both share the middle of their ranks, and keep the order of their positions.
    """
    order = np.lexsort((-worth, -np.asarray(own)))
    pairs = np.stack([np.asarray(own, dtype=np.float64), worth], axis=1)[order]
    starts = np.flatnonzero(np.append(True, (np.diff(pairs, axis=0) != 0).any(1)))
    sizes = np.diff(np.append(starts, len(order)))
    middle = np.repeat(starts + sizes / 2, sizes) / len(order)
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.round(LEVELS * (1 - 2 * middle)).astype(np.int64)
    return found.tolist()


def _waiting(batch: Batch) -> list[Waiting]:
    rows = Slot.objects.filter(batch=batch, state=SlotState.FREE, lane=1, reserved_for=None).order_by("position")
    fields = ("pk", "item_id", "item__priority", "item__kind", "position", "priority")
    return [Waiting(*row) for row in rows.values_list(*fields)]


def _draw(batch: Batch, item: Any) -> float:
    """A number from 0 to 1 that is the item's own in this batch, so that looking again moves nothing."""
    digest = hashlib.sha256(f"{batch.pk}:{item}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


class _Look:
    """What a programme's judgments say, fitted once for all its batches."""

    def __init__(self, programme: Programme) -> None:
        self.programme = programme
        self.read = False
        self.said: Gathered | None = None
        self.crowd: CrowdInformation | None = None

    def information(self, batch: Batch, waiting: Sequence[Waiting]) -> tuple[str, NDArray[np.float64]]:
        """(why not, [slots] nats of the judgment that each slot stands for).

        An item's further slots are worth what they tell beyond the first ones, its judgments under way among those.
        """
        worth = np.zeros(len(waiting))
        if any(one.kind != "pairwise" for one in waiting):
            return "Information orders comparisons alone: the batch stays as it is.", worth
        if not self.read:
            self._fit()
        if self.said is None or self.crowd is None:
            return "Nobody has compared anything yet: the batch stays as it is.", worth
        if not self.crowd.fit.consensus.converged:
            return "The model of the raters has not converged: the batch stays as it is.", worth
        ahead = _ahead(batch)
        places: dict[Any, list[int]] = defaultdict(list)
        for at, one in enumerate(waiting):
            places[one.item].append(at)
        items = list(places)
        known = {key[0]: at for at, key in enumerate(self.said.keys) if key[1:] == (0, 1)}
        a, b = _lengths(batch, items)
        pairs = candidates(
            [known.get(str(item), -1) for item in items], length=length_difference(a, b, spread=self.said.spread)
        )
        most = max(ahead[item] + len(own) for item, own in places.items())
        told = np.round(self.crowd.further(pairs, most), DIGITS)
        for row, item in zip(told, items, strict=True):
            for number, at in enumerate(places[item]):
                worth[at] = row[ahead[item] + number]
        return "", worth

    def _fit(self) -> None:
        self.read = True
        chosen = export_select.selection(self.programme, purposes=[str(one) for one in QUEUED])
        names = pseudonyms(str(self.programme.pk))
        self.said = gather(export_select.judged(chosen, names), export_select.anchors(chosen, names))
        if self.said is not None:
            self.crowd = CrowdInformation(rater_aware(self.said.data, errors=False))


def _ahead(batch: Batch) -> Counter[Any]:
    """Of each item: judgments under way, and places that came back, which are given out first."""
    rows = Slot.objects.filter(batch=batch, reserved_for=None)
    rows = rows.filter(Q(state=SlotState.LEASED) | Q(state=SlotState.FREE, lane=0))
    return Counter(rows.values_list("item_id", flat=True))


def _lengths(batch: Batch, items: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Characters of the first and second completion of each item."""
    entries = ItemCompletion.objects.filter(item__batch=batch).annotate(size=Length("completion__text"))
    sizes = {(item, index): size for item, index, size in entries.values_list("item_id", "index", "size").iterator()}
    return [sizes.get((item, 0), 0) for item in items], [sizes.get((item, 1), 0) for item in items]


def _write(batch: Batch, waiting: Sequence[Waiting], wanted: Sequence[int]) -> int:
    changed = {one.pk: level for one, level in zip(waiting, wanted, strict=True) if one.priority != level}
    keys = sorted(changed)
    return sum(_write_some(batch, keys[at : at + CHUNK], changed) for at in range(0, len(keys), CHUNK))


@writes
def _write_some(batch: Batch, keys: Sequence[Any], wanted: Mapping[Any, int]) -> int:
    """Set the priorities of slots that are still free, and have raters look at what has come before their cursors."""
    free = Slot.objects.select_for_update().filter(
        pk__in=keys, batch=batch, state=SlotState.FREE, lane=1, reserved_for=None
    )
    held = list(free.order_by("pk").values_list("pk", flat=True))
    if held:
        cases = [When(pk=key, then=Value(wanted[key])) for key in held]
        Slot.objects.filter(pk__in=held).update(priority=Case(*cases))
        slots.rewind(batch, max(wanted[key] for key in held))
        events.record("batch.prioritised", programme=batch.programme_id, batch=batch, count=len(held))
    return len(held)


def run_forever(stop: threading.Event, pause: float = PAUSE) -> None:
    """The server's worker: reorders programmes whose judgments or items changed, until told to stop.

    A failure is logged, and it goes on. After work it rests `REST` times as long as that took.
    """
    seen: dict[Any, Any] = {}

    def act() -> None:
        with advisory.held(advisory.HANDING_OUT, wait=False) as ours:  # of several studios on one database, one
            if ours:
                look(seen, stop.is_set)

    while not stop.is_set():
        began = time.monotonic()
        attempt("handing-out", act, log)
        stop.wait(max(pause, REST * (time.monotonic() - began)))
    connection.close()


def look(seen: dict[Any, Any], stopped: Callable[[], bool] = lambda: False) -> int:
    """Reorder the programmes whose rule, judgments or waiting slots are not as they were seen; returns how many."""
    done = 0
    for programme in Programme.objects.filter(archived=None).order_by("pk"):
        if stopped():
            break
        now = _state(programme)
        if seen.get(programme.pk) != now:
            reorder(programme)
            seen[programme.pk] = now
            done += 1
    return done


def _state(programme: Programme) -> tuple[Any, ...]:
    """What a programme's order depends on, in figures that are cheap to have."""
    selection = rules_of(programme.settings).selection
    waiting = Slot.objects.filter(
        batch__programme=programme, batch__state=BatchState.OPEN, state=SlotState.FREE, lane=1, reserved_for=None
    )
    if selection == "order":
        return (selection, waiting.exclude(priority=F("item__priority")).exists())
    judged = CurrentJudgment.objects.filter(item__programme=programme).count() if selection == "information" else 0
    newest = waiting.order_by("-created").values_list("created", flat=True).first()
    return (selection, judged, newest)
