"""Raters, invitations, members, questions, groups; erasing somebody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from lead_world import World, judge, judged, login, world

from feedback_factories import account, rater
from heedful.feedback.models import (
    AuditEvent,
    GroupAnswer,
    Invitation,
    Membership,
    Rater,
    RaterQuestion,
    Rationale,
    Role,
    Tombstone,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def full() -> World:
    return judged(world())


def test_the_table_tells_judgments_and_names(full: World) -> None:
    page = login(full.manager).get(full.at("raters/"))
    rows = {name: (row.judgments, here) for row, name, here, _weight in page.context["rows"]}
    assert rows == {"Rater 0": (3, True), "Rater 1": (3, True)}


def test_a_rater_is_given_languages_paused_and_let_back(full: World) -> None:
    client, one = login(full.manager), full.raters[0]
    path = reverse("rater", args=[full.slug, one.pk])
    client.post(path, {"languages": "vi, en, vi", "expertise": "law", "training_mode": "on"})
    one.refresh_from_db()
    assert (one.languages, one.expertise, one.training_mode) == (["vi", "en"], ["law"], True)
    wrong = client.post(path, {"languages": "vi|en", "expertise": ""})
    assert (wrong.status_code, list(wrong.context["form"].errors)) == (422, ["languages"])
    assert client.post(reverse("rater_pause", args=[full.slug, one.pk]), {"reason": ""}).status_code == 422
    client.post(reverse("rater_pause", args=[full.slug, one.pk]), {"reason": "Please read version 2."})
    one.refresh_from_db()
    assert one.paused is not None
    assert "Please read version 2." in login(one.account).get(full.at("me/")).content.decode()
    client.post(reverse("rater_resume", args=[full.slug, one.pk]))
    one.refresh_from_db()
    assert one.paused is None


def test_nobody_is_erased_by_a_slip_and_what_is_erased_is_gone(full: World) -> None:
    one = rater(full.programme, account=account("lan", display_name="Lan Pham"))
    full.items[0].slots.create(batch=full.batch, purpose="train", guideline=full.batch.guideline)
    full.items[0].state = "open"
    full.items[0].save()
    said = judge(one, 1, rationale="My own words.")
    path = reverse("rater_erase", args=[full.slug, one.pk])
    assert login(full.manager).post(path, {"typed": "Lan Pham"}).status_code == 403
    client = login(full.admin)
    slip = client.post(path, {"typed": "lan"})
    assert slip.status_code == 422
    assert "Nothing was erased" in slip.content.decode()
    assert not Tombstone.objects.exists()
    answer = client.post(path, {"typed": "Lan Pham"}, follow=True)
    assert "Lan Pham" not in answer.content.decode()
    one.refresh_from_db()
    said.refresh_from_db()
    assert (one.erased is not None, one.account) == (True, None)
    assert Rationale.objects.get(judgment=said).text == ""
    item = reverse("item", args=[full.slug, full.items[0].pk])
    client.post(item + "votes/")
    page = client.get(item).content.decode()
    assert "erased" in page
    assert "My own words." not in page
    assert "Lan Pham" not in page


def test_the_studios_own_admin_erases_an_account_everywhere(full: World) -> None:
    who = account("two-places", display_name="Two Places")
    here, there = rater(full.programme, account=who), rater(world().programme, account=who)
    path = reverse("rater_erase", args=[full.slug, here.pk])
    client = login(account(is_superuser=True))
    client.post(path, {"typed": "Two Places", "everywhere": "on"})
    for one in (here, there):
        one.refresh_from_db()
        assert one.erased is not None
    who.refresh_from_db()
    assert who.erased is not None


def test_a_link_is_shown_once_with_its_code_and_can_be_revoked(full: World) -> None:
    client = login(full.manager)
    answer = client.post(full.at("invitations/"), {"role": "rater", "uses": "3", "days": "7"})
    shown = answer.context["shown"]
    token = shown.link.rstrip("/").rsplit("/", 1)[1]
    assert answer["Cache-Control"] == "no-store"
    assert token not in client.get(full.at("invitations/")).content.decode()
    assert not Invitation.objects.filter(token_hash=token).exists()
    assert login(None).get(f"/invitation/{token}/").status_code == 200
    made = Invitation.objects.get(pk=shown.invitation.pk)
    assert made.uses_left == 3  # looking used nothing up
    client.post(reverse("invitation_revoke", args=[full.slug, made.pk]))
    assert login(None).get(f"/invitation/{token}/").status_code == 404


def test_only_admins_invite_managers_and_admins(full: World) -> None:
    for role in ("manager", "admin"):
        sent = {"role": role, "uses": "1", "days": "7"}
        assert login(full.manager).post(full.at("invitations/"), sent).status_code == 422
        assert login(full.admin).post(full.at("invitations/"), sent).context["shown"] is not None
    wrong = login(full.admin).post(full.at("invitations/"), {"role": "rater", "uses": "0", "days": "999"})
    assert set(wrong.context["form"].errors) == {"uses", "days"}


def test_the_code_says_the_link() -> None:
    """The path drawn in modules is the matrix that the library makes."""
    import re

    import qrcode

    from heedful.studio.lead.qr import BORDER, qr_path

    link = "https://studio.example.org/invitation/abcdefghijklmnopqrstuvwxyz0123456789/"
    path, size = qr_path(link)
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_M, border=0)
    code.add_data(link)
    wanted = code.get_matrix()
    drawn = [[False] * (size - 2 * BORDER) for _ in range(size - 2 * BORDER)]
    for x, y, run in re.findall(r"M(\d+) (\d+)h(\d+)v1", path):
        for i in range(int(run)):
            drawn[int(y) - BORDER][int(x) - BORDER + i] = True
    assert drawn == wanted


@pytest.mark.parametrize(
    ("settings", "host", "link"),
    [
        ({"ALLOWED_HOSTS": ["127.0.0.1"]}, "127.0.0.1:8400", "http://127.0.0.1:8400"),
        ({"ALLOWED_HOSTS": ["127.0.0.1", "192.168.1.7"]}, "127.0.0.1:8400", "http://192.168.1.7:8400"),
        ({"ALLOWED_HOSTS": ["127.0.0.1", "192.168.1.7"]}, "192.168.1.7:8400", "http://192.168.1.7:8400"),
        (
            {"ALLOWED_HOSTS": ["s.example.org", "127.0.0.1"], "CSRF_TRUSTED_ORIGINS": ["https://s.example.org"]},
            "127.0.0.1:8400",
            "https://s.example.org",
        ),
    ],
)
def test_a_link_names_the_address_by_which_others_come(settings: dict[str, list[str]], host: str, link: str) -> None:
    from django.test import RequestFactory, override_settings

    from heedful.studio.lead.links import invitation_link, only_here

    with override_settings(**settings):
        made = invitation_link(RequestFactory().get("/", HTTP_HOST=host), "abc")
    assert made == f"{link}/invitation/abc/"
    assert only_here(made) == link.startswith("http://127")


def test_roles_are_given_and_taken_and_one_admin_stays(full: World) -> None:
    client, who = login(full.admin), full.raters[0].account
    path = reverse("member_role", args=[full.slug, who.pk])
    client.post(path, {"role": "adjudicator", "set": "on"})
    client.post(path, {"role": "rater", "set": "off"})
    held = Membership.objects.filter(programme=full.programme, account=who, ended=None)
    assert [row.role for row in held] == [Role.ADJUDICATOR]
    own = reverse("member_role", args=[full.slug, full.admin.pk])
    answer = client.post(own, {"role": "admin", "set": "off"}, follow=True)
    assert "keeps one admin" in answer.content.decode() or answer.redirect_chain
    assert Membership.objects.filter(programme=full.programme, role="admin", ended=None).count() == 1
    assert client.post(path, {"role": "king", "set": "on"}).status_code == 404
    stranger = account()
    assert client.post(reverse("member_role", args=[full.slug, stranger.pk]), {"role": "rater"}).status_code == 404


def test_a_question_is_asked_answered_and_read(full: World) -> None:
    client = login(full.raters[0].account)
    assert client.post(full.at("me/questions/"), {"text": "  "}).status_code == 422
    client.post(full.at("me/questions/"), {"text": "May an answer be rude?"})
    asked = RaterQuestion.objects.get()
    assert "question has no answer" in login(full.manager).get(full.at()).content.decode()
    path = reverse("question_answer", args=[full.slug, asked.pk])
    field = f"{str(asked.pk)[-8:]}-answer"
    assert login(full.manager).post(path, {field: ""}).status_code == 422
    login(full.manager).post(path, {field: "No."})
    assert "No." in client.get(full.at("me/feedback/")).content.decode()
    assert "May an answer be rude?" not in login(full.raters[1].account).get(full.at("me/feedback/")).content.decode()
    events = AuditEvent.objects.filter(programme=full.programme.pk, kind__startswith="question.").order_by("seq")
    assert [(event.kind, event.ids["question"]) for event in events] == [
        ("question.asked", str(asked.pk)),
        ("question.answered", str(asked.pk)),
    ]


def test_small_groups_are_hidden() -> None:
    questions = [{"name": "region", "question": "Where do you live?", "answers": ["North", "South", "East"]}]
    of = world(items=0, raters=0, group_questions=questions)
    for answer, count in (("North", 6), ("South", 1), ("East", 7)):
        for _ in range(count):
            GroupAnswer.objects.create(rater=rater(of.programme), question="region", answer=answer)
    page = login(of.manager).get(of.at("raters/"))
    ((asked, table),) = page.context["groups"]
    cells = {row.answer: row.raters for row in table.rows}
    assert asked == "Where do you live?"
    assert cells["South"] is None  # one person
    assert sum(count is None for count in cells.values()) >= 2  # nor can it be worked out
    assert "hidden" in page.content.decode()


def test_at_work_are_those_who_were_seen_lately(full: World) -> None:
    page = login(full.manager).get(full.at())
    assert page.context["active"] == ["Rater 0", "Rater 1"]
    from unittest.mock import patch

    later = timezone.now() + timedelta(hours=2)
    with patch("heedful.feedback.clock.now", lambda: later):
        assert login(full.manager).get(full.at()).context["active"] == []


def test_an_agent_has_a_page_without_an_account(full: World) -> None:
    judge_of = Rater.objects.create(programme=full.programme, kind="ai", name="judge-7b")
    page = login(full.manager).get(reverse("rater", args=[full.slug, judge_of.pk])).content.decode()
    assert "judge-7b" in page
