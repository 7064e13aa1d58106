"""What a judgment says, typed for each kind of task. Needs no Django.

A payload speaks of an item's own indices: 0 is a, 1 is b. Raters see the completions in an order of their own;
`from_shown` turns what they said about letters into what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from heedful.errors import HeedfulError

MAX_COMPLETIONS = 9
STRENGTH = 3


@dataclass(frozen=True)
class Pairwise:
    """Strength for b over a, -3 to 3; 0 is a tie. A tie may say that both are bad, or both good."""

    strength: int
    both_bad: bool = False
    both_good: bool = False


@dataclass(frozen=True)
class Ranking:
    """The rank of each completion, 1 the best, equal ranks a tie; ranks as in 1, 2, 2, 4."""

    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Attributes:
    """Points for each of the rubric's attributes, for each completion."""

    scores: tuple[dict[str, int], ...]


@dataclass(frozen=True)
class Written:
    """A demonstration or an edit: the completion that was written, by id, and the hash of its text."""

    completion: str
    sha256: str


@dataclass(frozen=True)
class Talk:
    """A dialogue: how many turns it had."""

    turns: int


@dataclass(frozen=True)
class Thumb:
    """An end user's thumb: up (true) or down."""

    up: bool


Payload: TypeAlias = Pairwise | Ranking | Attributes | Written | Talk | Thumb
KINDS: dict[str, type[Payload]] = {
    "pairwise": Pairwise,
    "ranking": Ranking,
    "attributes": Attributes,
    "demonstration": Written,
    "edit": Written,
    "dialogue": Talk,
    "thumb": Thumb,
}
MADE = ("demonstration", "edit", "dialogue")
"""Kinds in which a rater makes something; in every other they vote on the completions that are there."""
COMPLETIONS: dict[str, tuple[int, int]] = {
    "pairwise": (2, 2),
    "ranking": (2, MAX_COMPLETIONS),
    "attributes": (1, MAX_COMPLETIONS),
    "demonstration": (0, 0),
    "edit": (1, 1),
    "dialogue": (0, 0),
    "thumb": (1, 1),
}
"""The fewest and the most completions of an item of each kind."""


def _require(ok: bool, what: str, field: str, mend: str = "", **values: Any) -> None:
    if not ok:
        raise HeedfulError(what, where=field, mend=mend, **values)


def _whole(value: Any, field: str, low: int, high: int) -> int:
    ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _require(ok, "{value!r} is no whole number from {low} to {high}.", field, value=value, low=low, high=high)
    return int(value)


