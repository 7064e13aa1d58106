"""The state of slots, assignments and judgments, built again from the audit events alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heedful.feedback.models import (
    Assignment,
    AuditEvent,
    CurrentJudgment,
    Programme,
    Slot,
)

FREE: tuple[str, str | None] = ("free", None)


@dataclass
class State:
    """What the events say. Ids are text. A slot that no event speaks of is free."""

    programme: str | None = None
    """Only of this one; None: of all."""
    slots: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """Slot to (state, the assignment that holds it or did its work)."""
    assignments: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Assignment to (state, slot)."""
    current: dict[str, str | None] = field(default_factory=dict)
    """Judgments that hold, to the slot that each fills; None: surplus."""


def replay(programme: Programme | None = None) -> State:
    """Build the state from the events, in their order.

    Args:
        programme: whose; by default all.
    """
    state = State(programme=str(programme.pk) if programme else None)
    rows = AuditEvent.objects.order_by("seq")
    if programme is not None:
        rows = rows.filter(programme=programme.pk)
    for kind, ids in rows.values_list("kind", "ids").iterator(chunk_size=1000):
        step = STEPS.get(kind)
        if step is not None:
            step(state, ids)
    return state


def _opened(state: State, ids: Mapping[str, Any]) -> None:
    state.slots[ids["slot"]] = FREE


def _closed(state: State, ids: Mapping[str, Any]) -> None:
    for slot in ids.get("slots", [ids.get("slot")]):
        state.slots[slot] = ("closed", None)


def _unparked(state: State, ids: Mapping[str, Any]) -> None:
    for slot in ids["slots"]:
        state.slots[slot] = FREE


def _withdrawn(state: State, ids: Mapping[str, Any]) -> None:
    _closed(state, ids)
    for key in ids["assignments"]:
        state.assignments[key] = ("released", state.assignments[key][1])


def _leased(state: State, ids: Mapping[str, Any]) -> None:
    state.slots[ids["slot"]] = ("leased", ids["assignment"])
    state.assignments[ids["assignment"]] = ("leased", ids["slot"])


def _over(end: str) -> Callable[[State, Mapping[str, Any]], None]:
    """An assignment ends without a judgment; its slot, if it still held it, is free."""

    def step(state: State, ids: Mapping[str, Any]) -> None:
        key = ids["assignment"]
        slot = state.assignments[key][1]
        state.assignments[key] = (end, slot)
        if state.slots[slot] == ("leased", key):
            state.slots[slot] = FREE

    return step


def _submitted(state: State, ids: Mapping[str, Any]) -> None:
    key, slot = ids["assignment"], ids["slot"]
    if slot is None:
        state.assignments[key] = ("surplus", state.assignments[key][1])
    else:
        state.assignments[key] = ("submitted", slot)
        state.slots[slot] = ("done", key)
    state.current[ids["judgment"]] = slot


def _recorded(state: State, ids: Mapping[str, Any]) -> None:
    if ids["slot"] is not None:
        state.slots[ids["slot"]] = ("done", None)
    state.current[ids["judgment"]] = ids["slot"]


def _imported(state: State, ids: Mapping[str, Any]) -> None:
    state.current |= dict.fromkeys(ids["judgments"])  # they fill no slot


def _corrected(state: State, ids: Mapping[str, Any]) -> None:
    state.current[ids["judgment"]] = state.current.pop(ids["supersedes"])


def _retracted(state: State, ids: Mapping[str, Any]) -> None:
    slot = state.current.pop(ids["supersedes"])
    if slot is not None:
        state.slots[slot] = FREE
    key = ids["assignment"]
    if key is not None:
        state.assignments[key] = ("expired", state.assignments[key][1])


STEPS: dict[str, Callable[[State, Mapping[str, Any]], None]] = {
    "slot.opened": _opened,
    "slot.closed": _closed,
    "item.parked": _closed,
    "item.unparked": _unparked,
    "item.withdrawn": _withdrawn,
    "assignment.leased": _leased,
    "assignment.expired": _over("expired"),
    "assignment.released": _over("released"),
    "assignment.skipped": _over("skipped"),
    "judgment.submitted": _submitted,
    "judgment.recorded": _recorded,
    "judgments.imported": _imported,
    "judgment.corrected": _corrected,
    "judgment.retracted": _retracted,
}
"""What each kind of event does to the state; other kinds do nothing to it."""


def difference(state: State) -> list[str]:
    """Where the tables say something else than the events, one sentence each; empty when they agree."""
    slots, assignments, current = Slot.objects.all(), Assignment.objects.all(), CurrentJudgment.objects.all()
    if state.programme is not None:
        slots = slots.filter(item__programme=state.programme)
        assignments = assignments.filter(item__programme=state.programme)
        current = current.filter(item__programme=state.programme)
    found: list[str] = []
    rows = slots.values_list("pk", "state", "holder")
    there = {str(pk): (held, str(by) if by else None) for pk, held, by in rows.iterator()}
    _compare("slot", {**dict.fromkeys(there, FREE), **state.slots}, there, found)
    taken = {str(pk): (held, str(slot)) for pk, held, slot in assignments.values_list("pk", "state", "slot_id")}
    _compare("assignment", state.assignments, taken, found)
    holding = {str(pk): str(slot) if slot else None for pk, slot in current.values_list("judgment_id", "slot_id")}
    _compare("judgment", state.current, holding, found)
    return found


def _compare(what: str, events: Mapping[str, Any], tables: Mapping[str, Any], found: list[str]) -> None:
    for key in sorted(events.keys() | tables.keys()):
        said, there = events.get(key, "nothing"), tables.get(key, "nothing")
        if said != there:
            found.append(f"{what} {key}: the events say {said}, the tables {there}.")
