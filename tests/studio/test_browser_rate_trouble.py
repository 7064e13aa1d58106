"""The raters' pages in Chromium when something is in the way: reloads, tabs, connections, gold, hostile texts."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client

from feedback.hostile import hostile_texts
from feedback_factories import account as new_account
from feedback_factories import batch, item, open_batch
from feedback_quality import gold_item
from heedful.feedback import gold
from heedful.feedback.models import (
    Assignment,
    AssignmentState,
    Draft,
    Item,
    Judgment,
    Programme,
    Rater,
    TaskKind,
)
from rating_browser import TASK, another, expect, is_done, judged_today, saved, shown

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


# --- drafts, tabs, connections ---


def test_a_draft_survives_a_reload(of: Programme, go: Any) -> None:
    open_batch(of, 1)
    page = go()
    page.keyboard.press("5")
    page.get_by_label("Why?").fill("Half a thou")
    saved(page)
    page.get_by_label("Why?").fill("Half a thought")
    page.reload()  # at once: the browser itself has kept it
    expect(page.get_by_label("Why?")).to_have_value("Half a thought")
    assert page.locator("input[name=choice]:checked").get_attribute("value") == "1"
    saved(page)
    assert Draft.objects.get().payload["fields"] == {"choice": "1", "rationale": "Half a thought"}


def test_two_tabs_do_not_overwrite_each_other(of: Programme, go: Any) -> None:
    open_batch(of, 2)
    page = go()
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector(TASK)
    other.wait_for_load_state("networkidle")
    assert other.locator(TASK).get_attribute("action") == page.locator(TASK).get_attribute("action")
    page.get_by_label("Why?").fill("first")
    saved(page)
    other.get_by_label("Why?").fill("second")
    other.wait_for_selector("[data-notice=tab]")
    other.get_by_role("button", name="Load what the other tab saved").click()
    expect(other.get_by_label("Why?")).to_have_value("first")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    judged_today(page, 1)
    other.keyboard.press("7")
    other.keyboard.press("Enter")
    notice = other.locator("[data-notice=conflict], [data-notice=tab]")
    notice.first.wait_for()
    other.get_by_role("button", name="Next item").click()
    expect(other.locator(TASK)).to_have_attribute("action", page.locator(TASK).get_attribute("action"))
    assert shown()["strength"] == -3
    assert Judgment.objects.count() == 1


@pytest.mark.smoke
def test_what_is_said_offline_is_sent_later_also_after_a_reload(of: Programme, go: Any) -> None:
    open_batch(of, 2)
    page = go()
    first = page.locator(TASK).get_attribute("action")
    page.keyboard.press("2")
    saved(page)
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-notice=sending]")
    assert "Saved here, sending" in page.locator("[data-notice=sending]").inner_text()
    page.keyboard.press("Enter")  # the form is closed: nothing more is sent
    assert not Judgment.objects.exists()
    page.context.set_offline(False)
    another(page, first)
    page.wait_for_selector(TASK)
    assert not page.locator("[data-notice]").count()
    page.keyboard.press("7")
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-notice=sending]")
    page.goto("about:blank")
    page.context.set_offline(False)
    page.go_back()
    is_done(page)
    assert Judgment.objects.count() == 2
    assert page.evaluate("Object.keys(localStorage).filter((name) => !name.includes('key')).length") == 0


def test_an_answer_that_is_lost_on_the_way_back_makes_no_second_row(of: Programme, go: Any, watch: Any) -> None:
    open_batch(of, 1)
    page = go()
    replies = []

    def lose(route: Any) -> None:
        replies.append(route.fetch().status)
        route.fulfill(status=503, body="<html>a proxy</html>") if len(replies) == 1 else route.fulfill(
            status=200, json={}
        )

    page.route("**/submit/", lose)
    page.keyboard.press("4")
    page.get_by_role("button", name="Send").dblclick()
    page.wait_for_selector("[data-notice=sending]")
    is_done(page)
    assert replies == [200, 200]
    assert Judgment.objects.count() == 1
    watch.faults.clear()


def test_a_session_that_ended_loses_nothing(of: Programme, who: Rater, go: Any, live_server: Any) -> None:
    open_batch(of, 1)
    page = go()
    page.keyboard.press("3")
    saved(page)
    page.context.clear_cookies(name=django_settings.SESSION_COOKIE_NAME)
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="Log in again")
    link.wait_for()
    assert link.get_attribute("href") == f"/login/?next=/p/{of.slug}/rate/"
    client = Client()
    client.force_login(who.account, backend="django.contrib.auth.backends.ModelBackend")
    name = django_settings.SESSION_COOKIE_NAME
    page.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": live_server.url}])
    page.reload()
    is_done(page)
    assert shown()["strength"] == -1


def test_an_item_that_changed_is_explained(of: Programme, go: Any) -> None:
    open_batch(of, 2)
    page = go()
    Item.objects.update(version=2)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    notice = page.locator("[data-notice=conflict]")
    notice.wait_for()
    assert "The item has changed since it was shown" in notice.inner_text()
    assert page.locator("input[name=choice]:checked").count() == 1, "what was said is still there"
    notice.get_by_role("button", name="Next item").click()
    page.wait_for_selector("[data-notice=conflict]", state="detached")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    judged_today(page, 1)


def test_the_next_item_is_fetched_ahead_and_shown_when_it_is(of: Programme, go: Any) -> None:
    open_batch(of, 3)
    page = go()
    with page.expect_response("**/rate/next/"):
        pass
    ahead = Assignment.objects.get(prefetched=True)
    assert ahead.shown is None
    asked = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/next/") else None)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{TASK}[action*='{ahead.pk}']")
    assert not asked
    ahead.refresh_from_db()
    assert ahead.shown
    assert not ahead.prefetched


def test_time_stands_still_while_nobody_looks(of: Programme, go: Any) -> None:
    open_batch(of, 1)
    page = go()
    found = page.evaluate("""async () => {
        let now = 0, hidden = false;
        performance.now = () => now;
        Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
        const { Activity } = await import("/static/studio/js/activity.js");
        const act = new Activity(), seen = [];
        const turn = (to) => { hidden = to; document.dispatchEvent(new Event("visibilitychange")); };
        act.begin(500);
        now = 30_000; seen.push(act.ms);                 // at work
        turn(true); now = 90_000; turn(false); seen.push(act.ms);   // hidden
        now = 100_000; act.touch(); now = 400_000; seen.push(act.ms);   // touched, then idle after a minute
        act.touch(); now = 401_000; act.stop(); now = 420_000; act.touch(); seen.push(act.ms);
        return seen;
    }""")
    assert found == [30_500, 30_500, 100_500, 101_500]


# --- gold, languages, hostile texts ---


def test_gold_is_explained_in_training(of: Programme, who: Rater, go: Any, axe: Any) -> None:
    of.settings = {"gold_rate": 1.0}
    of.save()
    Rater.objects.filter(pk=who.pk).update(training_mode=True)
    made = batch(of)
    known = gold_item(made, item(made))
    gold.promote(known, [{"strength": [1, 3]}, {"strength": [-3, -1]}], "Anything but a tie.", actor=new_account())
    item(made)
    page = go()
    page.keyboard.press("t")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-feedback].bad")
    told = page.locator("[data-feedback]").inner_text()
    assert "Anything but a tie." in told
    assert known.prompt.messages[0]["content"] in told  # what it was about, and what was said of it
    assert page.locator("[data-feedback] dd").first.inner_text() == "tie"
    axe(page)
    page.keyboard.press("Enter")
    page.wait_for_selector(TASK)


def test_arabic_reads_from_the_right(of: Programme, go: Any) -> None:
    arabic = [{"role": "user", "content": "ما هي عاصمة فرنسا؟"}]
    item(batch(of), messages=arabic, answers=["باريس هي عاصمة فرنسا.", "Paris, of course."])
    page = go()
    for prose in page.locator(".prose[dir=auto]:visible").all():
        text = prose.inner_text()
        wanted = "rtl" if any("\u0600" <= char <= "\u06ff" for char in text) else "ltr"
        assert prose.evaluate("one => getComputedStyle(one).direction") == wanted
    assert page.locator(".message .prose").evaluate("one => getComputedStyle(one).direction") == "rtl"


def test_hostile_texts_do_nothing(of: Programme, go: Any, watch: Any) -> None:
    """All of the corpus in a few items; the watch sees dialogs, strangers, errors of scripts and of the policy."""
    texts = hostile_texts()
    made = batch(of)
    for start in range(0, len(texts), 30):
        part = texts[start : start + 30]
        messages = [{"role": "user" if i % 2 else "assistant", "content": text} for i, text in enumerate(part)]
        last = {"role": "user", "content": part[-1]}
        item(made, messages=[*messages, last], answers=part[-2:])
    item(made, kind=TaskKind.EDIT, answers=["</textarea>" + texts[0] + texts[-1][:50_000]])
    page = go()
    for number in range(made.items.count()):
        url = page.locator(TASK).get_attribute("action")
        assert page.evaluate("document.querySelector('#rate').isConnected && document.title.includes('Judge')")
        page.keyboard.press("r")
        page.keyboard.press("r")
        for fold in page.locator("details.fold > summary").all():
            fold.click()
        if page.locator(TASK).get_attribute("data-kind") == "edit":
            page.locator("#task-text").press("End")
            page.keyboard.type("!")
            page.keyboard.press("Control+Enter")
        else:
            page.keyboard.press("1")
            page.keyboard.press("Enter")
        another(page, url)
        assert Judgment.objects.count() == number + 1
        assert page.context.pages == [page]
    is_done(page)
    watch.check()
    assert not Assignment.objects.filter(state=AssignmentState.LEASED).exists()
