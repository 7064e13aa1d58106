"""What judgments of one item say together: votes, pairs, labels, the best. Needs no Django."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.errors import HeedfulError, nearest

MARGINS: dict[str, Callable[[float], float]] = {
    "none": lambda strength: 0.0,
    "strength": lambda strength: max(0.0, strength),
    "scaled": lambda strength: max(0.0, strength) / 3,
}
"""Named mappings of a strength for the preferred side, 0 to 3, to a margin: none, |s|, |s|/3."""
SHARE = "share"
"""Of votes: the consensus that believes every rater alike, and needs no fit."""
ADJUDICATOR = "adjudicator"
"""In place of a kind of rater: the vote is a verdict that stands for all."""
VERDICT = "verdict"
MEAN = "mean"
"""In place of an attribute's name: the mean over all of them."""


@dataclass(frozen=True)
class Vote:
    """One rater's say on an item. Several payloads (an AI judge's two orders) count as one vote, their mean."""

    rater: str
    kind: str
    """Of rater."""
    payloads: tuple[Mapping[str, Any], ...]
    orders: tuple[tuple[int, ...], ...] = ()
    """The indices in the order shown, for each payload; empty where it is not known."""


@dataclass(frozen=True)
class Text:
    """A completion."""

    text: str
    policy: str = ""
    erased: bool = False


@dataclass(frozen=True)
class Work:
    """What a person wrote: a demonstration, or an edit of an original."""

    text: Text
    rater: str
    original: Text | None = None
    kind: str = "person"
    """Of rater."""


@dataclass(frozen=True)
class Judged:
    """An item with all that was said of it."""

    item: str
    kind: str
    messages: Sequence[Mapping[str, str]]
    answers: tuple[Text, ...]
    votes: tuple[Vote, ...] = ()
    work: tuple[Work, ...] = ()
    points: Mapping[str, int] | None = None
    """Of the rubric's attributes: the highest points of each."""
    event: str = ""
    """Of an item that an end user's use of an application made: thumb, regeneration or edit."""

    @property
    def erased(self) -> bool:
        """Whether its prompt's text is gone."""
        return not any(message["content"] for message in self.messages)


@dataclass(frozen=True)
class Pair:
    """Two completions of an item by their indices, the preferred one first (either where it is a tie)."""

    first: int
    second: int
    probability: float
    """That a rater prefers the first: by default the votes, a tie counting half."""
    votes: int
    strength: float
    """Mean strength for the first, 0 to 3; 0 where the task knows none."""
    weight: float
    """1/C(K,2) of a ranking's pairs."""
    raters: tuple[str, ...]
    consensus: str = SHARE
    """How `probability` was come by: a method's name, "verdict" of an adjudicator's, "edit" of a correction's."""
    posterior: float | None = None
    """That the first is the better one, by methods that have the notion."""


def margin_named(name: str) -> Callable[[float], float]:
    """The mapping of that name.

    Raises:
        HeedfulError: there is none.
    """
    if name not in MARGINS:
        raise HeedfulError(
            "there is no margin {name!r}. {hint}",
            where="margin",
            mend="Known: {known}.",
            name=name,
            hint=nearest(name, list(MARGINS)),
            known=", ".join(MARGINS),
        )
    return MARGINS[name]


def pairs(judged: Judged, attribute: str = "") -> Iterator[Pair]:
    """The pairs that an item's votes compare.

    Args:
        judged: a pairwise or ranking item, or, with an attribute named, an attributes item.
        attribute: its name, or `MEAN`.
    """
    compare = comparison(judged.kind, attribute)
    if compare is None or not judged.votes:
        return
    count = len(judged.answers)
    weight = 1 / (count * (count - 1) / 2) if count > 1 else 0.0
    for i, j in itertools.combinations(range(count), 2):
        said = [vote for vote in judged.votes if all(speaks(p, judged.kind, attribute) for p in vote.payloads)]
        if not said:
            continue
        probability = _mean(_mean(_half(compare(p, i, j)) for p in vote.payloads) for vote in said)
        strength = _mean(_mean(_strength(p, judged.kind) for p in vote.payloads) for vote in said)
        first, second = (i, j) if probability >= 0.5 else (j, i)
        yield Pair(
            first,
            second,
            max(probability, 1 - probability),
            len(said),
            strength if first == i else -strength,
            weight,
            tuple(vote.rater for vote in said if vote.rater),
            VERDICT if said[0].kind == ADJUDICATOR else SHARE,
        )


@dataclass(frozen=True)
class Order:
    """How one vote ranks an item's completions: 1 the best, equal ranks a tie; and the points behind it, if any."""

    ranks: list[int]
    attributes: dict[str, list[float]]


