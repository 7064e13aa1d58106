"""Answers made worse on purpose: pairs whose label is known, because heedful itself did the damage.

Pure functions of a text and of a seeded source of chance. A way of degrading that does not apply to a text says so by
returning None; it never returns the text itself. Needs no Django and no torch.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from heedful.core.text import rouge_l, words
from heedful.data.records import Conversation, Demonstration, Preference, as_messages
from heedful.errors import HeedfulError, nearest
from heedful.files import sha256_json

Kind = Literal["truncated", "shuffled", "repeated", "garbled", "wrong-number", "wrong-fact", "off-topic"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")
_WORD = re.compile(r"\S+")
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?!\w)")
_KEPT = (0.3, 0.7)
"""Between which shares of the words a truncated answer ends."""
_FAR = 0.5
"""Prompts at least this alike (ROUGE-L) are on one topic."""
_TRIES = 20


@dataclass(frozen=True)
class Material:
    """What degrading may draw on.

    Args:
        prompts, answers: of the whole file, in step: where the answer of an off-topic swap comes from.
        facts: what is true, with what is wrong in its place: `{"thirty days": ("forty days",)}`. Matched as whole
            words, whatever their case.
    """

    prompts: Sequence[Conversation] = ()
    answers: Sequence[str] = ()
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)


def kinds_of(names: Sequence[str]) -> tuple[Kind, ...]:
    """The ways of degrading by name; all of them where none is named.

    Raises:
        HeedfulError: there is no such way.
    """
    for name in names:
        if name not in KINDS:
            raise HeedfulError(
                f"there is no degradation {name!r}. {nearest(name, list(KINDS))}".strip(),
                mend=f"Known: {', '.join(KINDS)}.",
            )
    return tuple(kind for kind in KINDS if kind in names) or KINDS


def sentences(text: str) -> tuple[list[str], list[str]]:
    """A text's sentences or lines, and the n - 1 gaps of white space between them: joined in turn they are the text."""
    found, gaps, start = [], [], 0
    for gap in _BREAK.finditer(text):
        if gap.start() > start and gap.end() < len(text):
            found.append(text[start : gap.start()])
            gaps.append(gap[0])
            start = gap.end()
    return [*found, text[start:]], gaps


def joined(parts: Sequence[str], gaps: Sequence[str]) -> str:
    """The counterpart of `sentences`."""
    return "".join(part + gap for part, gap in zip(parts, [*gaps, ""], strict=True))


def truncated(text: str, chance: random.Random) -> str | None:
    """The beginning of an answer, cut in the middle of what it says: 30 to 70% of its words."""
    share = chance.uniform(*_KEPT)
    found = list(_WORD.finditer(text))
    if len(found) >= 4:
        return text[: found[min(max(1, round(share * len(found))), len(found) - 1) - 1].end()]
    plain = text.strip()
    return plain[: round(share * len(plain))].strip() or None if len(plain) >= 12 else None


def shuffled(text: str, chance: random.Random) -> str | None:
    """The sentences in another order; the gaps stay where they are. None with fewer than two different ones."""
    parts, gaps = sentences(text)
    if len(set(parts)) < 2:
        return None
    for _ in range(_TRIES):
        order = chance.sample(parts, len(parts))
        if order != parts:
            return joined(order, gaps)
    return joined(parts[::-1], gaps) if parts != parts[::-1] else None


def repeated(text: str, chance: random.Random) -> str | None:
    """One sentence said two to four times in a row."""
    parts, gaps = sentences(text)
    place = chance.randrange(len(parts))
    if not parts[place].strip():
        return None
    gap = gaps[min(place, len(gaps) - 1)] if gaps else " "
    again = gap.join([parts[place].strip()] * chance.randint(2, 4))
    return joined([*parts[:place], again, *parts[place + 1 :]], gaps)


