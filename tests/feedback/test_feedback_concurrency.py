"""Many raters at once, on real commits: none gets another's place, none is told that there is no work when there is."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections

from feedback_factories import programme, rater
from heedful.feedback import assignment, content, submission
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import Assignment, CurrentJudgment, Item, Judgment, Programme, Rater, Slot
from heedful.feedback.replay import difference, replay

RATERS = 8
ITEMS, QUOTA, CAP = 5, 3, 4
pytestmark = pytest.mark.django_db(transaction=True)


def together(*acts: Callable[[], Any]) -> list[Any]:
    """Run each in a thread and a connection of its own, begun at the same time; what they gave, or raised."""
    barrier = threading.Barrier(len(acts))
    found: list[Any] = [None] * len(acts)

    def run(number: int) -> None:
        try:
            barrier.wait()
            found[number] = acts[number]()
        except Exception as error:
            found[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def work(of: Programme, items: int = ITEMS, quota: int = QUOTA, cap: int = CAP) -> None:
    batch = content.create_batch(of, "work", quota=quota, quota_cap=cap)
    ask = [{"role": "user", "content": "Which?"}]
    two = [content.NewCompletion("a"), content.NewCompletion("b")]
    content.add_items(batch, [content.NewItem(ask, two, "pairwise") for _ in range(items)])
    content.open_batch(batch)


def judge_all(who: Rater, sign: int, pass_by: int) -> int:
    """Judge until there is no work; every `pass_by`-th item is passed, given back or sent twice."""
    count = 0
    while held := assignment.next_assignment(who):
        count += 1
        if count % pass_by == 0:
            assignment.skip(held, "unclear")
            continue
        if count % pass_by == 1:
            assignment.release(held)
            held = assignment.next_assignment(who)
            if held is None:
                break
        assignment.show(held)
        ahead = assignment.next_assignment(who, prefetch=True)
        shown = {"strength": sign if held.order == [0, 1] else -sign}
        made = submission.submit(held, shown, key=str(held.pk), item_version=1)
        assert submission.submit(held, shown, key=str(held.pk), item_version=1) == made
        if count % 5 == 0:
            submission.undo(made, key=f"undo {made.pk}")
            if ahead is not None:
                assignment.release(ahead)
    return count


def test_no_place_is_filled_twice_and_none_stays_empty() -> None:
    of = programme(skips_to_park=50)
    raters = [rater(of) for _ in range(RATERS)]
    work(of)
    signs = [1 if number % 2 else -1 for number in range(RATERS)]
    found = together(
        *(lambda who=who, sign=sign: judge_all(who, sign, 4) for who, sign in zip(raters, signs, strict=True))
    )
    assert all(isinstance(one, int) for one in found), found
    for who in raters:  # what others gave back after somebody had gone home
        while held := assignment.next_assignment(who):
            submission.submit(held, {"strength": 0}, key=str(held.pk), item_version=1)
    states = Counter(Slot.objects.values_list("state", flat=True))
    filled = Counter(CurrentJudgment.objects.filter(slot__isnull=False).values_list("item_id", flat=True))
    assert states["leased"] == 0
    assert max(filled.values()) <= CAP
    assert sum(filled.values()) == states["done"]
    pairs = list(CurrentJudgment.objects.values_list("item_id", "rater_id"))
    assert len(pairs) == len(set(pairs))
    # What is still free could be given to nobody: all have had it.
    for slot in Slot.objects.filter(state="free"):
        had = Assignment.objects.filter(item=slot.item_id, state__in=("submitted", "skipped", "surplus"))
        assert had.values("rater").distinct().count() == RATERS
    assert difference(replay()) == []


def test_one_place_goes_to_one_of_many() -> None:
    of = programme()
    raters = [rater(of) for _ in range(RATERS)]
    work(of, items=1, quota=1, cap=1)
    found = together(*(lambda who=who: assignment.next_assignment(who) for who in raters))
    assert sum(isinstance(one, Assignment) for one in found) == 1
    assert found.count(None) == RATERS - 1


def test_as_many_places_as_raters_leave_nobody_without() -> None:
    of = programme()
    raters = [rater(of) for _ in range(RATERS)]
    work(of, items=2, quota=RATERS // 2, cap=RATERS // 2)
    found = together(*(lambda who=who: assignment.next_assignment(who) for who in raters))
    assert all(isinstance(one, Assignment) for one in found), found
    assert len({one.slot_id for one in found}) == RATERS


def test_a_raters_tabs_share_one_assignment() -> None:
    of = programme()
    who = rater(of)
    work(of)
    found = together(*[lambda: assignment.next_assignment(who)] * 6)
    assert all(isinstance(one, Assignment) for one in found), found
    assert len({one.pk for one in found}) == 1


def test_a_double_click_ends_in_one_row() -> None:
    of = programme()
    who = rater(of)
    work(of)
    held = assignment.next_assignment(who)
    assert held is not None

    def click(key: str) -> Any:
        return submission.submit(Assignment.objects.get(pk=held.pk), {"strength": 1}, key=key, item_version=1)

    same = together(*[lambda: click("one")] * 5)
    assert {one.pk for one in same} == {Judgment.objects.get().pk}
    other = together(*[lambda n=n: click(f"other {n}") for n in range(3)])
    assert all(isinstance(one, Conflict) for one in other)
    assert Judgment.objects.count() == 1


def test_work_that_comes_late_from_all_sides_fills_each_place_once() -> None:
    of = programme(lease_seconds=1)
    raters = [rater(of) for _ in range(6)]
    work(of, items=1, quota=2, cap=2)
    helds = []
    for who in raters:
        held = assignment.next_assignment(who)
        assert held is not None
        helds.append(held)
        assignment.release(held)
    found = together(
        *(
            lambda held=held: submission.submit(held, {"strength": 1}, key=str(held.pk), item_version=1)
            for held in helds
        )
    )
    assert all(isinstance(one, Judgment) for one in found), found
    assert sorted(one.surplus for one in found) == [False] * 2 + [True] * 4
    assert Item.objects.get().state == "done"
    assert difference(replay()) == []


def test_skips_from_all_sides_park_once_and_count_each() -> None:
    of = programme(skips_to_park=2)
    raters = [rater(of) for _ in range(4)]
    work(of, items=1, quota=4, cap=4)
    helds = [assignment.next_assignment(who) for who in raters]
    found = together(*(lambda held=held: assignment.skip(held, "unclear") for held in helds))
    assert not any(isinstance(one, Exception) for one in found), found
    item = Item.objects.get()
    assert (item.state, item.skips) == ("parked", 4)
    assert set(Slot.objects.values_list("state", flat=True)) == {"closed"}
    assert difference(replay()) == []
    assert connection.vendor in ("sqlite", "postgresql")
