"""Records to files: what is written here is read back as the same records."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from heedful.data.records import Conversation, Demonstration, Labelled, Preference, Prompt, Ranking, Record
from heedful.data.turns import hh_turns
from heedful.errors import HeedfulError, nearest
from heedful.files import atomic_write

Row = dict[str, Any]

_MEND = "Write --format heedful, which keeps everything."


def write_records(path: Path, records: Sequence[Record], *, format: str = "heedful") -> None:
    """Write records as JSON lines, gzipped where the name ends with `.gz`; whole or not at all.

    Formats: "heedful" (any record; keeps all of it), "trl" (any record; of a
    preference its chosen and rejected side), "hh", "arena" and "alpaca-eval" (preferences). A format that
    cannot say what a record says refuses it: a tie has no chosen side, and HH-RLHF knows no system message.
    In "trl" and "hh" a soft probability becomes its majority, in "arena" too, where ties are kept.

    Raises:
        HeedfulError: an unknown format, a record that it cannot say, another file ending, or the file
            cannot be written.
    """
    path = Path(path)
    if format not in WRITERS:
        hint = nearest(format, list(WRITERS))
        raise HeedfulError(
            f"there is no format {format!r} to write. {hint}".strip(), mend=f"Known: {', '.join(WRITERS)}."
        )
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise HeedfulError("records are written as JSON lines.", where=str(path), mend="Let the name end with .jsonl.")
    rows = [WRITERS[format](record) for record in records]
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
    if path.name.endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    with atomic_write(path, "wb") as file:
        file.write(data)


def _messages(prompt: Conversation) -> list[Row]:
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def _heedful(record: Record) -> Row:
    row: Row = {"prompt": _messages(record.prompt)}
    if isinstance(record, Preference):
        row |= {"a": record.a, "b": record.b, "probability": record.probability}
        row |= {"votes": record.votes, "margin": record.margin, "weight": record.weight}
        row |= {} if record.strength is None else {"strength": record.strength}
        row |= {"consensus": record.consensus} if record.consensus else {}
        row |= {} if record.posterior is None else {"posterior": record.posterior}
        row |= {"made": dict(record.made)} if record.made else {}
    elif isinstance(record, Ranking):
        row |= {"completions": list(record.completions), "ranks": list(record.ranks), "weight": record.weight}
        row["attributes"] = {
            name: [None if math.isnan(value) else value for value in values] for name, values in record.attributes
        }
    elif isinstance(record, Demonstration | Labelled):
        row["completion"] = record.completion
        if isinstance(record, Labelled):
            row["label"] = record.label
    return row


def _preference(record: Record, name: str) -> Preference:
    if not isinstance(record, Preference):
        kind = type(record).__name__.lower()
        raise HeedfulError(
            f"the format {name!r} holds preferences, not a {kind}.", where=str(record.origin), mend=_MEND
        )
    return record


def _sides(record: Preference, name: str) -> tuple[str, str]:
    """(chosen, rejected)."""
    if record.probability == 0.5:
        raise HeedfulError(f"a tie cannot be said in the format {name!r}.", where=str(record.origin), mend=_MEND)
    return (record.a, record.b) if record.probability > 0.5 else (record.b, record.a)


def _trl(record: Record) -> Row:
    row: Row = {"prompt": _messages(record.prompt)}
    if isinstance(record, Preference):
        chosen, rejected = _sides(record, "trl")
        margin = {"margin": record.margin} if record.margin else {}
        return row | {"chosen": _answer(chosen), "rejected": _answer(rejected)} | margin | _trl_said(record)
    if isinstance(record, Prompt):
        return row
    if isinstance(record, Ranking):
        raise HeedfulError("a ranking cannot be said in the format 'trl'.", where=str(record.origin), mend=_MEND)
    row["completion"] = _answer(record.completion)
    return row | {"label": record.label} if isinstance(record, Labelled) else row


def _trl_said(record: Preference) -> Row:
    """How the probability was come by, where it is known, as heedful's exports say it beside TRL's own columns."""
    if not record.consensus:
        return {}
    turned = record.probability < 0.5
    row: Row = {"probability": 1 - record.probability if turned else record.probability, "votes": record.votes}
    row |= {"weight": record.weight, "consensus": record.consensus}
    if record.posterior is not None:
        row["posterior"] = 1 - record.posterior if turned else record.posterior
    return row


def _answer(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def _hh(record: Record) -> Row:
    preference = _preference(record, "hh")
    names = {"user": "Human", "assistant": "Assistant"}
    row = {}
    for key, answer in zip(("chosen", "rejected"), _sides(preference, "hh"), strict=True):
        turns = (*((turn.role, turn.content) for turn in preference.prompt), ("assistant", answer))
        unsaid = sorted({role for role, _ in turns} - set(names))
        if unsaid:
            raise HeedfulError(f"HH-RLHF knows no {unsaid[0]!r} message.", where=str(record.origin), mend=_MEND)
        text = "".join(f"\n\n{names[role]}: {content}" for role, content in turns)
        if [(turn.role, turn.content) for turn in hh_turns(text)] != list(turns):
            raise HeedfulError(
                "a message itself holds a Human: or Assistant: turn.", where=str(record.origin), mend=_MEND
            )
        row[key] = text
    return row


def _arena(record: Record) -> Row:
    preference = _preference(record, "arena")
    if [turn.role for turn in preference.prompt] != ["user", "assistant"] * (len(preference.prompt) // 2) + ["user"]:
        raise HeedfulError("arena rows hold user and assistant turns only.", where=str(record.origin), mend=_MEND)
    asked = [turn.content for turn in preference.prompt if turn.role == "user"]
    before = [turn.content for turn in preference.prompt if turn.role == "assistant"]
    return {
        "prompt": json.dumps(asked, ensure_ascii=False),
        "response_a": json.dumps([*before, preference.a], ensure_ascii=False),
        "response_b": json.dumps([*before, preference.b], ensure_ascii=False),
        "winner_model_a": int(preference.probability > 0.5),
        "winner_model_b": int(preference.probability < 0.5),
        "winner_tie": int(preference.probability == 0.5),
    }


def _alpaca_eval(record: Record) -> Row:
    preference = _preference(record, "alpaca-eval")
    if len(preference.prompt) != 1:
        raise HeedfulError("AlpacaEval rows hold a single instruction.", where=str(record.origin), mend=_MEND)
    return {
        "instruction": preference.prompt[0].content,
        "output_1": preference.a,
        "output_2": preference.b,
        "preference": 2.0 - preference.probability,
    }


WRITERS: dict[str, Callable[[Record], Row]] = {
    "heedful": _heedful,
    "trl": _trl,
    "hh": _hh,
    "arena": _arena,
    "alpaca-eval": _alpaca_eval,
}
