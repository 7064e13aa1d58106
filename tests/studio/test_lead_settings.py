"""A programme's settings: rules, groups, pay, tokens, webhooks, endpoints; batches."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone
from lead_world import World, judged, login, world

from feedback_factories import batch, item, rater
from heedful.feedback.models import ApiToken, AuditEvent, Delivery, PayRate, PolicyEndpoint, Webhook
from heedful.feedback.rules import Rules, rules_of
from heedful.studio.lead.rules_form import RulesForm

pytestmark = pytest.mark.django_db
SECRET = "only-once"


@pytest.fixture
def of() -> World:
    return world(items=1)


def rules_as_sent(rules: Rules | None = None, **over: str) -> dict[str, str]:
    shown = RulesForm.start(rules or Rules())
    plain = {name: str(value) for name, value in shown.items() if not isinstance(value, bool)}
    ticked = {name: "on" for name, value in shown.items() if value is True}
    return plain | ticked | {"name": "Everyday answers"} | over


def test_every_rule_has_a_field_and_keeps_its_value(of: World) -> None:
    client = login(of.admin)
    assert client.post(of.at("settings/"), rules_as_sent()).status_code == 302
    of.programme.refresh_from_db()
    assert rules_of(of.programme.settings) == Rules()
    asked = {*RulesForm.base_fields} - {"lease_minutes", "seen"} | {"lease_seconds", "group_questions"}
    assert asked == set(Rules.__dataclass_fields__)


def test_rules_are_changed_and_told_in_the_trail(of: World) -> None:
    client = login(of.admin)
    sent = rules_as_sent(
        lease_minutes="45", gold_rate="7.5", consent_text="I agree.", require_rationale="on", name="New"
    )
    client.post(of.at("settings/"), sent)
    of.programme.refresh_from_db()
    rules = rules_of(of.programme.settings)
    assert (rules.lease_seconds, rules.gold_rate, rules.consent_text) == (2700, 0.075, "I agree.")
    assert rules.require_rationale
    assert of.programme.name == "New"
    assert AuditEvent.objects.filter(kind="rules.changed", programme=of.programme.pk).count() == 1


def test_rules_that_somebody_changed_meanwhile_are_not_written_over_unseen(of: World) -> None:
    mine, theirs = rules_as_sent(skips_to_park="4"), rules_as_sent(skips_to_park="9")
    login(of.admin).post(of.at("settings/"), theirs)
    answer = login(of.manager).post(of.at("settings/"), mine)
    assert answer.status_code == 422
    assert "Somebody changed the rules meanwhile" in answer.content.decode()
    of.programme.refresh_from_db()
    assert rules_of(of.programme.settings).skips_to_park == 9
    login(of.manager).post(of.at("settings/"), mine | {"seen": answer.context["form"]["seen"].value()})
    of.programme.refresh_from_db()
    assert rules_of(of.programme.settings).skips_to_park == 4


def test_a_rule_out_of_range_is_told_beside_it_and_nothing_is_kept(of: World) -> None:
    wrong = rules_as_sent(gold_rate="101", lease_minutes="0", skips_to_park="x", disagreement="2")
    answer = login(of.admin).post(of.at("settings/"), wrong)
    assert answer.status_code == 422
    assert set(answer.context["form"].errors) == {"gold_rate", "lease_minutes", "skips_to_park", "disagreement"}
    of.programme.refresh_from_db()
    assert of.programme.settings == {}


def test_a_manager_does_not_open_the_private_network(of: World) -> None:
    login(of.manager).post(of.at("settings/"), rules_as_sent(allow_private_addresses="on"))
    of.programme.refresh_from_db()
    assert not rules_of(of.programme.settings).allow_private_addresses
    now = rules_of(of.programme.settings)
    login(of.admin).post(of.at("settings/"), rules_as_sent(now, allow_private_addresses="on"))
    of.programme.refresh_from_db()
    assert rules_of(of.programme.settings).allow_private_addresses


def test_seconds_that_are_no_whole_minutes_survive_another_change() -> None:
    odd = world(items=0, lease_seconds=100)
    shown = rules_as_sent(Rules(lease_seconds=100), skips_to_park="4")
    assert shown["lease_minutes"] == "2"
    login(odd.admin).post(odd.at("settings/"), shown)
    odd.programme.refresh_from_db()
    rules = rules_of(odd.programme.settings)
    assert (rules.lease_seconds, rules.skips_to_park) == (100, 4)


def test_group_questions_are_edited_and_the_rules_stay(of: World) -> None:
    client = login(of.manager)
    head = {"group-TOTAL_FORMS": "2", "group-INITIAL_FORMS": "0"}
    row = {"group-0-name": "region", "group-0-question": "Where?", "group-0-answers": "North\nSouth\n"}
    assert client.post(of.at("settings/groups/"), head | row).status_code == 302
    of.programme.refresh_from_db()
    asked = rules_of(of.programme.settings).group_questions
    assert asked == ({"name": "region", "question": "Where?", "answers": ["North", "South"]},)
    for over, words in (
        ({"group-0-answers": "North"}, "Give two answers or more"),
        ({"group-0-answers": "North\nNorth"}, "stands here twice"),
        ({"group-0-question": ""}, "What are raters asked?"),
        ({"group-1-name": "region", "group-1-question": "Again?", "group-1-answers": "a\nb"}, "have the same name"),
    ):
        answer = client.post(of.at("settings/groups/"), head | row | over)
        assert (answer.status_code, words in answer.content.decode()) == (422, True), over


def test_a_rate_begins_on_its_day_and_none_is_changed(of: World) -> None:
    client = login(of.admin)
    one = rater(of.programme)
    sent = {"currency": "EUR", "per_hour": "18.50", "per_judgment": "0", "begins": "2026-01-01"}
    client.post(of.at("settings/pay/"), sent)
    client.post(of.at("settings/pay/"), sent | {"rater": str(one.pk), "per_hour": "20"})
    rates = PayRate.objects.filter(programme=of.programme).order_by("per_hour")
    assert [(rate.rater, rate.per_hour) for rate in rates] == [(None, Decimal("18.50")), (one, Decimal("20"))]
    wrong = client.post(of.at("settings/pay/"), sent | {"currency": "euro", "per_hour": "0"})
    assert "currency" in wrong.context["form"].errors
    other = rater(world().programme)
    strange = client.post(of.at("settings/pay/"), sent | {"rater": str(other.pk)})
    assert list(strange.context["form"].errors) == ["rater"]
    assert login(of.manager).post(of.at("settings/pay/"), sent).status_code == 403


def test_a_token_is_shown_once_and_kept_as_a_hash(of: World) -> None:
    client = login(of.admin)
    answer = client.post(of.at("settings/tokens/"), {"name": "GPU host", "scopes": ["judgments:read"], "days": "30"})
    text = answer.context["text"]
    made = ApiToken.objects.get()
    assert made.token_hash == hashlib.sha256(text.encode()).hexdigest()
    assert answer["Cache-Control"] == "no-store"
    assert text not in client.get(of.at("settings/tokens/")).content.decode()
    nothing = client.post(of.at("settings/tokens/"), {"name": "x", "days": "0"})
    assert set(nothing.context["form"].errors) == {"scopes", "days"}
    client.post(reverse("token_revoke", args=[of.slug, made.pk]))
    made.refresh_from_db()
    assert made.revoked is not None
    other = world()
    assert login(other.admin).post(reverse("token_revoke", args=[other.slug, made.pk])).status_code == 404


def test_a_webhook_refuses_private_addresses_and_shows_its_troubles(of: World) -> None:
    client = login(of.admin)
    wrong = client.post(of.at("settings/webhooks/"), {"url": "http://127.0.0.1:9/", "kinds": []})
    assert (wrong.status_code, list(wrong.context["form"].errors)) == (422, ["url"])
    assert not Webhook.objects.exists()
    made = Webhook.objects.create(programme=of.programme, url="https://example.org/hook", secret=SECRET)
    event = AuditEvent.objects.create(kind="judgment.submitted", programme=of.programme.pk)
    Delivery.objects.create(
        webhook=made,
        event=event,
        attempts=3,
        last_error="answered 500",
        next_attempt=timezone.now() + timedelta(hours=1),
    )
    page = client.get(of.at("settings/webhooks/")).content.decode()
    assert "answered 500" in page
    assert SECRET not in page
    assert "webhook delivery fails" in client.get(of.at()).content.decode()
    assert "webhook delivery fails" not in login(of.manager).get(of.at()).content.decode()
    client.post(reverse("webhook_stop", args=[of.slug, made.pk]))
    made.refresh_from_db()
    assert made.stopped is not None


def test_an_endpoint_is_checked_and_retired() -> None:
    of = world(items=0, allow_private_addresses=True)
    client = login(of.admin)
    good = {"name": "Base", "base_url": "http://127.0.0.1:8000/v1", "model": "m", "candidates": "2", "sampling": "{}"}
    for over, field in (
        ({"sampling": "{oops"}, "sampling"),
        ({"sampling": "[]"}, "sampling"),
        ({"sampling": '{"temperature": 9}'}, "sampling"),
        ({"key_variable": "PATH"}, "key_variable"),
        ({"candidates": "1"}, "candidates"),
    ):
        answer = client.post(of.at("settings/endpoints/"), good | over)
        assert (answer.status_code, list(answer.context["form"].errors)) == (422, [field]), over
    assert client.post(of.at("settings/endpoints/"), good).status_code == 302
    made = PolicyEndpoint.objects.get()
    client.post(reverse("endpoint_retire", args=[of.slug, made.pk]))
    made.refresh_from_db()
    assert made.retired is not None


def test_a_batch_is_paused_closed_and_changed(of: World) -> None:
    client, path = login(of.manager), reverse("batch", args=[of.slug, of.batch.pk])
    for state in ("paused", "open", "closed"):
        client.post(reverse("batch_state", args=[of.slug, of.batch.pk]), {"state": state})
        of.batch.refresh_from_db()
        assert of.batch.state == state
    assert client.post(reverse("batch_state", args=[of.slug, of.batch.pk]), {"state": "x"}).status_code == 404
    sent = {"name": "Renamed", "priority": "5", "quota_cap": "4", "deadline": "2027-01-01T12:00"}
    client.post(path, sent)
    of.batch.refresh_from_db()
    assert (of.batch.name, of.batch.priority, of.batch.quota_cap) == ("Renamed", 5, 4)
    wrong = client.post(path, sent | {"quota_cap": "1", "priority": "5000"})
    assert set(wrong.context["form"].errors) == {"quota_cap", "priority"}
    empty = batch(of.programme, state="staged")
    answer = client.post(reverse("batch_state", args=[of.slug, empty.pk]), {"state": "open"}, follow=True)
    assert "no items" in answer.content.decode()


def test_the_overview_tells_progress_forecast_and_cost() -> None:
    of = judged(world(items=4))
    for _ in range(4):
        item(of.batch)
    day = timezone.now() - timedelta(days=3)
    PayRate.objects.create(programme=of.programme, per_hour=12, begins=day)
    page = login(of.manager).get(of.at())
    figures = page.context["figures"]
    assert (figures.counted, figures.wanted, figures.done, figures.items) == (8, 16, 4, 8)
    assert figures.agreement.share == 0
    text = page.content.decode()
    assert "8 of 16 judgments" in text
    assert "done about" in text
    assert "0.80 USD" in text  # eight times half a minute


def test_the_trail_is_told_by_kind_and_page(of: World) -> None:
    from django.db import transaction

    from heedful.feedback import events

    with transaction.atomic():
        for _ in range(101):
            events.record("item.parked", programme=of.programme, actor=of.admin, item=of.items[0])
        events.record("item.withdrawn", programme=of.programme, item=of.items[0])
        events.record("item.withdrawn", programme=world().programme)
    client = login(of.manager)
    first = client.get(of.at("audit/"), {"kind": "item.parked"})
    assert len(first.context["lines"]) == 100
    assert first.context["lines"][0].actor == "Ada Admin"
    assert len(client.get(of.at("audit/"), {"kind": "item.parked", "page": "2"}).context["lines"]) == 1
    assert len(client.get(of.at("audit/"), {"kind": "item.withdrawn"}).context["lines"]) == 1
    assert client.get(of.at("audit/"), {"kind": "' OR 1=1", "page": "x"}).status_code == 200
