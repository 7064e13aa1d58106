"""What an export's votes say by a model of the raters, who anchor it by their gold. Needs no Django."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heedful.core.consensus import METHODS, consensus
from heedful.core.crowd import Judgments, judgments, length_difference
from heedful.errors import HeedfulError, nearest
from heedful.feedback.export_votes import ADJUDICATOR, Judged, comparison, speaks

Key = tuple[str, int, int]
"""An item, and two of its completions by their indices, the lower first."""
DIGITS = 6
"""To which probabilities are rounded, so that one snapshot gives the same bytes on any machine."""


@dataclass(frozen=True)
class Settled:
    """A pair's consensus, for the completion of the lower index."""

    probability: float
    posterior: float | None


@dataclass(frozen=True)
class Consensus:
    """What a method says of the pairs of an export."""

    method: str
    pairs: Mapping[Key, Settled]
    gold: int = 0
    """Judgments of gold that anchored it."""
    caveats: tuple[str, ...] = ()
    """What it does not know, as sentences."""


@dataclass(frozen=True)
class Anchor:
    """An item whose right answers are known, with what raters said of it."""

    judged: Judged
    acceptable: Sequence[Mapping[str, Any]]


def check_method(name: str) -> None:
    """Refuse a method that is not known.

    Raises:
        HeedfulError: there is none of that name.
    """
    if name not in METHODS:
        raise HeedfulError(
            "there is no consensus {name!r}. {hint}",
            where="consensus",
            mend="Known: {known}.",
            name=name,
            hint=nearest(name, list(METHODS)),
            known=", ".join(METHODS),
        )


def settle(items: Iterable[Judged], anchors: Iterable[Anchor], method: str, attribute: str = "") -> Consensus:
    """The consensus of the votes on each pair of the items' completions.

    Votes are without their strength. Of a ranking of K completions each pair counts 2/K of a judgment, K - 1 in all:
    as many as the choices that a ranking makes. An AI judge's two orders are half a judgment each. An adjudicator's
    verdict is no vote.

    Args:
        items: what is exported.
        anchors: gold; only what raters of the items said of it counts.
        method: a name of `heedful.core.consensus.METHODS`, but for share, which needs no fit.
        attribute: as in `heedful.feedback.export_votes.pairs`.

    Raises:
        HeedfulError: the fit has not converged.
    """
    said = gather(items, anchors, attribute)
    if said is None:
        return Consensus(method, {})
    data = said.data
    found = consensus(data, method)
    if not found.converged:
        raise HeedfulError(
            "the consensus {method!r} has not converged on these judgments.",
            where="consensus",
            mend="Choose another: {others}.",
            method=method,
            others=", ".join(name for name in METHODS if name != method),
        )
    posterior: Sequence[float | None] = [None] * data.items
    if found.posterior is not None:
        posterior = [round(float(p), DIGITS) for p in found.posterior]
    settled = {
        key: Settled(round(float(p), DIGITS), posterior[at])
        for at, (key, p) in enumerate(zip(said.keys[: said.exported], found.probability, strict=False))
    }
    return Consensus(method, settled, said.gold, tuple(caveat.text for caveat in found.caveats))


@dataclass(frozen=True)
class Gathered:
    """Votes as the methods take them: pair `keys[i]` is item i of the data."""

    keys: Sequence[Key]
    exported: int
    """The first so many keys are the items', the others gold."""
    data: Judgments
    gold: int
    """Judgments of gold."""
    spread: float
    """Root mean square of the pairs' differences in length, in characters."""


def gather(items: Iterable[Judged], anchors: Iterable[Anchor], attribute: str = "") -> Gathered | None:
    """The votes on each pair of the items' completions, and their raters' on gold; None without any. See `settle`."""
    columns = _Columns()
    for item in items:
        columns.add(item, attribute)
    exported = len(columns.keys)
    if not exported:
        return None
    known = set(columns.rater)
    gold: dict[Key, float] = {}
    before = len(columns.vote)
    for anchor in anchors:
        sides = truths(anchor.judged.kind, anchor.acceptable, len(anchor.judged.answers))
        gold |= {(anchor.judged.item, *pair): side for pair, side in sides.items()}
        columns.add(anchor.judged, "", raters=known, only=set(sides))
    spread = float(np.sqrt(np.mean([(a - b) ** 2 for a, b in columns.lengths])))
    return Gathered(columns.keys, exported, columns.judgments(gold), len(columns.vote) - before, spread)


