"""Taking what names a person out of a text: e-mail addresses, telephone and card numbers, postal addresses.

By named patterns, each of which says what it finds and what it does not (docs/personal-data.md has the measured
shares). Names of people, accounts, dates of birth and what only a reader would know are not found: this lowers a risk,
and is no proof that nobody can be told.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from heedful.errors import HeedfulError, nearest

REGIONS = ("US", "GB", "DE", "FR", "VN", "CN")
"""Whose national telephone numbers are looked for; international ones (+44 ...) are everywhere."""

UNSEEN = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff")
FULL_WIDTH = (0xFF01, 0xFF5E)
"""First and last of the characters that are ASCII's, as wide as a Chinese one."""
TRIES, CHARACTERS_A_TRY = 100, 20
"""A text is looked through for telephone numbers until so many numbers in it, and one more for so many characters, were
none: each takes a thousand times what a letter does, and texts come from anybody."""

# Texts come from anybody, so no pattern goes back over a run that it has read: runs are possessive or bounded.
_EMAIL = re.compile(
    r"""(?<![\w.!#$%&'*+/=?^`{|}~-]) [\w.!#$%&'*+/=?^`{|}~-]++ (?: @ | \s?[\[(]\s?at\s?[\])]\s? )
        (?: [\w-]{1,63} (?: \. | \s?[\[(]\s?dot\s?[\])]\s? ) ){1,9} [^\W\d_]{2,}""",
    re.VERBOSE | re.IGNORECASE,
)
_CARD = re.compile(r"(?<![\d.])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\d.]\d|\d)")
_STREET = (
    "street|st|road|rd|avenue|ave|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|square|sq|terrace|close|crescent|"
    "gardens|grove|highway|hwy|parkway|pkwy|way|circle|cir|row|mews|quay|hill|park"
)
_NAMED = r"[^\W\d_][\w'’.-]{0,40}"
_CAPITAL = r"(?:[A-ZÀ-ÖØ-Þ](?:[^\W\d_]|['’.-])*(?!\w)|\d{1,3}(?:st|nd|rd|th))"
_POSTCODE = (
    r"(?:[A-Z]{2}\s+)?\d{5}(?:-\d{4})?\b|[A-Za-z]{1,2}\d[A-Za-z\d]?\s?\d[A-Za-z]{2}\b|[A-Z]\d[A-Z]\s?\d[A-Z]\d\b"
)
_FLAT = r"(?:\b(?i:flat|unit|apt\.?|apartment|suite|room)\s+\w+,?\s+)?"
_PLACE = (
    r"(?:,?\s+(?i:apt|apartment|suite|ste|unit|flat|floor|no|\#)\.?\s*\w+)?"
    rf"(?:,\s*{_CAPITAL}(?:\s{_CAPITAL}){{0,2}}){{0,2}}(?:,?\s+(?:{_POSTCODE}))?"
)
_NUMBER = r"\b\d{1,5}[a-zA-Z]?(?:[-/]\d+)?,?\s+"
_SAID = r"\b(?:live[sd]?|living|address|deliver|ship|send|sent|post|home|come|moved)\b[^\d.!?\n]{0,20}"
_ADDRESSES = tuple(
    re.compile(pattern)
    for pattern in (
        # 12 Baker Street, London NW1 6XE; 1600 Pennsylvania Ave NW, Washington, DC 20500
        rf"{_FLAT}{_NUMBER}(?:{_CAPITAL}\s+){{1,4}}?(?i:{_STREET})\b\.?(?:\s+[NSEW]{{1,2}}\b)?{_PLACE}",
        # i live at 12 baker street
        rf"(?i:{_SAID}(?P<it>{_FLAT}{_NUMBER}(?:{_NAMED}\s+){{1,3}}?(?:{_STREET})\b{_PLACE}))",
        r"\b(?i:p\.?\s?o\.?\s*box|postfach|bo[iî]te postale)\s+\d+",
        # Hauptstraße 5, 10115 Berlin
        rf"\b{_NAMED}(?i:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|ufer)\s+\d{{1,4}}\s?[a-z]?\b(?:,?\s+\d{{5}}\s+{_NAMED})?",
        # 12 rue de la Paix, 75002 Paris
        r"\b\d{1,4}(?:\s?(?:bis|ter))?,?\s+(?i:rue|boulevard|chemin|impasse|quai|allée|(?:avenue|place)\s+(?:de|du|des))"
        rf"\s+(?:(?:de|du|des|la|le|les|d'|l')\s*)*(?:{_CAPITAL}[\s-]?){{1,4}}(?:,?\s*\d{{5}}\s+{_NAMED})?",
        # số 12 đường Nguyễn Trãi, quận 1
        r"(?<![\w/])(?i:số\s+)?\d{1,4}[a-zA-Z]?(?:/\d{1,5}){0,8}\s+(?i:đường|phố|ngõ|hẻm)\s+(?:[^\W\d_]+\s?){1,4}"
        r"(?:,\s*(?i:phường|quận|huyện|tp\.?|thành phố)\s*[^,.!?\n]{1,20})*",
        # 北京市朝阳区建国路88号
        r"(?:[一-鿿](?:(?![省市区县镇])[一-鿿]){1,5}[省市区县镇]){1,5}[一-鿿]{1,8}?[路街道巷]\s?\d+\s?[号弄]?"
        r"(?:\d+[室楼单元栋号]+){0,5}",
    )
)


