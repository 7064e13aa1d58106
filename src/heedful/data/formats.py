"""The formats heedful reads, how each is recognised, and what recognising one says."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from heedful.data import convert
from heedful.data.records import Origin, Ranking, Record
from heedful.data.turns import is_hh
from heedful.errors import HeedfulError, nearest

Row = dict[str, Any]
Kind = Literal["preferences", "demonstrations", "labelled", "prompts"]


def _any_row(row: Row) -> bool:
    return True


@dataclass(frozen=True)
class Format:
    """One format: the columns it needs, what else it may read, and its converter.

    `strict` formats refuse columns that they do not know; in the others these are left alone.
    """

    name: str
    kind: Kind
    says: str
    needs: tuple[str, ...]
    convert: Callable[[Row, Origin], list[Record]]
    may: tuple[str, ...] = ()
    looks: Callable[[Row], bool] = _any_row
    strict: bool = False
    ranking: Callable[[Row, Origin], Ranking] | None = None
    """Of a format of preferences that come from rankings: a row's ranking."""

    def check_keys(self, row: Row, origin: Origin) -> None:
        """Refuse a row that lacks a column, or has one that is most likely misspelt.

        Raises:
            HeedfulError: with the column, and the one that was probably meant.
        """
        for key in self.needs:
            if key not in row:
                others = [name for name in row if name not in self.needs]
                close = difflib.get_close_matches(key, others, n=1, cutoff=0.6)
                raise HeedfulError(
                    f"the column {key!r} is missing; the row has {_names(row)}.",
                    where=str(origin),
                    mend=f"Rename {close[0]!r} to {key!r}." if close else f"The format {self.name!r} needs it.",
                )
        known = [*self.needs, *self.may]
        for name in row:
            if name in known:
                continue
            absent = [key for key in self.may if key not in row]
            if self.strict or difflib.get_close_matches(name, absent, n=1, cutoff=0.8):
                raise HeedfulError(
                    f"the column {name!r} is not known. {nearest(name, absent)}".strip(),
                    where=str(origin),
                    mend=f"The format {self.name!r} reads {', '.join(known)}.",
                )


def _names(row: Row) -> str:
    return ", ".join(repr(str(name)) for name in list(row)[:12]) or "no columns"


def _hh_sides(row: Row) -> bool:
    return is_hh(row["chosen"]) and is_hh(row["rejected"])


_MARGIN = ("margin",)
_SCORES = ("score_chosen", "score_rejected")
_RATINGS = ("chosen-rating", "rejected-rating")

FORMATS: tuple[Format, ...] = (
    Format(
        "heedful",
        "preferences",
        "heedful's own preferences: prompt, a, b and the probability that a is preferred",
        ("prompt", "a", "b"),
        convert.heedful_preference,
        may=("probability", "votes", "margin", "weight", "strength", "consensus", "posterior", "made"),
        strict=True,
    ),
    Format(
        "ranking",
        "preferences",
        "rankings: completions and their ranks, compared two by two",
        ("prompt", "completions", "ranks"),
        convert.ranking_preferences,
        may=("attributes", "weight", "votes", "consensus"),
        ranking=convert.ranking,
    ),
    Format(
        "helpsteer-preference",
        "preferences",
        "HelpSteer's preferences: two responses and a strength from -3 to 3",
        ("prompt", "response_1", "response_2", "preference_strength"),
        convert.helpsteer_preference,
    ),
    Format(
        "ultrafeedback",
        "preferences",
        "raw UltraFeedback: completions with ratings per aspect, compared two by two",
        ("instruction", "completions"),
        convert.ultrafeedback,
        ranking=convert.ultrafeedback_ranking,
    ),
    Format(
        "alpaca-eval",
        "preferences",
        "AlpacaEval judgments: two outputs and a preference from 1 to 2, read as a probability",
        ("instruction", "output_1", "output_2", "preference"),
        convert.alpaca_eval,
        may=("input",),
    ),
    Format(
        "arena",
        "preferences",
        "Chatbot Arena: two responses as JSON lists, three winner columns, ties kept",
        ("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"),
        convert.arena,
    ),
    Format(
        "arena-conversations",
        "preferences",
        "Chatbot Arena: two conversations and a winner, ties kept",
        ("conversation_a", "conversation_b", "winner"),
        convert.arena_conversations,
    ),
    Format(
        "argilla",
        "preferences",
        "Argilla's cleaned preferences: prompt, chosen, rejected with ratings; equal ratings are ties",
        ("prompt", "chosen", "rejected", *_RATINGS),
        convert.explicit_preference,
        may=_MARGIN,
    ),
    Format(
        "ultrafeedback-binarized",
        "preferences",
        "binarized UltraFeedback: prompt, chosen and rejected conversations; equal scores are ties",
        ("prompt", "chosen", "rejected", *_SCORES),
        convert.explicit_preference,
        may=_MARGIN,
    ),
    Format(
        "hh",
        "preferences",
        "HH-RLHF: chosen and rejected conversations as text with Human: and Assistant: turns",
        ("chosen", "rejected"),
        convert.implicit_preference,
        may=_MARGIN,
        looks=lambda row: "prompt" not in row and _hh_sides(row),
    ),
    Format(
        "trl-preference",
        "preferences",
        "preferences with an explicit prompt: prompt, chosen, rejected",
        ("prompt", "chosen", "rejected"),
        convert.explicit_preference,
        may=_MARGIN,
    ),
    Format(
        "trl-implicit",
        "preferences",
        "preferences with an implicit prompt: what chosen and rejected have in common",
        ("chosen", "rejected"),
        convert.implicit_preference,
        may=_MARGIN,
    ),
    Format(
        "trl-unpaired",
        "labelled",
        "unpaired feedback: prompt, completion and a true or false label",
        ("prompt", "completion", "label"),
        convert.unpaired,
    ),
    Format(
        "trl-completion",
        "demonstrations",
        "demonstrations: prompt and completion",
        ("prompt", "completion"),
        convert.prompt_completion,
    ),
    Format(
        "messages",
        "demonstrations",
        "conversations: a list of messages with role and content",
        ("messages",),
        convert.conversations("messages"),
    ),
    Format(
        "sharegpt",
        "demonstrations",
        "ShareGPT conversations: a list of turns with from and value",
        ("conversations",),
        convert.conversations("conversations"),
    ),
    Format(
        "alpaca",
        "demonstrations",
        "Alpaca demonstrations: instruction, an optional input, output",
        ("instruction", "output"),
        convert.alpaca,
        may=("input",),
    ),
    Format(
        "openrlhf",
        "demonstrations",
        "OpenRLHF demonstrations: input and output",
        ("input", "output"),
        convert.columns_completion("input", "output"),
    ),
    Format(
        "question-answer",
        "demonstrations",
        "questions with answers, as verl's fine-tuning reads them",
        ("question", "answer"),
        convert.columns_completion("question", "answer"),
    ),
    Format("prompt", "prompts", "prompts alone", ("prompt",), convert.columns_prompt("prompt")),
    Format("openrlhf-prompt", "prompts", "OpenRLHF prompts: input", ("input",), convert.columns_prompt("input")),
    Format("instruction", "prompts", "instructions alone", ("instruction",), convert.columns_prompt("instruction")),
)
BY_NAME = {known.name: known for known in FORMATS}