@dataclass
class _Columns:
    """Judgments as they are gathered."""

    keys: list[Key] = field(default_factory=list)
    item: list[int] = field(default_factory=list)
    rater: list[str] = field(default_factory=list)
    vote: list[float] = field(default_factory=list)
    order: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    lengths: list[tuple[int, int]] = field(default_factory=list)
    """Of each key's completions."""

    def add(
        self,
        judged: Judged,
        attribute: str,
        *,
        raters: set[str] | None = None,
        only: set[tuple[int, int]] | None = None,
    ) -> None:
        """An item's votes on each pair of its completions."""
        compare = comparison(judged.kind, attribute)
        if compare is None:
            return
        count = len(judged.answers)
        votes = [
            vote
            for vote in judged.votes
            if vote.kind != ADJUDICATOR
            and (raters is None or vote.rater in raters)
            and all(speaks(payload, judged.kind, attribute) for payload in vote.payloads)
        ]
        for i, j in itertools.combinations(range(count), 2):
            first, second = judged.answers[i], judged.answers[j]
            useless = first.erased or second.erased or first.text.strip() == second.text.strip()
            if not votes or useless or (only is not None and (i, j) not in only):
                continue
            for vote in votes:
                orders = vote.orders or ((),) * len(vote.payloads)
                for payload, order in zip(vote.payloads, orders, strict=True):
                    self.item.append(len(self.keys))
                    self.rater.append(vote.rater)
                    self.vote.append(float(np.sign(compare(payload, i, j))))
                    self.order.append(_first(order, i, j))
                    self.weight.append(2 / count / len(vote.payloads))
            self.keys.append((judged.item, i, j))
            self.lengths.append((len(first.text), len(second.text)))

    def judgments(self, gold: Mapping[Key, float]) -> Judgments:
        """As the methods take them."""
        a, b = np.array(self.lengths, dtype=np.float64).T
        length = length_difference(a, b)
        truth = {at: gold[key] for at, key in enumerate(self.keys) if key in gold}
        item = np.array(self.item)
        return judgments(
            item, self.rater, self.vote, order=self.order, length=length[item], weight=self.weight, gold=truth
        )


def _first(order: Sequence[int], i: int, j: int) -> float:
    """1 where completion i was shown before j, -1 after it, 0 where it is not known."""
    if i not in order or j not in order:
        return 0.0
    return 1.0 if list(order).index(i) < list(order).index(j) else -1.0


def truths(kind: str, acceptable: Sequence[Mapping[str, Any]], completions: int) -> dict[tuple[int, int], float]:
    """What a gold key says of each pair (i, j), i below j: 1 that i is better, -1 that j is, 0 that they tie.

    A pair of which the acceptable answers leave it open has no entry. Attributes have none.
    """
    if kind == "pairwise":
        ranges = [pattern["strength"] for pattern in acceptable]
        if all(high < 0 for _, high in ranges):
            return {(0, 1): 1.0}
        if all(low > 0 for low, _ in ranges):
            return {(0, 1): -1.0}
        return {(0, 1): 0.0} if all(low == high == 0 for low, high in ranges) else {}
    if kind != "ranking" or len(acceptable) != 1:
        return {}
    above = list(_above(acceptable[0], completions))
    return {(min(i, j), max(i, j)): 1.0 if i < j else -1.0 for i, j in above}


def _above(pattern: Mapping[str, Any], completions: int) -> Iterator[tuple[int, int]]:
    """Pairs (i, j) of which i ranks better than j, or with it, wherever the pattern is met."""
    yield from ((int(i), int(j)) for i, j in pattern.get("above", ()))
    best = pattern.get("best", ())
    if len(best) == 1:
        yield from ((int(best[0]), j) for j in range(completions) if j != best[0])