def _luhn(digits: str) -> bool:
    """Whether a number's last digit checks the others (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


Spans = Iterator[tuple[int, int]]


def _emails(text: str, regions: Sequence[str]) -> Spans:
    del regions
    return (found.span() for found in _EMAIL.finditer(text))


def _cards(text: str, regions: Sequence[str]) -> Spans:
    del regions
    return (found.span() for found in _CARD.finditer(text) if _luhn(re.sub(r"\D", "", found[0])))


def _phones(text: str, regions: Sequence[str]) -> Spans:
    from phonenumbers import Leniency, PhoneNumberMatcher

    for region in (*regions, None):
        tries = TRIES + len(text) // CHARACTERS_A_TRY
        for found in PhoneNumberMatcher(text, region, leniency=Leniency.VALID, max_tries=tries):
            yield found.start, found.end


def _addresses(text: str, regions: Sequence[str]) -> Spans:
    del regions
    for pattern in _ADDRESSES:
        for found in pattern.finditer(text):
            yield found.span("it" if "it" in pattern.groupindex else 0)


PATTERNS: dict[str, Callable[[str, Sequence[str]], Spans]] = {
    "email": _emails,
    "card": _cards,
    "phone": _phones,
    "address": _addresses,
}
"""Each by its name, in the order of who has a claim first where two meet."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of text that a pattern knows, as positions in it."""

    pattern: str
    start: int
    end: int


def check_patterns(names: Collection[str]) -> tuple[str, ...]:
    """The names, in the order of `PATTERNS`.

    Raises:
        HeedfulError: an unknown one.
    """
    for name in names:
        if name not in PATTERNS:
            known = list(PATTERNS)
            raise HeedfulError(
                f"no pattern is called {name!r}.", mend=nearest(name, known) or f"There are {', '.join(known)}."
            )
    return tuple(name for name in PATTERNS if name in names)


def check_regions(regions: Sequence[str], *, where: str = "regions") -> None:
    """Refuse what is no country with telephone numbers.

    Raises:
        HeedfulError: naming it.
    """
    from phonenumbers import SUPPORTED_REGIONS

    for region in regions:
        if region not in SUPPORTED_REGIONS:
            raise HeedfulError(
                "{region!r} is no country's code.",
                where=where,
                mend="Two capital letters, such as US or VN.",
                region=region,
            )


def _as_looked_through(text: str) -> tuple[str, list[int] | None]:
    """A text without what no eye sees, full-width letters and foreign digits as plain ones; the place of each character
    in the text as it is, None where they are the same.

    A copied address often has a soft hyphen or a zero-width space in it, and Chinese keyboards write another @.
    """
    if text.isascii():
        return text, None
    kept, places = [], []
    for place, one in enumerate(text):
        if one in UNSEEN:
            continue
        code = ord(one)
        if FULL_WIDTH[0] <= code <= FULL_WIDTH[1]:
            one = chr(code - FULL_WIDTH[0] + 0x21)
        elif code > 0x7F and one.isdecimal():
            one = str(unicodedata.decimal(one))
        kept.append(" " if one == "\u3000" else one)
        places.append(place)
    return "".join(kept), places


def find(text: str, patterns: Collection[str] = tuple(PATTERNS), *, regions: Sequence[str] = REGIONS) -> list[Found]:
    """What the patterns find, in the order of the text and without overlap.

    Args:
        text: any text.
        patterns: names in `PATTERNS`.
        regions: two-letter codes of the countries whose national telephone numbers are meant.

    Raises:
        HeedfulError: an unknown pattern.
    """
    taken: list[Found] = []
    looked, places = _as_looked_through(text)
    for name in check_patterns(patterns):
        for first, after in PATTERNS[name](looked, regions):
            start, end = (first, after) if places is None else (places[first], places[after - 1] + 1)
            if all(end <= other.start or start >= other.end for other in taken):
                taken.append(Found(name, start, end))
    return sorted(taken, key=lambda found: found.start)


def deidentify(
    text: str, patterns: Collection[str] = tuple(PATTERNS), *, regions: Sequence[str] = REGIONS
) -> tuple[str, Counter[str]]:
    """The text with `[email]`, `[phone]`, `[card]` and `[address]` where the patterns find something, and how often.

    Raises:
        HeedfulError: an unknown pattern.
    """
    parts, last = [], 0
    counted: Counter[str] = Counter()
    for found in find(text, patterns, regions=regions):
        parts += [text[last : found.start], f"[{found.pattern}]"]
        counted[found.pattern] += 1
        last = found.end
    return "".join([*parts, text[last:]]), counted