def garbled(text: str, chance: random.Random) -> str | None:
    """Words of one sentence in another order. None where no sentence has three different words."""
    parts, gaps = sentences(text)
    places = [i for i, part in enumerate(parts) if len(set(part.split())) >= 3]
    if not places:
        return None
    place = chance.choice(places)
    own = parts[place].split()
    order = own
    while order == own:
        order = chance.sample(own, len(own))
    return joined([*parts[:place], " ".join(order), *parts[place + 1 :]], gaps)


def wrong_number(text: str, chance: random.Random) -> str | None:
    """One number changed in one digit, never in its first one to 0. None where there is no number."""
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    one = chance.choice(found)
    place = chance.choice([i for i, sign in enumerate(one[0]) if sign.isdigit()])
    digits = "123456789" if place == 0 and len(one[0]) > 1 else "0123456789"
    digit = chance.choice([d for d in digits if d != one[0][place]])
    at = one.start() + place
    return text[:at] + digit + text[at + 1 :]


def wrong_fact(text: str, chance: random.Random, facts: Mapping[str, Sequence[str]]) -> str | None:
    """What is true replaced by what is wrong, wherever it stands. None where the text says none of the facts."""
    found = [true for true in facts if _says(true).search(text)]
    if not found:
        return None
    true = chance.choice(found)
    wrong = chance.choice(list(facts[true]))
    return _says(true).sub(lambda met: wrong[:1].upper() + wrong[1:] if met[0][:1].isupper() else wrong, text)


def _says(true: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(true)}(?!\w)", re.IGNORECASE)


def off_topic(prompt: Conversation, text: str, chance: random.Random, material: Material) -> str | None:
    """The answer to another prompt, one that is unlike this one. None where a few tries find none."""
    own = words(prompt[-1].content)
    for place in chance.sample(range(len(material.answers)), min(_TRIES, len(material.answers))):
        other = material.answers[place]
        unlike = rouge_l(own, words(material.prompts[place][-1].content)) < _FAR
        if unlike and other.strip() and other.strip() != text.strip():
            return other
    return None


def degraded(kind: Kind, record: Demonstration, chance: random.Random, material: Material) -> str | None:
    """An answer degraded in one way, or None where that way does not apply to it."""
    text = record.completion
    if kind == "off-topic":
        return off_topic(record.prompt, text, chance, material)
    if kind == "wrong-fact":
        found = wrong_fact(text, chance, material.facts)
    else:
        found = _PLAIN[kind](text, chance)
    return None if found is None or not found.strip() or found.strip() == text.strip() else found


_PLAIN: dict[str, Callable[[str, random.Random], str | None]] = {
    "truncated": truncated,
    "shuffled": shuffled,
    "repeated": repeated,
    "garbled": garbled,
    "wrong-number": wrong_number,
}


def degradations(
    records: Sequence[Demonstration],
    kinds: Sequence[Kind],
    *,
    per_answer: int,
    seed: int,
    facts: Mapping[str, Sequence[str]],
) -> tuple[list[Preference], int]:
    """Each answer against damaged ones, up to `per_answer` of different kinds, and how many answers no kind applied to.

    Which kinds are tried first is drawn for each answer, so that kinds that apply widely do not crowd out the others.
    What is drawn for an answer depends on the seed and on itself alone, the partner of an off-topic swap excepted.
    """
    material = Material([r.prompt for r in records], [r.completion for r in records], facts)
    found: list[Preference] = []
    without = 0
    for record in records:
        chance = random.Random(sha256_json([seed, as_messages(record.prompt), record.completion]))
        own: list[Preference] = []
        for kind in chance.sample(list(kinds), len(kinds)):
            worse = degraded(kind, record, chance, material)
            if worse is not None:
                made = (("by", "degradation"), ("kind", kind), ("seed", seed))
                own.append(Preference(record.prompt, record.completion, worse, origin=record.origin, made=made))
            if len(own) == per_answer:
                break
        found += own
        without += not own
    return found, without
