"""Whether judgments say the same. Needs no Django.

Payloads are what the store keeps: see `heedful.feedback.payloads`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

COMPARABLE = ("pairwise", "ranking", "attributes")
"""Kinds of tasks in which two raters can agree."""


def classes(kind: str, kept: Mapping[str, Any]) -> tuple[int, ...]:
    """A judgment as a row of classes, each of which two raters share or do not.

    Pairwise: one class, -1 for a, 0 for a tie, 1 for b. Ranking: one for each pair of completions, in the order
    of `itertools.combinations`, 1 where the later one is better. Attributes: the points of each attribute by
    name, completion by completion. Other kinds: none.
    """
    if kind == "pairwise":
        return (_sign(kept["strength"]),)
    if kind == "ranking":
        return tuple(_sign(first - second) for first, second in combinations(kept["ranks"], 2))
    if kind == "attributes":
        return tuple(row[name] for row in kept["scores"] for name in sorted(row))
    return ()


def shared(one: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    """In how many classes two judgments of one item say the same, and of how many.

    Judgments under rubrics with different attributes cannot be compared: of none.
    """
    if len(one) != len(other):
        return 0, 0
    return sum(a == b for a, b in zip(one, other, strict=True)), len(one)


def tau(first: Sequence[int], second: Sequence[int]) -> float:
    """Kendall's tau of two rankings, in -1..1: agreeing less opposing pairs of completions over all pairs (tau-a).

    Where each ties a pair the two agree on it; where only one does, they neither agree nor oppose. So a ranking's
    tau with itself is 1, ties or none.
    """
    pairs = list(zip(classes("ranking", {"ranks": first}), classes("ranking", {"ranks": second}), strict=True))
    score = sum(1 if one == other else -1 if one == -other else 0 for one, other in pairs)
    return score / len(pairs) if pairs else 1.0


def disagree(kind: str, payloads: Sequence[Mapping[str, Any]], threshold: float) -> bool:
    """Whether raters of one item disagree so much that another should look.

    Pairwise: strengths on both sides of the tie. Ranking: two whose Kendall's tau is below the threshold.
    Attributes: two whose points for one attribute lie more than two apart. Other kinds never disagree.
    """
    if kind == "pairwise":
        strengths = [kept["strength"] for kept in payloads]
        return any(value > 0 for value in strengths) and any(value < 0 for value in strengths)
    if kind == "ranking":
        return any(tau(first["ranks"], second["ranks"]) < threshold for first, second in combinations(payloads, 2))
    if kind == "attributes":
        return any(max(points) - min(points) > 2 for points in zip(*_rows(payloads), strict=True))
    return False


def distance(kind: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """How far apart two judgments of one item are, from 0 (they say the same) to 1 (the opposite).

    Pairwise: 1 for opposite sides, a tie half way. Ranking: the mean of that over pairs of completions. Attributes: the
    largest difference in points over the four steps of a scale of five, 1 at most. Other kinds: 0.
    """
    if kind == "attributes":
        rows = zip(*_rows([one, other]), strict=True)
        return min(1.0, max((abs(a - b) for a, b in rows), default=0) / 4)
    classes_of = list(zip(classes(kind, one), classes(kind, other), strict=True))
    return sum(abs(a - b) for a, b in classes_of) / (2 * len(classes_of)) if classes_of else 0.0


def spread(kind: str, payloads: Sequence[Mapping[str, Any]]) -> float:
    """How much raters of one item disagree, weighed by how many of them there are, from 0 to 1.

    Rao's (1982) quadratic entropy, the mean distance of two judgments drawn with replacement, doubled so that an even
    split is 1; times n / (n + 1), since two who differ say less than six who are split.
    """
    n = len(payloads)
    total = sum(distance(kind, one, other) for one, other in combinations(payloads, 2))
    return 4 * total / (n * (n + 1)) if n else 0.0


def spread_of_sides(a: int, ties: int, b: int) -> float:
    """`spread` of comparisons, from how many preferred a, neither, and b."""
    n = a + ties + b
    return 4 * (a * b + ties * (a + b) / 2) / (n * (n + 1)) if n else 0.0


def _rows(payloads: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, ...]]:
    """Points of each judgment, over the attributes that all of them have: versions of a rubric differ."""
    shared = [
        set.intersection(*(set(row) for row in rows)) for rows in zip(*(p["scores"] for p in payloads), strict=True)
    ]
    for kept in payloads:
        yield tuple(row[name] for row, names in zip(kept["scores"], shared, strict=True) for name in sorted(names))


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
