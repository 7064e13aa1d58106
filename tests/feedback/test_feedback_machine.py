"""Assignment and submission against a simple model, driven by Hypothesis."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from feedback_factories import account, programme, rater
from heedful.feedback import assignment, clock, content, submission
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import Assignment, CurrentJudgment, Item, Judgment, Slot
from heedful.feedback.programmes import agent
from heedful.feedback.replay import difference, replay

QUOTA, CAP, TO_PARK = 2, 3, 2
LEASE, AHEAD = 100, 10
HELD = ("leased", "submitted", "surplus", "skipped")
STRENGTHS = st.integers(-2, 2)


@dataclass
class Held:
    """The model's assignment."""

    who: int
    item: int
    state: str = "leased"
    until: float = 0.0
    ahead: bool = False
    slot: bool = True
    """It holds a slot, or has filled one."""


@dataclass
class Said:
    """The model's judgment that holds."""

    item: int
    who: Any
    strength: int
    counted: bool
    by: Any
    """The assignment, or None."""


@dataclass
class Thing:
    """The model's item."""

    free: int = QUOTA
    places: int = QUOTA
    closed: int = 0
    skips: int = 0
    state: str = "open"
    barred: set[int] = field(default_factory=set)
    """Raters who wrote a completion of it, or are not among those it names."""


