"""The translations: whole, compiled, and of every string that a template shows."""

from __future__ import annotations

import gettext
import re
from pathlib import Path

import pytest
from django.utils import translation

import heedful.studio.setup

STUDIO = Path(heedful.studio.setup.__file__).parent
LANGUAGES = ("vi", "zh_Hans")
PLACES = re.compile(r"%\(\w+\)[sd]|\{\w+\}|</?\w+[^>]*>")


def entries(language: str) -> list[tuple[str, str, str]]:
    """(msgid, plural, first msgstr) of a catalogue, its header left out."""
    text = (STUDIO / "locale" / language / "LC_MESSAGES" / "django.po").read_text(encoding="utf-8")
    assert "fuzzy" not in text
    found = []
    for block in text.split("\n\n")[1:]:
        parts = {"msgid": "", "msgid_plural": "", "msgstr": ""}
        current = ""
        for line in block.splitlines():
            match = re.match(r'(msgid_plural|msgid|msgstr)(?:\[0\])? "(.*)"$', line)
            if match:
                current = match.group(1)
                parts[current] += match.group(2)
            elif line.startswith('"'):
                parts[current] += line[1:-1]
        if parts["msgid"]:
            found.append((parts["msgid"], parts["msgid_plural"], parts["msgstr"]))
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated_and_compiled(language: str) -> None:
    folder = STUDIO / "locale" / language / "LC_MESSAGES"
    with open(folder / "django.mo", "rb") as file:
        compiled = gettext.GNUTranslations(file)
    known = entries(language)
    assert len(known) > 1000
    for msgid, plural, msgstr in known:
        assert msgstr, msgid
        assert sorted(PLACES.findall(msgstr)) == sorted(PLACES.findall(plural or msgid)), msgid
        plain = msgid.encode().decode("unicode_escape").encode("latin-1").decode()
        wanted = msgstr.encode().decode("unicode_escape").encode("latin-1").decode()
        got = compiled.ngettext(plain, plural, 1) if plural else compiled.gettext(plain)
        assert got == wanted, f"{msgid}: run make messages"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_string_of_a_template_is_in_the_catalogue(language: str) -> None:
    known = {msgid for msgid, _, _ in entries(language)}
    shown = set()
    for path in (STUDIO / "templates").rglob("*.html"):
        for match in re.finditer(r"""{% translate (?:"([^"]+)"|'([^']+)')""", path.read_text(encoding="utf-8")):
            shown.add((match.group(1) or match.group(2)).replace('"', '\\"'))
    assert len(shown) > 200
    assert not shown - known, "run make messages"


def test_a_page_speaks_the_language() -> None:
    with translation.override("vi"):
        assert translation.gettext("Log in") != "Log in"
    with translation.override("zh-hans"):
        assert translation.gettext("Log in") != "Log in"
