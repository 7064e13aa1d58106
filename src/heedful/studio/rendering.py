"""Texts of unknown origin as HTML that can do nothing: no script, no image, no request, no id, no style.

Markdown is turned into HTML with raw HTML switched off, and what comes out goes through a strict allow list all the
same. Characters that hide or reorder text are shown as marks.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import nh3
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

FOLD = 20_000
"""Characters above which a text is folded."""
TOP = 4
"""Level of the first heading in a text: those above are the page's."""
KEPT = 256
"""Texts whose HTML a process keeps; folded ones are not among them."""
OPENING = 3_000
"""Characters of a folded text that are shown before it is opened."""
MOST_MARKDOWN = 50_000
"""Characters that are read as Markdown; the rest stands as it is. A table of as many cells takes two seconds."""
PIECE = 10_000
"""Characters in one block of a text that stands as it is."""
MOST_INLINE = 10_000
"""Characters of one paragraph in which emphasis and links are looked for, which takes the square of its length."""
REL = "nofollow noopener noreferrer"
SCHEMES = frozenset({"http", "https", "mailto"})
TAGS = frozenset(
    "a blockquote br code div em h3 h4 h5 h6 hr li mark ol p pre s small strong table tbody td th thead tr ul".split()
)
ATTRIBUTES = {"a": {"href", "target"}, "ol": {"start"}, "div": {"tabindex"}}
BIDI = {
    "\u061c": "ALM", "\u200e": "LRM", "\u200f": "RLM", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF",
    "\u202d": "LRO", "\u202e": "RLO", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI",
}  # fmt: skip
"""Characters that change the direction of what follows, by their names in Unicode."""
TAG = 0xE0000
"""Where the letters begin that no font shows. Flags of regions are spelled with them; else they hide a text."""
_HIDDEN = re.compile(
    "[" + "".join(BIDI) + "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
    "|(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0000-\U000e007f]+"
)
_ROLES = {"system", "user", "assistant", "tool"}


