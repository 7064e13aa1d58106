"""What raters said is kept once, whole, and in one row that never changes."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError

from feedback_factories import batch, item, open_batch, programme, rater
from feedback_quality import at, at_work, days
from heedful.errors import HeedfulError
from heedful.feedback import adjudication, assignment, clock, content, erasure, gold, outcomes, sight, slots, submission
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import (
    Adjudication,
    Assignment,
    AuditEvent,
    CurrentJudgment,
    Demonstration,
    Draft,
    Edit,
    Item,
    Judgment,
    Membership,
    Rater,
    Rationale,
    Role,
    Slot,
)
from heedful.feedback.payloads import to_shown
from heedful.feedback.programmes import agent, give_consent, publish_guideline, withdraw_consent
from heedful.feedback.replay import difference, replay

pytestmark = pytest.mark.django_db


def given(who: Rater) -> Assignment:
    held = assignment.next_assignment(who)
    assert held is not None, "no work"
    return held


def said(held: Assignment, strength: int) -> dict[str, Any]:
    return {"strength": strength if held.order == [0, 1] else -strength}


def judge(who: Rater, strength: int = 1) -> Judgment:
    held = given(who)
    return submission.submit(held, said(held, strength), key=str(held.pk), item_version=held.item_version)


SHOWN: dict[str, Any] = {
    "pairwise": {"strength": 2},
    "ranking": {"ranks": [3, 1, 1]},
    "attributes": {"scores": [{"helpful": 1, "honest": 5}, {"helpful": 2, "honest": 3}, {"helpful": 4, "honest": 3}]},
    "dialogue": {"turns": 3},
}


@pytest.mark.parametrize("kind", list(SHOWN))
def test_what_was_said_of_letters_is_kept_of_the_items_own_order(kind: str) -> None:
    of = programme()
    who = rater(of)
    count = {"pairwise": 2, "dialogue": 0}.get(kind, 3)
    item(batch(of), kind=kind, completions=count, answers=[] if count == 0 else None)
    held = given(who)
    at_work(held, 1200)
    made = submission.submit(
        held, SHOWN[kind], key="k", item_version=1, rationale="because", safety_flag=True, active_ms=1200
    )
    kept = Judgment.objects.get()
    assert kept == made
    assert {key: value for key, value in to_shown(kind, kept.payload, held.order).items() if value} == SHOWN[kind]
    assert (kept.order, kept.safety_flag, kept.active_ms, kept.kind) == (held.order, True, 1200, kind)
    assert kept.guideline.version == 1
    assert Rationale.objects.get().text == "because"
    current = CurrentJudgment.objects.get()
    assert (current.judgment, current.slot) == (kept, Slot.objects.get())
    assert current.slot is not None
    assert (current.slot.state, current.slot.holder) == ("done", held.pk)
    assert held.state == "submitted"  # the caller's own object is up to date


@pytest.mark.parametrize(
    ("kind", "shown", "where"),
    [
        ("pairwise", {"strength": 4}, "strength"),
        ("pairwise", {}, "strength"),
        ("pairwise", {"strength": 1, "both_bad": True}, "strength"),
        ("pairwise", {"strength": 1, "note": "x"}, "note"),
        ("ranking", {"ranks": [1, 2]}, "ranks"),
        ("ranking", {"ranks": [1, 1, 2]}, "ranks"),
        ("attributes", {"scores": [{"helpful": 1}] * 3}, "scores"),
        ("attributes", {"scores": [{"helpful": 1, "honest": 9}] * 3}, "scores"),
        ("pairwise", {"strength": "\ud800"}, "payload.strength"),
    ],
)
def test_what_is_no_verdict_is_refused_and_nothing_is_kept(kind: str, shown: dict[str, Any], where: str) -> None:
    of = programme()
    item(batch(of), kind=kind, completions=2 if kind == "pairwise" else 3)
    held = given(rater(of))
    before = AuditEvent.objects.count()
    with pytest.raises(HeedfulError) as found:
        submission.submit(held, shown, key="k", item_version=1)
    assert found.value.where.startswith(where)
    assert not isinstance(found.value, Conflict)
    assert not Judgment.objects.exists()
    assert AuditEvent.objects.count() == before
    assert Slot.objects.get().state == "leased"


@pytest.mark.parametrize(
    ("over", "where"),
    [
        ({"rationale": "a\0b"}, "rationale"),
        ({"rationale": "\udfff"}, "rationale"),
        ({"rationale": "x" * 20_001}, "rationale"),
        ({"key": ""}, "key"),
        ({"key": "k" * 81}, "key"),
        ({"active_ms": -1}, "active_ms"),
        ({"active_ms": 1.5}, "active_ms"),
        ({"safety_flag": 1}, "safety_flag"),
        ({"text": "an answer"}, "text"),
    ],
)
def test_odd_values_are_refused_with_their_field(over: dict[str, Any], where: str) -> None:
    of = programme()
    open_batch(of, 1)
    held = given(rater(of))
    with pytest.raises(HeedfulError) as found:
        submission.submit(held, {"strength": 0}, **{"key": "k", "item_version": 1, **over})
    assert found.value.where == where


def test_a_programme_may_ask_for_reasons() -> None:
    of = programme(require_rationale=True)
    open_batch(of, 1)
    held = given(rater(of))
    with pytest.raises(HeedfulError, match="say why"):
        submission.submit(held, {"strength": 0}, key="k", item_version=1, rationale="  ")
    submission.submit(held, {"strength": 0}, key="k", item_version=1, rationale="clearer")


@pytest.mark.parametrize("kind", ["demonstration", "edit"])
def test_written_answers_become_completions_with_an_author(kind: str) -> None:
    of = programme()
    who = rater(of)
    asked = item(batch(of, quota=2), kind=kind, answers=["a draft"] if kind == "edit" else [])
    held = given(who)
    for text, where in ((None, "text"), ("  ", "text"), ("a\0", "text"), ("x" * 200_001, "text")):
        with pytest.raises(HeedfulError) as found:
            submission.submit(held, {}, key="k", item_version=1, text=text)
        assert found.value.where == where
    with pytest.raises(HeedfulError, match="no payload"):
        submission.submit(held, {"completion": "x"}, key="k", item_version=1, text="mine")
    if kind == "edit":
        with pytest.raises(HeedfulError, match="nothing is changed"):
            submission.submit(held, {}, key="k", item_version=1, text="a draft")
    made = submission.submit(held, {}, key="k", item_version=1, text="mine")
    assert submission.submit(held, {}, key="k", item_version=1, text="mine") == made
    with pytest.raises(Conflict):
        submission.submit(held, {}, key="k", item_version=1, text="other")
    record = Demonstration.objects.get() if kind == "demonstration" else Edit.objects.get()
    written = record.completion
    assert (written.text, written.author, written.prompt) == ("mine", who, asked.prompt)
    assert made.payload == {"completion": str(written.pk), "sha256": hashlib.sha256(b"mine").hexdigest()}
    if isinstance(record, Edit):
        assert record.original.text == "a draft"
    better = submission.correct(made, {}, key="c", text="mine, better")
    assert better.payload["completion"] != made.payload["completion"]
    assert CurrentJudgment.objects.get().judgment == better


def test_no_page_counts_more_time_than_has_gone_by() -> None:
    of = programme()
    who = rater(of)
    item(batch(of, quota=1))
    item(batch(of, quota=1))
    start, day = clock.now(), 86_400_000
    with at(start):
        held = given(who)
        assert assignment.heartbeat(held, day)
        assert held.active_ms == 0, "it was not shown yet"
        assignment.show(held)
    with at(start + timedelta(seconds=10)):
        assignment.heartbeat(held, day)
        assert held.active_ms == 10_000
    with at(start + timedelta(seconds=12)):
        assignment.save_draft(held, {"fields": {}}, 0, day)
        assert held.active_ms == 12_000
        assignment.heartbeat(held, 3)
        assert held.active_ms == 12_000, "it never falls"
    with at(start + timedelta(seconds=15)):
        made = submission.submit(held, said(held, 1), key="a", item_version=1, active_ms=day)
        assert made.active_ms == held.active_ms == 15_000
    with at(start + timedelta(seconds=100)):
        submission.undo(made, key="undo")
    with at(start + timedelta(seconds=103)):
        again = submission.submit(held, said(held, 2), key="b", item_version=1, active_ms=18_000)
        assert again.active_ms == 18_000, "what was worked before the undo counts on"
    with at(start + timedelta(seconds=200)):
        passed = given(who)
        assignment.show(passed)
    with at(start + timedelta(seconds=201)):
        assignment.skip(passed, "unclear", active_ms=day)
        assert passed.active_ms == 1000


def test_who_has_withdrawn_consent_hands_nothing_in() -> None:
    of = programme(consent_text="You agree.")
    who = rater(of)
    give_consent(who)
    open_batch(of, 2)
    first = judge(who)
    held = given(who)
    assignment.save_draft(held, {"rationale": "half a thought"}, 0, 0)
    withdraw_consent(who)
    assert not Draft.objects.exists()
    for act in (
        lambda: submission.submit(held, said(held, 1), key="k", item_version=1, rationale="why"),
        lambda: assignment.save_draft(held, {"rationale": "why"}, 0, 0),
        lambda: submission.correct(first, said(held, -1), key="c", rationale="why"),
    ):
        with pytest.raises(Conflict, match="you withdrew your consent"):
            act()
    assert (Judgment.objects.count(), Rationale.objects.count(), Draft.objects.count()) == (1, 0, 0)
    assert Assignment.objects.get(pk=held.pk).state == "leased"
    submission.undo(first, key="u")
    give_consent(who)
    assert submission.submit(held, said(held, 1), key="k", item_version=1).surplus is False


def test_a_consent_text_that_changed_meanwhile_costs_nobody_their_work() -> None:
    of = programme(consent_text="You agree.")
    who = rater(of)
    give_consent(who)
    open_batch(of, 1)
    held = given(who)
    of.settings["consent_text"] = "You agree to more."
    of.save()
    assert submission.submit(held, said(held, 1), key="k", item_version=1).surplus is False
    assert assignment.why_none(who) == "consent"


def test_who_was_erased_meanwhile_hands_nothing_in() -> None:
    of = programme()
    who, agent_ = rater(of), agent(of, "ai", "judge")
    made = open_batch(of, 2)
    held = given(who)
    for one in (who, agent_):
        erasure.erase_rater(one)
    for act in (
        lambda: submission.submit(held, said(held, 1), key="k", item_version=1, rationale="my name"),
        lambda: assignment.save_draft(held, {"rationale": "my name"}, 0, 0),
        lambda: assignment.skip(held, "other", "my name"),
        lambda: submission.record(made.items.all()[0], agent_, {"strength": 1}, key="k", rationale="my name"),
    ):
        with pytest.raises(Conflict, match="this rater was erased"):
            act()
    assert not any(model.objects.exists() for model in (Judgment, Draft, Rationale))


@pytest.mark.parametrize("how", ["judged", "decided", "left to others"])
def test_who_has_had_to_do_with_the_verdict_is_no_rater_of_the_item_any_more(how: str) -> None:
    """Late work comes from a page that is still open; what its rater has seen since would speak through it."""
    of = programme()
    who = rater(of)
    Membership.objects.create(programme=of, account=who.account, role=Role.ADJUDICATOR)
    one = item(batch(of, quota=3))
    late = given(who)
    with at(clock.now() + days(1)):
        for strength in (3, -3):
            judge(rater(of), strength)
        assert Assignment.objects.get(pk=late.pk).state == "expired"
        if how == "left to others":
            sight.give_up(one, who.account)
        else:
            opened = adjudication.judge_first(one, who.account, {"strength": 1}, "first")
            if how == "decided":
                adjudication.votes(opened)
                adjudication.decide(opened, {"strength": 1}, "so it is")
        with pytest.raises(Conflict, match="seen or decided"):
            submission.submit(late, said(late, 3), key="late", item_version=1)
    assert not Judgment.objects.filter(rater=who, adjudication=None).exists()
    assert Slot.objects.filter(state="free").count() == 1
    assert difference(replay()) == []


@pytest.mark.parametrize("act", ["correct", "undo"])
def test_what_an_adjudicator_said_as_a_rater_stays_as_it_was(act: str) -> None:
    """No way leads there but a race; of an older version there may be such rows."""
    of = programme()
    who = rater(of)
    item(batch(of))
    made = judge(who)
    verdict = Judgment.objects.create(
        programme=of, batch=made.batch, item=made.item, rater=who, kind=made.kind, purpose="check", surplus=True,
        guideline=made.guideline, item_version=1, payload={"strength": 1}, idempotency_key="v",
    )  # fmt: skip
    Adjudication.objects.create(item=made.item, judgment=verdict, adjudicator=who.account)
    acts = {
        "undo": lambda: submission.undo(made, key="x"),
        "correct": lambda: submission.correct(made, {"strength": 3}, key="x"),
    }
    with pytest.raises(Conflict, match="seen or decided"):
        acts[act]()
    assert CurrentJudgment.objects.get(judgment=made).slot is not None


def test_the_same_key_is_the_same_submission_and_another_content_is_refused() -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 2)
    held = given(who)
    made = submission.submit(held, {"strength": 1}, key="k", item_version=1, active_ms=5)
    assert submission.submit(held, {"strength": 1}, key="k", item_version=1, active_ms=9) == made
    for shown, over in (
        ({"strength": 2}, {}),
        ({"strength": 1}, {"rationale": "new"}),
        ({"strength": 1}, {"safety_flag": True}),
        ({"strength": 1}, {"item_version": 2}),
    ):
        with pytest.raises(Conflict, match="this key"):
            submission.submit(held, shown, **{"key": "k", "item_version": 1, **over})
    other = given(who)
    with pytest.raises(Conflict, match="this key"):
        submission.submit(other, {"strength": 1}, key="k", item_version=1)
    with pytest.raises(Conflict, match="submitted already"):
        submission.submit(held, {"strength": 1}, key="another", item_version=1)
    assert Judgment.objects.count() == 1


def test_an_item_that_changed_since_is_refused() -> None:
    of = programme()
    open_batch(of, 1)
    held = given(rater(of))
    Item.objects.all().update(version=2)
    with pytest.raises(Conflict, match="has changed") as found:
        submission.submit(held, {"strength": 1}, key="k", item_version=1)
    assert found.value.status == 409
    submission.submit(held, {"strength": 1}, key="k", item_version=2)


def test_late_work_counts_where_a_place_is_free_and_is_surplus_where_not() -> None:
    of = programme()
    one, two, three = (rater(of) for _ in range(3))
    item(batch(of, quota=2))
    helds = [given(one), given(two)]
    for held in helds:
        assignment.release(held)
    judge(three)  # in the place that one had: theirs is gone, another is free
    late = submission.submit(helds[0], said(helds[0], 1), key="a", item_version=1)
    later = submission.submit(helds[1], said(helds[1], 1), key="b", item_version=1)
    assert (late.surplus, later.surplus) == (False, True)
    assert helds[1].state == "surplus"
    assert CurrentJudgment.objects.get(judgment=later).slot is None
    assert Item.objects.get().state == "done"
    assert difference(replay()) == []


def test_late_work_takes_the_place_of_the_same_raters_second_assignment() -> None:
    of = programme()
    who = rater(of)
    item(batch(of, quota=1))
    first = given(who)
    assignment.release(first)
    second = given(who)
    assert second.item == first.item
    made = submission.submit(first, said(first, 1), key="a", item_version=1)
    assert not made.surplus
    assert Assignment.objects.get(pk=second.pk).state == "released"
    with pytest.raises(Conflict, match="judged or passed"):
        submission.submit(second, said(second, 1), key="b", item_version=1)
    assert difference(replay()) == []


def test_a_passed_item_is_not_judged() -> None:
    of = programme()
    open_batch(of, 1)
    held = given(rater(of))
    assignment.skip(held, "unclear")
    with pytest.raises(Conflict, match="passed"):
        submission.submit(held, said(held, 1), key="a", item_version=1)


def test_disagreement_opens_places_up_to_the_cap_and_agreement_none() -> None:
    of = programme()
    work = batch(of, quota=2, quota_cap=4)
    split, agreed = item(work), item(work)
    for number, strengths in enumerate([(1, 2), (-1, 1)]):
        who = rater(of)
        found = {judge(who, strengths[0]).item_id, judge(who, strengths[1]).item_id}
        assert len(found) == 2, number
    split.refresh_from_db()
    agreed.refresh_from_db()
    assert (split.extra_slots, split.state) == (1, "open")
    assert (agreed.extra_slots, agreed.state) == (0, "done")
    further = Slot.objects.get(item=split, state="free")
    assert further.lane == 0
    assert judge(rater(of), 0).item == split
    assert judge(rater(of), 3).item == split
    split.refresh_from_db()
    assert (split.extra_slots, split.state, Slot.objects.filter(item=split).count()) == (2, "done", 4)
    assert AuditEvent.objects.filter(kind="slot.opened").count() == 2
    assert difference(replay()) == []


@pytest.mark.parametrize(("second", "places"), [([1, 2, 3], 2), ([3, 2, 1], 3), ([1, 3, 2], 3)])
def test_rankings_that_differ_too_much_open_a_place(second: list[int], places: int) -> None:
    of = programme(disagreement=0.5)
    item(batch(of, quota=2, quota_cap=3), kind="ranking", completions=3)
    for ranks in ([1, 2, 3], second):
        held = given(rater(of))
        shown = to_shown("ranking", {"ranks": ranks}, held.order)
        submission.submit(held, shown, key=str(held.pk), item_version=1)
    assert Slot.objects.count() == places


def test_a_correction_supersedes_in_the_same_place() -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 1)
    first = judge(who, 1)
    slot = CurrentJudgment.objects.get().slot
    made = submission.correct(first, said(Assignment.objects.get(), -2), key="c", rationale="I misread")
    assert submission.correct(first, said(Assignment.objects.get(), -2), key="c", rationale="I misread") == made
    assert (made.supersedes, made.payload["strength"], made.retracts) == (first, -2, False)
    current = CurrentJudgment.objects.get()
    assert (current.judgment, current.slot) == (made, slot)
    with pytest.raises(Conflict, match="holds no longer"):
        submission.correct(first, {"strength": 0}, key="d")
    with pytest.raises(Conflict, match="this key"):
        submission.correct(made, {"strength": 0}, key="c")
    assert difference(replay()) == []


def test_a_correction_can_make_raters_disagree() -> None:
    of = programme()
    item(batch(of, quota=2, quota_cap=3))
    first = judge(rater(of), 1)
    judge(rater(of), 1)
    assert Item.objects.get().state == "done"
    submission.correct(first, said(first.assignment, -1), key="c")  # type: ignore[arg-type]
    assert Item.objects.get().state == "open"
    assert Slot.objects.filter(state="free").count() == 1


def test_undo_puts_the_item_before_the_rater_again() -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 2)
    made = judge(who)
    ahead = given(who)
    assignment.show(ahead)
    back = submission.undo(made, key="u")
    assert submission.undo(made, key="u") == back
    assert (back.retracts, back.supersedes, back.payload) == (True, made, {})
    assert not CurrentJudgment.objects.exists()
    again = assignment.current_assignment(who)
    assert again is not None
    assert again == made.assignment
    assert Item.objects.get(pk=made.item_id).state == "open"
    second = submission.submit(again, said(again, -1), key="again", item_version=1)
    assert CurrentJudgment.objects.get().judgment == second
    with pytest.raises(Conflict):
        submission.undo(made, key="v")
    assert difference(replay()) == []


def test_undo_of_surplus_or_withdrawn_work_takes_no_place() -> None:
    of = programme()
    one, two = rater(of), rater(of)
    item(batch(of))
    held = given(one)
    assignment.release(held)
    counted = judge(two)
    surplus = submission.submit(held, said(held, 1), key="late", item_version=1)
    submission.undo(surplus, key="u")
    assert Assignment.objects.get(pk=held.pk).state == "expired"
    assert Slot.objects.get().state == "done"
    content.withdraw_item(Item.objects.get())
    submission.undo(counted, key="v")
    assert Slot.objects.get().state == "closed"
    assert difference(replay()) == []


def test_recorded_judgments_take_free_places_and_count_once_for_each_rater() -> None:
    of = programme()
    only = item(batch(of, quota=3))
    judge_a, judge_b = agent(of, "ai", "a"), agent(of, "ai", "b")
    first = submission.record(
        only, judge_a, {"strength": 1}, key="1", judge_template="v1", judge_order="0,1", order=[0, 1]
    )
    turned = submission.record(
        only, judge_a, {"strength": 1}, key="2", judge_template="v1", judge_order="1,0", order=[1, 0]
    )
    aside = submission.record(only, judge_b, {"strength": 1}, key="3", counts=False)
    assert (first.surplus, turned.surplus, aside.surplus) == (False, True, True)
    assert turned.payload["strength"] == 1  # a recorded payload is in the item's own order already
    assert submission.record(only, judge_b, {"strength": 1}, key="3", counts=False) == aside
    with pytest.raises(Conflict, match="this key"):
        submission.record(only, judge_b, {"strength": 2}, key="3", counts=False)
    with pytest.raises(Conflict, match="is there already"):
        submission.record(only, judge_b, {"strength": 2}, key="4")
    submission.record(only, judge_b, {"strength": 2}, key="5", guideline=publish_guideline(of, "# 2", author=None))
    assert Slot.objects.filter(state="done").count() == 1
    undone = submission.undo(first, key="u")
    assert undone.retracts
    assert Slot.objects.filter(state="free").count() == 3
    assert difference(replay()) == []


def test_odd_records_are_refused() -> None:
    of = programme()
    author = rater(of)
    made = content.create_batch(of, "b")
    two = [content.NewCompletion("a", author=author), content.NewCompletion("b")]
    content.add_items(made, [content.NewItem([{"role": "user", "content": "?"}], two, "pairwise")])
    only = Item.objects.get()
    for who, over, where in (
        (author, {}, "rater"),
        (rater(programme()), {}, "item"),
        (rater(of), {"order": [0, 0]}, "order"),
        (rater(of), {"judge_order": "0" * 21}, "judge_order"),
    ):
        with pytest.raises(HeedfulError) as found:
            submission.record(only, who, {"strength": 0}, key="k", **over)
        assert found.value.where == where


def test_the_database_itself_refuses_a_second_live_judgment() -> None:
    of = programme()
    only = item(batch(of, quota=2))
    who = agent(of, "ai", "a")
    first = submission.record(only, who, {"strength": 1}, key="1")
    other = Judgment.objects.create(
        programme=of, batch=only.batch, item=only, rater=who, kind="pairwise", purpose="train",
        guideline=first.guideline, payload={}, idempotency_key="2", request_sha256="",
    )  # fmt: skip
    with pytest.raises(IntegrityError):
        CurrentJudgment(judgment=other, item=only, rater=who, purpose="train", guideline=first.guideline).save()


def test_work_on_an_item_promoted_meanwhile_is_kept_as_gold() -> None:
    of = programme()
    only = item(batch(of, quota=2))
    held = given(rater(of))
    acceptable = [{"strength": [1, 3]}]
    gold.promote(only, acceptable, "b is right", actor=of.memberships.get(role="admin").account)
    made = submission.submit(held, said(held, 1), key="k", item_version=Item.objects.get().version)
    assert made.purpose == "gold"
    assert not CurrentJudgment.objects.filter(purpose="train").exists()
    back = submission.undo(made, key="u")
    assignment.release(Assignment.objects.get())
    assert back.retracts
    assert set(Slot.objects.values_list("state", flat=True)) == {"closed"}  # no training slot of a gold item
    assert difference(replay()) == []


def test_what_follows_is_in_the_same_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    of = programme()
    open_batch(of, 1)
    held = given(rater(of))
    assignment.save_draft(held, {"strength": 1}, 0, 0)
    before = AuditEvent.objects.count()

    def fail(_: Judgment) -> None:
        raise RuntimeError("the gold score cannot be written")

    monkeypatch.setattr(outcomes, "after_judgment", fail)
    with pytest.raises(RuntimeError):
        submission.submit(held, {"strength": 1}, key="k", item_version=1)
    assert not Judgment.objects.exists()
    assert Draft.objects.exists()
    assert AuditEvent.objects.count() == before
    assert Slot.objects.get().state == "leased"
    assert difference(replay()) == []


def test_a_repeat_in_a_second_pass_is_another_judgment() -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 1)
    first = judge(who)
    mine = slots.reserve(first.item, who, purpose="check", pass_number=2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("heedful.feedback.special.offer", lambda *_: mine)
        held = given(who)
    second = submission.submit(held, said(held, 1), key="second", item_version=1)
    assert (second.purpose, second.pass_number) == ("check", 2)
    assert CurrentJudgment.objects.count() == 2
    assert Item.objects.get().state == "done"
