"""The report's pages in Chromium: light and dark, wide and narrow, printed, offline, for readers of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_programme_report_page import contest, gathered

from hand_made_programme import write_hand_made
from heedful.evaluation.refusal_rates import by_rules, natural_set, refusal_report, spread
from heedful.pipeline.programme_report.compare import write_comparison
from heedful.pipeline.programme_report.material import Material
from heedful.pipeline.programme_report.page import write_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 780}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("pages")
    asked = spread(natural_set(), 20)
    texts = [["I cannot help with that." if one.label == "unsafe" else "Here is how."] for one, _ in asked]
    refusals = {name: refusal_report(asked, texts, {"rules": by_rules}) for name in ("first policy", "last policy")}
    found: Material = replace(gathered(write_hand_made(folder / "shop")), contest=contest(), refusals=refusals)
    other = gathered(write_hand_made(folder / "other", rounds=1, name="other"))
    made = {"programme": folder / "programme.html", "compare": folder / "compare.html"}
    write_page(made["programme"], found)
    write_comparison(made["compare"], {"shop": found, "other": other})
    return made


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Any]]:
    """show(path, scheme, size) -> the page; afterwards it may have asked for nothing and complained of nothing."""
    contexts, wrong = [], []

    def go(path: Path, scheme: str, size: dict[str, int]) -> Any:
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda one: wrong.append(one.url) if one.url != path.as_uri() else None)
        page.on("console", lambda one: wrong.append(one.text))
        page.on("pageerror", lambda one: wrong.append(str(one)))
        page.goto(path.as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize(("name", "scheme"), [("programme", "light"), ("programme", "dark"), ("compare", "dark")])
def test_anybody_can_read_it(
    name: str, scheme: str, pages: dict[str, Path], show: Callable[..., Any], axe: Callable[..., None]
) -> None:
    page = show(pages[name], scheme, WIDE)
    axe(page)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(250, 249, 245)" if scheme == "light" else "rgb(18, 20, 22)")
    assert page.locator("section h2").count() == (11 if name == "programme" else 4)
    assert page.locator("svg.when-narrow:visible").count() == 0


@pytest.mark.parametrize("name", ["programme", "compare"])
def test_a_phone_shows_it_without_sideways_scrolling(
    name: str, pages: dict[str, Path], show: Callable[..., Any]
) -> None:
    page = show(pages[name], "light", NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    assert page.locator("svg.when-narrow:visible").count() >= 1
    # the wide one is out of sight there, but still read out
    hidden = page.locator("svg.when-wide").first
    assert hidden.evaluate("(one) => getComputedStyle(one).display") != "none"
    assert hidden.bounding_box()["width"] <= 1


@pytest.mark.parametrize("name", ["programme", "compare"])
def test_on_paper_it_is_dark_on_white_and_nothing_is_cut(
    name: str, pages: dict[str, Path], show: Callable[..., Any]
) -> None:
    page = show(pages[name], "dark", {"width": 680, "height": 900})  # what A4 leaves between margins
    page.emulate_media(media="print", color_scheme="dark")
    style = "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    assert page.evaluate(style) == ["rgb(29, 29, 27)", "rgb(255, 255, 255)"]
    assert page.evaluate("document.documentElement.scrollWidth") == 680
    assert page.locator("nav:visible").count() == 0
