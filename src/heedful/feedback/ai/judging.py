"""Cases judged by one model: looks in both orders, put together into an opinion of each case."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from heedful.feedback.ai.asks import Asker, Failure
from heedful.feedback.ai.dialogue import converse
from heedful.feedback.ai.material import Case
from heedful.feedback.ai.ways import Look, Way
from heedful.feedback.payloads import Attributes, Pairwise, Payload, Ranking


@dataclass(frozen=True)
class Opinion:
    """What one judge says of one case, all its looks together.

    Args:
        looks: in the order of `Way.orders`.
        logit: of answer 0 over answer 1, the mean of both orders', so that what the first place adds to one it takes
            from the other; None where the way knows no logit, or where a look is missing.
        values: [K] the higher the better: mean points, or minus mean ranks; None where a look is missing.
        consistency: the share of pairs of answers on which all looks say the same; None with one look or a trouble.
    """

    looks: tuple[Look, ...]
    logit: float | None
    values: tuple[float, ...] | None
    consistency: float | None

    @property
    def troubles(self) -> tuple[str, ...]:
        """Of the looks that could not be read or got no reply."""
        return tuple(look.trouble for look in self.looks if look.payload is None)

    @property
    def probability(self) -> float | None:
        """That answer 0 is preferred to answer 1; None where the case was not judged in every order."""
        if self.logit is not None:
            return 1 / (1 + math.exp(-self.logit))
        return None if self.values is None else share(self.looks, 0, 1)

    @property
    def ranks(self) -> tuple[int, ...] | None:
        """The rank of each answer, 1 the best, equal ones tied as in 1, 2, 2, 4."""
        if self.values is None:
            return None
        return tuple(1 + sum(other > own + 1e-9 for other in self.values) for own in self.values)

    @property
    def scores(self) -> dict[str, tuple[float, ...]]:
        """Of each attribute: [K] mean points over the looks."""
        payloads = [look.payload for look in self.looks if isinstance(look.payload, Attributes)]
        if self.values is None or not payloads:
            return {}
        names, count = payloads[0].scores[0], len(payloads[0].scores)
        return {
            name: tuple(sum(one.scores[i][name] for one in payloads) / len(payloads) for i in range(count))
            for name in names
        }


def judge(asker: Asker, way: Way, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
    """Have cases judged.

    Yields:
        the case's number, and the opinion, as soon as its last look has ended.

    Raises:
        BudgetSpentError: after every case whose looks were all paid for.
        HeedfulError: the judge can answer nothing at all.
    """
    plan = [(number, order) for number, case in enumerate(cases) for order in way.orders(case)]
    looks: dict[int, dict[tuple[int, ...], Look]] = {}
    dialogues = [way.look(cases[number], order) for number, order in plan]
    for at, look in converse(asker, dialogues):
        number, order = plan[at]
        assert not isinstance(look, Failure)  # a look keeps its troubles to itself
        mine = looks.setdefault(number, {})
        mine[order] = look
        wanted = way.orders(cases[number])
        if len(mine) == len(wanted):
            del looks[number]
            yield number, opinion([mine[one] for one in wanted])


def opinion(looks: Sequence[Look]) -> Opinion:
    """Looks put together."""
    whole = all(look.payload is not None for look in looks)
    logits = [look.logit for look in looks if look.logit is not None]
    logit = sum(logits) / len(logits) if whole and len(logits) == len(looks) else None
    values = None
    if whole:
        values = tuple(np.mean([values_of(look.payload) for look in looks], axis=0).tolist())
    consistency = None
    if whole and len(looks) > 1:
        rows = [values_of(look.payload) for look in looks]
        signs = [[np.sign(row[i] - row[j]) for i, j in combinations(range(len(row)), 2)] for row in rows]
        consistency = float(np.mean([len(set(column)) == 1 for column in zip(*signs, strict=True)]))
    return Opinion(tuple(looks), logit, values, consistency)


def share(looks: Sequence[Look], first: int, second: int) -> float:
    """The share of looks that prefer one answer to another, ties half."""
    votes = [values_of(look.payload) for look in looks]
    return float(np.mean([(np.sign(row[first] - row[second]) + 1) / 2 for row in votes]))


def values_of(payload: Payload | None) -> tuple[float, ...]:
    """[K] what a payload says of each answer, the higher the better.

    Raises:
        ValueError: it judges nothing.
    """
    if isinstance(payload, Pairwise):
        return (-payload.strength / 2, payload.strength / 2)
    if isinstance(payload, Ranking):
        return tuple(-float(rank) for rank in payload.ranks)
    if isinstance(payload, Attributes):
        return tuple(sum(row.values()) / len(row) for row in payload.scores)
    raise ValueError("nothing was judged")