def parse(
    kind: str, given: Mapping[str, Any], *, completions: int, attributes: Sequence[Mapping[str, Any]] = ()
) -> Payload:
    """A payload from JSON.

    Args:
        kind: a task kind.
        given: what was sent or stored.
        completions: K, how many completions the item has.
        attributes: of the guideline, for the attributes task: "name", "points" (the highest; the lowest is 1).

    Raises:
        HeedfulError: something is missing, unknown or out of range, with the field.
    """
    _require(
        kind in KINDS, "{kind!r} is no kind of task.", "kind", "Give one of {known}.", kind=kind, known=", ".join(KINDS)
    )
    _require(isinstance(given, Mapping), "a payload is a JSON object.", "payload")
    known = set(KINDS[kind].__dataclass_fields__)
    for key in given:
        _require(
            key in known, "unknown field {key!r}.", key, "Known: {known}.", key=key, known=", ".join(sorted(known))
        )
    if kind == "pairwise":
        _require("strength" in given, "the strength is missing.", "strength")
        strength = _whole(given["strength"], "strength", -STRENGTH, STRENGTH)
        flags = {name: given.get(name, False) for name in ("both_bad", "both_good")}
        for name, value in flags.items():
            _require(isinstance(value, bool), "{value!r} is neither true nor false.", name, value=value)
        _require(not all(flags.values()), "two answers cannot be both bad and both good.", "both_good")
        _require(strength == 0 or not any(flags.values()), "both bad and both good go with a tie.", "strength")
        return Pairwise(strength, **flags)
    if kind == "ranking":
        ranks = given.get("ranks")
        _require(isinstance(ranks, list | tuple), "the ranks are missing.", "ranks")
        assert isinstance(ranks, list | tuple)
        _require(
            len(ranks) == completions,
            "{count} ranks for {completions} completions.",
            "ranks",
            count=len(ranks),
            completions=completions,
        )
        found = tuple(_whole(rank, f"ranks[{i}]", 1, completions) for i, rank in enumerate(ranks))
        for i, rank in enumerate(found):
            better = sum(other < rank for other in found)
            _require(
                rank == better + 1,
                "rank {rank} after {better} better ones.",
                f"ranks[{i}]",
                "Tied as in 1, 2, 2, 4.",
                rank=rank,
                better=better,
            )
        return Ranking(found)
    if kind == "attributes":
        scores = given.get("scores")
        _require(isinstance(scores, list | tuple), "the scores are missing.", "scores")
        assert isinstance(scores, list | tuple)
        _require(
            len(scores) == completions,
            "scores of {count} for {completions} completions.",
            "scores",
            count=len(scores),
            completions=completions,
        )
        names = {str(attribute["name"]): int(attribute.get("points", 5)) for attribute in attributes}
        for i, row in enumerate(scores):
            _require(isinstance(row, Mapping), "scores are an object of names and points.", f"scores[{i}]")
            for name in row:
                _require(name in names, "the rubric has no attribute {name!r}.", f"scores[{i}].{name}", name=name)
            for name, points in names.items():
                _require(name in row, "no points for {name!r}.", f"scores[{i}].{name}", name=name)
                _whole(row[name], f"scores[{i}].{name}", 1, points)
        return Attributes(tuple(dict(row) for row in scores))
    if kind in ("demonstration", "edit"):
        for name in ("completion", "sha256"):
            _require(isinstance(given.get(name), str), "{name} is missing.", name, name=name)
        return Written(given["completion"], given["sha256"])
    if kind == "thumb":
        up = given.get("up")
        _require(isinstance(up, bool), "{value!r} is neither true nor false.", "up", value=up)
        return Thumb(bool(up))
    return Talk(_whole(given.get("turns"), "turns", 1, 10_000))


def stored(payload: Payload) -> dict[str, Any]:
    """The JSON that `parse` reads back."""
    found = asdict(payload)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def from_shown(kind: str, given: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """What a rater said of A, B, C, told of the item's own indices.

    Args:
        kind: a task kind.
        given: JSON whose strength is for the second shown over the first, whose lists go in the order shown.
        order: the item's indices in the order shown.
    """
    turned = dict(given)
    if kind == "pairwise" and tuple(order) == (1, 0) and isinstance(given.get("strength"), int):
        turned["strength"] = -given["strength"]
    for name in ("ranks", "scores"):
        rows = given.get(name)
        if isinstance(rows, list | tuple) and len(rows) == len(order):
            back: list[Any] = [None] * len(order)
            for place, index in enumerate(order):
                back[index] = rows[place]
            turned[name] = back
    return turned


def to_shown(kind: str, kept: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """The inverse of `from_shown`, for showing a rater what they said."""
    inverse = [list(order).index(index) for index in range(len(order))]
    return from_shown(kind, kept, inverse)


def matches(kind: str, kept: Mapping[str, Any], acceptable: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a judgment is one of a gold item's acceptable answers.

    A pattern of a pairwise item: {"strength": [low, high]}, with "both_bad" or "both_good" if they matter. Of a
    ranking: {"best": [indices]} (one of them must have rank 1) or {"above": [[i, j], ...]} (i ranks better than j).
    Of attributes: {"scores": {"index": {"name": [low, high]}}}.
    """
    return any(_fits(kind, kept, pattern) for pattern in acceptable)


def _fits(kind: str, kept: Mapping[str, Any], pattern: Mapping[str, Any]) -> bool:
    if kind == "pairwise":
        low, high = pattern["strength"]
        flags = all(kept.get(name, False) == pattern[name] for name in ("both_bad", "both_good") if name in pattern)
        return bool(low <= kept["strength"] <= high and flags)
    if kind == "ranking":
        ranks = kept["ranks"]
        best = "best" not in pattern or any(ranks[i] == 1 for i in pattern["best"])
        return best and all(ranks[i] < ranks[j] for i, j in pattern.get("above", ()))
    if kind == "attributes":
        wanted = pattern["scores"].items()
        return all(
            low <= kept["scores"][int(i)][name] <= high for i, row in wanted for name, (low, high) in row.items()
        )
    return False
