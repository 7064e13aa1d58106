"""Adjudication: what waits, who may, judging first, the votes, the verdict."""

from __future__ import annotations

from typing import Any

import pytest

from feedback_factories import account, item, open_batch, programme, rater
from feedback_quality import answer, judge, take
from heedful.errors import HeedfulError
from heedful.feedback import adjudication, gold
from heedful.feedback.assignment import Conflict, next_assignment, skip
from heedful.feedback.content import withdraw_item
from heedful.feedback.models import (
    Account,
    Adjudication,
    AuditEvent,
    Completion,
    CurrentJudgment,
    Item,
    Judgment,
    Membership,
    Programme,
    Role,
)
from heedful.feedback.payloads import to_shown
from heedful.feedback.submission import submit


def adjudicator(of: Programme) -> Account:
    """An account with that role alone."""
    made = account()
    Membership.objects.create(programme=of, account=made, role=Role.ADJUDICATOR)
    return made


def disputed(of: Programme, **over: Any) -> Item:
    """A done item with a vote for each side."""
    made = item(open_batch(of, 0, quota=2, **over))
    judge(rater(of), 2)
    judge(rater(of), -1)
    made.refresh_from_db()
    assert made.state == "done"
    return made


def said(one: Item, who: Account, strength: int) -> dict[str, Any]:
    """A comparison in the order that this adjudicator sees."""
    return to_shown("pairwise", {"strength": strength}, adjudication.order_for(one, who))


@pytest.mark.django_db
def test_what_waits_and_why() -> None:
    of = programme(skips_to_park=1)
    quarrel = disputed(of)
    agreed = item(open_batch(of, 0, quota=2))
    for strength in (1, 2):
        judge(rater(of), strength)
    flagged = item(open_batch(of, 0))
    got = take(rater(of))
    submit(got, {"strength": 1}, key="flag", item_version=1, safety_flag=True)
    passed = item(open_batch(of, 0))
    skip(take(rater(of)), "unclear")
    unsafe = item(open_batch(of, 0))
    skip(take(rater(of)), "unsafe")
    half = item(open_batch(of, 0, quota=3))
    for strength in (1, -1):
        judge(rater(of), strength)
    text = item(open_batch(of, 0), kind="demonstration", completions=0)
    skip(take(rater(of), batch=text.batch), "unsafe")
    disputed(programme())  # another programme's
    found = {case.item.pk: (case.reasons, case.votes, case.skips) for case in adjudication.queue(of)}
    assert found == {
        flagged.pk: (("unsafe",), 1, 0),
        unsafe.pk: (("unsafe", "skips"), 0, 1),
        quarrel.pk: (("disagreement",), 2, 0),
        passed.pk: (("skips",), 0, 1),
    }
    assert not {agreed.pk, half.pk, text.pk} & set(found)
    assert [case.reasons[0] for case in adjudication.queue(of)] == ["unsafe", "unsafe", "disagreement", "skips"]


@pytest.mark.django_db
def test_rankings_and_points_that_disagree_wait_too() -> None:
    of = programme(disagreement=0.5)
    ranked = item(open_batch(of, 0, quota=2, kind="ranking"), completions=3, kind="ranking")
    for ranks in ([1, 2, 3], [3, 2, 1]):
        answer(take(rater(of)), ranks=ranks)
    scored = item(open_batch(of, 0, quota=2), kind="attributes", completions=1)
    for points in (1, 5):
        answer(take(rater(of)), scores=[{"helpful": points, "honest": 3}])
    alike = item(open_batch(of, 0, quota=2), kind="attributes", completions=1)
    for points in (4, 5):
        answer(take(rater(of)), scores=[{"helpful": points, "honest": 3}])
    assert {case.item.pk for case in adjudication.queue(of)} == {ranked.pk, scored.pk}
    assert alike.pk not in {case.item.pk for case in adjudication.queue(of)}


def voted(of: Programme, *strengths: int) -> Item:
    """A done item with these votes."""
    made = item(open_batch(of, 0, quota=len(strengths)))
    for strength in strengths:
        judge(rater(of), strength)
    return made


