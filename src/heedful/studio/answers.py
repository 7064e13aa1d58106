"""What a rater's form says, as a payload in the order shown, and back. A form's fields are texts, with or without
JavaScript: choice, rank-0.., score-0-name.., text, rationale, safety.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.models import TaskKind

FLAGS = {"bad": "both_bad", "good": "both_good"}
"""Choices of a comparison that are ties with a flag."""
WRITTEN = (TaskKind.DEMONSTRATION, TaskKind.EDIT)


def fields_of(given: Any) -> dict[str, str]:
    """A form's fields from JSON.

    Raises:
        HeedfulError: it is no object of texts.
    """
    if not isinstance(given, Mapping):
        raise HeedfulError("the fields are no JSON object.", where="fields")
    for name, value in given.items():
        if not isinstance(value, str):
            raise HeedfulError("{kind} is no text.", where=f"fields.{name}", kind=type(value).__name__)
    return dict(given)


def payload_of(
    kind: str, fields: Mapping[str, str], *, count: int, attributes: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The payload that a form says, in the order shown.

    Args:
        kind: of task.
        fields: of the form.
        count: how many completions are shown.
        attributes: of the guideline.

    Raises:
        HeedfulError: a choice, a rank or points are missing or no number; whether they are in range is the store's.
    """
    if kind == TaskKind.PAIRWISE:
        choice = fields.get("choice", "")
        if choice in FLAGS:
            return {"strength": 0, FLAGS[choice]: True}
        return {"strength": _number(fields, "choice")}
    if kind == TaskKind.RANKING:
        return {"ranks": _ranks([_number(fields, f"rank-{i}") for i in range(count)])}
    if kind == TaskKind.ATTRIBUTES:
        names = [str(one["name"]) for one in attributes]
        return {"scores": [{name: _number(fields, f"score-{i}-{name}") for name in names} for i in range(count)]}
    return {}


def _number(fields: Mapping[str, str], name: str) -> int:
    value = fields.get(name, "")
    if not value:
        raise HeedfulError("this is still open.", where=name)
    try:
        return int(value)
    except ValueError as error:
        raise HeedfulError("this is no whole number.", where=name) from error


def _ranks(given: Sequence[int]) -> list[int]:
    """Ranks as the store keeps them, 1, 2, 2, 4, from any numbers that say the same, such as 1, 2, 2, 3."""
    return [1 + sum(other < rank for other in given) for rank in given]


def lines(text: str) -> str:
    """A text from a form, which ends its lines as no other text here does."""
    return text.replace("\r\n", "\n")


def text_of(kind: str, fields: Mapping[str, str]) -> str | None:
    """What was written, of a task that asks for a text."""
    return lines(fields.get("text", "")) if kind in WRITTEN else None


def filled(
    kind: str, payload: Mapping[str, Any], *, text: str = "", rationale: str = "", safety: bool = False
) -> dict[str, str]:
    """The fields that say a payload: a judgment that was taken back lies before its rater as it was given."""
    found: dict[str, str] = {}
    if kind == TaskKind.PAIRWISE:
        flag = next((choice for choice, name in FLAGS.items() if payload.get(name)), "")
        found["choice"] = flag or str(payload["strength"])
    elif kind == TaskKind.RANKING:
        found |= {f"rank-{i}": str(rank) for i, rank in enumerate(payload["ranks"])}
    elif kind == TaskKind.ATTRIBUTES:
        found |= {f"score-{i}-{name}": str(n) for i, row in enumerate(payload["scores"]) for name, n in row.items()}
    elif kind in WRITTEN:
        found["text"] = text
    return found | {"rationale": rationale} | ({"safety": "on"} if safety else {})
