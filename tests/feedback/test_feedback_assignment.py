"""Who is given what next, rule by rule."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from feedback_factories import account, batch, item, open_batch, programme, rater
from heedful.errors import HeedfulError
from heedful.feedback import assignment, clock, content, leases, qualification, slots, submission
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import (
    Adjudication,
    Assignment,
    AuditEvent,
    Batch,
    Completion,
    Draft,
    Item,
    QueueCursor,
    Rater,
    Skip,
    Slot,
    Tally,
)
from heedful.feedback.programmes import give_consent
from heedful.feedback.replay import difference, replay

pytestmark = pytest.mark.django_db
ASK = [{"role": "user", "content": "Which?"}]
TWO = [content.NewCompletion("a"), content.NewCompletion("b")]


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def time() -> Any:
    moved = Time()
    with patch.object(clock, "now", moved):
        yield moved


def given(who: Rater, **over: Any) -> Assignment:
    held = assignment.next_assignment(who, **over)
    assert held is not None, "no work"
    return held


def judge(who: Rater, strength: int = 1, **over: Any) -> Item:
    """Judge what comes next; the item."""
    held = given(who, **over)
    shown = {"strength": strength if held.order == [0, 1] else -strength}
    submission.submit(held, shown, key=str(held.pk), item_version=held.item_version)
    return held.item


def made(of: Any, items: list[content.NewItem], **over: Any) -> tuple[Batch, list[Item]]:
    work = content.create_batch(of, "work", **over)
    content.add_items(work, items)
    content.open_batch(work)
    return work, list(Item.objects.filter(batch=work).order_by("position"))


def plain(**over: Any) -> content.NewItem:
    return content.NewItem(ASK, TWO, "pairwise", **over)


def test_batches_go_by_priority_and_items_by_lane_priority_and_place() -> None:
    of = programme(skips_to_park=9)
    _, later = made(of, [plain()], priority=0)
    _, first = made(of, [plain(), plain(priority=2), plain()], priority=5)
    who, other = rater(of), rater(of)
    held = given(other)
    assert held.item == first[1]
    assignment.release(held)  # given back: before those never handed out
    assert [judge(who) for _ in range(4)] == [first[1], first[0], first[2], later[0]]
    assert assignment.next_assignment(who) is None
    assert assignment.why_none(who) == "done"


@pytest.mark.parametrize(
    ("languages", "expertise", "expected"),
    [
        ([], [], ["", "en-GB", "vi"]),
        (["en"], [], ["", "en-GB"]),
        (["en-US"], [], [""]),
        (["vi"], ["law"], ["", "vi", "vi law"]),
        ([], ["law"], ["", "en-GB", "vi", "vi law"]),
    ],
)
def test_a_rater_is_given_their_languages_and_expertise(
    languages: list[str], expertise: list[str], expected: list[str]
) -> None:
    of = programme()
    names = {}
    kinds = {"": {}, "en-GB": {"language": "en-GB"}, "vi": {"language": "vi"},
             "vi law": {"language": "vi", "expertise": "law"}}  # fmt: skip
    _, items = made(of, [plain(**over) for over in kinds.values()])
    names = {one.pk: name for one, name in zip(items, kinds, strict=True)}
    who = rater(of, languages=languages, expertise=expertise)
    found = []
    while held := assignment.next_assignment(who):
        found.append(names[held.item_id])
        submission.submit(held, {"strength": 0}, key=str(held.pk), item_version=1)
    assert sorted(found) == sorted(expected)


def test_an_item_for_named_raters_goes_to_any_of_them_and_nobody_else() -> None:
    of = programme()
    one, two, three, other = (rater(of) for _ in range(4))
    names = [one.pk, str(two.pk), three.pk]
    made(of, [plain(named_raters=names, language="vi")], quota=2)
    assert assignment.next_assignment(other) is None
    assert judge(two) == judge(three)
    assert assignment.next_assignment(one) is None
    assert Item.objects.get().state == "done"


def test_nobody_judges_what_they_wrote_or_adjudicated_or_opted_out_of() -> None:
    of = programme()
    author, judge_of_it, sensitive = rater(of), rater(of), rater(of, excluded_categories=["violence"])
    written = content.NewItem(ASK, [content.NewCompletion("a", author=author), TWO[1]], "pairwise")
    _, items = made(of, [written, plain(), plain(categories=["violence"])], quota=3)
    voted = submission.record(items[1], rater(of, kind="ai"), {"strength": 1}, key="k")
    Adjudication.objects.create(item=items[1], judgment=voted, adjudicator=judge_of_it.account)
    assert {judge(author), judge(author)} == {items[1], items[2]}
    assert {judge(judge_of_it), judge(judge_of_it)} == {items[0], items[2]}
    assert {judge(sensitive), judge(sensitive)} == {items[0], items[1]}
    assert all(assignment.next_assignment(who) is None for who in (author, judge_of_it, sensitive))


def test_who_has_a_judgment_of_an_item_that_holds_is_not_given_it() -> None:
    of = programme()
    who = rater(of)
    _, (only,) = made(of, [plain()], quota=2)
    submission.record(only, who, {"strength": 1}, key="dialogue", counts=False)
    assert assignment.next_assignment(who) is None


@pytest.mark.parametrize(("share", "expected"), [(1.0, 10), (0.5, 5), (0.01, 1)])
def test_a_rater_fills_at_most_their_share_of_a_batch(share: float, expected: int) -> None:
    of = programme(max_share=share)
    work, _ = made(of, [plain() for _ in range(8)], quota=1, quota_cap=1)
    content.add_items(work, [plain(), plain()])
    who = rater(of)
    judged = 0
    while assignment.next_assignment(who):
        judge(who)
        judged += 1
    assert judged == expected
    if share < 1:
        assert assignment.next_assignment(who) is None
        assert assignment.why_none(who) == "share"
        total, mine = Tally.objects.get(batch=work, rater=None), Tally.objects.get(batch=work, rater=who)
        assert (total.count, mine.count) == (10, expected)
        last = submission.undo(who.judgments.order_by("-created")[0], key="undo")
        assert Tally.objects.get(batch=work, rater=who).count == expected - 1
        held = given(who)  # what they hold still counts, so it is that one which comes back
        assert held == last.assignment


@pytest.mark.parametrize("barred", ["paused", "consent", "qualification"])
def test_who_may_not_work_is_given_nothing_and_told_why(barred: str) -> None:
    of = programme(**({"consent_text": "You agree."} if barred == "consent" else {}))
    who = rater(of, paused=clock.now() if barred == "paused" else None)
    open_batch(of, 1)
    with patch.object(qualification, "may_work", lambda *_: barred != "qualification"):
        assert assignment.next_assignment(who) is None
        assert assignment.why_none(who) == barred
    if barred == "consent":
        give_consent(who)
    Rater.objects.filter(pk=who.pk).update(paused=None)
    assert assignment.next_assignment(who) is not None


def test_busy_means_that_work_may_come_back() -> None:
    of = programme()
    one, two = rater(of), rater(of, languages=["vi"])
    _, (only,) = made(of, [plain(language="en")])
    held = given(one)
    assert assignment.why_none(two) == "done"
    assert assignment.next_assignment(rater(of)) is None
    assert assignment.why_none(rater(of)) == "busy"
    assignment.release(held)
    assert given(rater(of)).item == only


@pytest.mark.parametrize("state", ["staged", "paused", "closed"])
def test_only_open_batches_are_handed_out(state: str) -> None:
    of = programme()
    work = open_batch(of, 2)
    who = rater(of)
    held = given(who)
    Batch.objects.filter(pk=work.pk).update(state=state)
    assert assignment.next_assignment(rater(of)) is None
    submission.submit(held, {"strength": 0}, key="k", item_version=1)  # what is being worked on may be finished
    assert assignment.next_assignment(who) is None


def test_another_programmes_work_and_another_batch_stay_out_of_sight() -> None:
    of = programme()
    open_batch(programme(), 1)
    one, two = open_batch(of, 1), open_batch(of, 1)
    who = rater(of)
    assert given(who, batch=two).slot.batch == two
    assert given(who, batch=one).slot.batch == one
    assert Assignment.objects.count() == 2


def test_two_tabs_share_what_is_held_and_one_is_fetched_ahead() -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 5)
    held = given(who)
    assert given(who) == held
    ahead = given(who, prefetch=True)
    assert ahead.prefetched
    assert ahead.shown is None
    assert given(who, prefetch=True) == ahead
    assert assignment.current_assignment(who) is None  # nothing was shown yet
    assignment.show(held)
    assert assignment.current_assignment(who) == held
    submission.submit(held, {"strength": 0}, key="k", item_version=1)
    assert given(who) == ahead
    assignment.show(ahead)
    assert not Assignment.objects.get(pk=ahead.pk).prefetched


def test_who_is_paused_may_finish_what_lies_open_and_is_not_shown_what_was_fetched_ahead() -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 5)
    held = assignment.show(given(who))
    ahead = given(who, prefetch=True)
    Rater.objects.filter(pk=who.pk).update(paused=clock.now())
    assert given(who) == held
    submission.submit(held, {"strength": 0}, key="k", item_version=1)
    assert assignment.next_assignment(who) is None
    assert assignment.why_none(who) == "paused"
    Rater.objects.filter(pk=who.pk).update(paused=None)
    assert given(who) == ahead


def test_time_starts_when_shown_and_the_lease_is_short_before(time: Time) -> None:
    of = programme(lease_seconds=1000, prefetch_seconds=60)
    who = rater(of)
    open_batch(of, 2)
    ahead = given(who, prefetch=True)
    assert ahead.lease_until == time.at + timedelta(seconds=60)
    time.pass_by(50)
    shown = assignment.show(ahead)
    assert shown.shown == time.at
    assert shown.lease_until == time.at + timedelta(seconds=1000)
    time.pass_by(10)
    again = assignment.show(ahead)
    assert again.shown == time.at - timedelta(seconds=10)
    assert Slot.objects.get(pk=ahead.slot_id).lease_until == again.lease_until == time.at + timedelta(seconds=1000)


def test_what_is_leased_is_shown_at_once_where_asked_but_nothing_held_and_no_dialogue(time: Time) -> None:
    of = programme()
    who, other = rater(of), rater(of)
    open_batch(of, 2)
    held = given(who, show=True)
    assert held.shown == time.at
    assert AuditEvent.objects.filter(kind="assignment.shown", ids__assignment=str(held.pk)).count() == 1
    ahead = given(other, prefetch=True)
    assert given(other, show=True) == ahead
    assert Assignment.objects.get(pk=ahead.pk).shown is None
    talking = programme()
    open_batch(talking, 1, kind="dialogue")
    assert given(rater(talking), show=True).shown is None
    assert difference(replay()) == []


def test_activity_and_autosave_renew_the_lease(time: Time) -> None:
    of = programme(lease_seconds=100)
    who, other = rater(of), rater(of)
    open_batch(of, 1)
    held = given(who)
    assignment.show(held)
    for number, renew in enumerate((lambda: assignment.heartbeat(held, 5),
                                    lambda: assignment.save_draft(held, {"strength": 1}, 0, 7))):  # fmt: skip
        time.pass_by(90)
        assert renew() in (True, 1), number
        assert assignment.next_assignment(other) is None
    assert held.active_ms == 7
    time.pass_by(101)
    assert given(other).item == held.item
    assert assignment.heartbeat(held, 9) is False
    with pytest.raises(Conflict, match="no longer yours"):
        assignment.show(held)


def test_leases_that_ended_are_taken_back_a_few_at_a_time(time: Time) -> None:
    of = programme(lease_seconds=10, max_share=1.0)
    open_batch(of, 30)
    helds = []
    for _ in range(25):
        helds.append(given(rater(of)))
        time.pass_by(0.1)  # so that one lease has ended before another
    time.pass_by(11)
    given(rater(of))
    states = Counter(Assignment.objects.values_list("state", flat=True))
    assert states == {"expired": leases.TAKEN_BACK, "leased": 25 - leases.TAKEN_BACK + 1}
    assert {held.pk for held in helds[: leases.TAKEN_BACK]} == set(
        Assignment.objects.filter(state="expired").values_list("pk", flat=True)
    )
    assert difference(replay()) == []


def test_drafts_go_forward_and_a_stale_tab_is_told() -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 1)
    held = given(who)
    assert assignment.save_draft(held, {"strength": 1}, 0, 0) == 1
    assert assignment.save_draft(held, {"strength": 2, "rationale": "…"}, 1, 0) == 2
    for stale in (0, 1, 5):
        with pytest.raises(Conflict, match="another tab"):
            assignment.save_draft(held, {"strength": 3}, stale, 0)
    assert Draft.objects.get().payload == {"strength": 2, "rationale": "…"}
    with pytest.raises(HeedfulError, match=r"payload\.rationale: a NUL"):
        assignment.save_draft(held, {"rationale": "\0"}, 2, 0)
    assignment.release(held)
    assert assignment.save_draft(held, {"strength": 0}, 2, 0) == 3  # work after the end is kept
    submission.submit(held, {"strength": 0}, key="k", item_version=1)
    assert not Draft.objects.exists()
    with pytest.raises(Conflict, match="finished"):
        assignment.save_draft(held, {"strength": 0}, 3, 0)


def test_a_skip_frees_the_slot_never_returns_and_parks_the_item() -> None:
    of = programme(skips_to_park=2)
    one, two, three = (rater(of) for _ in range(3))
    _, (only,) = made(of, [plain()], quota=2)
    held = given(one)
    skipped = assignment.skip(held, "unclear", "what is asked?", active_ms=70)
    assert assignment.skip(held, "unclear") == skipped
    assert Skip.objects.get().note == "what is asked?"
    assert assignment.next_assignment(one) is None
    assert Slot.objects.filter(state="free").count() == 2
    assignment.skip(given(two), "broken")
    only.refresh_from_db()
    assert (only.state, only.skips) == ("parked", 2)
    assert assignment.next_assignment(three) is None
    content.unpark_item(only)
    assert (only.state, only.skips) == ("open", 0)
    assert given(three).item == only
    assert assignment.next_assignment(one) is None
    with pytest.raises(HeedfulError, match="no reason"):
        assignment.skip(given(three), "boring")
    assert difference(replay()) == []


def test_a_late_skip_does_not_cross_the_same_item_in_another_tab() -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 1)
    old = given(who)
    assignment.release(old)
    new = given(who)
    with pytest.raises(Conflict, match="have this item again"):
        assignment.skip(old, "unclear")
    assert Assignment.objects.get(pk=new.pk).state == "leased"
    assignment.release(new)
    assignment.skip(old, "unclear")
    assert assignment.next_assignment(who) is None
    assert difference(replay()) == []


def test_what_is_held_counts_towards_the_share() -> None:
    of = programme(max_share=0.25)
    open_batch(of, 4)
    who = rater(of)
    given(who)
    assert assignment.next_assignment(who, prefetch=True) is None


def test_a_share_is_not_passed_by_two_who_looked_at_the_same_time() -> None:
    of = programme(max_share=0.25)
    open_batch(of, 8)
    who = rater(of)
    judge(who)
    look = assignment._look(Rater.objects.get(pk=who.pk), None, False, True)
    given(who)
    assert look.candidates
    assert assignment._take(look, None, True, False, False) is None
    assert Slot.objects.exclude(state="free").count() == 2
    assert assignment.next_assignment(who, prefetch=True) is None
    assert difference(replay()) == []


def test_a_reserved_slot_is_its_raters_alone_and_closes_when_passed() -> None:
    of = programme(skips_to_park=1)
    who, other = rater(of), rater(of)
    work = open_batch(of, 0)
    only = item(work)
    Slot.objects.all().delete()
    for number in (1, 2):
        mine = slots.reserve(only, who, pass_number=number)
        with patch("heedful.feedback.special.offer", lambda r, _b, mine=mine: mine if r.pk == who.pk else None):
            assert assignment.next_assignment(other) is None
            held = given(who)
            assert held.slot == mine
            if number == 1:
                submission.submit(held, {"strength": 1}, key="k", item_version=1)
            else:
                assignment.skip(held, "unclear")
    only.refresh_from_db()
    assert (only.state, only.skips) == ("open", 0)  # slots of one rater alone say nothing of the item
    assert Slot.objects.get(pk=mine.pk).state == "closed"
    assert difference(replay()) == []


def test_what_comes_later_with_a_higher_priority_goes_first() -> None:
    of = programme()
    work, _ = made(of, [plain() for _ in range(4)])
    who = rater(of)
    judge(who)
    content.add_items(work, [plain(), plain(priority=3)])
    assert judge(who).priority == 3
    last = Item.objects.filter(batch=work).order_by("-position")[1]
    assert content.prioritise(work, {last.pk: 7}) == 1
    assert judge(who) == last
    with pytest.raises(HeedfulError, match="priority"):
        content.prioritise(work, {last.pk: 5000})


def test_a_place_behind_the_cursor_is_found_before_no_work_is_said() -> None:
    """A rater passes an item's other slot, since they hold the item; given back, the first goes to somebody else."""
    of = programme()
    who, other = rater(of), rater(of)
    _, items = made(of, [plain(), plain()], quota=2)
    held = given(who)
    given(who, prefetch=True)
    assert QueueCursor.objects.get(rater=who, lane=1).position >= 2
    assignment.release(held)
    assert given(other).item == items[0]  # takes the slot that came back
    for one in Assignment.objects.filter(rater=who, state="leased"):
        submission.submit(one, {"strength": 0}, key="k", item_version=1)
    assert given(who).item == items[0]


