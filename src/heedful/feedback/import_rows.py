"""Rows of a file as items to be judged; whatever is wrong with one is noted with its line and field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heedful.data import convert
from heedful.data.findings import MENDS
from heedful.data.formats import BY_NAME, FORMATS
from heedful.data.records import Conversation, Demonstration, Origin, Preference, Record
from heedful.data.turns import BadContentError, prompt_of
from heedful.errors import HeedfulError, Sentence
from heedful.feedback.import_columns import ANSWERS, LETTERS, rest_of, value_of
from heedful.feedback.import_source import Problems, Row, flaws, plain
from heedful.feedback.payloads import MAX_COMPLETIONS
from heedful.feedback.texts import clean_json

CONVERTED: dict[str, tuple[str, ...]] = {
    "arena": ("response_a", "response_b"),
    "arena-conversations": ("conversation_a", "conversation_b"),
    "alpaca-eval": ("output_1", "output_2"),
    "alpaca": ("output",),
    "hh": ("chosen", "rejected"),
    "trl-implicit": ("chosen", "rejected"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
}
"""Formats in which no column is the prompt alone, or whose cells are no plain texts, with the fields of the answers.
They are read by `heedful.data.convert`; every other format is a mapping of columns."""

_NO_VERDICT: dict[str, Row] = {
    "arena": {"winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1},
    "arena-conversations": {"winner": "tie"},
    "alpaca-eval": {"preference": 1.5},
}
"""An item is to be judged: what the file says of it is kept aside and must not turn its answers round."""

WITH_VERDICTS = (
    *("heedful", "trl-preference", "trl-implicit", "hh", "argilla", "ultrafeedback-binarized", "ultrafeedback"),
    *("arena", "arena-conversations", "alpaca-eval", "label-studio", "argilla-records", "ranking"),
    "helpsteer-preference",
)
"""Formats whose rows say which answer is better: `heedful.feedback.import_verdicts` reads that, where it is asked."""

_TEXTS = ("response", "text", "content", "completion", "answer", "output", "body", "generated_text")
_MODELS = ("model", "policy", "generator")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


@dataclass(frozen=True)
class Answer:
    """A completion to be judged, and where it came from."""

    text: str
    policy: str = ""
    source: Row = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """An item to be, of one row."""

    line: int
    messages: list[dict[str, str]]
    answers: tuple[Answer, ...]
    language: str = ""
    expertise: str = ""
    categories: tuple[str, ...] = ()
    raters: tuple[str, ...] = ()
    """As the file names them."""
    priority: int = 0
    source: Row = field(default_factory=dict)
    """The columns that were not read."""


def converted_format(rows: Sequence[Row], proposed: Mapping[str, str]) -> str:
    """The format of `CONVERTED` that the first rows have; empty where a mapping of columns reads them."""
    mapped = "prompt" in proposed and any(target in proposed for target in ANSWERS)
    for name in CONVERTED:
        known = BY_NAME[name]
        needed = name.startswith("arena") or (name.startswith("alpaca") and any(row.get("input") for row in rows))
        if mapped and not needed:
            continue
        if any(all(key in row for key in known.needs) and known.looks(row) for row in rows):
            return name
    return ""


def mapped_format(columns: Sequence[str], mapping: Mapping[str, str]) -> str:
    """What to call a file that a mapping of columns reads: a format by its name, or "columns"."""
    heads = {column.partition(".")[0] for column in columns}
    if ("data" in heads and heads & {"annotations", "predictions", "completed_by"}) or (
        {"annotation_id", "lead_time"} <= heads
    ):
        return "label-studio"
    if "fields" in heads and heads & {"responses", "suggestions"}:
        return "argilla-records"
    read = {mapping[target] for target in ("prompt", *ANSWERS) if target in mapping}
    return next(
        (f.name for f in FORMATS if f.name not in CONVERTED and read <= set(f.needs) <= set(columns)), "columns"
    )


def verdict_format(name: str, columns: Sequence[str], mapping: Mapping[str, str]) -> str:
    """The one of `WITH_VERDICTS` that a file is, or empty. AlpacaEval without inputs is read as mere columns."""
    known = BY_NAME["alpaca-eval"]
    if name == "columns" and set(known.needs) <= set(columns):
        return known.name if set(CONVERTED[known.name]) <= set(mapping.values()) else ""
    return name if name in WITH_VERDICTS else ""


@dataclass
class Reader:
    """Turns rows into drafts. One for a file: its format, its mapping, and where problems go."""

    format: str
    mapping: Mapping[str, str]
    cells: bool
    """Of a CSV: a prompt may be a list of messages in JSON."""
    problems: Problems
    known_rater: Callable[[str], bool] | None = None
    """Whether a rater is known by a name; without it, names are not checked."""

    def draft(self, line: int, row: Row) -> Draft | None:
        """The row's item, or None where something is wrong with it."""
        before = self.problems.count
        for name, what in flaws(row, ""):
            self._problem(line, name, what)
        if self.problems.count > before:
            return None
        read = self._converted(line, row) if self.format in CONVERTED else self._columns(line, row)
        rest = self._rest(line, row)
        source = self._kept(line, row)
        if read is None or self.problems.count > before:
            return None
        prompt, answers = read
        if not prompt[-1].content.strip():
            self._problem(line, self.mapping.get("prompt", ""), "there is no prompt.", "Give the row one, or drop it.")
            return None
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt]
        return Draft(line, messages, answers, source=source, **rest)

    def _kept(self, line: int, row: Row) -> Row:
        """The columns that are not read."""
        used = set(self.mapping.values())
        if self.format in CONVERTED:
            used |= {*BY_NAME[self.format].needs, "input"} - set(_NO_VERDICT.get(self.format, ()))
        rest = plain(rest_of(row, used))
        try:
            clean_json(rest, "row")
        except HeedfulError as error:
            self._problem(line, error.where.removeprefix("row").removeprefix("."), error.what, error.mend)
        return rest

    def _problem(self, line: int, name: str, what: str, mend: str = "") -> None:
        self.problems.add(line, name, what, mend)

    def _columns(self, line: int, row: Row) -> tuple[Conversation, tuple[Answer, ...]] | None:
        column = self.mapping["prompt"]
        prompt = value_of(row, column)
        if prompt is None or (isinstance(prompt, str) and not prompt.strip()) or prompt == []:
            self._problem(line, column, "there is no prompt.", "Give the row one, or drop it.")
            return None
        prompt = _messages_in(prompt) if self.cells else prompt
        given = self._listed(line, row) if "completions" in self.mapping else self._separate(line, row)
        if given is None:
            return None
        if not given:
            try:
                return prompt_of(prompt, column, Origin("", line)), ()
            except (HeedfulError, BadContentError) as error:
                self._explain(line, error, {column: column, "completion": column})
                return None
        asked: Conversation = ()
        answers: list[Answer] = []
        for name, value, policy, source in given:
            found = self._answer(line, {"prompt": prompt, "completion": value}, {"prompt": column, "completion": name})
            if found is None:
                return None
            if answers and found.prompt != asked:
                self._problem(line, name, "it answers another conversation than the completion before it.")
                return None
            asked = found.prompt
            answers.append(Answer(found.completion, policy, source))
        return asked, tuple(answers)

    def _answer(self, line: int, row: Row, names: Mapping[str, str]) -> Demonstration | None:
        """A prompt with one completion, both as text or messages."""
        try:
            (found,) = convert.prompt_completion(row, Origin("", line))
        except (HeedfulError, BadContentError) as error:
            self._explain(line, error, names)
            return None
        assert isinstance(found, Demonstration)
        return found if self._has_text(line, names["completion"], found.completion) else None

    def _has_text(self, line: int, name: str, value: Any) -> bool:
        """Whether there is a completion at all; if not, that is noted."""
        empty = value is None or (isinstance(value, str) and not value.strip())
        if empty:
            self._problem(line, name, "the completion is empty.", "Give it a text, or drop the row.")
        return not empty

    def _explain(self, line: int, error: HeedfulError | BadContentError, names: Mapping[str, str]) -> None:
        """Note what a converter said, under the column's own name."""
        if isinstance(error, BadContentError):
            self._problem(
                line,
                names.get("completion", ""),
                Sentence("{problem}.", problem=Sentence(error.kind)),
                MENDS[error.kind],
            )
            return
        told = next((name for name in names if re.search(rf"(^|[^\w]){re.escape(name)}\b", error.what)), "")
        what = error.what.replace(f"'{told}'", "it", 1) if told else error.what
        self._problem(line, names.get(told, ""), what, error.mend)

    def _separate(self, line: int, row: Row) -> list[tuple[str, Any, str, Row]] | None:
        """(column, value, policy, source) of each completion that has a column of its own."""
        columns = [self.mapping[letter] for letter in LETTERS if letter in self.mapping]
        values = [value_of(row, column) for column in columns]
        while len(values) > 2 and (values[-1] is None or values[-1] == ""):
            values.pop()  # a table of up to K answers
        found: list[tuple[str, Any, str, Row]] = []
        policies = self._policies(line, row, len(values))
        whole = [self._has_text(line, column, value) for column, value in zip(columns, values, strict=False)]
        for column, value, policy in zip(columns, values, policies, strict=False):
            found.append((column, value, policy, {}))
        return found if all(whole) else None

    def _policies(self, line: int, row: Row, count: int) -> list[str]:
        """Of each completion: its own column's, its place's in a list, or the one of all."""
        column = self.mapping.get("policies")
        listed = _list_in(value_of(row, column)) if column else None
        if column and (listed is None or len(listed) != count):
            self._problem(
                line,
                column,
                Sentence("it is no list of {count} policies.", count=count),
                "Give one for each, in the same order.",
            )
            listed = None
        alone = self._text(line, row, "policy", 300)
        found = [self._text(line, row, f"policy_{letter}", 300) for letter in LETTERS[:count]]
        for index, name in enumerate(listed or ()):
            found[index] = self._short(line, f"{column}[{index}]", name, 300)
        return [name or alone for name in found]

    def _listed(self, line: int, row: Row) -> list[tuple[str, Any, str, Row]] | None:
        """The same of a column that is a list, of texts or of objects with a text and a model."""
        column = self.mapping["completions"]
        values = _list_in(value_of(row, column))
        if values is None:
            self._problem(line, column, "it is no list of completions.", "Write a JSON list.")
            return None
        if len(values) > MAX_COMPLETIONS:
            self._problem(
                line,
                column,
                Sentence("{count} completions; the most are {most}.", count=len(values), most=MAX_COMPLETIONS),
            )
            return None
        found: list[tuple[str, Any, str, Row]] = []
        for index, (value, policy) in enumerate(zip(values, self._policies(line, row, len(values)), strict=True)):
            place = f"{column}[{index}]"
            source: Row = {}
            if isinstance(value, dict) and "role" not in value:
                key = next((name for name in _TEXTS if name in value), None)
                if key is None:
                    self._problem(
                        line, place, Sentence("it has no text; {known} are looked for.", known=", ".join(_TEXTS))
                    )
                    return None
                model = next((name for name in _MODELS if isinstance(value.get(name), str)), "")
                policy = policy or (self._short(line, f"{place}.{model}", value[model], 300) if model else "")
                source = plain({k: v for k, v in value.items() if k not in (key, model)})
                value = value[key]
            if not self._has_text(line, place, value):
                return None
            found.append((place, value, policy, source))
        return found

    def _converted(self, line: int, row: Row) -> tuple[Conversation, tuple[Answer, ...]] | None:
        known = BY_NAME[self.format]
        needed = {key: row.get(key) for key in (*known.needs, *(["input"] if "input" in known.may else []))}
        try:
            known.check_keys({key: value for key, value in needed.items() if key in row}, Origin("", line))
            (record, *_) = known.convert(needed | _NO_VERDICT.get(self.format, {}), Origin("", line))
        except (HeedfulError, BadContentError) as error:
            names = {name: name for name in (*known.needs, "input")}
            self._explain(line, error, names | {"completion": CONVERTED[self.format][0]})
            return None
        texts = _texts(record)
        whole = [self._has_text(line, name, t) for name, t in zip(CONVERTED[self.format], texts, strict=False)]
        policies = self._policies(line, row, len(texts))
        answers = tuple(Answer(text, policy) for text, policy in zip(texts, policies, strict=True))
        return (record.prompt, answers) if all(whole) else None

    def _text(self, line: int, row: Row, target: str, longest: int) -> str:
        """A short text of a column, empty where there is none."""
        column = self.mapping.get(target)
        return self._short(line, column, value_of(row, column), longest) if column else ""

    def _short(self, line: int, column: str, value: Any, longest: int) -> str:
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self._problem(line, column, "it must be text.")
            return ""
        text = str(value).strip()
        if len(text) > longest:
            self._problem(
                line, column, Sentence("it has {count} characters; the most are {most}.", count=len(text), most=longest)
            )
        return text

    def _words(self, line: int, row: Row, target: str) -> tuple[str, ...]:
        """A list of short texts: a list, or a text with commas or semicolons."""
        column = self.mapping.get(target)
        value = value_of(row, column) if column else None
        if column is None or value is None:
            return ()
        parts = _list_in(value)
        parts = re.split(r"[;,]", value) if parts is None and isinstance(value, str) else parts
        if parts is None or not all(isinstance(part, str) for part in parts):
            self._problem(line, column, "it must be text, or a list of texts.")
            return ()
        words = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        for word in words:
            if len(word) > 60:
                self._problem(
                    line, column, Sentence("a name in it has {count} characters; the most are 60.", count=len(word))
                )
        return words

    def _rest(self, line: int, row: Row) -> dict[str, Any]:
        language = self._text(line, row, "language", 12)
        if language and not _LANGUAGE.fullmatch(language):
            what = Sentence("{language!r} is no language tag.", language=language)
            self._problem(line, self.mapping["language"], what, "Write en, vi, zh-Hans ...")
        priority = self._text(line, row, "priority", 20) or "0"
        whole = re.fullmatch(r"[+-]?\d+(\.0+)?", priority)
        if not whole or abs(int(float(priority))) > 1000:
            what = Sentence("{priority!r} is no whole number from -1000 to 1000.", priority=priority)
            self._problem(line, self.mapping["priority"], what)
        expertise = self._text(line, row, "expertise", 60)
        if "|" in expertise or expertise.startswith("@"):
            self._problem(
                line, self.mapping["expertise"], Sentence("{value!r} holds | or begins with @.", value=expertise)
            )
        raters = self._words(line, row, "raters")
        for name in raters:
            if self.known_rater is not None and not self.known_rater(name):
                self._problem(
                    line,
                    self.mapping["raters"],
                    Sentence("no rater is known as {name!r}.", name=name),
                    "Invite them first.",
                )
        return {
            "language": language,
            "expertise": expertise,
            "categories": self._words(line, row, "category"),
            "raters": raters,
            "priority": int(float(priority)) if whole else 0,
        }


def _texts(record: Record) -> tuple[str, ...]:
    if isinstance(record, Preference):
        return record.a, record.b
    return (record.completion,) if isinstance(record, Demonstration) else ()


def _list_in(value: Any) -> list[Any] | None:
    """A list, given as one or as its JSON text; None where it is neither."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _messages_in(value: Any) -> Any:
    """A cell's messages, if it is a JSON list of them; else the cell as it is."""
    found = _list_in(value) if isinstance(value, str) else None
    if found and all(isinstance(one, dict) and ({"role", "content"} <= set(one) or "from" in one) for one in found):
        return found
    return value
