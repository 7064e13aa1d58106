"""The raters' pages, without a browser: every address, every rule, every error; and what they do not tell."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from feedback_factories import account, batch, item, open_batch, programme, rater
from feedback_quality import at, days, special_batch
from heedful.feedback import assignment as work
from heedful.feedback import clock, gold, payloads, qualification
from heedful.feedback.models import (
    Assignment,
    AssignmentState,
    AuditEvent,
    Draft,
    Guideline,
    Membership,
    Programme,
    Purpose,
    Rater,
    Role,
    TaskKind,
)
from rating_page import JSON, A, Page

pytestmark = pytest.mark.django_db


@pytest.fixture
def of() -> Programme:
    return programme("Everyday questions")


@pytest.fixture
def page(of: Programme) -> Page:
    return Page(rater(of))


# --- who may ---

NAMES = ("rate_next", "rate_test", "rate_show", "rate_beat", "rate_draft", "rate_submit", "rate_skip", "rate_undo")


def _addresses(slug: str, key: Any) -> list[str]:
    return [reverse(name, args=[slug] if name == "rate_next" else [slug, key]) for name in NAMES]


def test_who_is_not_logged_in_is_sent_to_the_login(of: Programme, client: Client) -> None:
    url = reverse("rate", args=[of.slug])
    assert client.get(url).url == f"/login/?next={url}"
    for address in _addresses(of.slug, uuid.uuid4()):
        assert client.post(address).status_code == 302
        reply = client.post(address, "{}", **JSON)
        assert reply.status_code == 401
        assert reply.json()["login"] is True


def test_others_programmes_are_not_there_and_other_roles_are_refused(of: Programme, page: Page) -> None:
    stranger, manager = Page(rater(programme())), account()
    Membership.objects.create(programme=of, account=manager, role=Role.MANAGER)
    other = Client()
    other.force_login(manager, backend="django.contrib.auth.backends.ModelBackend")
    for address in _addresses(of.slug, uuid.uuid4()):
        assert stranger.client.post(address, "{}", **JSON).status_code == 404
        assert other.post(address, "{}", **JSON).status_code == 403
    assert stranger.client.get(page.url("rate")).status_code == 404
    assert other.get(page.url("rate")).status_code == 403


def test_nobody_reaches_anothers_assignment(of: Programme, page: Page) -> None:
    open_batch(of, 2)
    theirs = page.next()[A]
    mine = Page(rater(of))
    for name in NAMES[2:]:
        assert mine.ask(name, theirs, fields={}, revision=0, key="k", version=1, reason="other").status_code == 404
        assert page.ask(name, uuid.uuid4(), fields={}, revision=0).status_code == 404
    assert Assignment.objects.get(pk=theirs).state == AssignmentState.LEASED
    assert not Draft.objects.exists()


def test_reading_changes_nothing(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    assert b"data-begin" in page.client.get(page.url("rate")).content
    for address in _addresses(of.slug, uuid.uuid4()):
        assert page.client.get(address).status_code == 405
    assert not Assignment.objects.exists()
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("body", ["[" * 100_000, '{"fields":' * 100_000, "{", "\xff", "[]", '"x"'])
def test_what_is_no_request_is_refused_by_every_address(of: Programme, page: Page, body: str) -> None:
    item(batch(of), kind="dialogue", completions=0)
    held = work.next_assignment(page.rater)
    assert held is not None
    talk = [reverse(name, args=[of.slug, held.pk]) for name in ("dialogue_begin", "dialogue_say", "dialogue_choose")]
    for address in [*_addresses(of.slug, held.pk), *talk]:
        answer = page.client.post(address, body.encode("latin1"), **JSON)
        assert (answer.status_code, "JSON" in answer.json()["error"]) == (400, True), address


def test_every_change_wants_the_token(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    key = page.next()[A]
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = page.client.cookies
    for address in _addresses(of.slug, key):
        assert strict.post(address, "{}", **JSON).status_code == 403
        assert strict.post(address, {"reason": "other"}).status_code == 403
    strict.get(page.url("rate"))
    token = strict.cookies["heedful-csrf"].value
    told = {"content_type": "application/json", "headers": {"Accept": "application/json", "X-CSRFToken": token}}
    assert strict.post(page.url("rate_beat", key), '{"active_ms": 5}', **told).json() == {"held": True}


def test_an_admin_who_never_judged_begins_with_a_button(of: Programme) -> None:
    admin = Membership.objects.get(programme=of, role=Role.ADMIN).account
    open_batch(of, 1)
    client = Client()
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    url = reverse("rate", args=[of.slug])
    assert b"Begin judging" in client.get(url).content
    assert not Rater.objects.exists()
    assert client.post(reverse("rate_next", args=[of.slug])).url == url
    assert b'class="task kind-pairwise"' in client.get(url).content


def test_a_superuser_without_a_role_is_told_how_to_judge(of: Programme) -> None:
    client = Client()
    client.force_login(account(is_superuser=True), backend="django.contrib.auth.backends.ModelBackend")
    assert b"Give yourself the role" in client.get(reverse("rate", args=[of.slug])).content
    assert client.post(reverse("rate_next", args=[of.slug]), "{}", **JSON).status_code == 404


# --- the next item ---


def test_the_next_item_is_leased_and_shown(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    task = page.next()
    assert set(task) == {A, "version", "kind", "html", "fields", "revision", "active_ms", "last", "today"}
    assert (task["kind"], task["fields"], task["revision"], task["last"]) == ("pairwise", {}, 0, None)
    found = Assignment.objects.get(pk=task[A])
    assert found.shown
    assert found.rater == page.rater
    assert page.next()[A] == task[A], "a second tab has the same"
    assert task["html"].count('<h2 class="answer-title"') == 2
    content = page.client.get(page.url("rate")).content.decode()
    assert str(found.pk) in content
    assert 'class="task kind-pairwise"' in content


def test_fetched_ahead_is_not_shown_until_it_is(of: Programme, page: Page) -> None:
    open_batch(of, 2)
    first, ahead = page.next(), page.next(prefetch=True)
    assert ahead[A] != first[A]
    assert page.next(prefetch=True)[A] == ahead[A], "one at most"
    found = Assignment.objects.get(pk=ahead[A])
    assert found.prefetched
    assert found.shown is None
    assert page.next()[A] == first[A]
    assert page.submit(first, choice="1").status_code == 200
    reply = page.ask("rate_show", ahead[A])
    assert reply.json() == {"version": 1, "fields": {}, "revision": 0, "active_ms": 0}
    assert Assignment.objects.get(pk=ahead[A]).shown


def test_showing_what_others_took_meanwhile_is_a_conflict(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    ahead = page.next(prefetch=True)
    with at(clock.now() + days(1)):
        other = work.next_assignment(rater(of))
        assert other is not None
        reply = page.ask("rate_show", ahead[A])
    assert reply.status_code == 409
    assert reply.json()["error"] == "This item is no longer yours."
    assert page.next(prefetch=True) == {"none": True}


def test_after_a_lease_was_lost_the_next_item_comes(of: Programme, page: Page) -> None:
    open_batch(of, 2)
    first = page.next()
    with at(clock.now() + days(1)):
        other = rater(of)
        one, two = (work.next_assignment(who) for who in (other, rater(of)))
        assert {one.item_id, two.item_id} >= {Assignment.objects.get(pk=first[A]).item_id}
        assert page.next()["none"] == "busy"


def test_a_dialogue_has_a_page_of_its_own(of: Programme, page: Page) -> None:
    open_batch(of, 1, kind=TaskKind.DIALOGUE)
    told = page.next()
    assert told["go"] == reverse("dialogue", args=[of.slug, told[A]])
    assert set(told) == {A, "version", "kind", "go", "last", "today"}
    assert page.client.post(page.url("rate_next")).url == told["go"]
    assert Assignment.objects.get(pk=told[A]).shown is None, "its own page says when"


def test_the_guideline_is_the_batchs_in_the_readers_language(of: Programme, page: Page) -> None:
    old = of.guidelines.get()
    Guideline.objects.create(programme=of, version=2, markdown="# New", translations={"vi": "# Mới", "zh-Hans": "# 新"})
    made = batch(of)
    Guideline.objects.create(programme=of, version=3, markdown="# Later")
    item(made)
    assert made.guideline != old
    for language, said in (("en", "New"), ("vi", "Mới"), ("zh-hans", "新")):
        page.rater.account.language = language
        page.rater.account.save()
        html = page.next()["html"]
        assert f"<h3>{said}</h3>" in html
        assert "Later" not in html


# --- why there is none ---


def test_no_work_is_said_in_words(of: Programme, page: Page) -> None:
    told = page.next()
    assert told["none"] == "done"
    assert "Done for now" in told["html"]
    reply = page.client.post(page.url("rate_next"), follow=True)
    assert b"Done for now" in reply.content


def test_others_at_work(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    Page(rater(of)).next()
    assert page.next()["none"] == "busy"


def test_consent_comes_first() -> None:
    page = Page(rater(programme(consent_text="# We keep what you say")))
    open_batch(page.of, 1)
    told = page.next()
    assert told["none"] == "consent"
    assert reverse("consent", args=[page.of.slug]) in told["html"]
    assert not Assignment.objects.exists()


def test_a_paused_rater_is_told_why(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    gold.pause(page.rater, "Please read <the> guideline again", account())
    told = page.next()
    assert told["none"] == "paused"
    assert "Please read &lt;the&gt; guideline again" in told["html"]


def test_a_share_is_reached() -> None:
    page = Page(rater(programme(max_share=0.34)))
    open_batch(page.of, 3)
    page.submit(page.next(), choice="1")
    assert page.next()["none"] == "share"


def test_a_test_is_begun_from_the_page(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    exam = batch(of, purpose=Purpose.QUALIFICATION)
    asked = item(exam)
    special_batch(exam)
    gold.promote(asked, [{"strength": [1, 3]}], "b", actor=account())
    test = qualification.create(of, exam, "Reading <well>", actor=account())
    told = page.next()
    assert told["none"] == "qualification"
    assert "Reading &lt;well&gt;" in told["html"]
    assert "80% must be right" in told["html"]
    assert page.url("rate_test", test.pk) in told["html"]
    assert page.client.post(page.url("rate_test", test.pk)).url == page.url("rate")
    assert Page(rater(programme())).ask("rate_test", test.pk).status_code == 404
    task = page.next()
    given = Assignment.objects.get(pk=task[A])
    assert given.item == asked
    right = payloads.to_shown("pairwise", {"strength": 2}, given.order)
    assert page.submit(task, choice=str(right["strength"])).status_code == 200
    assert page.next()["kind"] == "pairwise", "passed: ordinary work follows"
    assert page.ask("rate_test", test.pk).json()["error"] == "The test is passed."


def test_a_test_without_attempts_left_says_so(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    exam = batch(of, purpose=Purpose.QUALIFICATION)
    gold.promote(item(exam), [{"strength": [3, 3]}], "b", actor=account())
    special_batch(exam)
    test = qualification.create(of, exam, "Hard", actor=account(), attempts_allowed=1)
    qualification.start_attempt(test, page.rater)
    page.submit(page.next(), choice="0")
    html = page.next()["html"]
    assert "Attempt 1: 0%" in html
    assert "No attempt is left" in html
    reply = page.ask("rate_test", test.pk)
    assert reply.status_code == 400
    assert reply.json()["mend"] == "Ask the manager, who can allow another."
