"""A rater's own pages: history, corrections, hours and pay, feedback, choices."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from lead_world import World, judge, judged, login, world

from feedback_factories import item
from heedful.feedback import assignment, clock, gold, services, slots, submission
from heedful.feedback.models import CurrentJudgment, GoldOutcome, GroupAnswer, Judgment, PayRate, RaterKind
from heedful.feedback.programmes import give_consent, has_consented

pytestmark = pytest.mark.django_db


@pytest.fixture
def of() -> World:
    made = world(items=2)
    PayRate.objects.create(programme=made.programme, per_hour=12, begins=timezone.now() - timedelta(days=40))
    return made


def shown_strength(said: Judgment, strength: int) -> dict[str, str]:
    return {"strength": str(strength if said.order == [0, 1] else -strength)}


def test_history_hours_and_pay(of: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    until_noon = now.replace(hour=12) - now  # else ten minutes of work may reach back into yesterday
    monkeypatch.setattr(clock, "now", lambda: timezone.now() + until_noon)
    judge(of.raters[0], 2, active_ms=600_000, rationale="Because.")
    page = login(of.raters[0].account).get(of.at("me/"))
    text = page.content.decode()
    (month,) = page.context["months"]
    assert (month.judgments, str(month.pay["USD"])) == (1, "2.00")
    assert page.context["today"] == 600_000
    assert "10 min" in text
    assert "12.00 USD an hour" in text
    assert "Because." in text
    assert "policy-" not in text


@pytest.mark.parametrize(
    "before", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-13-45T00:00:00Z", "9999-99-99", "yes"]
)
def test_a_time_that_is_none_is_no_filter(of: World, before: str) -> None:
    judge(of.raters[0], 2)
    page = login(of.raters[0].account).get(of.at("me/"), {"before": before})
    assert (page.status_code, len(page.context["rows"]), page.context["newest"]) == (200, 1, True)


def test_nobody_sees_anothers_work(of: World) -> None:
    said = judge(of.raters[0], 2, rationale="Mine alone.")
    client = login(of.raters[1].account)
    assert "Mine alone." not in client.get(of.at("me/")).content.decode()
    for name in ("me_undo", "me_correct"):
        assert client.post(reverse(name, args=[of.slug, said.pk])).status_code == 404
    assert client.get(reverse("me_correct", args=[of.slug, said.pk])).status_code == 404
    assert CurrentJudgment.objects.filter(judgment=said).exists()


def test_a_judgment_is_corrected_in_the_order_that_was_shown(of: World) -> None:
    said = judge(of.raters[0], 2, rationale="First.")
    client, path = login(of.raters[0].account), reverse("me_correct", args=[of.slug, said.pk])
    page = client.get(path)
    assert page.context["form"]["strength"].value() == shown_strength(said, 2)["strength"]
    assert page.context["reason"]["rationale"].value() == "First."
    assert client.post(path, {"strength": "9"}).status_code == 422
    assert client.post(path, shown_strength(said, -3) | {"rationale": "Second."}).status_code == 302
    now = CurrentJudgment.objects.get(rater=of.raters[0]).judgment
    assert (now.payload["strength"], now.supersedes, now.rationale.text) == (-3, said, "Second.")
    text = client.get(of.at("me/")).content.decode()
    assert "no longer holds" in text
    assert client.get(path).url == of.at("me/")  # the old one cannot be corrected again


def test_what_was_written_is_corrected_too() -> None:
    of = world(items=0)
    item(of.batch, kind="demonstration", completions=0)
    held = assignment.next_assignment(of.raters[0])
    assert held is not None
    assignment.show(held)
    said = submission.submit(held, {}, key="w", item_version=held.item_version, text="A first answer.")
    client, path = login(of.raters[0].account), reverse("me_correct", args=[of.slug, said.pk])
    assert "A first answer." in client.get(path).content.decode()
    client.post(path, {"text": "A better answer."})
    now = CurrentJudgment.objects.get(rater=of.raters[0]).judgment
    assert now.demonstration.completion.text == "A better answer."


def test_a_judgment_is_taken_back_once(of: World) -> None:
    said = judge(of.raters[0], 2)
    client, path = login(of.raters[0].account), reverse("me_undo", args=[of.slug, said.pk])
    assert client.get(path).status_code == 405
    assert client.post(path).url == of.at("rate/")
    client.post(path)
    assert not CurrentJudgment.objects.filter(rater=of.raters[0]).exists()
    assert Judgment.objects.filter(rater=of.raters[0], retracts=True).count() == 1


def test_gold_is_silent_in_production_and_explained_and_contested_in_training(
    of: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = of.raters[0]
    gold.promote(of.items[0], [{"strength": [1, 3]}], "B is simply right.", actor=of.admin)
    slots.reserve(of.items[0], one, purpose="gold")
    monkeypatch.setattr(
        "heedful.feedback.special.offer", lambda who, _: who.reserved_slots.filter(state="free").first()
    )
    said = judge(one, -2)
    outcome = GoldOutcome.objects.get(judgment=said)
    client = login(one.account)
    assert "B is simply right." not in client.get(of.at("me/feedback/")).content.decode()
    path = reverse("me_contest", args=[of.slug, outcome.pk])
    assert client.post(path, {"text": "No."}).status_code == 404
    gold.set_training(one, True, of.admin)
    assert "B is simply right." in client.get(of.at("me/feedback/")).content.decode()
    assert client.post(path, {"text": ""}).status_code == 422
    assert client.post(path, {"text": "A has the recipe."}).status_code == 302
    lead = login(of.manager)
    assert "gold answer is contested" in lead.get(of.at()).content.decode()
    page = lead.get(of.at("gold/contests/")).content.decode()
    assert "A has the recipe." in page
    prefix = str(outcome.pk)[-8:]
    answer = reverse("contest_answer", args=[of.slug, outcome.pk])
    assert lead.post(answer, {f"{prefix}-answer": "", f"{prefix}-upheld": "yes"}).status_code == 422
    lead.post(answer, {f"{prefix}-answer": "You are right.", f"{prefix}-upheld": "yes"})
    outcome.refresh_from_db()
    assert outcome.upheld
    assert "You are right." in client.get(of.at("me/feedback/")).content.decode()
    assert "0%" not in lead.get(of.at("raters/")).content.decode()


def test_groups_content_and_consent_are_the_raters_own() -> None:
    questions = [{"name": "region", "question": "Where?", "answers": ["North", "South"]}]
    of = world(items=0, consent_text="I agree.", group_questions=questions)
    bad = item(of.batch)
    bad.prompt.categories = ["violence"]
    bad.prompt.save()
    one = of.raters[0]
    give_consent(one)
    client = login(one.account)
    client.post(of.at("me/settings/choices/"), {"group-region": "South", "excluded": ["violence"]})
    one.refresh_from_db()
    assert one.excluded_categories == ["violence"]
    assert GroupAnswer.objects.get(rater=one).answer == "South"
    client.post(of.at("me/settings/choices/"), {"group-region": ""})
    assert GroupAnswer.objects.get(rater=one).answer == ""  # prefers not to say
    assert client.post(of.at("me/settings/choices/"), {"group-region": "Mars"}).status_code == 422
    client.post(of.at("me/settings/withdraw/"))
    assert has_consented(one)
    client.post(of.at("me/settings/withdraw/"), {"sure": "yes"})
    assert not has_consented(one)
    client.post(of.at("me/settings/choices/"), {"group-region": "North"})
    assert not has_consented(one)  # to choose is not to agree


def test_withdrawing_consent_takes_judgments_back_only_where_that_is_ticked(of: World) -> None:
    one = of.raters[0]
    judge(one)
    count = Judgment.objects.filter(rater=one).count()
    client = login(one.account)
    client.post(of.at("me/settings/withdraw/"), {"sure": "yes"})
    assert services.withdrawn(of.programme) == frozenset()
    client.post(of.at("me/settings/withdraw/"), {"judgments": "yes"})
    assert services.withdrawn(of.programme) == frozenset()  # not sure
    client.post(of.at("me/settings/withdraw/"), {"sure": "yes", "judgments": "yes"})
    assert len(services.withdrawn(of.programme)) == count > 0


def test_language_name_and_shortcuts_are_the_accounts(of: World) -> None:
    who = of.raters[0].account
    client = login(who)
    client.post(of.at("me/settings/account/"), {"display_name": "Lan", "language": "vi"})
    who.refresh_from_db()
    assert (who.display_name, who.language, who.shortcuts) == ("Lan", "vi", False)
    assert 'lang="vi"' in client.get(of.at("me/settings/")).content.decode()
    assert client.post(of.at("me/settings/account/"), {"language": "xx"}).status_code == 422


def test_a_lead_who_judged_nothing_has_an_empty_page(of: World) -> None:
    for path in ("me/", "me/feedback/", "me/settings/"):
        answer = login(of.admin).get(of.at(path))
        assert (answer.status_code, "You have not judged here yet" in answer.content.decode()) == (200, True)
    assert not of.programme.raters.filter(account=of.admin, kind=RaterKind.PERSON).exists()


def test_older_work_is_a_page_further(of: World) -> None:
    for _ in range(32):
        item(of.batch)
    for _ in range(33):
        judge(of.raters[0], 1)
    client = login(of.raters[0].account)
    first = client.get(of.at("me/"))
    assert len(first.context["rows"]) == 30
    second = client.get(of.at("me/"), {"before": first.context["older"]})
    keys: set[Any] = {one.judgment for one, *_ in (*first.context["rows"], *second.context["rows"])}
    assert len(keys) == 33
    assert client.get(of.at("me/"), {"before": "yesterday"}).status_code == 200


def test_gold_looks_like_any_other_item_in_the_history(of: World) -> None:
    judged(of)
    client = login(of.raters[0].account)
    before = client.get(of.at("me/")).content.decode()
    gold.promote(of.items[0], [{"strength": [1, 3]}], "B.", actor=of.admin)
    after = client.get(of.at("me/")).content.decode()

    def plain(page: str) -> str:
        return re.sub(r'value="[A-Za-z0-9]{64}"', "", page)

    assert plain(before) == plain(after)
