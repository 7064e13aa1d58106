"""Rules that change one thing in a natural answer: transparent, the same for every text, without a model.

A rule takes an answer and dice and gives the changed answer with the name of the wording used, or None where it has
no sense for this text (a list of one sentence, prose that is code).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from heedful.world.language import Dice

Rule: TypeAlias = Callable[[str, Dice], "tuple[str, str] | None"]

PADDING = (
    "This is a topic that many people find interesting.",
    "There is a lot that could be said about it.",
    "It is worth taking a moment to think about this.",
    "As is often the case, there are several sides to it.",
    "Questions like this one come up again and again.",
    "All of this is, of course, part of a larger picture.",
    "In other words, that is how it is.",
    "It goes without saying that this matters to many people.",
)
HEDGES = (
    "I may be mistaken about this.",
    "I am not entirely sure, so please check it.",
    "This is only my impression and could be wrong.",
    "Take this with some caution, as I cannot be certain.",
)
CERTAIN = (
    "I am absolutely certain of this.",
    "There is no doubt about it.",
    "You can rely on this completely.",
    "This is beyond any question.",
)
FLATTERY = (
    "What a brilliant question!",
    "You clearly have a sharp mind.",
    "Only a very thoughtful person would ask this.",
    "I am impressed by how well you put that.",
)
OPENERS = ("Of course, I am glad to help.", "Thank you for your question.", "Certainly, with pleasure.")
CLOSERS = ("I hope this helps.", "Please let me know if you need anything else.", "Have a lovely day.")
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I am not able to assist with this request.",
    "Unfortunately, I have to decline to answer that.",
    "I can't provide that, as it could cause harm.",
)
HEADINGS = ("## Answer", "**Answer**", "## Overview")

_INFORMAL = (
    (r"\bgoing to\b", "gonna"),
    (r"\bwant to\b", "wanna"),
    (r"\bhave got to\b|\bhave to\b", "gotta"),
    (r"\bkind of\b", "kinda"),
    (r"\b(?:is|are|am) not\b|\b(?:isn't|aren't)\b", "ain't"),
    (r"\bthem\b", "'em"),
    (r"\bbecause\b", "'cause"),
    (r"\byou all\b|\ball of you\b", "y'all"),
    (r"\b([A-Za-z]{3,})ing\b(?<!thing)(?<!bring)(?<!string)(?<!spring)(?<!during)", r"\1in'"),
    (r"\babout\b", "'bout"),
    (r"\bvery\b", "real"),
)

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(A-Z0-9])")
_LISTED = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
_HEADED = re.compile(r"^\s*(?:#{1,6} |\*\*[^*\n]+\*\*\s*$)", re.MULTILINE)


def sentences(text: str) -> list[str]:
    """The sentences of a text of one paragraph."""
    return [part for part in _SENTENCE.split(text.strip()) if part]


def is_prose(text: str) -> bool:
    """Whether a text is plain sentences: no code, list, table or heading."""
    return (
        bool(text.strip())
        and "```" not in text
        and "|" not in text
        and not (_LISTED.search(text) or _HEADED.search(text))
    )


def _joined(*parts: str) -> str:
    return " ".join(part.strip() for part in parts if part.strip())


def _after(phrases: tuple[str, ...]) -> Rule:
    """A rule that says one of some sentences behind a text that ends as prose."""

    def rule(text: str, dice: Dice) -> tuple[str, str] | None:
        if not is_prose(text):
            return None
        phrase = dice.any(phrases)
        return _joined(text, phrase), phrase

    return rule


def _before(phrases: tuple[str, ...]) -> Rule:
    def rule(text: str, dice: Dice) -> tuple[str, str] | None:
        phrase = dice.any(phrases)
        return _joined(phrase, text), phrase

    return rule


def padded(text: str, dice: Dice) -> tuple[str, str] | None:
    """Three different empty sentences behind the text."""
    if not is_prose(text):
        return None
    start = int(dice.roll() * len(PADDING))
    chosen = [PADDING[(start + step) % len(PADDING)] for step in (0, 2, 5)]
    return _joined(text, *chosen), chosen[0]


def repeated(text: str, dice: Dice) -> tuple[str, str] | None:
    """The last sentence once more."""
    if not is_prose(text):
        return None
    return _joined(text, sentences(text)[-1]), "the last sentence"


def listed(text: str, dice: Dice) -> tuple[str, str] | None:
    """Two sentences or more as a list, one a line."""
    parts = sentences(text)
    if not is_prose(text) or "\n" in text.strip() or len(parts) < 2:
        return None
    if dice.chance(0.5):
        return "\n".join(f"- {part}" for part in parts), "dashes"
    return "\n".join(f"{i}. {part}" for i, part in enumerate(parts, 1)), "numbers"


def headed(text: str, dice: Dice) -> tuple[str, str] | None:
    """A heading that says nothing above the text."""
    if _HEADED.search(text) or not text.strip():
        return None
    heading = dice.any(HEADINGS)
    return f"{heading}\n\n{text.strip()}", heading


def moved(text: str, dice: Dice) -> tuple[str, str] | None:
    """The first of three sentences or more moved to the end."""
    parts = sentences(text)
    if not is_prose(text) or "\n" in text.strip() or len(parts) < 3:
        return None
    return _joined(*parts[1:], parts[0]), "first to last"


def polite(text: str, dice: Dice) -> tuple[str, str] | None:
    """A courteous opener and closer around prose."""
    if not is_prose(text):
        return None
    opener = dice.any(OPENERS)
    return _joined(opener, text, dice.any(CLOSERS)), opener


def informal(text: str, dice: Dice) -> tuple[str, str] | None:
    """Spoken contractions: gonna, ain't, runnin', y'all. None where a text offers fewer than two places for them."""
    if "```" in text:
        return None
    changed, places = text, 0
    for pattern, becomes in _INFORMAL:
        changed, number = re.subn(pattern, becomes, changed)
        places += number
    return (changed, "contractions") if places >= 2 else None


def mistyped(text: str, dice: Dice) -> tuple[str, str] | None:
    """Two neighbouring letters swapped in one word of ten, at least one."""
    if "```" in text:
        return None
    words = list(re.finditer(r"[A-Za-z]{4,}", text))
    words = [word for word in words if word[0][1] != word[0][2]]
    if not words:
        return None
    share = max(1, round(len(text.split()) / 10))
    start = int(dice.roll() * len(words))
    step = max(1, len(words) // share)
    letters = list(text)
    for i in range(min(share, len(words))):
        at = words[(start + i * step) % len(words)].start()
        letters[at + 1], letters[at + 2] = letters[at + 2], letters[at + 1]
    changed = "".join(letters)
    return (changed, "swapped letters") if changed != text else None


def refused(text: str, dice: Dice) -> tuple[str, str] | None:
    """A refusal in the answer's place."""
    refusal = dice.any(REFUSALS)
    return refusal, refusal


RULES: dict[str, Rule] = {
    "length": padded,
    "repetition": repeated,
    "list": listed,
    "heading": headed,
    "position": moved,
    "hedging": _after(HEDGES),
    "flattery": _before(FLATTERY),
    "politeness": polite,
    "dialect": informal,
    "typos": mistyped,
    "refusal": refused,
}
"""By kind, the rule that changes an answer and leaves its prompt alone."""

certain: Rule = _after(CERTAIN)
"""A claim of certainty behind an answer whose truth is known."""
