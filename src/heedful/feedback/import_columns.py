"""Which column of a file is what: a proposal from the columns' names, and the mapping that a person gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heedful.errors import HeedfulError, nearest
from heedful.feedback.import_source import Row, printable
from heedful.feedback.payloads import MAX_COMPLETIONS

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
LETTERS = tuple(ALPHABET[:MAX_COMPLETIONS])
ANSWERS = (*LETTERS, "completions")
POLICIES = ("policy", "policies", *(f"policy_{letter}" for letter in LETTERS))
OTHERS = ("language", "category", "expertise", "priority", "raters")
TARGETS = ("prompt", *ANSWERS, *POLICIES, *OTHERS)
"""What a column can be: the prompt, completion a to i or a list of completions, their policies, and where it goes."""

CONTAINERS = ("data", "fields")
"""Objects whose own keys count as columns, "data.prompt": Label Studio's and Argilla's."""

_PROMPTS = ("prompt", "question", "instruction", "query", "userprompt", "request", "input", "conversation", "messages")
_STEMS = "completion|response|answer|output|candidate|reply|generation|modeloutput|conversation|text"
_FAMILY = re.compile(rf"({_STEMS})?([a-z]|[0-9]{{1,2}})")
_MARKS = (ALPHABET, tuple(str(n) for n in range(1, 100)), tuple(str(n) for n in range(100)))
_LISTS = ("completions", "responses", "answers", "candidates", "outputs", "generations", "items")
_ALONE = ("completion", "response", "answer", "output", "reply", "generation")
_POLICY_WORDS = ("policy", "model", "generator")
_OTHERS = {
    "language": ("language", "lang", "locale"),
    "category": ("category", "categories", "contentcategory", "contentcategories"),
    "expertise": ("expertise", "expert", "skill"),
    "priority": ("priority",),
    "raters": ("raters", "namedraters", "rater", "assignedto"),
}


def columns_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns of the first rows, in order of appearance; those of containers by dotted names."""
    found: dict[str, None] = {}
    for row in rows:
        for name, value in row.items():
            if name in CONTAINERS and isinstance(value, dict):
                found |= dict.fromkeys(f"{name}.{key}" for key in value)
            else:
                found[name] = None
    return tuple(found)


def value_of(row: Row, column: str) -> Any:
    """A column's value in a row; None where it has none."""
    if column in row:
        return row[column]
    head, _, tail = column.partition(".")
    inner = row.get(head) if head in CONTAINERS else None
    return inner.get(tail) if isinstance(inner, dict) else None


def rest_of(row: Row, used: set[str]) -> Row:
    """A row without the columns that were read."""
    rest: Row = {}
    for name, value in row.items():
        if name in CONTAINERS and isinstance(value, dict):
            inner = {key: kept for key, kept in value.items() if f"{name}.{key}" not in used}
            if inner:
                rest[name] = inner
        elif name not in used:
            rest[name] = value
    return rest


def key_of(column: str) -> str:
    """A column's name without its container, case and punctuation."""
    head, dot, tail = column.partition(".")
    return re.sub(r"[\W_]+", "", (tail if dot and head in CONTAINERS else column).lower())


def propose(columns: Sequence[str], rows: Sequence[Row], *, answers: bool = True) -> dict[str, str]:
    """What each column most likely is, by target.

    Args:
        columns: as `columns_of` gives them.
        rows: the first rows, which tell lists from texts.
        answers: look for completions too.

    Raises:
        HeedfulError: more columns look like completions than an item can have.
    """
    keys: dict[str, str] = {}
    for column in columns:
        keys.setdefault(key_of(column), column)
    found = _completions(keys, rows) if answers else {}
    wanted = [name for name in _PROMPTS if name in keys and keys[name] not in found.values()]
    if not found:  # alone, `messages` is a whole conversation with its answer
        wanted = [name for name in wanted if name not in ("messages", "conversation")]
    if wanted:
        found = {"prompt": keys[wanted[0]], **found}
    taken = set(found.values())
    for target, names in _OTHERS.items():
        named = next((keys[name] for name in names if name in keys), None)
        if named is not None and named not in taken:
            found[target] = named
    return found


def _completions(keys: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    if "chosen" in keys and "rejected" in keys:
        return _with_policies({"a": "chosen", "b": "rejected"}, ("chosen", "rejected"), keys)
    families: dict[str, dict[str, str]] = {}
    for key in keys:
        match = _FAMILY.fullmatch(key)
        if match:
            families.setdefault(match[1] or "", {})[match[2]] = key
    for family in sorted(families.values(), key=len, reverse=True):
        run = max((list(_run(family, marks)) for marks in _MARKS), key=len)
        if len(run) > MAX_COMPLETIONS:
            raise HeedfulError(
                "{count} columns of completions; an item has at most {most}.",
                where=keys[family[run[MAX_COMPLETIONS]]],
                mend="Drop some, or name those that are meant: --map a=COLUMN b=COLUMN.",
                count=len(run),
                most=MAX_COMPLETIONS,
            )
        if len(run) > 1:
            return _with_policies({LETTERS[i]: family[mark] for i, mark in enumerate(run)}, run, keys)
    for name in _LISTS:
        if name in keys and any(_is_list(value_of(row, keys[name])) for row in rows):
            found = {"completions": keys[name]}
            policies = next((keys[p] for p in ("policies", "models") if p in keys), None)
            return found | ({"policies": policies} if policies and not _named(rows, keys[name]) else {})
    alone = next((name for name in _ALONE if name in keys), None)
    return _with_policies({"a": alone}, (), keys) if alone else {}


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] == "[")


