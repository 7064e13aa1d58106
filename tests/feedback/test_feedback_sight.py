"""Who may be shown what raters said of an item, and what giving up its verdict does."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.db import connection

from feedback_factories import account, item, open_batch, programme, rater
from feedback_quality import at, judge, take
from heedful.errors import HeedfulError
from heedful.feedback import adjudication, clock, gold, sight
from heedful.feedback.assignment import next_assignment, skip
from heedful.feedback.conflict import Conflict
from heedful.feedback.content import withdraw_item
from heedful.feedback.models import Account, AuditEvent, Completion, Item, Membership, OpenedVotes, Programme, Role
from heedful.feedback.programmes import add_member
from heedful.feedback.submission import undo

pytestmark = pytest.mark.django_db


def member(of: Programme, *roles: str) -> Account:
    made = account()
    for role in roles:
        Membership.objects.create(programme=of, account=made, role=role)
    return made


def voted(of: Programme) -> Item:
    made = item(open_batch(of, 0, quota=2))
    judge(rater(of), 2)
    judge(rater(of), -1)
    made.refresh_from_db()
    return made


def given_up() -> list[tuple[object, str]]:
    rows = AuditEvent.objects.filter(kind="adjudication.given_up")
    return [(event.actor, event.ids["item"]) for event in rows]


def test_nobody_who_could_decide_an_item_sees_its_votes_whatever_their_roles() -> None:
    of = programme()
    one = voted(of)
    admin = of.memberships.get(role=Role.ADMIN).account
    people = [admin, member(of, Role.MANAGER, Role.ADJUDICATOR), member(of, Role.MANAGER), account(is_superuser=True)]
    assert [sight.sees_votes(one, who) for who in people] == [False] * 4


def test_giving_up_shows_the_votes_is_on_record_once_and_is_for_good() -> None:
    of = programme()
    one, other = voted(of), voted(of)
    admin = of.memberships.get(role=Role.ADMIN).account
    assert adjudication.may_adjudicate(one, admin)
    sight.give_up(one, admin)
    sight.give_up(one, admin)
    assert given_up() == [(admin.pk, str(one.pk))]
    assert (sight.sees_votes(one, admin), sight.sees_votes(other, admin)) == (True, False)
    assert (adjudication.may_adjudicate(one, admin), adjudication.may_adjudicate(other, admin)) == (False, True)
    assert [case.item.pk for case in adjudication.queue_for(admin, of)] == [other.pk]
    assert {case.item.pk for case in adjudication.queue(of)} == {one.pk, other.pk}
    with pytest.raises(HeedfulError, match="not yours to adjudicate"):
        adjudication.judge_first(one, admin, {"strength": 1}, "k")
    second = member(of, Role.ADJUDICATOR)
    assert adjudication.may_adjudicate(one, second)
    assert not sight.sees_votes(one, second)


def test_a_manager_who_read_the_votes_is_no_adjudicator_of_them_later() -> None:
    of = programme()
    one, unread = voted(of), voted(of)
    manager = member(of, Role.MANAGER)
    sight.give_up(one, manager)
    add_member(of, manager, Role.ADJUDICATOR, actor=None)
    assert [case.item.pk for case in adjudication.queue_for(manager, of)] == [unread.pk]


def test_who_opened_the_votes_is_not_given_the_item_to_judge() -> None:
    of = programme()
    who = member(of, Role.MANAGER, Role.RATER)
    rates = rater(of, account=who)
    batch = open_batch(of, 0, quota=2)
    one, other = item(batch), item(batch)
    judge(rater(of), 1)
    sight.give_up(one, who)
    assert sight.sees_votes(one, who)
    assert judge(rates).item_id == other.pk
    assert next_assignment(rates) is None
    assert judge(rater(of)).item_id == one.pk


def test_who_opened_the_votes_is_not_given_the_item_as_gold() -> None:
    of = programme(gold_rate=1.0)
    who = member(of, Role.MANAGER, Role.RATER)
    rates, fresh = rater(of, account=who), rater(of)
    one = voted(of)
    sight.give_up(one, who)
    gold.promote(one, [{"strength": [1, 3]}], "b", actor=who)
    ordinary = item(open_batch(of, 0, quota=2))
    assert take(rates).item_id == ordinary.pk
    assert take(fresh).item_id == one.pk


def test_a_tab_that_gave_up_wins_over_one_that_is_about_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    of = programme()
    one = voted(of)
    who = member(of, Role.MANAGER, Role.ADJUDICATOR)
    order_for = adjudication.order_for

    def meanwhile(which: Item, by: Account) -> list[int]:
        sight.give_up(which, by)  # after the first look at whether they may, before the judgment is kept
        return order_for(which, by)

    monkeypatch.setattr(adjudication, "order_for", meanwhile)
    with pytest.raises(HeedfulError, match="not yours to adjudicate"):
        adjudication.judge_first(one, who, {"strength": 1}, "k")
    assert not one.adjudications.exists()


def test_who_judged_it_first_sees_names_and_policies_only_once_it_is_decided_and_never_judges_it_first_again() -> None:
    of = programme()
    one = voted(of)
    who = member(of, Role.MANAGER, Role.ADJUDICATOR)
    made = adjudication.judge_first(one, who, {"strength": 1}, "k")
    adjudication.votes(made)
    assert not sight.sees_votes(one, who)
    with pytest.raises(Conflict, match="you judged this item to decide it"):
        sight.give_up(one, who)
    adjudication.decide(made, {"strength": 1}, "so")
    assert sight.sees_votes(one, who)
    assert not adjudication.may_adjudicate(one, who)
    assert given_up() == []


def test_who_judged_wrote_or_skipped_it_sees_them_and_who_has_it_open_does_not() -> None:
    of = programme()
    judged, wrote, skipped, busy = (member(of, Role.MANAGER, Role.RATER) for _ in range(4))
    raters = {who: rater(of, account=who) for who in (judged, wrote, skipped, busy)}
    one = item(open_batch(of, 0, quota=4))
    judge(rater(of), 1)
    said = judge(raters[judged], 1)
    skip(take(raters[skipped]), "unclear")
    Completion.objects.filter(entries__item=one).update(author=raters[wrote])
    held = take(raters[busy])
    assert held.item_id == one.pk
    assert [sight.sees_votes(one, who) for who in (judged, wrote, skipped, busy)] == [True, True, True, False]
    with pytest.raises(Conflict, match="lies before you"):
        sight.give_up(one, busy)
    assert given_up() == []
    undo(said, key="undo")
    assert take(raters[judged]).item_id == one.pk
    assert not sight.sees_votes(one, judged)  # it lies before them again
    with at(clock.now() + timedelta(days=1)):  # their time ran out, and nobody came to clear the lease away
        sight.give_up(one, busy)
        assert sight.sees_votes(one, busy)


def test_where_there_is_nothing_to_decide_the_votes_stand_open() -> None:
    of = programme()
    admin = of.memberships.get(role=Role.ADMIN).account
    promoted, withdrawn = voted(of), voted(of)
    written = item(open_batch(of, 0), kind="demonstration", completions=0)
    tests = item(open_batch(of, 0, purpose="qualification"))
    assert [sight.sees_votes(one, admin) for one in (promoted, withdrawn)] == [False, False]
    gold.promote(promoted, [{"strength": [1, 3]}], "b", actor=admin)
    withdraw_item(withdrawn)
    for one in (promoted, withdrawn, written, tests):
        assert sight.sees_votes(one, admin)
        assert not adjudication.may_adjudicate(one, admin)


def test_votes_that_were_opened_before_there_were_rows_of_it_become_rows() -> None:
    of = programme()
    one, other = voted(of), voted(of)
    who = member(of, Role.MANAGER)
    for opened in (one, other):
        sight.give_up(opened, who)
    OpenedVotes.objects.all().delete()
    forwards = import_module("heedful.feedback.migrations.0006_opened_votes").forwards
    for _ in range(2):
        forwards(apps, SimpleNamespace(connection=connection))
    assert {row.item_id for row in OpenedVotes.objects.filter(account=who)} == {one.pk, other.pk}
    assert OpenedVotes.objects.count() == 2
