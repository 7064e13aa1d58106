"""The dialogue page: over HTTP, and in Chromium by keyboard, with an endpoint that is well, slow, or half dead."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fake_endpoint import Endpoint, serving
from feedback_factories import account, batch, item, programme, rater
from feedback_quality import at_work
from heedful.feedback import assignment as work
from heedful.feedback import endpoints
from heedful.feedback.models import (
    Assignment,
    CurrentJudgment,
    Dialogue,
    DialogueTurn,
    Judgment,
    Programme,
    Rater,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def fake() -> Iterator[Endpoint]:
    with serving() as server:
        yield server


@pytest.fixture
def of(transactional_db: None) -> Programme:
    return programme(allow_private_addresses=True)


@pytest.fixture
def own(of: Programme, fake: Endpoint) -> Assignment:
    """A rater's dialogue, leased and not begun."""
    endpoints.create_endpoint(of, "shop", fake.url, "secret-policy-7b", actor=account())
    who = rater(of)
    first = [{"role": "user", "content": "Earlier question"}, {"role": "assistant", "content": "Earlier answer"}]
    messages = [*first, {"role": "user", "content": "Ask about a parcel."}]
    item(batch(of), completions=0, kind="dialogue", messages=messages, language="en")
    found = work.next_assignment(who)
    assert found is not None
    return found


@pytest.fixture
def client(own: Assignment) -> Client:
    made = Client(headers={"Accept": "application/json"})
    made.force_login(own.rater.account, backend="django.contrib.auth.backends.ModelBackend")
    return made


def at(own: Assignment, name: str = "dialogue") -> str:
    return reverse(name, args=[own.item.programme.slug, own.pk])


def act(client: Client, own: Assignment, name: str, **given: str) -> Any:
    return client.post(at(own, f"dialogue_{name}"), given, content_type="application/json")


def until(client: Client, own: Assignment, state: str) -> dict[str, Any]:
    """The turns, once they have come to a state."""
    told: dict[str, Any] = {}

    def there() -> bool:
        told.update(client.get(at(own, "dialogue_turns")).json())
        return bool(told["state"] == state)

    wait(there)
    return told


