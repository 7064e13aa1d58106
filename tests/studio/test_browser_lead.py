"""The lead's pages in Chromium: from a file to the first judgment, adjudication, charts, a difference, a telephone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from lead_world import World, judge, judged, world

from agreement_store import FLIPPER, crowded, say
from feedback_factories import account, batch, item
from heedful.feedback import clock, field, gold, sight, tokens
from heedful.feedback.models import Adjudication, Batch, FieldEvent, Item, Judgment, Rater, RaterQuestion, Role
from heedful.feedback.programmes import add_member, publish_guideline
from heedful.feedback.wire import FieldFeedback

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
ROWS = "\n".join(f'"What is {n} plus {n}?","{2 * n}, plainly.","Ask somebody.",run-{n},base' for n in range(1, 9))
CSV = f"question,left,right,left_model,right_model\n{ROWS}\n"


def fits(page: Any) -> None:
    """Nothing makes the page scroll sideways."""
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")


SMALL = """() => [...document.querySelectorAll(
  "button, a.button, select, summary, textarea, input[type=text], input[type=number]")]
  .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 43.9)
  .map((one) => `${one.tagName} ${one.className} ${one.textContent.trim().slice(0, 20)}`)"""


def fits_fingers(page: Any) -> None:
    """Whatever is pressed is at least 44 pixels high."""
    assert page.evaluate(SMALL) == []


def onward(page: Any, selector: str) -> None:
    """Press what leads to another page, and wait until that page's scripts run."""
    with page.expect_navigation():
        page.click(selector)


@pytest.mark.smoke
def test_from_a_file_to_the_first_judgment(visit: Callable[..., Any], axe: Callable[..., None], tmp_path: Path) -> None:
    of = world(items=0, raters=0)
    of.batch.delete()
    file = tmp_path / "sums.csv"
    file.write_text(CSV, encoding="utf-8")
    page = visit(of.admin, of.at())
    began = time.monotonic()
    onward(page, "text=Begin with a file")
    data = page.evaluate_handle(
        "text => { const d = new DataTransfer(); d.items.add(new File([text], 'sums.csv')); return d; }", CSV
    )
    axe(page)
    with page.expect_navigation(url="**/columns/"):
        page.dispatch_event("[data-drop]", "drop", {"dataTransfer": data})
    for number, target in ((1, "a"), (2, "b"), (3, "policy_a"), (4, "policy_b")):
        page.select_option(f"#id_column_{number}", target)
    onward(page, "text=Look again")
    page.wait_for_selector("text=2, plainly.")
    axe(page)
    onward(page, "text=Go on")
    assert page.is_checked("input[value=pairwise]")
    axe(page)
    onward(page, "text=Go on")
    page.fill("#id_markdown", "# Sums\n\nThe answer must be *right*.")
    page.wait_for_selector("#preview em")
    axe(page)
    onward(page, "text=Go on")
    assert page.locator("form.task[inert]").count() == 1
    axe(page)
    onward(page, "text=Go on")
    page.fill("#id_quota", "2")
    page.fill("#id_quota_cap", "3")
    page.wait_for_selector("#estimate :text-is('16')")
    axe(page)
    onward(page, "text=Go on")
    onward(page, "text=Make a link")
    link = page.input_value("#link")
    axe(page)
    assert page.locator("svg.qr").bounding_box()["width"] > 150
    onward(page, "button:has-text('Open the batch')")
    page.wait_for_selector("text=8 items wait for raters")
    rater = visit(None)
    rater.goto(re.sub(r"^https?://[^/]+", "", link))
    rater.fill("[name=username]", "mai")
    rater.fill("[name=password1]", "a-long-enough-phrase")
    rater.fill("[name=password2]", "a-long-enough-phrase")
    onward(rater, "main button")
    rater.wait_for_selector("#rate[data-ready] form.task")
    rater.keyboard.press("7")
    rater.keyboard.press("Enter")
    rater.wait_for_selector("#today b:text-is('1')")
    took = time.monotonic() - began
    made = Judgment.objects.get()
    assert abs(made.payload["strength"]) == 3
    assert took < 120  # ten minutes is the promise; a person types slower than this


def test_the_adjudicator_judges_sees_decides(visit: Callable[..., Any], axe: Callable[..., None]) -> None:
    of = world(items=1)
    judge(of.raters[0], 3, rationale="Because it helps.")
    judge(of.raters[1], -2)
    page = visit(of.adjudicator, of.at("adjudication/"), phone=True)
    axe(page)
    onward(page, "tbody a")
    assert "Because it helps." not in page.content()
    fits(page)
    axe(page)
    page.click("label:has-text('B better')")
    onward(page, "text=Judge, then show the votes")
    page.wait_for_selector("text=Because it helps.")
    fits(page)
    axe(page)
    page.fill("#id_reason", "It says how.")
    onward(page, "button:text-is('Decide')")
    page.wait_for_selector("text=The verdict stands")
    assert Adjudication.objects.get().decided is not None


