"""Programmes, rubrics, members, invitations, consent."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db import transaction

from feedback_factories import account
from heedful.errors import HeedfulError
from heedful.feedback import clock, events, programmes
from heedful.feedback.models import AuditEvent, Delivery, Invitation, Membership, Rater, RaterKind, Role, Webhook
from heedful.feedback.replay import State, difference, replay
from heedful.feedback.rules import Rules

pytestmark = pytest.mark.django_db


def test_a_programme_begins_with_an_admin_and_a_rubric() -> None:
    lead = account()
    made = programmes.create_programme("Điều tốt đẹp", account=lead)
    again = programmes.create_programme("Điều tốt đẹp", account=lead)
    assert (made.slug, again.slug) == ("ieu-tot-ep", "ieu-tot-ep-2")
    assert programmes.create_programme("人", account=lead).slug == "programme"
    assert programmes.roles_of(lead, made) == frozenset(Role)
    rubric = programmes.newest_guideline(made)
    assert rubric.version == 1
    assert "Helpful" in rubric.markdown
    assert [one["name"] for one in rubric.attributes] == ["helpful", "honest", "harmless"]
    for name, slug, where in ((" ", "", "name"), ("x", "A b", "slug"), ("x", made.slug, "slug")):
        with pytest.raises(HeedfulError) as found:
            programmes.create_programme(name, account=lead, slug=slug)
        assert found.value.where == where


def test_a_rubric_is_published_in_versions() -> None:
    lead = account()
    made = programmes.create_programme("p", account=lead)
    second = programmes.publish_guideline(made, "# Two", author=lead, summary="shorter")
    assert (second.version, len(second.attributes), second.translations) == (2, 3, {})
    third = programmes.publish_guideline(
        made, "# Three", author=lead, attributes=[{"name": "kind"}], translations={"vi": "# Ba"}
    )
    assert [one["name"] for one in third.attributes] == ["kind"]
    assert programmes.newest_guideline(made) == third
    assert programmes.publish_guideline(made, "# Four", author=lead).attributes == third.attributes
    for text, over in ((" ", {}), ("# x", {"attributes": [{}]}), ("# x", {"translations": {"vi": ""}}), ("\0", {})):
        with pytest.raises(HeedfulError):
            programmes.publish_guideline(made, text, author=lead, **over)
    assert programmes.newest_guideline(made).version == 4


def test_roles_begin_end_and_begin_again() -> None:
    lead, who = account(), account()
    made = programmes.create_programme("p", account=lead)
    assert programmes.roles_of(who, made) == frozenset()
    assert programmes.rater_of(who, made) is None
    member = programmes.add_member(made, who, "rater", actor=lead)
    assert programmes.add_member(made, who, Role.RATER, actor=lead) == member
    programmes.add_member(made, who, "manager", actor=lead)
    assert programmes.roles_of(who, made) == {Role.RATER, Role.MANAGER}
    mine = programmes.rater_of(who, made)
    assert mine == Rater.objects.get(account=who)
    programmes.end_membership(made, who, "rater", actor=lead)
    assert programmes.roles_of(who, made) == {Role.MANAGER}
    assert programmes.rater_of(who, made) is None
    assert programmes.add_member(made, who, "rater", actor=lead).ended is None
    assert programmes.rater_of(who, made) == mine
    with pytest.raises(HeedfulError, match="no adjudicator"):
        programmes.end_membership(made, who, "adjudicator", actor=lead)
    with pytest.raises(HeedfulError, match="keeps one admin"):
        programmes.end_membership(made, lead, "admin", actor=lead)
    with pytest.raises(HeedfulError, match="no role"):
        programmes.add_member(made, who, "king", actor=lead)
    kinds = AuditEvent.objects.filter(kind__startswith="membership").values_list("kind", flat=True)
    assert sorted(kinds) == ["membership.began"] * 3 + ["membership.ended"]
    lead.is_active = False
    lead.save()
    assert programmes.roles_of(lead, made) == frozenset()


def test_an_invitation_is_used_by_accepting_not_by_looking() -> None:
    lead, one, two, three = (account() for _ in range(4))
    made = programmes.create_programme("p", account=lead)
    row, token = programmes.invite(made, "rater", actor=lead, uses=2)
    assert token not in str(Invitation.objects.values())
    for _ in range(3):
        assert programmes.find_invitation(token) == row
    assert programmes.find_invitation(token + "x") is None
    assert programmes.find_invitation("\ud800") is None
    member = programmes.accept_invitation(token, one)
    assert programmes.accept_invitation(token, one) == member
    assert Invitation.objects.get().uses_left == 1
    programmes.accept_invitation(token, two)
    with pytest.raises(HeedfulError, match="no longer holds"):
        programmes.accept_invitation(token, three)
    assert programmes.find_invitation(token) is None
    assert Membership.objects.filter(role="rater").count() == 2


@pytest.mark.parametrize("end", ["revoked", "late"])
def test_an_invitation_ends(end: str) -> None:
    lead, who = account(), account()
    made = programmes.create_programme("p", account=lead)
    row, token = programmes.invite(made, "manager", actor=lead, days=3)
    later = clock.now() + timedelta(days=3, seconds=1)
    if end == "revoked":
        Invitation.objects.filter(pk=row.pk).update(revoked=clock.now())
    with patch.object(clock, "now", lambda: later if end == "late" else clock.timezone.now()):
        assert programmes.find_invitation(token) is None
        with pytest.raises(HeedfulError):
            programmes.accept_invitation(token, who)
    for over in ({"uses": 0}, {"days": 0}, {"days": 1000}):
        with pytest.raises(HeedfulError):
            programmes.invite(made, "rater", actor=lead, **over)


def test_consent_is_to_the_text_as_it_stands() -> None:
    lead = account()
    made = programmes.create_programme("p", account=lead)
    who = Rater.objects.create(programme=made, account=lead)
    assert programmes.has_consented(who)
    assert programmes.give_consent(who) is None
    programmes.update_rules(made, Rules(consent_text="You agree."), actor=lead)
    who = Rater.objects.get(pk=who.pk)
    assert not programmes.has_consented(who)
    assert programmes.give_consent(who) == programmes.give_consent(who)
    assert programmes.has_consented(who)
    programmes.update_rules(made, Rules(consent_text="You agree to more."), actor=lead)
    assert not programmes.has_consented(Rater.objects.get(pk=who.pk))
    programmes.update_rules(made, Rules(consent_text="You agree."), actor=lead)
    assert programmes.withdraw_consent(Rater.objects.get(pk=who.pk)) == 1
    assert not programmes.has_consented(Rater.objects.get(pk=who.pk))


def test_agents_have_a_name_and_no_account() -> None:
    made = programmes.create_programme("p", account=account())
    judge = programmes.agent(made, RaterKind.AI, "gpt")
    assert programmes.agent(made, "ai", "gpt") == judge
    assert programmes.agent(made, "simulated", "gpt") != judge
    for kind, name in (("person", "x"), ("robot", "x"), ("ai", "")):
        with pytest.raises(HeedfulError):
            programmes.agent(made, kind, name)


def test_events_keep_ids_and_no_text_and_tell_webhooks() -> None:
    made = programmes.create_programme("p", account=account())
    all_of_it = Webhook.objects.create(programme=made, url="https://a.example", secret="s")
    Webhook.objects.create(programme=made, url="https://b.example", secret="s", kinds=["other"])
    stopped = Webhook.objects.create(programme=made, url="https://c.example", secret="s", stopped=clock.now())
    lead = made.memberships.get().account
    event = events.record("some.thing", programme=made, actor=lead, thing=lead, things=[lead.pk, 3], role=Role.RATER)
    assert event.ids == {"thing": str(lead.pk), "things": [str(lead.pk), 3], "role": "rater"}
    assert (event.programme, event.actor) == (made.pk, lead.pk)
    assert Delivery.objects.get().webhook == all_of_it
    assert Delivery.objects.get().next_attempt is not None
    assert stopped.deliveries.count() == 0
    for wrong in ("a name with spaces", "näme", "x" * 70, 1.5, {"a": object()}):
        with pytest.raises(HeedfulError):
            events.record("some.thing", thing=wrong)
    assert events.digest_of({"a": 1, "b": 2}) == events.digest_of({"b": 2, "a": 1}) != events.digest_of({"a": 1})


@pytest.mark.django_db(transaction=True)
def test_an_event_is_written_in_a_transaction_or_not_at_all() -> None:
    with pytest.raises(HeedfulError, match="in the transaction"):
        events.record("some.thing")
    with transaction.atomic():
        events.record("some.thing")
        transaction.set_rollback(True)
    assert not AuditEvent.objects.exists()


def test_replay_tells_what_the_tables_say_otherwise() -> None:
    state = replay()
    assert difference(state) == []
    assert state == State()
    slot, held, judgment = "1" * 36, "2" * 36, "3" * 36
    state.slots[slot], state.assignments[held], state.current[judgment] = ("done", held), ("submitted", slot), slot
    found = difference(state)
    assert [line.split()[0] for line in found] == ["slot", "assignment", "judgment"]
    assert all("the tables nothing" in line for line in found)