@pytest.mark.django_db
def test_who_disagree_most_come_first_and_more_raters_weigh_more() -> None:
    of = programme()
    nearly = voted(of, 1, 2, 3, -1)
    two = voted(of, 3, -3)
    tied = voted(of, 1, 0, 0, -1)
    even = voted(of, 2, -1, 1, -2)
    votes = {one.pk: [row.payload["strength"] for row in one.judgments.all()] for one in (nearly, two, tied, even)}
    assert [case.item.pk for case in adjudication.queue(of)] == [even.pk, two.pk, nearly.pk, tied.pk]
    assert votes == {
        one.pk: [row.payload["strength"] for row in one.judgments.all()] for one in (nearly, two, tied, even)
    }


@pytest.mark.django_db
def test_rankings_points_and_comparisons_stand_in_one_order() -> None:
    of = programme(disagreement=0.5)
    ranked = item(open_batch(of, 0, quota=2, kind="ranking"), completions=3, kind="ranking")
    for ranks in ([1, 2, 3], [1, 3, 2]):
        answer(take(rater(of)), ranks=ranks)
    scored = item(open_batch(of, 0, quota=2), kind="attributes", completions=1)
    for points in (1, 4):
        answer(take(rater(of)), scores=[{"helpful": points, "honest": 3}])
    flagged = item(open_batch(of, 0))
    submit(take(rater(of)), {"strength": 1}, key="flag", item_version=1, safety_flag=True)
    two = voted(of, 3, -3)
    assert [case.item.pk for case in adjudication.queue(of)] == [flagged.pk, two.pk, scored.pk, ranked.pk]


@pytest.mark.django_db
def test_gold_and_withdrawn_items_do_not_wait() -> None:
    of = programme()
    gold.promote(disputed(of), [{"strength": [1, 3]}], "b", actor=account())
    withdraw_item(disputed(of))
    assert adjudication.queue(of) == []


@pytest.mark.django_db
def test_nobody_adjudicates_what_they_judged_wrote_passed_or_have_open() -> None:
    of = programme()
    first = disputed(of)
    judged, wrote, passed, other = (adjudicator(of) for _ in range(4))
    second = item(open_batch(of, 0, quota=3))
    raters = {who: rater(of, account=who) for who in (judged, wrote, passed)}
    judge(raters[judged], 1)
    skip(take(raters[passed]), "unclear")
    Completion.objects.filter(entries__item=second).update(author=raters[wrote])
    for who in (judged, wrote, passed):
        assert not adjudication.may_adjudicate(second, who)
        assert adjudication.may_adjudicate(first, who)
        assert [case.item.pk for case in adjudication.queue_for(who, of)] == [first.pk]
        with pytest.raises(HeedfulError, match="not yours"):
            adjudication.judge_first(second, who, {"strength": 1}, "k")
    assert adjudication.may_adjudicate(second, other)
    assert not adjudication.may_adjudicate(first, account())
    assert adjudication.may_adjudicate(first, of.memberships.get(role=Role.ADMIN).account)
    assert not adjudication.may_adjudicate(first, adjudicator(programme()))
    assert not Adjudication.objects.exists()


@pytest.mark.django_db
def test_the_first_judgment_is_no_vote_and_the_item_never_comes_to_its_adjudicator() -> None:
    of = programme()
    one = disputed(of)
    who = adjudicator(of)
    made = adjudication.judge_first(one, who, said(one, who, 3), "k1", rationale="b is safer", active_ms=7000)
    first = Judgment.objects.get(adjudication=made)
    assert first.payload == {"strength": 3, "both_bad": False, "both_good": False}
    assert (first.purpose, first.surplus, first.active_ms) == ("check", True, 7000)
    assert first.rationale.text == "b is safer"
    assert not CurrentJudgment.objects.filter(judgment=first).exists()
    assert made.votes_shown is None
    own = Membership.objects.create(programme=of, account=who, role=Role.RATER)
    assert own.account_id == who.pk
    Item.objects.filter(pk=one.pk).update(state="open")
    one.slots.update(state="free", holder=None)
    CurrentJudgment.objects.filter(item=one).delete()
    assert next_assignment(first.rater) is None


@pytest.mark.django_db
def test_one_key_is_one_judgment() -> None:
    of = programme()
    one, other = disputed(of), disputed(of)
    who = adjudicator(of)
    made = adjudication.judge_first(one, who, said(one, who, 1), "k")
    assert adjudication.judge_first(one, who, said(one, who, 1), "k") == made
    with pytest.raises(Conflict):
        adjudication.judge_first(one, who, said(one, who, 2), "k")
    with pytest.raises(Conflict):
        adjudication.judge_first(other, who, said(other, who, 1), "k")
    with pytest.raises(Conflict, match="decide it"):
        adjudication.judge_first(one, who, said(one, who, 2), "k2")
    assert Judgment.objects.filter(adjudication__isnull=False).count() == 1


