"""The report: whole in itself, escaped, accessible, and true to its figures."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_example import example

from heedful.core.statistics import Interval
from heedful.errors import HeedfulError
from heedful.pipeline.report import (
    Goal,
    MethodRow,
    ReportData,
    SampleAnswer,
    SampleRow,
    build_report,
    say_win_rate,
    write_report,
)
from heedful.pipeline.report_data import bounds, write
from heedful.pipeline.report_html import element, text
from heedful.pipeline.report_sections import preferred

VOID = {"meta", "br", "line", "rect", "circle", "path", "polyline", "polygon"}


class Page(HTMLParser):
    """A page taken apart; complains about tags that do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), list(self.open)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.elements.append((tag, dict(attrs), list(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += f" {data.strip()}" if self.rows[-1][-1] else data.strip()

    def tags(self) -> Counter[str]:
        return Counter(tag for tag, _, _ in self.elements)

    def find(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes, _ in self.elements if tag == name]


@pytest.fixture(scope="module")
def html() -> str:
    return build_report(example())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_loads_nothing_and_runs_nothing(html: str, page: Page) -> None:
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & set(page.tags())
    for tag, attributes, _ in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "action", "style", "xlink:href"), (tag, name)
            assert name != "href" or (value or "").startswith("#")
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "//" not in html.replace("<!--", "")


def test_the_content_policy_allows_its_own_style_and_nothing_else(html: str, page: Page) -> None:
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(m["content"] for m in page.find("meta") if m.get("http-equiv"))
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_structure_for_readers_of_every_kind(page: Page) -> None:
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes, _ in page.elements:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in ids
        if tag == "a":
            assert (attributes["href"] or "")[1:] in ids
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes["role"] == "img"
        if tag == "th" and "tfoot" not in attributes:
            assert attributes["scope"] in ("col", "row", "rowgroup")
    tags = page.tags()
    assert tags["table"] == tags["caption"]
    assert tags["figure"] == tags["figcaption"] == len(example().curves)
    assert tags["title"] == 1 + len(example().curves)
    assert tags["h1"] == tags["main"] == 1
    assert page.find("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip([0, *levels], levels, strict=False))


def test_every_table_scrolls_by_itself_on_a_phone(page: Page) -> None:
    regions = [a for _, a, _ in page.elements if a.get("role") == "region"]
    assert {region["aria-label"] for region in regions} == {"Methods by split", "Controls", "Data findings", "Stages"}
    assert all(region["tabindex"] == "0" for region in regions)


def test_the_table_of_methods_says_what_it_was_given(page: Page) -> None:
    assert "Method,Win rate,Correct,Gold,KL,Words,Distinct-2,Entropy,Cut off".split(",") in page.rows
    assert ["unseen phrasings"] in page.rows
    ppo = [
        "PPO",
        "79.4% 75.9% to 82.9%",
        "74.0% 70.0% to 78.0%",
        "1.02 0.94 to 1.10",
        "6.40",
        "14.8",
        "0.412",
        "0.99",
        "0.5%",
    ]
    assert ppo in page.rows
    sft = next(row for row in page.rows if row[0] == "SFT")
    assert sft[1] == "the baseline"
    assert sft[4] == "– none"


def test_controls_findings_and_stages_say_what_they_were_given(page: Page) -> None:
    assert [
        "length alone as the reward",
        "58.0% 55.0% to 61.0%",
        "no better than one half",
        "not as expected",
    ] in page.rows
    assert [
        "hh-harmless.jsonl.gz",
        "empty answer",
        "13",
        "skipped",
        "88, 912, 1003, 1104, 2001 and 8 more",
    ] in page.rows
    assert ["hh-harmless.jsonl.gz", "prompts differ", "2", "skipped", "41, 777"] in page.rows
    assert ["reward", "48.9 s", "–", "accuracy 0.824 (0.813 to 0.835)", "data c41ec41ec41e"] in page.rows
    assert ["All stages", "5 min 12 s", "1.6 GiB", "", ""] in page.rows


def test_goals_tell_reached_from_missed(page: Page) -> None:
    assert "goal 80.0%: not reached" in page.text
    assert "goal 55.0%: reached" in page.text
    assert "goal at most 6 min 00 s: reached" in page.text


def test_samples_mark_the_preferred_the_empty_and_the_cut(page: Page) -> None:
    said = page.text
    first = said.index("Prompt 1 of 2, unseen phrasings")
    second = said.index("Prompt 2 of 2, facts never judged")
    assert said[first:second].count("preferred by gold") == 1
    assert said[said.index("preferred by gold") - 1] == "PPO"
    assert "(an empty answer)" in said[second:]
    assert said[second:].count("cut off at the length limit") == 2


ATTACK = (
    "</p></title></style><script>alert(1)</script><img src=x onerror=alert(1)>"
    "\" onload='x' & {{7*7}} \x1b[31m \ud800\x00"
)


def with_strings(value: Any, attack: str) -> Any:
    """The same data with every text ended by an attack."""
    if isinstance(value, str):
        return f"{value} {attack}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        fixed = {"kind"} if "goal" in fields else set()  # how a large figure is written is no free text
        return type(value)(**{n: v if n in fixed else with_strings(v, attack) for n, v in fields.items()})
    if isinstance(value, Mapping):
        return {with_strings(k, attack): with_strings(v, attack) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(with_strings(v, attack) for v in value)
    return value


def test_no_text_anywhere_becomes_markup() -> None:
    attacked = build_report(with_strings(example(), ATTACK))
    harmless = build_report(with_strings(example(), "harmless"))
    attacked.encode("utf-8")
    found, expected = Page(attacked), Page(harmless)
    found_shape, shape = ([(tag, sorted(a)) for tag, a, _ in p.elements] for p in (found, expected))
    assert found_shape == shape
    assert "\x1b" not in attacked
    assert "\x00" not in attacked
    assert attacked.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 100
    assert sum("<script>alert(1)</script>" in data for data in found.text) > 100


def test_element_refuses_what_could_run() -> None:
    for name in ("script", "a b", "IMG", ""):
        with pytest.raises(ValueError, match="no element"):
            element(name)
    for name in ("onclick", "ONLOAD", "a b", "x=y"):
        with pytest.raises(ValueError, match="no attribute"):
            element("p", **{name: "1"})
    assert element("p", "a < b", title='"') == '<p title="&quot;">a &lt; b</p>'
    assert text(element("b", "x") + "<") == "&lt;b&gt;x&lt;/b&gt;&lt;"  # glued by hand, it is text again


def test_empty_parts_leave_no_trace() -> None:
    page = Page(build_report(ReportData("Title", "", "")))
    assert not {"section", "nav", "table", "svg"} & set(page.tags())
    assert "Title" in page.text


def test_the_same_data_gives_the_same_bytes(html: str) -> None:
    assert build_report(example()) == html


def test_the_file_is_whole_or_absent(tmp_path: Path) -> None:
    write_report(tmp_path / "report" / "index.html", example())
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8") == build_report(example())
    with pytest.raises(HeedfulError):
        write_report(tmp_path / "report", example())  # a folder stands there
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["index.html", "report"]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.51, 0.6, "better than chance"), (0.5, 0.6, "cannot be told apart"), (0.2, 0.49, "became worse")],
)
def test_the_sentence_claims_no_more_than_the_interval(low: float, high: float, verdict: str) -> None:
    said = say_win_rate("PPO", "SFT", Interval((low + high) / 2, low, high), where="unseen phrasings")
    assert verdict in said
    assert f"({100 * low:.1f}% to" in said.replace("95% interval ", "")


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (0.7944, "percent", "79.4%"),
        (-0.5, "percent", "−50.0%"),
        (0.0, "number", "0"),
        (0.1234, "number", "0.123"),
        (1.234, "number", "1.23"),
        (12.34, "number", "12.3"),
        (123.4, "number", "123"),
        (12345.6, "number", "12,346"),
        (-1.5, "number", "−1.50"),
        (0.00012, "number", "0.00012"),
        (-0.001, "hundredths", "0.00"),
        (1234.5, "tenths", "1,234.5"),
        (0.41234, "thousandths", "0.412"),
        (4000, "count", "4,000"),
        (9.96, "seconds", "10.0 s"),
        (312.4, "seconds", "5 min 12 s"),
        (3660, "seconds", "1 h 01 min"),
        (1288490188, "bytes", "1.2 GiB"),
        (2048, "bytes", "2.0 KiB"),
        (12, "bytes", "12 bytes"),
        (float("nan"), "percent", "not a number"),
        (float("-inf"), "number", "−∞"),
    ],
)
def test_numbers_as_people_write_them(value: float, kind: Any, words: str) -> None:
    assert write(value, kind) == words