def _named(rows: Sequence[Row], column: str) -> bool:
    """Whether a list's entries name their models themselves."""
    entries = [entry for row in rows if isinstance(value := value_of(row, column), list) for entry in value]
    return any(isinstance(entry, dict) and (entry.get("model") or entry.get("policy")) for entry in entries)


def _run(family: Mapping[str, str], marks: Sequence[str]) -> Iterator[str]:
    """The marks that are there from the first on without a gap."""
    for mark in marks:
        if mark not in family:
            return
        yield mark


def _with_policies(found: dict[str, str], marks: Sequence[str], keys: Mapping[str, str]) -> dict[str, str]:
    """Columns by key to columns by name, and beside them the columns that name their policies."""
    mapped = {target: keys[key] for target, key in found.items()}
    for (target, key), mark in zip(found.items(), marks, strict=False):
        names = [name for policy in _POLICY_WORDS for name in (f"{policy}{mark}", f"{key}{policy}")]
        column = next((keys[name] for name in names if name in keys), None)
        if column:
            mapped[f"policy_{target}"] = column
    alone = next((keys[name] for name in _POLICY_WORDS if name in keys), None)
    if alone and not any(target.startswith("policy_") for target in mapped):
        mapped["policy"] = alone
    return mapped


def merged(
    proposed: Mapping[str, str], given: Mapping[str, str], columns: Sequence[str], *, whole: bool = True
) -> dict[str, str]:
    """The proposal with what a person says: theirs wins, an empty column takes a target away.

    A mapping that names completions replaces all the completions, and the policies, that were proposed.

    Args:
        proposed: as `propose` gives it.
        given: targets and columns.
        columns: that the file has.
        whole: the mapping must give items by itself: a prompt, and completions without a gap.

    Raises:
        HeedfulError: an unknown target or column, a gap in a, b, c, a column used twice, no prompt.
    """
    for target, column in given.items():
        _check_entry(target, column, columns)
    named = any(given.get(target) for target in ANSWERS)
    base = {k: v for k, v in proposed.items() if not (named and k in (*ANSWERS, *POLICIES))}
    base = {k: v for k, v in base.items() if k in given or v not in given.values()}
    found = {target: column for target, column in {**base, **given}.items() if column}
    if whole:
        _check(found)
    return {target: found[target] for target in TARGETS if target in found}


def _check_entry(target: str, column: str, columns: Sequence[str]) -> None:
    if target not in TARGETS:
        raise HeedfulError(
            "{target!r} is nothing that a column can be. {hint}",
            where="map",
            mend="Known: prompt, a to i, completions, policy, policies, policy_a to policy_i, {others}.",
            target=printable(target),
            hint=nearest(target, list(TARGETS)),
            others=", ".join(OTHERS),
        )
    if column and column not in columns:
        names = ", ".join(printable(name, 40) for name in columns[:20])
        raise HeedfulError(
            "there is no column {column!r}. {hint}",
            where=f"map {target}",
            mend="The file has {names}.",
            column=printable(column),
            hint=nearest(column, list(columns)),
            names=names,
        )


def _check(found: Mapping[str, str]) -> None:
    present = [letter for letter in LETTERS if letter in found]
    if present != list(LETTERS[: len(present)]):
        gap = next(letter for letter in LETTERS if letter not in found)
        raise HeedfulError(
            "there is {letter}, but no {gap}.", where="map", mend="Map a column to {gap}.", letter=present[-1], gap=gap
        )
    if present and "completions" in found:
        raise HeedfulError(
            "completions come from columns of their own, or from one column that is a list.",
            where="map completions",
            mend="Take one of the two away.",
        )
    for letter in LETTERS:
        if f"policy_{letter}" in found and letter not in found:
            raise HeedfulError(
                "there is a policy of completion {letter}, but no such completion.",
                where=f"map policy_{letter}",
                mend="Map {letter} too; policies of a list come as a list: policies.",
                letter=letter,
            )
    texts = [target for target in ("prompt", *LETTERS, "completions") if target in found]
    for i, target in enumerate(texts):
        for other in texts[:i]:
            if found[target] == found[other]:
                raise HeedfulError(
                    "the column {column!r} is {other} and {target} at once.",
                    where=f"map {target}",
                    column=found[target],
                    other=other,
                    target=target,
                )
    if "prompt" not in found:
        raise HeedfulError("no column is the prompt.", where="map", mend="Name it: --map prompt=COLUMN.")


def parse_mapping(words: Sequence[str]) -> dict[str, str]:
    """A mapping from words like "a=answer1".

    Raises:
        HeedfulError: a word without "=", or a target twice.
    """
    found: dict[str, str] = {}
    for word in words:
        target, equals, column = word.partition("=")
        if not equals:
            raise HeedfulError("{word!r} maps nothing.", where="map", mend="Write a=COLUMN.", word=printable(word))
        if target in found:
            raise HeedfulError("{target!r} is mapped twice.", where="map", mend="Keep one.", target=printable(target))
        found[target] = column
    return found
