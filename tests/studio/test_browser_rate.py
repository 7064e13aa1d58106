"""The raters' pages in Chromium: every kind of task by mouse, keyboard and touch; and what goes wrong on the way."""

from __future__ import annotations

from typing import Any

import pytest

from feedback_factories import batch, item, open_batch
from heedful.feedback.models import (
    CurrentJudgment,
    Judgment,
    Programme,
    Rater,
    Skip,
    TaskKind,
)
from rating_browser import TASK, another, expect, is_done, shown

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


# --- every kind, by mouse ---


@pytest.mark.smoke
def test_a_comparison_by_mouse(of: Programme, go: Any, axe: Any) -> None:
    open_batch(of, 1)
    page = go()
    axe(page)
    page.get_by_role("radio", name="A is much better").check()
    page.get_by_label("Why?").fill("It is true.")
    page.get_by_label("Safety flag").check()
    page.get_by_role("button", name="Send").click()
    is_done(page)
    axe(page)
    assert shown()["strength"] == -3
    kept = Judgment.objects.get()
    assert kept.rationale.text == "It is true."
    assert kept.safety_flag
    assert 0 < kept.active_ms < 60_000


def test_a_ranking_by_mouse(of: Programme, go: Any, axe: Any) -> None:
    item(batch(of), kind=TaskKind.RANKING, completions=3)
    page = go()
    axe(page)
    page.get_by_role("button", name="Send").click()
    assert page.locator("[data-error]").inner_text() == "Still open: a rank for answer A"
    for index, rank in enumerate((2, 1, 2)):
        page.locator(f"[data-row=rank-{index}] label").nth(rank - 1).click()
    assert page.locator(".chip .letter").all_inner_texts() == ["B", "A", "C"]
    assert page.locator(".chip .place").all_inner_texts() == ["1", "2 =", "2 ="]
    page.get_by_role("button", name="Send").click()
    is_done(page)
    assert shown() == {"ranks": [2, 1, 2]}


def test_a_ranking_by_dragging(of: Programme, go: Any) -> None:
    item(batch(of), kind=TaskKind.RANKING, completions=4)
    page = go()
    page.locator("[data-chip='3']").scroll_into_view_if_needed()
    box, top = (page.locator(f"[data-chip='{i}']").bounding_box() for i in (3, 0))
    page.mouse.move(box["x"] + 60, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] - 30, steps=4)
    page.mouse.move(box["x"] + 60, top["y"] + 4, steps=4)
    page.mouse.up()
    assert page.locator(".chip .letter").all_inner_texts() == ["D", "A", "B", "C"]
    assert page.locator("#status").inner_text() in ("", "Your order: D > A > B > C")
    page.get_by_role("button", name="Send").click()
    is_done(page)
    assert shown() == {"ranks": [2, 3, 4, 1]}


def test_attributes_by_mouse(of: Programme, go: Any, axe: Any) -> None:
    item(batch(of), kind=TaskKind.ATTRIBUTES)
    page = go()
    axe(page)
    for row, points in enumerate((5, 1, 3, 2)):
        page.locator("[data-row]").nth(row).locator("label").nth(points - 1).click()
    colours = page.locator(".point:has(:checked)").evaluate_all(
        "all => all.map(one => getComputedStyle(one).background)"
    )
    assert len(set(colours)) == 1  # also the one that the pointer lies on
    page.get_by_role("button", name="Send").click()
    is_done(page)
    assert shown() == {"scores": [{"helpful": 5, "honest": 1}, {"helpful": 3, "honest": 2}]}


def test_a_demonstration(of: Programme, go: Any, axe: Any) -> None:
    item(batch(of), kind=TaskKind.DEMONSTRATION, completions=0)
    page = go()
    axe(page)
    page.get_by_role("button", name="Send").click()
    assert page.locator("[data-error]").inner_text() == "Still open: the text is empty"
    page.get_by_label("Your answer").fill("Ask a doctor.\n\nSoon.")
    page.get_by_role("button", name="Send").click()
    is_done(page)
    assert Judgment.objects.get().demonstration.completion.text == "Ask a doctor.\n\nSoon."


def test_an_edit_shows_what_changes(of: Programme, go: Any, axe: Any) -> None:
    item(batch(of), kind=TaskKind.EDIT, answers=["Paris is the capitol of 法國 and big."])
    page = go()
    axe(page)
    page.get_by_role("button", name="Send").click()
    assert page.locator("[data-error]").inner_text() == "Still open: nothing is changed yet"
    page.get_by_label("Your correction").fill("Paris is the capital of 法国 and big.")
    page.wait_for_selector("[data-diff] ins")
    assert page.locator("[data-diff]").inner_text() == "Paris is the capitolcapital of 法國国 and big."
    assert page.locator("[data-diff] ins").all_inner_texts() == ["capital", "国"]
    page.get_by_role("button", name="Send").click()
    is_done(page)
    kept = Judgment.objects.get().edit
    assert (kept.original.text[13:20], kept.completion.text[13:20]) == ("capitol", "capital")