def test_bounds_and_goals() -> None:
    assert bounds(Interval(0.5, -0.1, 0.9), "hundredths") == "−0.10 to 0.90"
    assert Goal(0.8).reached_by(0.8)
    assert not Goal(0.8).reached_by(Interval(0.79, 0.7, 0.9))
    assert Goal(360, at_most=True).reached_by(350)
    assert not Goal(360, at_most=True).reached_by(361)


def test_nobody_is_preferred_in_a_tie() -> None:
    a, b = SampleAnswer("a", "x", {"gold": 1.0}), SampleAnswer("b", "y", {"gold": 0.0, "proxy": 5.0})
    assert preferred((a, b)) is a
    assert preferred((a, SampleAnswer("c", "z", {"gold": 1.0}))) is None
    assert preferred((a, SampleAnswer("c", "z", {}))) is None
    assert preferred(()) is None


def test_a_figure_that_only_one_row_knows_shows_dashes_in_the_rest() -> None:
    rows = [
        MethodRow(m, "s", None, None, None, None, None, None, None, more) for m, more in (("a", {"x": 2.0}), ("b", {}))
    ]
    page = Page(build_report(ReportData("t", "", "", methods=tuple(rows))))
    assert ["a", "the baseline", *["– none"] * 6, "2.00"] in page.rows
    assert ["b", "the baseline", *["– none"] * 7] in page.rows


def test_texts_keep_their_lines_and_direction() -> None:
    row = SampleRow((), "s", (SampleAnswer("m", "one\n  two", {}),))
    html = build_report(ReportData("t", "", "", samples=(row,)))
    assert '<p class="said" dir="auto">one\n  two</p>' in html


def palette(html: str) -> list[dict[str, str]]:
    """The colours of the light theme and of the dark one."""
    blocks = re.findall(r":root \{(.*?)\}", html, re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks[:2]]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_both_themes_can_be_read(html: str, theme: int) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    colours = palette(html)[theme]
    for ground in ("paper", "card", "sunk"):
        for ink in ("ink", "muted", "accent"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for mood in ("good", "bad", "even"):
        assert contrast(colours[mood], colours[f"{mood}-wash"]) >= 4.5, mood
    for line in range(6):
        assert contrast(colours[f"s{line}"], colours["card"]) >= 3, line