class _Renderer(RendererHTML):
    """Markdown as HTML: images become words, links say where they lead, wide tables scroll by keyboard too."""

    def image(self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """The words that stand for an image: nothing is ever loaded."""
        alt = self.renderInlineAsText(tokens[at].children or [], options, env)
        return html.escape(_("[image: %(alt)s]") % {"alt": alt} if alt else _("[image]"))

    def link_open(self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """The link's address alone: no title."""
        address = str(tokens[at].attrs.get("href", ""))
        env.setdefault("links", []).append(address)
        return f'<a href="{html.escape(address)}">'

    def link_close(self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """The end of a link, and the host behind it."""
        return f"</a> <small>({html.escape(_host(env['links'].pop()))})</small>"

    def table_open(self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """A box that scrolls around the table."""
        return '<div tabindex="0"><table>'

    def table_close(self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """The end of table and box."""
        return "</table></div>"


def _host(address: str) -> str:
    parts = urlsplit(address)
    return parts.path if parts.scheme.lower() == "mailto" else parts.hostname or ""


def _leads_out(address: str) -> bool:
    """Whether a link may stand: to another site, or a mail address. One without a host would lead into the studio."""
    try:
        parts = urlsplit(address)
        known = parts.scheme.lower() in SCHEMES
        return known and bool(_host(address)) and not _HIDDEN.search(address)
    except ValueError:
        return False


def _keep(tag: str, name: str, value: str) -> str | None:
    """The last look at an attribute: an address without hidden characters, or what heedful itself wrote."""
    if name == "href":
        return value if _leads_out(value) else None
    fixed = {"rel": REL, "target": "_blank", "tabindex": "0"}
    return value if fixed.get(name) == value or (name == "start" and re.fullmatch(r"\d{1,9}", value)) else None


def _parser() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True}, renderer_cls=_Renderer)
    made.enable(["table", "strikethrough"])
    made.validateLink = _leads_out  # type: ignore[method-assign, assignment]
    made.core.ruler.at("inline", _inline)
    made.core.ruler.push("outline", _outline)
    return made


def _inline(state: StateCore) -> None:
    """Markdown's own rule, but for paragraphs so long that it would take minutes: they stay as they are."""
    for token in state.tokens:
        if token.type == "inline" and len(token.content) > MOST_INLINE:
            token.children = [Token("text", "", 0, content=token.content)]
        elif token.type == "inline":
            token.children = []
            state.md.inline.parse(token.content, state.md, state.env, token.children)


def _outline(state: StateCore) -> None:
    """Headings below the page's own, without a level left out, as who listens to a page needs them."""
    open_levels: list[int] = []
    for token in state.tokens:
        if token.type == "heading_open":
            level = int(token.tag[1])
            while open_levels and open_levels[-1] >= level:
                open_levels.pop()
            open_levels.append(level)
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, state.env.get('top', TOP) + len(open_levels) - 1)}"


_markdown = _parser()
_cleaner = nh3.Cleaner(
    tags=set(TAGS),
    attributes=ATTRIBUTES,
    attribute_filter=_keep,
    url_schemes=set(SCHEMES),
    link_rel=REL,
    set_tag_attribute_values={"a": {"target": "_blank"}},
    strip_comments=True,
)


def _mark(found: re.Match[str]) -> str:
    char = found.group()
    if ord(char[0]) >= TAG:
        return f"<mark>⟨{html.escape(''.join(chr(ord(one) - TAG) for one in char if ord(one) - TAG >= 0x20))}⟩</mark>"
    if char in BIDI:
        return f"<mark>⟨{BIDI[char]}⟩</mark>"
    code = ord(char)
    return f"<mark>{chr(0x2400 + code) if code < 0x20 else '␡' if code == 0x7F else f'⟨{code:02X}⟩'}</mark>"


def _reveal(escaped: str) -> str:
    """HTML whose hidden characters are marks. No attribute holds one: see `_keep`."""
    return _HIDDEN.sub(_mark, escaped)


def _unbroken(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _plain(text: str) -> str:
    return _reveal(html.escape(_unbroken(text)))


def _formatted(text: str, top: int = TOP) -> str:
    """Markdown of at most `MOST_MARKDOWN` characters, as clean HTML."""
    return _kept(text, top, get_language()) if len(text) <= FOLD else _made(text, top)


@lru_cache(maxsize=KEPT)
def _kept(text: str, top: int, language: str | None) -> str:
    """What was made of the same text before: a guideline beside each item, an answer that several raters judge.

    It says the words for an image in a language. A text that is erased is asked for no more, and goes in its turn.
    """
    return _made(text, top)


def _made(text: str, top: int) -> str:
    return _reveal(_cleaner.clean(_markdown.render(text, {"top": top})))


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of at most `PIECE` characters, cut at the end of a line where there is one."""
    at = 0
    while at < len(text):
        end = at + PIECE
        if end < len(text):
            end = text.rfind("\n", at + PIECE // 2, end) + 1 or end
        yield text[at:end]
        at = end


def raw(text: str) -> SafeString:
    """A text as it was written, character by character; a long one in blocks, which a browser lays out singly."""
    pieces = list(_pieces(_unbroken(text))) or [""]
    return mark_safe("".join(f'<pre class="raw" dir="auto">\n{_plain(piece)}</pre>' for piece in pieces))


def markdown(text: str, *, top: int = TOP) -> SafeString:
    """A text as formatted Markdown, never folded. What lies beyond `MOST_MARKDOWN` characters is left as it is.

    Args:
        text: Markdown; HTML in it is shown, not obeyed.
        top: level that its first heading gets, 3 to 6.
    """
    text = _unbroken(text)
    if len(text) <= MOST_MARKDOWN:
        return mark_safe(_formatted(text, top))
    at = text.rfind("\n", 0, MOST_MARKDOWN) + 1 or MOST_MARKDOWN
    return mark_safe(_formatted(text[:at], top) + raw(text[at:]))


def render(text: str) -> SafeString:
    """A message or an answer as a block that reads in its own direction; a long one is folded."""
    if len(text) <= FOLD:
        return format_html('<div class="prose" dir="auto">{}</div>', markdown(text))
    at = text.rfind("\n", OPENING // 2, OPENING) + 1 or OPENING
    show = _("Show all %(count)s characters") % {"count": number_format(len(text), force_grouping=True)}
    return format_html(
        '<div class="prose opening" dir="auto">{}<p>…</p></div><details class="fold"><summary>{}</summary>'
        '<div class="prose" dir="auto">{}</div></details>',
        mark_safe(_formatted(_unbroken(text[:at]))),
        show,
        markdown(text),
    )


def both(text: str) -> SafeString:
    """A text formatted and, for the raw toggle, as it was written."""
    return format_html(
        '<div class="formatted">{}</div><div class="as-written" hidden>{}</div>', render(text), raw(text)
    )


def role_name(role: str) -> str:
    """Who speaks."""
    names = {"user": _("User"), "assistant": _("Assistant"), "system": _("System"), "tool": _("Tool")}
    return names.get(role, role)


def render_conversation(messages: Sequence[Mapping[str, str]]) -> SafeString:
    """A conversation, each message under the name of who speaks."""
    rows = ((m["role"] if m["role"] in _ROLES else "other", role_name(m["role"]), both(m["content"])) for m in messages)
    return format_html_join("\n", '<article class="message {}"><h3 class="role">{}</h3>{}</article>', rows)
