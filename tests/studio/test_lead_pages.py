"""Each of the lead's pages, for each role, empty and full."""

from __future__ import annotations

import pytest
from django.urls import reverse
from lead_world import World, judged, login, world

from feedback_factories import account, programme
from heedful.feedback.models import Role

pytestmark = pytest.mark.django_db

LEAD = (
    "overview", "wizard_step:file", "batches", "batch:batch", "items", "item:item", "raters", "rater:rater",
    "invitations", "questions", "guidelines", "guideline_edit", "guideline_compare", "guideline:1", "gold", "contests",
    "qualifications", "calibration", "import", "export", "snapshots", "charts", "charts_part", "runs", "runs_part",
    "field", "trust", "trust_part", "audit", "settings", "group_settings",
)  # fmt: skip
ADMIN = ("members", "pay", "tokens", "webhooks", "endpoints")
ADJUDICATOR = ("adjudication",)
OWN = ("me", "me_feedback", "me_settings")


def address(of: World, name: str) -> str:
    """The address of a page, its argument taken from the programme."""
    page, _, argument = name.partition(":")
    found = {"batch": of.batch.pk, "item": of.items[0].pk if of.items else None, "rater": of.raters[0].pk}
    args = [found.get(argument, argument)] if argument else []
    return reverse(page, args=[of.slug, *args])


@pytest.fixture
def full() -> World:
    return judged(world())


def test_every_page_opens_for_an_admin(full: World) -> None:
    client = login(full.admin)
    for name in (*LEAD, *ADMIN, *ADJUDICATOR, *OWN):
        answer = client.get(address(full, name))
        assert answer.status_code == 200, name
        assert b"<h1" in answer.content or name.endswith("_part")


def test_every_page_opens_while_there_is_nothing() -> None:
    nothing = world(items=0, raters=1)
    nothing.batch.delete()
    client = login(nothing.admin)
    for name in (*LEAD, *ADMIN, *ADJUDICATOR, *OWN):
        if name not in ("item:item", "batch:batch"):
            assert client.get(address(nothing, name)).status_code == 200, name


@pytest.mark.parametrize(
    ("who", "may"),
    [
        ("manager", {*LEAD}),
        ("adjudicator", {*ADJUDICATOR, *OWN}),
        ("rater", {*OWN}),
    ],
)
def test_a_role_opens_its_own_pages_and_no_other(full: World, who: str, may: set[str]) -> None:
    person = full.raters[0].account if who == "rater" else getattr(full, who)
    client = login(person)
    for name in (*LEAD, *ADMIN, *ADJUDICATOR, *OWN):
        wanted = 200 if name in may else 403
        assert client.get(address(full, name)).status_code == wanted, (who, name)


def test_another_programmes_pages_are_not_there_and_nobody_sees_them_unknown(full: World) -> None:
    stranger = account()
    programme(admin=stranger)
    for name in (*LEAD, *ADMIN, *ADJUDICATOR, *OWN):
        assert login(stranger).get(address(full, name)).status_code == 404, name
        answer = login(None).get(address(full, name))
        assert (answer.status_code, answer.url.split("?")[0]) == (302, "/login/"), name


def test_rows_of_another_programme_are_not_there(full: World) -> None:
    other = judged(world())
    client = login(full.admin)
    for page, key in (("item", other.items[0].pk), ("batch", other.batch.pk), ("rater", other.raters[0].pk)):
        assert client.get(reverse(page, args=[full.slug, key])).status_code == 404
    for page, key in (("item_withdraw", other.items[0].pk), ("rater_erase", other.raters[0].pk)):
        assert client.post(reverse(page, args=[full.slug, key])).status_code == 404


def test_what_changes_something_is_asked_with_post_and_a_token(full: World) -> None:
    from django.test import Client

    from heedful.studio.lead.urls import urlpatterns

    unsafe = [one for one in urlpatterns if "withdraw" in (one.name or "") or (one.name or "").endswith("_open")]
    assert len(unsafe) >= 3
    client = Client(enforce_csrf_checks=True)
    client.force_login(full.admin, backend="django.contrib.auth.backends.ModelBackend")
    path = reverse("item_withdraw", args=[full.slug, full.items[0].pk])
    assert client.get(path).status_code == 405
    assert client.post(path).status_code == 403
    full.items[0].refresh_from_db()
    assert full.items[0].state == "done"


def test_the_studios_first_admin_leads_every_programme(full: World) -> None:
    owner = account(is_superuser=True)
    assert login(owner).get(full.at()).status_code == 200
    page = login(owner).get("/programmes/").content.decode()
    assert full.programme.name in page
    assert str(Role.ADMIN.label) in page


def test_a_new_programme_leads_to_the_wizard_and_a_rater_begins_none(full: World) -> None:
    client = login(full.admin)
    answer = client.post("/programmes/new/", {"name": "Spring answers"})
    assert answer.url == "/p/spring-answers/wizard/"
    assert client.get(answer.url, follow=True).status_code == 200
    assert client.post("/programmes/new/", {"name": "  "}).status_code == 422
    rater = login(full.raters[0].account)
    assert rater.post("/programmes/new/", {"name": "Mine"}).status_code == 403
    assert "New programme" not in rater.get("/programmes/").content.decode()