class Store(RuleBasedStateMachine):
    """Raters ask, show, pass, give back, submit late and early, take back and correct; leases end; items are parked."""

    assignments = Bundle("assignments")
    judgments = Bundle("judgments")

    def __init__(self) -> None:
        super().__init__()
        self.undo_all = transaction.atomic()
        self.undo_all.__enter__()
        self.time = datetime(2030, 1, 1, tzinfo=UTC)
        self.clock = patch.object(clock, "now", lambda: self.time)
        self.clock.start()
        of = programme(lease_seconds=LEASE, prefetch_seconds=AHEAD, skips_to_park=TO_PARK)
        self.raters = [rater(of, account=account()) for _ in range(3)]
        self.judge = agent(of, "ai", "judge")
        self.batch = content.create_batch(of, "work", quota=QUOTA, quota_cap=CAP)
        ask = [{"role": "user", "content": "Which?"}]
        two = [content.NewCompletion("a"), content.NewCompletion("b", author=self.raters[0])]
        plain = [content.NewCompletion("a"), content.NewCompletion("b")]
        names = [str(self.raters[0].pk), str(self.raters[1].pk)]
        content.add_items(
            self.batch,
            [
                content.NewItem(ask, plain, "pairwise"),
                content.NewItem(ask, two, "pairwise", priority=1),
                content.NewItem(ask, plain, "pairwise", named_raters=names),
            ],
        )
        content.open_batch(self.batch)
        self.items = list(Item.objects.filter(batch=self.batch).order_by("position"))
        self.things = [Thing(), Thing(barred={0}), Thing(barred={2})]
        self.held: dict[Any, Held] = {}
        self.said: dict[Any, Said] = {}
        self.number = 0

    def teardown(self) -> None:
        self.clock.stop()
        transaction.set_rollback(True)
        self.undo_all.__exit__(None, None, None)

    # The model's own rules.

    def _key(self) -> str:
        self.number += 1
        return f"key-{self.number}"

    def _index(self, item_id: Any) -> int:
        return [item.pk for item in self.items].index(item_id)

    def _seconds(self) -> float:
        return self.time.timestamp()

    def _lease(self, held: Held, ahead: bool = False) -> None:
        held.until = self._seconds() + (AHEAD if ahead else LEASE)
        held.ahead = ahead

    def _free(self, thing: Thing) -> None:
        if thing.state in ("parked", "withdrawn"):
            thing.closed += 1
        else:
            thing.free += 1

    def _expire(self) -> None:
        for held in self.held.values():
            if held.state == "leased" and held.until < self._seconds():
                held.state, held.slot = "expired", False
                self._free(self.things[held.item])

    def _had(self, who: int, item: int) -> bool:
        return any(one.who == who and one.item == item and one.state in HELD for one in self.held.values())

    def _fits(self, who: int, item: int) -> bool:
        thing = self.things[item]
        return thing.free > 0 and thing.state == "open" and who not in thing.barred and not self._had(who, item)

    def _settle(self, item: int) -> None:
        """Done when nothing waits; one more place while both sides of the tie are heard, up to the cap."""
        thing = self.things[item]
        busy = thing.free or any(o.item == item and o.state == "leased" and o.slot for o in self.held.values())
        counted = [one.strength for one in self.said.values() if one.item == item and one.counted]
        open_or_done = thing.state in ("open", "done")
        split = any(s > 0 for s in counted) and any(s < 0 for s in counted)
        if not busy and counted and open_or_done and split and thing.places - thing.closed < CAP:
            thing.places += 1
            thing.free += 1
            busy = True
        if open_or_done:
            thing.state = "done" if counted and not busy else "open"

    # What happens.

    @rule(target=assignments, who=st.integers(0, 2), ahead=st.booleans())
    def ask(self, who: int, ahead: bool) -> Any:
        mine = [
            key
            for key, one in self.held.items()
            if one.who == who and one.state == "leased" and one.until > self._seconds() and (one.ahead or not ahead)
        ]
        given = assignment.next_assignment(self.raters[who], prefetch=ahead)
        if mine:
            assert given is not None
            assert given.pk in mine
            if not ahead:
                assert not self.held[given.pk].ahead or all(self.held[key].ahead for key in mine)
            return given
        self._expire()
        fitting = [item for item in range(3) if self._fits(who, item)]
        if given is None:
            assert not fitting, "a false 'no work'"
            return multiple()
        item = self._index(given.item_id)
        assert item in fitting
        self.things[item].free -= 1
        self.held[given.pk] = held = Held(who, item)
        self._lease(held, ahead)
        assert sorted(given.order) == [0, 1]
        return given

    @rule(given=assignments)
    def show(self, given: Assignment) -> None:
        held = self.held[given.pk]
        if held.state != "leased":
            with pytest.raises(Conflict):
                assignment.show(given)
            return
        assignment.show(given)
        self._lease(held)
        current = assignment.current_assignment(self.raters[held.who])
        assert current is not None
        assert self.held[current.pk].who == held.who

    @rule(given=assignments, active=st.integers(0, 10_000))
    def work(self, given: Assignment, active: int) -> None:
        held = self.held[given.pk]
        assert assignment.heartbeat(given, active) == (held.state == "leased")
        if held.state == "leased":
            held.until = self._seconds() + LEASE

    @rule(seconds=st.sampled_from([1, AHEAD + 1, LEASE + 1]))
    def wait(self, seconds: int) -> None:
        self.time += timedelta(seconds=seconds)

    @rule(given=assignments)
    def give_back(self, given: Assignment) -> None:
        assignment.release(given)
        held = self.held[given.pk]
        if held.state == "leased":
            held.state, held.slot = "released", False
            self._free(self.things[held.item])

    @rule(given=assignments)
    def skip(self, given: Assignment) -> None:
        held = self.held[given.pk]
        thing = self.things[held.item]
        late = held.state in ("expired", "released")
        if held.state in ("submitted", "surplus") or (late and self._had(held.who, held.item)):
            with pytest.raises(Conflict):
                assignment.skip(given, "unclear")
            return
        assignment.skip(given, "unclear", "why")
        if held.state == "skipped":
            return
        if held.state == "leased":
            self._free(thing)
        held.state, held.slot = "skipped", False
        thing.skips += 1
        if thing.skips >= TO_PARK and thing.state == "open":
            thing.state = "parked"
            thing.closed += thing.free
            thing.free = 0

    @rule(target=judgments, given=assignments, strength=STRENGTHS)
    def submit(self, given: Assignment, strength: int) -> Any:
        held = self.held[given.pk]
        thing = self.things[held.item]
        key = self._key()
        shown = {"strength": strength if given.order == [0, 1] else -strength}
        version = Item.objects.values_list("version", flat=True).get(pk=given.item_id)
        others = [
            one
            for one in self.held.values()
            if one is not held and (one.who, one.item) == (held.who, held.item) and one.state in HELD
        ]
        late = held.state in ("expired", "released")
        if held.state in ("submitted", "surplus", "skipped") or (late and any(o.state != "leased" for o in others)):
            with pytest.raises(Conflict):
                submission.submit(given, shown, key=key, item_version=version)
            return multiple()
        made = submission.submit(given, shown, key=key, item_version=version)
        assert submission.submit(given, shown, key=key, item_version=version) == made
        with pytest.raises(Conflict):
            submission.submit(given, {"strength": 3}, key=key, item_version=version)
        if late:
            for other in others:  # the same rater has the item again: that place becomes this work's
                other.state, other.slot = "released", False
                self._free(thing)
            counted = thing.free > 0
            thing.free -= counted
        else:
            counted = True
        held.state, held.slot = ("submitted" if counted else "surplus"), counted
        assert made.surplus is (not counted)
        assert made.payload["strength"] == strength
        self.said[made.pk] = Said(held.item, held.who, strength, counted, given.pk)
        if counted:
            self._settle(held.item)
        return made

    @rule(target=judgments, judgment=judgments, strength=STRENGTHS)
    def correct(self, judgment: Judgment, strength: int) -> Any:
        said = self.said.get(judgment.pk)
        order = judgment.order or [0, 1]
        shown = {"strength": strength if order == [0, 1] else -strength}
        if said is None:
            with pytest.raises(Conflict):
                submission.correct(judgment, shown, key=self._key())
            return multiple()
        made = submission.correct(judgment, shown, key=self._key())
        del self.said[judgment.pk]
        self.said[made.pk] = Said(said.item, said.who, strength, said.counted, said.by)
        if said.counted:
            self._settle(said.item)
        return made

    @rule(judgment=judgments)
    def undo(self, judgment: Judgment) -> None:
        said = self.said.pop(judgment.pk, None)
        key = self._key()
        if said is None:
            with pytest.raises(Conflict):
                submission.undo(judgment, key=key)
            return
        made = submission.undo(judgment, key=key)
        assert submission.undo(judgment, key=key) == made
        assert made.retracts
        thing = self.things[said.item]
        held = self.held.get(said.by)
        if held is None or not said.counted or thing.state == "withdrawn":
            if held is not None:
                held.state, held.slot = "expired", False
            if said.counted:
                self._free(thing)
        else:
            held.state, held.slot = "leased", True
            self._lease(held)
        if said.counted:
            self._settle(said.item)

    @rule(target=judgments, item=st.integers(0, 2), strength=STRENGTHS)
    def machine_judges(self, item: int, strength: int) -> Any:
        key = self._key()
        if any(one.who == "ai" and one.item == item for one in self.said.values()):
            with pytest.raises(Conflict):
                submission.record(self.items[item], self.judge, {"strength": strength}, key=key)
            return multiple()
        made = submission.record(self.items[item], self.judge, {"strength": strength}, key=key)
        thing = self.things[item]
        counted = thing.free > 0
        thing.free -= counted
        assert made.surplus is (not counted)
        self.said[made.pk] = Said(item, "ai", strength, counted, None)
        if counted:
            self._settle(item)
        return made

    @precondition(lambda self: any(one.state == "parked" for one in self.things))
    @rule(data=st.data())
    def unpark(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from([i for i, one in enumerate(self.things) if one.state == "parked"]))
        content.unpark_item(self.items[item])
        thing = self.things[item]
        thing.state, thing.skips = "open", 0
        thing.free, thing.closed = thing.free + thing.closed, 0
        self._settle(item)

    @rule(item=st.integers(0, 2), chance=st.integers(0, 9))
    def withdraw(self, item: int, chance: int) -> None:
        if chance:
            return
        content.withdraw_item(self.items[item])
        thing = self.things[item]
        if thing.state == "withdrawn":
            return
        thing.state = "withdrawn"
        for held in self.held.values():
            if held.item == item and held.state == "leased":
                held.state, held.slot = "released", False
                thing.closed += 1
        thing.closed, thing.free = thing.closed + thing.free, 0

    # What always holds.

    @invariant()
    def the_tables_are_as_the_model(self) -> None:
        states = dict(Assignment.objects.filter(rater__in=self.raters).values_list("pk", "state"))
        assert states == {key: one.state for key, one in self.held.items()}
        for number, thing in enumerate(self.things):
            rows = list(Slot.objects.filter(item=self.items[number]).values_list("state", flat=True))
            counted = CurrentJudgment.objects.filter(item=self.items[number], slot__isnull=False).count()
            assert rows.count("free") == thing.free
            assert rows.count("closed") == thing.closed
            assert len(rows) == thing.places
            assert counted == rows.count("done") <= thing.places <= CAP
            assert Item.objects.get(pk=self.items[number].pk).state == thing.state
        holding = dict(CurrentJudgment.objects.values_list("judgment_id", "slot__state"))
        assert holding == {key: "done" if one.counted else None for key, one in self.said.items()}

    @invariant()
    def the_events_say_the_same(self) -> None:
        assert difference(replay(self.batch.programme)) == []


@pytest.mark.django_db
def test_assignment_and_submission_behave_as_the_model() -> None:
    run_state_machine_as_test(
        Store,
        settings=settings(
            max_examples=12, stateful_step_count=25, suppress_health_check=list(HealthCheck), print_blob=True
        ),
    )
