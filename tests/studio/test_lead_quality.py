"""Gold lists, tests that raters pass, calibration sessions."""

from __future__ import annotations

import pytest
from django.urls import reverse
from lead_world import World, judge, login, world

from feedback_factories import batch, item
from heedful.feedback import gold
from heedful.feedback.models import Qualification

pytestmark = pytest.mark.django_db


@pytest.fixture
def of() -> World:
    return world(items=1)


def test_the_gold_list_tells_what_is_accepted(of: World) -> None:
    gold.promote(of.items[0], [{"strength": [1, 3]}], "B.", actor=of.admin)
    page = login(of.manager).get(of.at("gold/")).content.decode()
    assert "B better" in page
    assert "not shown yet" in page


def test_a_test_is_made_of_a_batch_whose_items_all_have_keys(of: World) -> None:
    client = login(of.manager)
    test = batch(of.programme, purpose="qualification", name="Entrance")
    one = item(test)
    sent = {"batch": str(test.pk), "name": "Entrance", "pass_mark": "80", "attempts_allowed": "2", "required": "on"}
    early = client.post(of.at("qualifications/"), sent)
    assert (early.status_code, list(early.context["form"].errors)) == (422, ["batch"])
    assert "1 of 1 items have no key" in early.content.decode()
    gold.promote(one, [{"strength": [1, 3]}], "B.", actor=of.admin)
    wrong = client.post(of.at("qualifications/"), sent | {"pass_mark": "0", "attempts_allowed": "99"})
    assert set(wrong.context["form"].errors) == {"pass_mark", "attempts_allowed"}
    assert client.post(of.at("qualifications/"), sent).status_code == 302
    made = Qualification.objects.get()
    assert (made.pass_mark, made.required, made.guideline_version) == (0.8, True, None)
    path = reverse("qualification_change", args=[of.slug, made.pk])
    client.post(path, {"act": "attempt"})
    client.post(path, {"act": "free"})
    made.refresh_from_db()
    assert (made.attempts_allowed, made.required) == (3, False)
    assert client.post(path, {"act": "nonsense"}).status_code == 404


def test_a_rater_begins_a_test_on_their_own_page_and_passes(of: World) -> None:
    from heedful.feedback import qualification

    test = batch(of.programme, purpose="qualification", name="Entrance")
    gold.promote(item(test), [{"strength": [1, 3]}], "B.", actor=of.admin)
    made = qualification.create(of.programme, test, "Entrance", actor=of.admin)
    client, one = login(of.raters[0].account), of.raters[0]
    assert "Entrance" in client.get(of.at("me/feedback/")).content.decode()
    assert client.post(reverse("me_attempt", args=[of.slug, made.pk])).url == of.at("rate/")
    judge(one, 2)
    assert "passed" in client.get(of.at("me/feedback/")).content.decode()
    page = login(of.manager).get(reverse("rater", args=[of.slug, one.pk])).content.decode()
    assert "passed" in page
    again = client.post(reverse("me_attempt", args=[of.slug, made.pk]), follow=True)
    assert "is passed" in again.content.decode()


def test_a_session_is_open_to_raters_only_when_it_is_opened_and_names_nobody_to_them(of: World) -> None:
    session = batch(of.programme, purpose="calibration", name="November")
    item(session)
    judge(of.raters[0], 2, of=session, rationale="B is plain.")
    judge(of.raters[1], -2, of=session, rationale="A is kind.")
    path = reverse("calibration_session", args=[of.slug, session.pk])
    lead, rater = login(of.manager), login(of.raters[0].account)
    assert "B is plain." not in lead.get(path).content.decode()
    assert rater.get(path).status_code == 404
    assert rater.post(reverse("calibration_open", args=[of.slug, session.pk])).status_code == 403
    lead.post(reverse("calibration_open", args=[of.slug, session.pk]))
    shown = lead.get(path).content.decode()
    assert "Rater 0" in shown
    assert "0% agree" in shown
    page = rater.get(path).content.decode()
    assert "A is kind." in page
    assert "<strong>you</strong>" in page
    assert of.raters[1].account.display_name not in page.replace("Rater 1</strong>", "").replace("Rater 2</strong>", "")
    assert "policy-" not in page
    assert "November" in rater.get(of.at("me/feedback/")).content.decode()
    again = lead.post(reverse("calibration_open", args=[of.slug, session.pk]), follow=True)
    assert "open already" in again.content.decode()


def test_other_batches_are_no_sessions(of: World) -> None:
    path = reverse("calibration_session", args=[of.slug, of.batch.pk])
    assert login(of.manager).get(path).status_code == 404