def test_the_day_is_counted_with_the_item_that_was_fetched_ahead(of: Programme, go: Any) -> None:
    open_batch(of, 3)
    page = go()
    with page.expect_response(lambda answer: "prefetch" in (answer.request.post_data or "")) as ahead:
        page.keyboard.press("1")
    ahead.value.finished()
    first = page.locator(TASK).get_attribute("action")
    with page.expect_response("**/show/"):
        page.keyboard.press("Enter")
    another(page, first)
    expect(page.locator(TASK)).to_have_count(1)
    assert page.locator("#today b").inner_text() == "1"


# --- by keyboard alone ---


@pytest.mark.smoke
def test_comparisons_by_keyboard_alone(of: Programme, go: Any) -> None:
    open_batch(of, 5)
    page = go()
    for keys, wanted in (
        (["1"], {"strength": -3}),
        (["6", "7"], {"strength": 3}),
        (["t"], {"strength": 0}),
        (["b"], {"strength": 0, "both_bad": True}),
        (["2", "G"], {"strength": 0, "both_good": True}),
    ):
        before, count = page.locator(TASK).get_attribute("action"), Judgment.objects.count()
        page.keyboard.press("Enter")
        assert "choose how" in page.locator("[data-error]").inner_text()
        for key in keys:
            page.keyboard.press(key)
        page.keyboard.press("n")
        page.keyboard.type("1 2 3 s u t?")
        page.keyboard.press("Escape")
        page.keyboard.press("f")
        page.keyboard.press("Enter")
        another(page, before)
        assert Judgment.objects.count() == count + 1
        assert {name: value for name, value in shown().items() if value or name == "strength"} == wanted
    assert {one.rationale.text for one in Judgment.objects.all()} == {"1 2 3 s u t?"}
    assert all(one.safety_flag for one in Judgment.objects.all())
    is_done(page)


def test_a_ranking_by_keyboard_alone(of: Programme, go: Any) -> None:
    item(batch(of), kind=TaskKind.RANKING, completions=7)
    page = go()
    for key in "2134":
        page.keyboard.press(key)
    for key in "g5f5e7":  # to an answer, its rank
        page.keyboard.press(key)
    page.keyboard.press("a")
    page.keyboard.press("ArrowLeft")  # radio buttons go on working as ever: A shares rank 1
    assert page.locator("#status").inner_text() == "Your order: A = B > C > D > F = G > E"
    page.keyboard.press("Control+Enter")
    is_done(page)
    assert shown() == {"ranks": [1, 1, 3, 4, 7, 5, 5]}


def test_attributes_by_keyboard_alone(of: Programme, go: Any) -> None:
    item(batch(of), kind=TaskKind.ATTRIBUTES)
    page = go()
    for key in "45b12a3":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    is_done(page)
    assert shown() == {"scores": [{"helpful": 3, "honest": 5}, {"helpful": 1, "honest": 2}]}


def test_help_skip_and_undo_by_keyboard_alone(of: Programme, go: Any, axe: Any) -> None:
    open_batch(of, 3)
    page = go()
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    axe(page)
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    assert page.locator(f"{TASK} :checked").count() == 0, "a dialog keeps the keys"
    page.keyboard.press("r")
    assert page.locator(".as-written").first.is_visible()
    page.keyboard.press("r")
    assert page.locator(".formatted").first.is_visible()
    skipped = page.locator(TASK).get_attribute("action")
    page.keyboard.press("s")
    page.wait_for_selector("#skip[open]")
    axe(page)
    page.keyboard.press("Enter")
    assert page.locator("#skip-error").inner_text() == "choose a reason"
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    another(page, skipped)
    assert Skip.objects.get().reason == "expertise"
    judged = page.locator(TASK).get_attribute("action")
    page.keyboard.press("6")
    page.keyboard.press("Enter")
    another(page, judged)
    waiting = page.locator(TASK).get_attribute("action")
    page.keyboard.press("u")
    page.wait_for_selector(f"{TASK}[action='{judged}']")
    assert page.locator("#status").inner_text() == "Your last answer is open again."
    assert page.locator("input[name=choice]:checked").get_attribute("value") == "2"
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{TASK}[action='{waiting}']")
    assert shown()["strength"] == -1
    assert CurrentJudgment.objects.count() == 1


