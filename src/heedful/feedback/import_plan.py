"""The dry run of an import: what a file holds, what would become of it, and everything that is wrong. No Django."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.data.formats import BY_NAME
from heedful.errors import HeedfulError, Sentence, nearest
from heedful.feedback.import_columns import ANSWERS, OTHERS, POLICIES, columns_of, merged, propose, value_of
from heedful.feedback.import_rows import (
    CONVERTED,
    Draft,
    Reader,
    converted_format,
    mapped_format,
    verdict_format,
)
from heedful.feedback.import_source import MAX_BYTES, Problem, Problems, Row, Source, printable, read
from heedful.feedback.payloads import COMPLETIONS

FIRST_ROWS = 50
"""Rows that tell a file's columns, format and task."""
PREVIEW = 5
MAX_ITEMS = 50_000
"""Of one batch: they are prepared in memory, so that the transaction that writes them is short."""
KEPT_ASIDE = Sentence(
    "What the file says of its answers is kept aside, since people are to judge anew; "
    "heedful import --judgments-as NAME makes judgments of it."
)
RAW = "heedful-raw"
"""The format of a whole programme: see `heedful.feedback.raw`."""

_SAYS = {
    "columns": "a table whose columns say what is prompt and completion",
    "label-studio": "a Label Studio export",
    "argilla-records": "Argilla's records",
    RAW: "a whole programme, as heedful exports it",
}