@pytest.mark.django_db
def test_votes_are_shown_once_it_is_judged_and_that_is_written_down_once() -> None:
    of = programme()
    one = disputed(of)
    who = adjudicator(of)
    made = adjudication.judge_first(one, who, said(one, who, 1), "k")
    with pytest.raises(HeedfulError, match="votes were not shown"):
        adjudication.decide(made, said(one, who, 1), "so")
    votes = adjudication.votes(made)
    assert [(vote.number, vote.payload["strength"]) for vote in votes] == [(1, 2), (2, -1)]
    assert [vote.shown for vote in votes] == [to_shown("pairwise", v.payload, made.judgment.order) for v in votes]
    shown = Adjudication.objects.get().votes_shown
    assert shown is not None
    adjudication.votes(Adjudication.objects.get())
    assert Adjudication.objects.get().votes_shown == shown
    assert AuditEvent.objects.filter(kind="adjudication.votes_shown").count() == 1


@pytest.mark.django_db
def test_a_verdict_is_a_record_of_its_own_and_a_later_one_supersedes_it() -> None:
    of = programme()
    one = disputed(of)
    before = list(CurrentJudgment.objects.filter(item=one).order_by("pk").values_list("judgment_id", flat=True))
    for number, (who, verdict) in enumerate(((adjudicator(of), 2), (adjudicator(of), -2)), 1):
        made = adjudication.judge_first(one, who, said(one, who, 1), f"k{number}")
        adjudication.votes(made)
        decided = adjudication.decide(made, said(one, who, verdict), "the other is wrong")
        assert decided.verdict == {"strength": verdict, "both_bad": False, "both_good": False}
        assert adjudication.standing(one) == decided
        assert adjudication.queue(of) == []
        with pytest.raises(HeedfulError, match="decided"):
            adjudication.decide(made, said(one, who, 1), "no")
    first, second = Adjudication.objects.order_by("created")
    assert first.superseded == second.decided
    assert second.superseded is None
    after = list(CurrentJudgment.objects.filter(item=one).order_by("pk").values_list("judgment_id", flat=True))
    assert after == before
    told = AuditEvent.objects.filter(kind="adjudication.decided")
    assert told.count() == 2
    assert "wrong" not in str(list(told.values_list("ids", flat=True)))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("verdict", "reason", "field"),
    [({"strength": 4}, "so", "strength"), ({}, "so", "strength"), ({"strength": 1}, " ", "reason")],
)
def test_a_wrong_verdict_changes_nothing(verdict: dict[str, Any], reason: str, field: str) -> None:
    of = programme()
    one = disputed(of)
    who = adjudicator(of)
    made = adjudication.judge_first(one, who, said(one, who, 1), "k")
    adjudication.votes(made)
    with pytest.raises(HeedfulError) as caught:
        adjudication.decide(made, verdict, reason)
    assert caught.value.where == field
    assert Adjudication.objects.get().decided is None


@pytest.mark.django_db
def test_adjudicators_see_orders_of_their_own_that_stay() -> None:
    of = programme()
    one = disputed(of)
    people = [adjudicator(of) for _ in range(20)]
    orders = [adjudication.order_for(one, who) for who in people]
    assert orders == [adjudication.order_for(one, who) for who in people]
    assert {tuple(order) for order in orders} == {(0, 1), (1, 0)}


@pytest.mark.django_db
def test_a_verdict_is_promoted_to_gold_that_its_adjudicator_never_gets() -> None:
    of = programme(gold_rate=1.0)
    one = disputed(of)
    who = adjudicator(of)
    made = adjudication.judge_first(one, who, said(one, who, 1), "k")
    adjudication.votes(made)
    made = adjudication.decide(made, said(one, who, 2), "b")
    assert made.verdict is not None
    key = gold.promote(one, gold.patterns_of(one, made.verdict), made.reason, actor=who, adjudication=made)
    assert key.acceptable == [{"strength": [1, 3]}]
    open_batch(of, 1, quota=2)
    assert take(rater(of, account=account())).item_id == one.pk
    own = made.judgment.rater
    assert take(own).item_id != one.pk