def test_keys_rest_while_somebody_composes(of: Programme, go: Any) -> None:
    open_batch(of, 1)
    page = go()
    page.evaluate("""() => {
        const press = (more) => document.body.dispatchEvent(
            new KeyboardEvent("keydown", { bubbles: true, cancelable: true, key: "1", ...more }));
        press({ isComposing: true });
        press({ keyCode: 229 });
        press({ key: "Enter", isComposing: true });
        press({ ctrlKey: true });
        press({ altKey: true });
    }""")
    assert page.locator(f"{TASK} :checked").count() == 0
    why = page.get_by_label("Why?")
    why.focus()
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "shi", "selectionStart": 3, "selectionEnd": 3})
    page.keyboard.press("1")
    session.send("Input.insertText", {"text": "是"})
    assert page.locator(f"{TASK} :checked").count() == 0
    assert "是" in why.input_value()
    assert not page.locator("dialog[open]").count()
    page.locator(".menu summary").click()
    page.locator("#language").focus()
    page.keyboard.press("t")
    assert page.locator(f"{TASK} :checked").count() == 0


def test_keys_can_be_switched_off(of: Programme, who: Rater, go: Any) -> None:
    open_batch(of, 1)
    who.account.shortcuts = False
    who.account.save()
    page = go()
    for key in ("1", "s", "?", "Enter", "Control+Enter"):
        page.keyboard.press(key)
    assert not page.locator(f"{TASK} :checked, dialog[open]").count()
    assert page.locator("[data-error]").inner_text() == ""
    assert not page.locator(f"{TASK} kbd").first.is_visible()


# --- on a phone ---


def test_a_ranking_on_a_phone_by_touch(of: Programme, go: Any, axe: Any) -> None:
    item(batch(of), kind=TaskKind.RANKING, completions=9)
    page = go(phone=True)
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    handle = page.locator("[data-chip='8'] .handle")
    handle.scroll_into_view_if_needed()
    box, top = handle.bounding_box(), page.locator("[data-chip='6']").bounding_box()
    x, y = box["x"] + 15, box["y"] + 15
    session = page.context.new_cdp_session(page)
    touch = lambda kind, *points: session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})  # noqa: E731
    touch("touchStart", {"x": x, "y": y})
    for step in range(1, 9):
        touch("touchMove", {"x": x, "y": y + (top["y"] + 5 - y) * step / 8})
        page.wait_for_timeout(20)
    touch("touchEnd")
    assert page.locator(".chip .letter").all_inner_texts() == list("ABCDEFIGH")
    page.get_by_role("button", name="Send").click()  # a tap right after a drag may end a fling
    is_done(page)
    assert shown()["ranks"] == [1, 2, 3, 4, 5, 6, 8, 9, 7]


def test_every_kind_fits_a_phone(of: Programme, go: Any, axe: Any) -> None:
    made = batch(of)
    long = ["word " * 90, f"`{'y' * 400}`"]
    for kind, texts in (("pairwise", long), ("attributes", long), ("edit", ["x" * 300]), ("demonstration", [])):
        item(made, kind=kind, answers=texts or None, completions=len(texts))
    page = go(phone=True)
    assert not page.locator(".guideline-text").is_visible()
    page.get_by_text("Guideline").tap()
    assert page.locator(".guideline-text").is_visible()
    for kind in ("pairwise", "attributes", "edit", "demonstration"):
        page.wait_for_selector(f"{TASK}.kind-{kind}")
        axe(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        small = page.evaluate("""() => [...document.querySelectorAll("form.task button, label.step, label.point")]
            .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 40)
            .map((one) => one.outerHTML)""")
        assert not small
        if kind == "pairwise":
            page.locator("label.step").nth(5).tap()
            assert page.locator("[data-chosen]").inner_text() == "B is better"
        for row in page.locator(".attribute").all():
            row.locator("label.point").nth(3).tap()
        if page.locator("#task-text").count():
            page.locator("#task-text").fill("My own words")
        page.get_by_role("button", name="Send").tap()
    is_done(page)
    assert Judgment.objects.count() == 4


def test_it_can_be_read_in_the_dark(of: Programme, go: Any, axe: Any) -> None:
    item(batch(of), answers=["Use `this` <b>. [Here](https://x.example)", "> \u202eno\n\n| a |\n|-|\n| b |"])
    page = go(color_scheme="dark")
    for key in ("1", "5", "b"):
        page.keyboard.press(key)
        axe(page)