_STEPWISE = ("prompt", "completions", "labels")


@dataclass(frozen=True)
class Detection:
    """Which format was found, and a sentence that says so and why."""

    format: Format
    sentence: str


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        HeedfulError: there is none.
    """
    if name not in BY_NAME:
        raise HeedfulError(
            f"there is no format {name!r}. {nearest(name, list(BY_NAME))}".strip(),
            mend=f"Known: auto, {', '.join(BY_NAME)}.",
        )
    return BY_NAME[name]


def detect(rows: Sequence[tuple[Origin, Row]]) -> Detection:
    """Recognise a file's format by its first rows.

    Args:
        rows: the first rows with their origins, at least one; the first decides.

    Raises:
        HeedfulError: no format matches, or the format is one that heedful does not read.
    """
    origin, row = rows[0]
    if all(key in row for key in _STEPWISE):
        raise _refused(origin, "stepwise (process) supervision, which heedful does not train on")
    for known in FORMATS:
        if all(key in row for key in known.needs) and any(_looks(known, later) for _, later in rows):
            columns = ", ".join(f"{key!r}" for key in known.needs)
            sentence = f"{origin.file}: {known.says} (format {known.name!r}, by its columns {columns})."
            return Detection(known, sentence)
    if "text" in row:
        raise _refused(origin, "plain documents, which are for pretraining; heedful learns from conversations")
    raise _unknown(origin, row)


def _looks(known: Format, row: Row) -> bool:
    return all(key in row for key in known.needs) and known.looks(row)


def _refused(origin: Origin, what: str) -> HeedfulError:
    return HeedfulError(
        f"the rows hold {what}.", where=str(origin), mend="docs/data-formats.md lists the formats that are read."
    )


def renaming(row: Row, kinds: Iterable[Kind]) -> str:
    """What to rename so that a row holds one of these kinds, where a misspelt column may hide it; else ""."""
    for known in FORMATS:
        others = {name: None for name in row if name not in known.needs}
        missing = [key for key in known.needs if key not in row]
        pairs = _renames(missing, others) if known.kind in kinds and 0 < len(missing) < len(known.needs) else []
        if pairs:
            return f"For the format {known.name!r}, rename {', '.join(pairs)}."
    return ""


def _unknown(origin: Origin, row: Row) -> HeedfulError:
    """The error for columns that fit no format, with the format that is nearest."""

    def nearness(known: Format) -> tuple[bool, float]:
        close = [max((_alike(key, name) for name in row), default=0.0) for key in known.needs]
        return min(close) > 0.6, sum(close)

    best = max(FORMATS, key=nearness)
    pairs = _renames(best.needs, row)
    mend = (
        f"For the format {best.name!r}, rename {', '.join(pairs)}."
        if pairs
        else "docs/data-formats.md lists the columns of every format that is read."
    )
    return HeedfulError(f"no known format has the columns {_names(row)}.", where=str(origin), mend=mend)


def _alike(key: str, name: object) -> float:
    return difflib.SequenceMatcher(None, key, str(name).lower()).ratio()


def _renames(needs: Iterable[str], row: Row) -> list[str]:
    """What to rename so that the row has every needed column; empty when that is no small mend."""
    renames = []
    for key in needs:
        if key in row:
            continue
        close = difflib.get_close_matches(key, [str(name) for name in row], n=1, cutoff=0.6)
        if not close:
            return []
        renames.append(f"{close[0]!r} to {key!r}")
    return renames