def test_charts_refresh_by_themselves(
    visit: Callable[..., Any], axe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = judged(world())
    item(of.batch)
    monkeypatch.setattr("heedful.studio.lead.charts.SECONDS", 1)
    page = visit(of.manager, of.at("charts/"))
    picture = page.locator("#figure-judgments ~ picture img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    axe(page)
    before = picture.get_attribute("src")
    judge(of.raters[0], 1)
    page.wait_for_selector("tbody tr:first-child td:nth-child(2):text-is('7')")
    assert picture.get_attribute("src") != before
    dark = visit(of.manager, color_scheme="dark")
    with dark.expect_response(lambda answer: "theme=dark" in answer.url):
        dark.goto(of.at("charts/"))


def test_trust_reads_in_light_dark_and_on_a_telephone_and_refreshes_by_itself(
    visit: Callable[..., Any], axe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    of, manager = crowded(), account("manager", display_name="Mai")
    add_member(of, manager, Role.MANAGER, actor=None)
    flipper = list(Rater.objects.filter(programme=of, kind="person").order_by("pk"))[FLIPPER]
    monkeypatch.setattr("heedful.studio.lead.trust.SECONDS", 1)
    page = visit(manager, f"/p/{of.slug}/trust/")
    picture = page.locator("#trust-agreement ~ picture img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    axe(page)
    before = picture.get_attribute("src")
    one = item(Batch.objects.filter(programme=of, name="first").get())
    say(one, flipper, {"strength": 3})
    say(one, Rater.objects.get(programme=of, kind="ai"), {"strength": -3})
    page.wait_for_function(
        "before => document.querySelector('#trust-agreement ~ picture img').getAttribute('src') !== before", arg=before
    )
    monkeypatch.setattr("heedful.studio.lead.trust.SECONDS", 600)
    for how in ({"color_scheme": "dark"}, {"phone": True}):
        looked = visit(manager, f"/p/{of.slug}/trust/", **how)
        fits(looked)
        axe(looked)
        onward(looked, ".attention a")
        looked.wait_for_selector("text=Right on gold")
        fits(looked)
        axe(looked)


def test_a_rubric_is_edited_and_its_difference_read(visit: Callable[..., Any], axe: Callable[..., None]) -> None:
    of = world(items=0)
    page = visit(of.manager, of.at("guidelines/edit/"))
    page.fill("#id_markdown", "# Prefer what truly helps")
    page.wait_for_selector("#preview :text('truly')")
    page.click("[data-formset-add]")
    axe(page)
    page.fill("#id_attribute-3-name", "brief")
    page.fill("#id_attribute-3-title", "Brief")
    page.fill("#id_summary", "Truly")
    onward(page, "button:text-is('Publish')")
    axe(page)
    onward(page, "text=what changed")
    assert page.locator("ins").first.inner_text().strip() == "truly"
    assert page.locator("tr.added:has-text('brief')").count() == 1
    axe(page)


def test_what_is_typed_before_the_scripts_run_is_previewed_too(visit: Callable[..., Any]) -> None:
    of = world(items=0)
    page = visit(of.admin)
    held: list[Any] = []
    page.route("**/htmx*.js", lambda route: held.append(route))
    page.goto(of.at("guidelines/edit/"), wait_until="commit")
    page.fill("#id_markdown", "# Prefer what *truly* helps")
    page.wait_for_timeout(100)
    assert len(held) == 1
    held[0].continue_()
    page.wait_for_selector("#preview em:text-is('truly')")


def test_a_link_is_copied(visit: Callable[..., Any]) -> None:
    of = world(items=0)
    page = visit(of.manager, of.at("invitations/"), permissions=["clipboard-read", "clipboard-write"])
    onward(page, "text=Make a link")
    page.click("text=Copy")
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.input_value("#link")


HOSTILE = (
    '"><img src=//evil.example/x onerror=alert(1)><script>alert(1)</script><svg onload=alert(1)>'
    '<a href="javascript:alert(1)" hx-get="/logout/" hx-trigger="load" hx-swap-oob="true" id="content">x</a>\u202e'
)


def used(of: World) -> Item:
    """What end users did over some days, in hostile words too; gives the item of those."""
    asked = [{"role": "user", "content": "Where is my parcel? Write to jo@example.com."}]
    events = [
        FieldFeedback(f"e-{n}", "thumb", f"user-{n % 4}", True, f"shop-{1 + n % 2}", asked, "It left us.", up=n % 3 > 0)
        for n in range(12)
    ]
    bad = [{"role": "user", "content": HOSTILE}]
    events.append(FieldFeedback("bad", "edit", HOSTILE, True, HOSTILE, bad, HOSTILE, edited="Better.", comment=HOSTILE))
    events.append(FieldFeedback("no", "thumb", "user-9", False, HOSTILE, asked, "It left us.", up=True))
    told = field.take_in(of.programme, events, key=b"k" * 32)
    assert {one.status for one in told} == {"kept", "no_consent"}
    for number, event in enumerate(FieldEvent.objects.filter(kind="thumb").order_by("pk")):
        FieldEvent.objects.filter(pk=event.pk).update(created=clock.now() - timedelta(days=number % 5))
    return FieldEvent.objects.get(kind="edit").judgment.item


@pytest.fixture
def busy() -> World:
    """A programme with something on every page, and hostile words wherever somebody's words are shown."""
    of = judged(
        world(items=2, consent_text="", group_questions=[{"name": "r", "question": "Where?", "answers": ["a", "b"]}])
    )
    publish_guideline(of.programme, "# Newer\n\nMore of it.", author=of.admin)
    session = batch(of.programme, purpose="calibration", name="November")
    item(session)
    judge(of.raters[0], 1, of=session, rationale="So.")
    test = batch(of.programme, purpose="qualification", name="Entrance")
    gold.promote(item(test), [{"strength": [1, 3]}], "B.", actor=of.admin)
    bad = item(of.batch, text=HOSTILE, answers=[HOSTILE, "fine"], policies=[HOSTILE, HOSTILE])
    first = of.raters[0]
    judge(first, 2, rationale=HOSTILE, safety_flag=True)
    first.account.display_name = HOSTILE[:120]
    first.account.save()
    RaterQuestion.objects.create(rater=first, item=bad, text=HOSTILE)
    gold.pause(of.raters[1], HOSTILE[:200], of.admin)
    publish_guideline(of.programme, HOSTILE, author=of.admin, summary=HOSTILE[:200])
    sight.give_up(bad, of.admin)  # so that its page shows what was said of it
    of.batch.name = HOSTILE[:200]
    of.batch.save()
    of.items.append(bad)
    return of


def test_axe_finds_nothing_and_nothing_scrolls_sideways_on_any_page(
    busy: World, visit: Callable[..., Any], axe: Callable[..., None]
) -> None:
    of = busy
    session = Batch.objects.get(programme=of.programme, name="November")
    lead = [
        *("", "batches/", "items/", "raters/", "invitations/", "members/", "questions/", "guidelines/", "gold/"),
        *(
            "gold/contests/",
            "qualifications/",
            "calibration/",
            "import/",
            "export/",
            "snapshots/",
            "charts/",
            "trust/",
            "audit/",
            "field/",
        ),
        f"items/{used(of).pk}/",
        *("settings/", "settings/groups/", "settings/pay/", "settings/tokens/", "settings/webhooks/"),
        *("settings/endpoints/", f"batches/{of.batch.pk}/", f"raters/{of.raters[0].pk}/"),
        *(f"items/{of.items[-1].pk}/", f"items/{of.items[0].pk}/"),  # with the votes, and with them folded away
        *("guidelines/edit/", "guidelines/compare/", f"calibration/{session.pk}/", "wizard/"),
    ]
    said = Judgment.objects.filter(rater=of.raters[0], item=of.items[0]).first()
    assert said is not None
    correct = reverse("me_correct", args=[of.slug, said.pk]).removeprefix(of.at())
    rounds = ((of.admin, lead), (of.raters[0].account, ["me/", "me/feedback/", "me/settings/", correct]))
    for who, paths in rounds:
        page = visit(who)
        for path in paths:
            page.set_viewport_size({"width": 1280, "height": 800})
            answer = page.goto(of.at(path))
            assert answer.status == 200, path
            fits(page)
            page.set_viewport_size({"width": 390, "height": 844})
            fits(page)
            fits_fingers(page)
            axe(page)


SQUEEZED = """() => [...document.querySelectorAll("td, tbody th, td button")]
  .filter((one) => one.checkVisibility() && one.textContent.trim().length > 4 && one.clientWidth < 56)
  .map((one) => `${one.tagName} ${one.clientWidth} ${one.textContent.trim().slice(0, 20)}`)"""


@pytest.mark.parametrize("language", ["vi", "zh-hans"])
def test_no_table_is_squeezed_on_a_telephone(busy: World, visit: Callable[..., Any], language: str) -> None:
    """Chinese wraps after any character: a cell without room becomes a column of single ones."""
    of = busy
    of.admin.language = language
    of.admin.save()
    tokens.create_token(of.programme, "pipeline", list(tokens.SCOPES), author=of.admin)
    used(of)
    page = visit(of.admin, phone=True)
    places = (
        "members/",
        "settings/tokens/",
        "qualifications/",
        "gold/",
        "guidelines/",
        "raters/",
        "trust/",
        "audit/",
        "items/",
        "field/",
    )
    for path in (*places, f"items/{of.items[-1].pk}/"):
        page.goto(of.at(path))
        fits(page)
        assert page.evaluate(SQUEEZED) == [], path


def test_a_page_works_by_keyboard_alone(visit: Callable[..., Any]) -> None:
    of = world(items=0)
    page = visit(of.manager, of.at("invitations/"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip-link"
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Make a link":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#link")