@dataclass(frozen=True)
class Plan:
    """What an import would do. It can be staged when there are no problems."""

    source: Source
    sha256: str
    """Of the file's bytes."""
    format: str
    sentence: str
    """What was recognised, for a person."""
    columns: tuple[str, ...] = ()
    samples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The beginnings of each column's first values."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    """Targets (`heedful.feedback.import_columns.TARGETS`) to columns."""
    kept: tuple[str, ...] = ()
    """Columns that heedful does not read; their values are kept beside each prompt."""
    task: str = ""
    rows: int = 0
    items: int = 0
    completions: Mapping[int, int] = field(default_factory=dict)
    """How many items have how many completions."""
    languages: Mapping[str, int] = field(default_factory=dict)
    policies: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    """The first ones; `problem_count` counts all."""
    problem_count: int = 0
    problem_kinds: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What is no problem, but worth knowing."""
    preview: tuple[Draft, ...] = ()
    limit: int = MAX_BYTES

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": self.source.name,
            "sha256": self.sha256,
            "format": self.format,
            "says": self.sentence,
            "columns": list(self.columns),
            "map": dict(self.mapping),
            "kept": list(self.kept),
            "task": self.task,
            "rows": self.rows,
            "items": self.items,
            "completions": {str(k): n for k, n in self.completions.items()},
            "languages": dict(self.languages),
            "policies": dict(self.policies),
            "problems": self.problem_count,
            "kinds": dict(self.problem_kinds),
            "first_problems": [
                {"line": p.line, "field": p.field, "what": p.what, "mend": p.mend} for p in self.problems
            ],
            "notes": list(self.notes),
        }

    def require_clean(self) -> None:
        """Refuse to go on while there are problems.

        Raises:
            HeedfulError: with the first problem's line and field, and the count of all.
        """
        if not self.problem_count:
            return
        first = self.problems[0]
        place = f"{self.source.where}:{first.line}" if first.line else self.source.where
        what = Sentence("{place}: {said}", place=first.field, said=first.what) if first.field else first.what
        if self.problem_count > 1:
            what = Sentence("{problem} That is one of {count} problems.", problem=what, count=self.problem_count)
        raise HeedfulError(what, where=place, mend=_and_nothing_was_imported(first.mend))


def plan(
    source: Source | Path | str,
    mapping: Mapping[str, str] | None = None,
    task: str | None = None,
    *,
    limit: int = MAX_BYTES,
    most: int | None = None,
    known_rater: Callable[[str], bool] | None = None,
) -> Plan:
    """Read a file through and say what importing it would do, with every problem. Nothing is written.

    Args:
        source: a file, or a `Source` of bytes with a name.
        mapping: targets and columns that win over the proposal; see `TARGETS`.
        task: a task kind; by default what the number of completions suggests.
        limit: bytes, unpacked.
        most: rows; at one more reading ends, and the file is refused. By default it is read to its end, so that
            every problem is listed.
        known_rater: whether a rater is known by a name; without it, named raters are not checked.

    Raises:
        HeedfulError: the file is not there or of no known kind, or the mapping or task is none.
    """
    source = Source.of(source)
    if task is not None and task not in COMPLETIONS:
        raise HeedfulError(
            "there is no task {task!r}. {hint}",
            where="task",
            mend="Known: {known}.",
            task=task,
            hint=nearest(task, list(COMPLETIONS)),
            known=", ".join(COMPLETIONS),
        )
    problems = Problems()
    rows = read(source, problems, limit=limit)
    first = list(itertools.islice(rows, FIRST_ROWS))
    if not first:
        if not problems.count:
            problems.add(0, "", "there are no rows at all.", "Check that it is the right file.")
        return _failed(source, problems, limit)
    if first[0][1].get("heedful") == "raw":
        return _raw(source, itertools.chain(first, rows), problems, limit)
    columns = columns_of([row for _, row in first])
    try:
        name, found = _recognised(columns, [row for _, row in first], dict(mapping or {}))
    except HeedfulError as error:
        if mapping:
            raise  # of what the caller said
        if len(columns) == 1 and ";" in columns[0]:
            problems.add(0, "", "cells are separated by semicolons.", "Save it with commas.")
        else:
            problems.add(0, "" if error.where.startswith("map") else error.where, error.what, error.mend)
        return _failed(source, problems, limit, columns=columns, samples=_samples(columns, first))
    reader = Reader(name, found, _is_table(source), problems, known_rater)
    begun = [(line, reader.draft(line, row)) for line, row in first]
    counts = _Counts(reader, task or _suggested(draft for _, draft in begun if draft))
    for line, draft in itertools.chain(begun, ((line, reader.draft(line, row)) for line, row in rows)):
        counts.take(line, draft)
        if most is not None and counts.rows > most:
            counts.too_many(line)
            break
    return counts.plan(source, columns, _samples(columns, first), limit)


def is_raw(source: Source | Path | str) -> bool:
    """Whether a file is a raw export, by its first line.

    Raises:
        HeedfulError: the file is not there or of no known kind.
    """
    first = next(read(Source.of(source), Problems()), (0, {}))
    return first[1].get("heedful") == "raw"


def drafts(made: Plan) -> Iterator[Draft]:
    """The items of a clean plan, read from its file again.

    Raises:
        HeedfulError: the file has changed since.
    """
    made.require_clean()
    if made.source.sha256() != made.sha256:
        raise HeedfulError(
            "the file has changed since it was looked at.", where=made.source.where, mend="Look at it again."
        )
    problems = Problems()
    reader = Reader(made.format, made.mapping, _is_table(made.source), problems)
    for line, row in read(made.source, problems, limit=made.limit):
        found = reader.draft(line, row)
        if found is None:
            raise HeedfulError("the file has changed since it was looked at.", where=f"{made.source.where}:{line}")
        yield found


def placed(error: HeedfulError, made: Plan, lines: Sequence[int]) -> HeedfulError:
    """What the store said of an item, with the line of the file in place of the item's number.

    Args:
        error: whose place is "item N, field".
        made: the plan of the file.
        lines: of the items, in their order.
    """
    found = re.fullmatch(r"item (\d+), (.*)", error.where, re.DOTALL)
    if not found:
        return error
    where = f"{made.source.where}:{lines[int(found[1]) - 1]}, {found[2]}"
    return type(error)(error.what, where=where, mend=_and_nothing_was_imported(error.mend))


def _sentence(source: Source, says: str) -> Sentence:
    return Sentence("{place}: {said}", place=source.name, said=Sentence("{problem}.", problem=Sentence(says)))


def _and_nothing_was_imported(mend: str) -> str:
    return Sentence("{mend} Nothing was imported.", mend=mend)


def _recognised(columns: Sequence[str], rows: Sequence[Row], given: dict[str, str]) -> tuple[str, dict[str, str]]:
    """(format, mapping)."""
    told = any(given.get(target) for target in ("prompt", *ANSWERS))
    proposed = propose(columns, rows, answers=not any(given.get(target) for target in ANSWERS))
    name = "" if told else converted_format(rows, proposed)
    if name:
        proposed = {k: v for k, v in propose(columns, rows).items() if k in (*POLICIES, *OTHERS)}
        return name, merged(proposed, given, columns, whole=False)
    found = merged(proposed, given, columns)
    return mapped_format(columns, found), found


def _is_table(source: Source) -> bool:
    return source.name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def _samples(columns: Sequence[str], first: Sequence[tuple[int, Row]]) -> dict[str, tuple[str, ...]]:
    found = {}
    for column in columns:
        values = [value_of(row, column) for _, row in first[:3]]
        found[column] = tuple(printable(str(value), 80) for value in values if value not in (None, ""))
    return found


def _failed(source: Source, problems: Problems, limit: int, **more: Any) -> Plan:
    return Plan(source, source.sha256(), "", "", limit=limit, **_told(problems), **more)


def _told(problems: Problems) -> dict[str, Any]:
    return {
        "problems": tuple(sorted(problems.first, key=lambda one: one.line)),
        "problem_count": problems.count,
        "problem_kinds": dict(problems.kinds.most_common()),
    }


def _raw(source: Source, rows: Iterator[tuple[int, Row]], problems: Problems, limit: int) -> Plan:
    """A raw export: whether all is there that its head announces. `heedful.feedback.raw_import` checks the records."""
    _, head = next(rows)
    told = head.get("records")
    told = told if isinstance(told, dict) else {}
    found = Counter(str(row.get("record")) for _, row in rows)
    for kind in dict.fromkeys([*told, *found]):
        if found[kind] != told.get(kind, 0):
            what = Sentence(
                "{count} records of the kind {kind!r}; {told} were announced.",
                count=found[kind],
                kind=kind,
                told=told.get(kind, 0),
            )
            problems.add(0, "record", what, "Fetch or copy the file again: it seems to be cut short.")
    notes = [Sentence("It is restored whole, with its ids, where its programme is not.")]
    if _allows_private(head):
        notes.append(Sentence("It allows private addresses; here they stay refused until an admin allows them."))
    return Plan(
        source,
        source.sha256(),
        RAW,
        _sentence(source, _SAYS[RAW]),
        rows=found.total(),
        items=found["item"],
        notes=tuple(notes),
        limit=limit,
        **_told(problems),
    )


def _allows_private(head: Row) -> bool:
    """Whether the programme of a raw export let endpoints and webhooks lie in private ranges."""
    about = head.get("programme")
    settings = about.get("settings") if isinstance(about, dict) else None
    return isinstance(settings, dict) and bool(settings.get("allow_private_addresses"))


@dataclass
class _Counts:
    """What is learnt of a file while its rows pass by."""

    reader: Reader
    task: str
    rows: int = 0
    items: int = 0
    completions: Counter[int] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    equal: int = 0
    full: bool = False
    preview: list[Draft] = field(default_factory=list)

    def take(self, line: int, draft: Draft | None) -> None:
        """Count a row."""
        self.rows += 1
        if draft is None or not self._suits(line, draft):
            return
        self.items += 1
        if self.items == MAX_ITEMS + 1:
            self.too_many(line)
        self.completions[len(draft.answers)] += 1
        self.languages[draft.language] += 1
        self.policies.update(answer.policy for answer in draft.answers)
        self.equal += len({answer.text for answer in draft.answers}) < len(draft.answers)
        if len(self.preview) < PREVIEW:
            self.preview.append(draft)

    def too_many(self, line: int) -> None:
        """Note, once, that there is more than one batch holds."""
        if not self.full:
            what = Sentence("there are more than {most:,} items, the most of one batch.", most=MAX_ITEMS)
            self.reader.problems.add(line, "", what, "Split the file.")
        self.full = True

    def _suits(self, line: int, draft: Draft) -> bool:
        """Whether a draft is an item of the task."""
        mapping = self.reader.mapping
        low, high = COMPLETIONS[self.task]
        count = len(draft.answers)
        ok = low <= count <= high
        if not ok:
            place = mapping.get("completions") or mapping.get("a") or CONVERTED.get(self.reader.format, ("",))[0]
            takes = str(low) if low == high else f"{low} to {high}"
            what = Sentence(
                "{count} completions, and the task {task} takes {takes}.", count=count, task=self.task, takes=takes
            )
            self.reader.problems.add(line, place, what, "Choose another task, or mend the row.")
        return ok

    def plan(self, source: Source, columns: Sequence[str], samples: Mapping[str, tuple[str, ...]], limit: int) -> Plan:
        """All of it."""
        reader = self.reader
        says = _SAYS.get(reader.format) or BY_NAME[reader.format].says
        used = set(reader.mapping.values())
        if reader.format in CONVERTED:
            used |= {*CONVERTED[reader.format], "prompt", "instruction", "input"}
        notes = []
        if self.equal:
            notes.append(Sentence("{count} items have answers that are the same text.", count=self.equal))
        if verdict_format(reader.format, columns, reader.mapping):
            notes.append(KEPT_ASIDE)
        kept = tuple(column for column in columns if column not in used)
        if kept:
            names = ", ".join(printable(name, 40) for name in kept[:12])
            notes.append(
                Sentence("Columns that heedful does not read are kept beside the prompts: {names}.", names=names)
            )
        return Plan(
            source,
            source.sha256(),
            reader.format,
            _sentence(source, says),
            tuple(columns),
            samples,
            dict(reader.mapping),
            kept,
            self.task,
            self.rows,
            self.items,
            dict(sorted(self.completions.items())),
            {name: count for name, count in self.languages.most_common() if name},
            {name: count for name, count in self.policies.most_common(50) if name},
            notes=tuple(notes),
            preview=tuple(self.preview),
            limit=limit,
            **_told(reader.problems),
        )


def _suggested(found: Iterable[Draft]) -> str:
    """The task that items with so many completions are most likely for."""
    most = max((len(draft.answers) for draft in found), default=2)
    return {0: "demonstration", 1: "attributes", 2: "pairwise"}.get(most, "ranking")
