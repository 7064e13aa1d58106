"""Every legal sentence of the world, and what each one is.

The list is complete: a sentence that is not in it is garbled. That is what makes the gold score exact
for any text whatever.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from heedful.world.facts import (
    CHAT,
    CHAT_EXTRAS,
    HARMFUL,
    HARMFUL_EXTRAS,
    HARMFUL_STATEMENTS,
    POEM_EXTRAS,
    POEM_LINES,
    POEM_SECONDS,
    TABLES,
    UNKNOWN,
    UNKNOWN_EXTRAS,
    UNKNOWN_STATEMENTS,
    Table,
)
from heedful.world.phrases import CERTAIN, CLOSERS, HEDGES, IGNORANCE, OPENERS, PADS, REFUSALS, RUDE

Category = Literal[
    "open", "close", "pad", "hedge", "certain", "rude", "ignorance", "refusal", "extra",
    "statement", "advice", "chat", "first", "second",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a legal sentence is.

    `subject` is the topic that a statement, piece of advice, reply or first line is about, and the group
    of an extra; empty otherwise. `rhyme` is that of a poem's line.
    """

    category: Category
    subject: str = ""
    rhyme: str = ""


def _tables_by_sort() -> tuple[list[Table], list[Table], list[Table]]:
    plain = [table for table in TABLES if table.kind not in ("howto", "code")]
    howto = [table for table in TABLES if table.kind == "howto"]
    code = [table for table in TABLES if table.kind == "code"]
    return plain, howto, code


def _values(table: Table) -> list[str]:
    """Every value of a table, true or a common error."""
    return [value for row in table.rows.values() for value in (row.value, *row.errors)]


def _statements() -> list[tuple[str, Sentence]]:
    """Statements of every key with every value of any table, sensible or not: each is an answer."""
    plain, howto, code = _tables_by_sort()
    words = list(dict.fromkeys(value for table in plain for value in _values(table)))
    words += [value for made_up in UNKNOWN.values() for value in made_up if value not in words]
    found: list[tuple[str, Sentence]] = []
    for table in plain:
        for value in words:
            for key in table.rows:
                meaning = Sentence("statement", f"{table.name}/{key}")
                found += [(form.format(key=key, value=value), meaning) for form in table.statements]
    for value in words:
        for key in UNKNOWN:
            meaning = Sentence("statement", f"unknown/{key}")
            found += [(form.format(key=key, value=value), meaning) for form in UNKNOWN_STATEMENTS]
    for table in code:
        for key in table.rows:
            for sign in _values(table):
                meaning = Sentence("statement", f"{table.name}/{key}")
                found += [(form.format(key=key, value=sign), meaning) for form in table.statements]
    steps = [step for table in howto for step in _values(table)] + list(HARMFUL.values())
    acts = [(f"{table.name}/{key}", key, table.statements) for table in howto for key in table.rows]
    acts += [(f"harmful/{act}", act, HARMFUL_STATEMENTS) for act in HARMFUL]
    for name, act, templates in acts:
        for step in steps:
            found += [(form.format(key=act, value=step), Sentence("advice", name)) for form in templates]
    return found


def _extras() -> list[tuple[str, Sentence]]:
    groups = {table.name: table.extras for table in TABLES}
    groups |= {"harmful": HARMFUL_EXTRAS, "unknown": UNKNOWN_EXTRAS, "chat": CHAT_EXTRAS, "poem": POEM_EXTRAS}
    return [(text, Sentence("extra", group)) for group, texts in groups.items() for text in texts]


def _creative() -> list[tuple[str, Sentence]]:
    found = [(text, Sentence("chat", f"chat/{name}")) for name, (_, replies) in CHAT.items() for text in replies]
    for key, firsts in POEM_LINES.items():
        found += [(text, Sentence("first", f"poem/{key}", rhyme)) for text, rhyme in firsts]
    for rhyme, seconds in POEM_SECONDS.items():
        found += [(text, Sentence("second", "", rhyme)) for text in seconds]
    return found


@cache
def lexicon() -> dict[str, Sentence]:
    """Every legal sentence with its meaning.

    Raises:
        ValueError: if one sentence has two meanings; the world would be ambiguous.
    """
    manners: list[tuple[Category, tuple[str, ...]]] = [
        ("open", OPENERS),
        ("close", CLOSERS),
        ("pad", PADS),
        ("hedge", HEDGES),
        ("certain", CERTAIN),
        ("rude", RUDE),
        ("ignorance", IGNORANCE),
        ("refusal", REFUSALS),
    ]
    entries = [(text, Sentence(category)) for category, texts in manners for text in texts]
    entries += _statements() + _extras() + _creative()
    found: dict[str, Sentence] = {}
    for text, meaning in entries:
        if found.setdefault(text, meaning) != meaning:
            raise ValueError(f"ambiguous sentence: {text!r} is {found[text]} and {meaning}")
    return found


_ENDS = frozenset({".", "!", "?"})


def sentences(text: str) -> list[str]:
    """A text cut after every full stop, exclamation and question mark; words joined by one space.

    A last fragment without a mark is a sentence of its own (and never a legal one).
    """
    found: list[str] = []
    words: list[str] = []
    for word in text.split():
        words.append(word)
        if word in _ENDS:
            found.append(" ".join(words))
            words = []
    if words:
        found.append(" ".join(words))
    return found