def test_many_slots_that_do_not_fit_are_passed_at_once_and_once() -> None:
    of = programme()
    work = batch(of)
    items = [item(work) for _ in range(60)]
    who = rater(of)
    Completion.objects.filter(entries__item__in=items[:55]).update(author=who)
    with CaptureQueriesContext(connection) as asked:
        held = given(who)
    assert held.item == items[55]
    assert len(asked) < 40  # the database leaves them out; no look a few at a time
    submission.submit(held, {"strength": 0}, key="k", item_version=1)
    Completion.objects.filter(entries__item__in=items).update(author=who)
    assert assignment.next_assignment(who) is None
    last = Slot.objects.get(item=items[59])
    assert QueueCursor.objects.get(rater=who, lane=1).position == last.position


def test_what_comes_back_stands_behind_what_came_back_before() -> None:
    of = programme()
    one, two, three = (rater(of) for _ in range(3))
    open_batch(of, 3)
    first, second = given(one), given(two)
    assignment.release(second)
    assignment.release(first)
    assert [judge(three), judge(three)] == [second.item, first.item]


def test_the_order_shown_is_random_and_even() -> None:
    assert Counter(tuple(leases.presentation([0, 1], [[0, 1]])) for _ in range(20)) == {(1, 0): 20}
    pairs = Counter(tuple(leases.presentation([0, 1], [])) for _ in range(400))
    assert 130 < pairs[0, 1] < 270  # seven standard deviations
    threes = Counter(tuple(leases.presentation([0, 1, 2], [[0, 1, 2]])) for _ in range(1200))
    assert len(threes) == 6
    assert min(threes.values()) > 110
    assert leases.presentation([], []) == []


def test_the_order_of_one_item_is_balanced_over_its_raters() -> None:
    of = programme()
    made(of, [plain()], quota=4)
    orders = Counter(tuple(given(rater(of)).order) for _ in range(4))
    assert orders == {(0, 1): 2, (1, 0): 2}


def test_an_archived_programme_or_an_erased_rater_gets_nothing() -> None:
    of = programme()
    open_batch(of, 1)
    gone = rater(of, erased=clock.now())
    assert assignment.next_assignment(gone) is None
    of.archived = clock.now()
    of.save()
    who = rater(of, account=account())
    assert assignment.next_assignment(who) is None
    assert assignment.why_none(who) == "done"