def wait(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- over HTTP ---


def test_looking_begins_nothing_and_tells_nothing(client: Client, own: Assignment) -> None:
    page = client.get(at(own)).content.decode()
    assert "Begin the dialogue" in page
    assert "Earlier answer" in page
    assert not Dialogue.objects.exists()
    assert act(client, own, "say", text="Hello", key="1").status_code == 409


def test_a_dialogue_from_beginning_to_end(client: Client, own: Assignment, fake: Endpoint) -> None:
    begun = act(client, own, "begin").json()
    assert begun["state"] == "speak"
    assert "Ask about a parcel." in begun["html"]
    assert act(client, own, "say", text="Where is **it**?", key="1").json()["state"] in ("asking", "choose")
    told = until(client, own, "choose")
    assert told["html"].count("data-answer=") == 2
    said = act(client, own, "choose", turn="1", choice="-2")
    assert said.json()["state"] == "speak"
    assert "What did not go on" in said.json()["html"]
    made = DialogueTurn.objects.get()
    assert made.chosen == made.order[0]
    act(client, own, "say", text="And now?", key="2")
    until(client, own, "choose")
    assert act(client, own, "choose", turn="2", choice="bad", goes="1").json()["turn"] == 2
    kept = CurrentJudgment.objects.get(item=DialogueTurn.objects.get(index=1).item).judgment
    assert kept.payload == {"strength": 0, "both_bad": True, "both_good": False}
    at_work(own, 1234)
    ended = act(client, own, "end", key="e", rationale="fine", safety="on", active_ms="1234")
    assert ended.json() == {"go": reverse("rate", args=[own.item.programme.slug])}
    last = Judgment.objects.get(kind="dialogue")
    assert (last.payload, last.rationale.text, last.safety_flag, last.active_ms) == ({"turns": 2}, "fine", True, 1234)
    assert client.get(at(own)).status_code == 302
    assert len(fake.asked) == 4


def test_the_answers_come_together_or_not_at_all(client: Client, own: Assignment, fake: Endpoint) -> None:
    fake.mode = "half hanging"
    act(client, own, "begin")
    act(client, own, "say", text="Hello?", key="1")
    wait(lambda: DialogueTurn.objects.get().candidates.count() == 1)
    told = client.get(at(own, "dialogue_turns")).json()
    assert told["state"] == "asking"
    assert not re.findall(r"Answer \d", told["html"] + client.get(at(own)).content.decode())
    fake.let_go.set()
    told = until(client, own, "choose")
    assert len(re.findall(r"Answer \d to", told["html"])) == 4  # each formatted, and as written


def test_a_half_dead_endpoint_is_asked_again_for_what_is_missing(
    client: Client, own: Assignment, fake: Endpoint
) -> None:
    act(client, own, "begin")
    fake.mode = "half"
    act(client, own, "say", text="Hello?", key="1")
    told = until(client, own, "failed")
    assert "did not answer" in told["html"]
    assert "answered 500" in told["html"]
    assert "secret" not in told["html"]
    fake.mode = "normal"
    act(client, own, "retry")
    until(client, own, "choose")
    assert len(fake.asked) == 3


def test_a_reload_and_a_second_sending_go_on_with_the_same_turn(
    client: Client, own: Assignment, fake: Endpoint
) -> None:
    fake.mode = "hanging"
    act(client, own, "begin")
    act(client, own, "say", text="Hello?", key="1")
    act(client, own, "say", text="Hello?", key="1")
    page = Client()
    page.force_login(own.rater.account, backend="django.contrib.auth.backends.ModelBackend")
    assert "data-waiting" in page.get(at(own)).content.decode()
    fake.let_go.set()
    until(client, own, "choose")
    assert "data-waiting" not in page.get(at(own)).content.decode()
    assert act(client, own, "say", text="Other", key="2").status_code == 409
    assert len(fake.asked) == 2
    assert DialogueTurn.objects.count() == 1


def test_it_works_without_a_script(own: Assignment, fake: Endpoint) -> None:
    form = Client()
    form.force_login(own.rater.account, backend="django.contrib.auth.backends.ModelBackend")
    there = at(own)
    assert form.post(reverse("rate_next", args=[own.item.programme.slug])).headers["Location"] == there
    assert form.post(at(own, "dialogue_begin")).headers["Location"] == there
    key = re.findall(r'name="key" value="([^"]+)"', form.get(there).content.decode())[0]
    assert form.post(at(own, "dialogue_say"), {"text": "Hello?", "key": key}).headers["Location"] == there
    script = Client(headers={"Accept": "application/json"})
    script.cookies = form.cookies
    until(script, own, "choose")
    form.post(at(own, "dialogue_choose"), {"turn": "1"})
    assert "This is still open." in form.get(there).content.decode()
    form.post(at(own, "dialogue_choose"), {"turn": "1", "choice": "3"})
    done = form.post(at(own, "dialogue_end"), {"key": "e"})
    assert done.headers["Location"] == reverse("rate", args=[own.item.programme.slug])
    assert Judgment.objects.filter(kind="dialogue").exists()


def test_no_word_of_the_policy_leaves_the_studio(client: Client, own: Assignment, fake: Endpoint) -> None:
    act(client, own, "begin")
    act(client, own, "say", text="Hello?", key="1")
    told = until(client, own, "choose")["html"] + client.get(at(own)).content.decode()
    act(client, own, "choose", turn="1", choice="1")
    told += client.get(at(own, "dialogue_turns")).content.decode() + client.get(at(own)).content.decode()
    made = DialogueTurn.objects.get()
    for secret in ("secret-policy", fake.url, str(made.pk), str(made.dialogue_id), '"shop"'):
        assert secret not in told
    for one in made.candidates.all():
        assert str(one.pk) not in told
        assert str(one.completion_id) not in told


def test_hostile_answers_are_text(client: Client, own: Assignment, fake: Endpoint) -> None:
    fake.mode = "hostile"
    act(client, own, "begin")
    act(client, own, "say", text="<script>alert(0)</script>", key="1")
    told = until(client, own, "choose")["html"]
    assert "<script" not in told
    assert "<img" not in told
    assert "&lt;script&gt;alert(1)" in told


def test_another_raters_dialogue_is_not_there(own: Assignment) -> None:
    other = rater(own.item.programme)
    stranger = Client(headers={"Accept": "application/json"})
    stranger.force_login(other.account, backend="django.contrib.auth.backends.ModelBackend")
    for name in ("dialogue", "dialogue_turns"):
        assert stranger.get(at(own, name)).status_code == 404
    for name in ("begin", "say", "retry", "choose", "end"):
        assert act(stranger, own, name, text="x", key="1").status_code == 404
        assert Client(headers={"Accept": "application/json"}).post(at(own, f"dialogue_{name}")).status_code == 401
        assert stranger.get(at(own, f"dialogue_{name}")).status_code == 405
    assert not Dialogue.objects.exists()


@pytest.mark.parametrize(
    ("name", "given", "status", "where"),
    [
        ("say", {"text": "  ", "key": "1"}, 400, "text"),
        ("say", {"text": "x" * 20_001, "key": "1"}, 400, "text"),
        ("say", {"text": "a\0b", "key": "1"}, 400, "text"),
        ("say", {"text": "x"}, 400, "key"),
        ("say", {"text": 3}, 400, "fields.text"),
        ("choose", {"turn": "1", "choice": "1"}, 409, "turn"),
        ("choose", {}, 400, "turn"),
        ("retry", {}, 409, "turn"),
        ("end", {"key": "e"}, 400, "turn"),
    ],
)
def test_odd_input_is_refused(
    client: Client, own: Assignment, name: str, given: dict[str, Any], status: int, where: str
) -> None:
    act(client, own, "begin")
    answer = act(client, own, name, **given)
    assert (answer.status_code, answer.json()["where"]) == (status, where)
    assert not DialogueTurn.objects.exists()


def test_without_a_policy_the_rater_is_told(client: Client, own: Assignment) -> None:
    endpoints.retire_endpoint(own.item.programme.endpoints.get(), actor=account())
    answer = act(client, own, "begin")
    assert answer.status_code == 400
    assert "A manager" in answer.json()["mend"]


# --- in Chromium ---


def open_page(visit: Callable[..., Any], own: Assignment, **more: Any) -> Any:
    page = visit(own.rater.account, at(own), **more)
    page.click("text=Begin the dialogue")
    page.wait_for_selector("#dialogue[data-ready]")
    return page


@pytest.mark.browser
def test_a_dialogue_by_keyboard(
    visit: Callable[..., Any], own: Assignment, fake: Endpoint, axe: Callable[..., None]
) -> None:
    fake.mode = "hanging"
    page = open_page(visit, own)
    axe(page)
    assert page.input_value("#say-text") == "Ask about a parcel."
    page.focus("#say-text")
    page.keyboard.press("Control+A")
    page.keyboard.type("Where is 127 T B?")
    assert page.input_value("#say-text") == "Where is 127 T B?"
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("[data-waiting]")
    axe(page)
    fake.let_go.set()
    page.wait_for_selector("form.choose:not([hidden])")
    axe(page)
    page.keyboard.press("Enter")
    assert page.inner_text("form.choose [data-error]") == "Choose first."
    page.keyboard.press("6")
    assert page.is_checked("input[name=choice][value='2']")
    assert not page.is_visible("[data-goes]")
    page.keyboard.press("t")
    assert page.is_visible("[data-goes]")
    page.keyboard.press("7")
    page.keyboard.press("Enter")
    page.wait_for_selector("form.say")
    axe(page)
    made = DialogueTurn.objects.get()
    assert made.chosen == made.order[1]
    assert page.evaluate("document.activeElement.id") == "say-text"
    page.keyboard.type("Thanks")
    page.reload()
    page.wait_for_selector("#dialogue[data-ready]")
    assert page.input_value("#say-text") == "Thanks"
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("n")
    page.keyboard.type("It was helpful")
    page.click("text=Hand in the dialogue")
    page.wait_for_url(f"**/p/{own.item.programme.slug}/rate/**")
    last = Judgment.objects.get(kind="dialogue")
    assert (last.payload, last.rationale.text) == ({"turns": 1}, "It was helpful")
    assert last.active_ms > 0


@pytest.mark.browser
def test_answers_grow_at_one_pace_and_a_failure_is_tried_again(
    visit: Callable[..., Any], own: Assignment, fake: Endpoint
) -> None:
    fake.mode = "half"
    page = open_page(visit, own)
    page.fill("#say-text", "Where is it? " * 80)  # answers of a thousand letters take eleven seconds to grow
    page.click("form.say button")
    page.wait_for_selector("text=The model did not answer.")
    fake.mode = "normal"
    page.click("text=Try again")
    page.wait_for_selector("[data-revealing]:not([hidden])")
    assert not page.is_visible("form.choose")
    shown = "[...document.querySelectorAll('[data-answer] > .formatted')].map((one) => one.textContent.trim().length)"
    seen = [page.evaluate(shown) for _ in range(4)]
    assert all(abs(first - second) <= 1 for first, second in seen)
    page.click("text=Show them at once")
    page.wait_for_selector("form.choose:not([hidden])")
    texts = [one.completion.text for one in DialogueTurn.objects.get().candidates.all()]
    told = page.inner_text("[data-answers]")
    assert all(text.replace("**", "") in told for text in texts)


@pytest.mark.browser
def test_a_reload_while_the_model_answers_goes_on_and_reduced_motion_shows_all(
    visit: Callable[..., Any], own: Assignment, fake: Endpoint
) -> None:
    fake.mode = "hanging"
    page = open_page(visit, own, reduced_motion="reduce")
    page.click("form.say button")
    page.wait_for_selector("[data-waiting]")
    page.reload()
    page.wait_for_selector("#dialogue[data-ready] [data-waiting]")
    fake.let_go.set()
    page.wait_for_selector("form.choose:not([hidden])")
    assert not page.is_visible("[data-revealing]")
    assert len(fake.asked) == 2
    assert DialogueTurn.objects.count() == 1


@pytest.mark.browser
def test_a_turn_whose_server_is_gone_is_asked_again_by_itself(
    visit: Callable[..., Any], own: Assignment, fake: Endpoint
) -> None:
    fake.mode = "hanging"
    page = open_page(visit, own, reduced_motion="reduce")
    page.click("form.say button")
    page.wait_for_selector("[data-waiting]")
    page.route("**/turns/", lambda route: route.abort())
    page.wait_for_selector("#notices :text('by itself')")
    fake.mode = "normal"
    DialogueTurn.objects.update(asked_until=timezone.now())  # as a server leaves it that was killed
    page.unroute("**/turns/")
    page.wait_for_selector("form.choose:not([hidden])")
    assert page.locator("#notices *").count() == 0
    fake.let_go.set()
    assert len(fake.asked) == 4
    assert DialogueTurn.objects.get().candidates.count() == 2
    page.keyboard.press("6")
    page.keyboard.press("Enter")
    page.wait_for_selector("form.say")


@pytest.mark.browser
def test_who_writes_why_is_not_disturbed_by_answers(visit: Callable[..., Any], own: Assignment, fake: Endpoint) -> None:
    page = open_page(visit, own, reduced_motion="reduce")
    page.click("form.say button")
    page.wait_for_selector("form.choose:not([hidden])")
    page.keyboard.press("6")
    page.keyboard.press("Enter")
    fake.mode = "hanging"
    page.fill("#say-text", "And now?")
    page.click("form.say button")
    page.wait_for_selector("[data-waiting]")
    page.click("#rationale")
    page.keyboard.type("go")
    fake.let_go.set()
    page.wait_for_selector("form.choose:not([hidden])")
    page.keyboard.type("od 1 b")
    assert page.input_value("#rationale") == "good 1 b"
    assert page.locator("input[name=choice]:checked").count() == 0
    page.check("[name=safety]")
    page.reload()
    page.wait_for_selector("#dialogue[data-ready]")
    assert page.input_value("#rationale") == "good 1 b"
    assert page.is_checked("[name=safety]")


@pytest.mark.browser
def test_a_conflict_is_told_and_the_page_catches_up(visit: Callable[..., Any], own: Assignment, fake: Endpoint) -> None:
    first = open_page(visit, own, reduced_motion="reduce")
    second = visit(own.rater.account, at(own), reduced_motion="reduce")
    first.click("form.say button")
    first.wait_for_selector("form.choose:not([hidden])")
    second.fill("#say-text", "Something else")
    second.click("form.say button")
    second.wait_for_selector("form.choose:not([hidden])")
    second.wait_for_timeout(1500)  # longer than the pace at which a page that waits looks again
    assert "not done" in second.inner_text("#notices")


@pytest.mark.browser
def test_three_answers_on_a_phone(visit: Callable[..., Any], own: Assignment, fake: Endpoint, axe: Any) -> None:
    own.item.programme.endpoints.update(candidates=3)
    page = open_page(visit, own, phone=True, reduced_motion="reduce")
    page.fill("#say-text", "你好，我的包裹在哪里？")
    page.tap("form.say button")
    page.wait_for_selector("form.choose:not([hidden])")
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not page.is_visible(".guideline-text")
    page.tap(".goes label:nth-of-type(2)")
    page.tap("form.choose .primary")
    page.wait_for_selector("form.say")
    made = DialogueTurn.objects.get()
    assert made.chosen == made.order[1]
    assert made.text == "你好，我的包裹在哪里？"


@pytest.mark.browser
def test_the_rating_page_leads_here_and_a_dialogue_can_be_passed(
    visit: Callable[..., Any], own: Assignment, fake: Endpoint
) -> None:
    slug = own.item.programme.slug
    page = visit(own.rater.account, reverse("rate", args=[slug]))
    page.wait_for_url(f"**{at(own)}")  # its script goes on by itself; a click might land on the next page's button
    page.click("text=Begin the dialogue")
    page.wait_for_selector("#dialogue[data-ready]")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("s")
    page.wait_for_selector("dialog#skip[open]")
    page.click("dialog#skip label.reason >> nth=0")
    page.click("dialog#skip button[type=submit]")
    page.wait_for_url(f"**/p/{slug}/rate/**")
    assert Assignment.objects.get(pk=own.pk).state == "skipped"
    assert Rater.objects.filter(pk=own.rater_id, paused=None).exists()