def orders(judged: Judged, vote: Vote, attribute: str = "") -> Order | None:
    """The ranking that a vote gives; None where it ranks nothing. Payloads of one vote count as their mean.

    Args:
        judged: a ranking item, or, with an attribute named, an attributes item.
        attribute: its name, or `MEAN`.
    """
    count = range(len(judged.answers))
    if judged.kind == "ranking":
        return Order(_competition([-_mean(p["ranks"][i] for p in vote.payloads) for i in count]), {})
    if judged.kind != "attributes" or not all(speaks(p, judged.kind, attribute) for p in vote.payloads):
        return None
    names = sorted(set.intersection(*({*row} for p in vote.payloads for row in p["scores"])))
    points = {name: [_mean(p["scores"][i][name] for p in vote.payloads) for i in count] for name in names}
    by = [_mean(_score(p, i, attribute) for p in vote.payloads) for i in count]
    return Order(_competition(by), points)


def _competition(scores: Sequence[float]) -> list[int]:
    """Ranks as in 1, 2, 2, 4 of scores, the highest 1."""
    return [1 + sum(other > score for other in scores) for score in scores]


def _mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)


def _half(sign: float) -> float:
    """A preference as a vote: 1 for the first, 0 for the second, a half for a tie."""
    return 1.0 if sign > 0 else 0.0 if sign < 0 else 0.5


def _strength(payload: Mapping[str, Any], kind: str) -> float:
    return -float(payload["strength"]) if kind == "pairwise" else 0.0


def speaks(payload: Mapping[str, Any], kind: str, attribute: str) -> bool:
    """Whether a payload scores the attribute at all: versions of a rubric differ."""
    return kind != "attributes" or attribute == MEAN or all(attribute in row for row in payload["scores"])


def comparison(kind: str, attribute: str) -> Callable[[Mapping[str, Any], int, int], float] | None:
    """How a payload compares completion i with j: above 0 where i is better."""
    if kind == "pairwise":
        return lambda payload, i, j: -payload["strength"]
    if kind == "ranking":
        return lambda payload, i, j: payload["ranks"][j] - payload["ranks"][i]
    if kind == "attributes" and attribute:
        return lambda payload, i, j: _score(payload, i, attribute) - _score(payload, j, attribute)
    return None


def _score(payload: Mapping[str, Any], index: int, attribute: str) -> float:
    row = payload["scores"][index]
    return _mean(row.values()) if attribute == MEAN else float(row[attribute])


def best(judged: Judged) -> int | None:
    """The one completion that the votes prefer; None where it is a tie or nothing was compared."""
    if judged.kind == "pairwise":
        found = next(pairs(judged), None)
        return found.first if found and found.probability > 0.5 else None
    order = _by_rank(judged)
    return order[0][1] if len(order) > 1 and order[0][0] < order[1][0] else None


def _by_rank(judged: Judged) -> list[tuple[float, int]]:
    """(mean rank, index) of a ranking item's completions, the best first."""
    if judged.kind != "ranking" or not judged.votes:
        return []
    ranks = [
        _mean(_mean(p["ranks"][index] for p in vote.payloads) for vote in judged.votes)
        for index in range(len(judged.answers))
    ]
    return sorted((rank, index) for index, rank in enumerate(ranks))


def labels(judged: Judged, attribute: str = "") -> dict[int, bool]:
    """Which completions are good and which are bad; those about which the votes leave doubt are left out.

    Pairwise: the preferred one is good, the other bad; of a tie both are, where more than half of the raters said
    "both good" or "both bad". Ranking: the one best and the one worst. Attributes: above or below the middle. A thumb
    says it itself.
    """
    if not judged.votes:
        return {}
    if judged.kind == "pairwise":
        found = next(pairs(judged))
        if found.probability > 0.5:
            return {found.first: True, found.second: False}
        for name, label in (("both_good", True), ("both_bad", False)):
            if _mean(_mean(bool(p.get(name)) for p in vote.payloads) for vote in judged.votes) > 0.5:
                return {0: label, 1: label}
        return {}
    if judged.kind == "ranking":
        order = _by_rank(judged)
        top = {order[0][1]: True} if order[0][0] < order[1][0] else {}
        return top | ({order[-1][1]: False} if order[-1][0] > order[-2][0] else {})
    if judged.kind == "thumb":
        up = _mean(_mean(bool(p["up"]) for p in vote.payloads) for vote in judged.votes)
        return {} if up == 0.5 else {0: up > 0.5}
    return _by_points(judged, attribute) if judged.kind == "attributes" and attribute else {}


def _by_points(judged: Judged, attribute: str) -> dict[int, bool]:
    most = judged.points or {}
    names = [name for name in most if attribute in (MEAN, name)]
    found = {}
    for index in range(len(judged.answers)):
        rows = [p["scores"][index] for vote in judged.votes for p in vote.payloads]
        shares = [(row[name] - 1) / (most[name] - 1) for row in rows for name in names if name in row]
        if shares and _mean(shares) != 0.5:
            found[index] = _mean(shares) > 0.5
    return found
