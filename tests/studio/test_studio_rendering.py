"""Whatever a text says, the page that shows it holds only what heedful put there."""

from __future__ import annotations

import time
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from django.utils import translation
from django.utils.html import escape
from hypothesis import example, given, strategies

from feedback.hostile import hostile_texts
from heedful.studio import rendering

OWN = {"div", "details", "summary", "pre", "article", "h3"}
"""Tags that heedful writes around a text."""
CLASSES = {"prose", "opening", "fold", "raw", "formatted", "as-written", "message", "role"} | {
    "user",
    "assistant",
    "system",
}
VOID = {"br", "hr"}


class Page(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment


def check(html: str) -> Page:
    """Only known tags, closed in order, with known attributes of known values."""
    page = Page(html)
    assert not page.open
    for tag, attributes in page.found:
        assert tag in rendering.TAGS | OWN
        for name, value in attributes.items():
            if name == "href":
                parts = urlsplit(value or "")
                assert tag == "a"
                assert parts.scheme in rendering.SCHEMES
                assert attributes["rel"] == rendering.REL
                assert attributes["target"] == "_blank"
            elif name == "class":
                assert set((value or "").split()) <= CLASSES
            else:
                known = {"rel", "target", "start", "dir", "tabindex", "hidden"}
                assert name in known
                assert value in (rendering.REL, "_blank", "auto", "0", None, "") or (value or "").isdigit()
    return page


@pytest.mark.parametrize("number", range(len(hostile_texts())))
def test_hostile_texts_become_known_tags_alone(number: int) -> None:
    text = hostile_texts()[number]
    check(rendering.both(text))
    check(rendering.render_conversation([{"role": "user", "content": text}, {"role": "assistant", "content": text}]))


@given(strategies.text(alphabet="ab <>\"'&/=![]()`*_~|-#:;\n\t\u202e\x1b" + "onscript", max_size=200))
@example('[a](https://x.example "<b onclick=x>")')
@example('<https://x.example/?"onclick=alert(1)>')
def test_any_text_becomes_known_tags_alone(text: str) -> None:
    check(rendering.both(text))


@given(
    strategies.text(strategies.characters(exclude_categories=("Cc", "Cf", "Cs")) | strategies.just("\n"), max_size=300)
)
def test_the_raw_view_shows_every_character(text: str) -> None:
    page = check(rendering.raw(text))
    assert page.text == "\n" + text  # a browser leaves out a line end right after <pre>


def test_markdown_is_rendered() -> None:
    text = "# One\n### Two\n- *a*\n- **b**\n\n3. c\n\n> q\n\n| x | y |\n|--|--|\n| 1 | 2 |\n\n"
    text += "```python\nif a < b:\n    pass\n```\n~~no~~"
    html = rendering.markdown(text)
    for part in (
        "<h4>One</h4>", "<h5>Two</h5>", "<em>a</em>", "<strong>b</strong>", '<ol start="3">', "<blockquote>",
        "<td>1</td>", "<pre><code>if a &lt; b:\n    pass\n</code></pre>", "<s>no</s>",
    ):  # fmt: skip
        assert part in html


def test_headings_stay_below_the_pages_own_and_leave_no_level_out() -> None:
    page = Page(rendering.markdown("# a\n#### b\n# c\n###### d\n## e", top=3))
    assert [tag for tag, _ in page.found] == ["h3", "h4", "h3", "h4", "h4"]


def test_lines_break_where_they_were_broken() -> None:
    assert rendering.markdown("a\nb") == "<p>a<br>\nb</p>\n"


def test_images_become_words() -> None:
    assert rendering.markdown("![a *red* fox](https://x.example/y.png)") == "<p>[image: a red fox]</p>\n"
    assert rendering.markdown("![](https://x.example/y.png)") == "<p>[image]</p>\n"


def test_a_text_that_was_read_before_is_told_in_the_readers_language_and_at_the_level_that_is_asked_for() -> None:
    text = "# A fox\n\n![](https://x.example/y.png)"
    english = rendering.markdown(text)
    assert rendering.markdown(text) == english == "<h4>A fox</h4>\n<p>[image]</p>\n"
    with translation.override("vi"):
        assert rendering.markdown(text) not in ("", english)
    assert rendering.markdown(text, top=3) == "<h3>A fox</h3>\n<p>[image]</p>\n"
    assert rendering.markdown(text) == english


def test_a_link_says_where_it_leads() -> None:
    html = rendering.markdown("[my bank](https://bank.example@evil.example/login)")
    assert "my bank</a> <small>(evil.example)</small>" in html
    assert '<a href="mailto:a@b.example" ' in rendering.markdown("[write](mailto:a@b.example)")


@pytest.mark.parametrize(
    "address", ["/logout/", "javascript:alert(1)", "data:text/html,x", "//evil.example", "ftp://x.y", "#top"]
)
def test_links_elsewhere_are_no_links(address: str) -> None:
    assert "<a" not in rendering.markdown(f"[x]({address})")


def test_characters_that_reorder_text_are_shown() -> None:
    html = rendering.both("a \u202egnp.exe\u202c [x](https://e.example/\u202e) &#x202e; \x1b[31m \U000e0048\U000e0069")
    assert not rendering._HIDDEN.search(html)
    assert html.count("⟨RLO⟩") >= 4
    assert "␛" in html
    assert "<mark>⟨Hi⟩</mark>" in html


def test_a_flag_stays_a_flag() -> None:
    wales = "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"
    assert wales in rendering.markdown(wales)


def test_each_message_reads_in_its_own_direction() -> None:
    html = rendering.render_conversation([{"role": "user", "content": "مرحبا"}, {"role": "assistant", "content": "Hi"}])
    assert html.count('<div class="prose" dir="auto">') == 2
    assert ">User</h3>" in html
    assert ">Assistant</h3>" in html


def test_an_unknown_role_is_text_and_no_class() -> None:
    html = rendering.render_conversation([{"role": '"><b>', "content": "x"}])
    assert '<article class="message other">' in html
    assert escape('"><b>') in html


def test_a_long_text_is_folded() -> None:
    html = rendering.render("word " * 5000)
    assert html.count("<details") == 1
    assert "Show all 25,000 characters" in html
    assert html.index("<details") < 4000
    assert "<details" not in rendering.render("word " * 4000)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 2**20,
        "[" * 10**5,
        "![" * 10**5,
        "*a _b " * 20_000,
        "[a](" * 30_000,
        "<a@" * 40_000,
        "- " * 50_000,
        "`" * 10**5,
    ],
    ids=["line", "brackets", "images", "emphasis", "links", "mails", "lists", "ticks"],
)
def test_no_text_takes_long(text: str) -> None:
    begun = time.process_time()
    html = rendering.both(text)
    assert time.process_time() - begun < 2
    assert text in Page(html).text.replace("\n", "")
