"""Which pair to have judged next: what a further vote would tell, where reward models differ, and what is not alike.

A `Score` says of each candidate how much a judgment of it is worth; `choose` takes a batch by such scores, if wished
with regard to how alike the chosen ones are. `Chance` is the control. Works without torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.crowd import Floats, Ints
from heedful.core.rater_aware import RaterAware

CHUNK = 8192
"""Candidates in memory at a time."""


@dataclass(frozen=True)
class Candidates:
    """N pairs (a, b) that might be judged next."""

    ids: NDArray[Any]
    """[N] as the pairs are called among the judgments."""
    length: Floats
    """[N] how much longer a is, -1 to 1, on the scale of the judgments that the crowd was fitted on."""
    margins: Floats | None = None
    """[M, N] score of a less that of b, by each of M reward models, in logits of a vote; None: no models."""

    def __post_init__(self) -> None:
        n = len(self.ids)
        wrong = self.length.shape != (n,) or not np.isfinite(self.length).all()
        if self.margins is not None:
            wrong |= self.margins.ndim != 2 or self.margins.shape[1] != n or not np.isfinite(self.margins).all()
        if wrong:
            raise ValueError(f"candidates need finite lengths [{n}] and margins [M, {n}]")

    def __len__(self) -> int:
        return len(self.ids)


def candidates(ids: ArrayLike, *, length: ArrayLike | None = None, margins: ArrayLike | None = None) -> Candidates:
    """Candidates from columns; by default of equal lengths and without reward models.

    Raises:
        ValueError: columns of different lengths, or a figure that is not finite.
    """
    given = np.asarray(ids)
    return Candidates(
        given,
        np.zeros(len(given)) if length is None else np.asarray(length, dtype=np.float64),
        None if margins is None else np.asarray(margins, dtype=np.float64),
    )


class Score(Protocol):
    """What a judgment of each candidate is worth."""

    def score(self, candidates: Candidates) -> Floats:
        """[N] the higher the better."""
        ...


@dataclass(frozen=True)
class Chance:
    """Every candidate alike, in an order drawn by a seed: the control."""

    seed: int = 0

    def score(self, candidates: Candidates) -> Floats:
        """[N] a draw each."""
        return np.random.default_rng(self.seed).random(len(candidates))


@dataclass(frozen=True)
class Disagreement:
    """How far reward models differ about a pair: the variance of its score difference over them.

    The unbiased variance, M - 1 below (the query by committee of Christiano et al. 2017, section 2.2.4). It is high
    where models differ, also where all are sure of the same winner.
    """

    def score(self, candidates: Candidates) -> Floats:
        """[N] squared logits.

        Raises:
            ValueError: fewer than two models.
        """
        return _members(candidates).var(0, ddof=1)


@dataclass(frozen=True)
class ModelInformation:
    """Nats that a vote on a pair tells about which of the reward models is right.

    The vote that all models together expect is uncertain for two reasons: the pair is close, or the models differ. Only
    the latter can be learnt, and this is it: the entropy of the mean vote less the mean entropy (Houlsby et al. 2011,
    eq. 2), with a model's vote Bradley and Terry's logistic function of its margin.
    """

    def score(self, candidates: Candidates) -> Floats:
        """[N] 0 to log 2.

        Raises:
            ValueError: fewer than two models.
        """
        margins = _members(candidates).T
        votes = np.exp(np.stack([-np.logaddexp(0, -margins), -np.logaddexp(0, margins)]))
        return information(np.full(margins.shape, 1 / margins.shape[1]), votes)


@dataclass(frozen=True)
class CrowdInformation:
    """Nats that the next vote on a pair tells about its score difference, under a fitted rater-aware model.

    What was judged already, by whom, is in the belief about the difference; a pair that nobody judged has the model's
    prior. A coin-tosser's vote tells nothing, nor does one on a pair that is settled. Raters' parameters are taken to
    be known. Either order of showing is equally likely, and known once the vote is given.
    """

    fit: RaterAware
    rater: Any = None
    """Who votes, by id; None: the reference rater of the fit, with the crowd's shared biases."""
    known: dict[Any, int] = field(init=False, repr=False)
    posterior: Floats = field(init=False, repr=False)
    habits: tuple[float, float, float, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ids = self.fit.consensus.item_ids.tolist()
        object.__setattr__(self, "known", {key: at for at, key in enumerate(ids)})
        object.__setattr__(self, "posterior", self.fit.likelihood.posterior(self.fit.parameters))
        object.__setattr__(self, "habits", self._habits())

    def score(self, candidates: Candidates) -> Floats:
        """[N] nats."""
        return self.further(candidates, 1)[:, 0]

    def further(self, candidates: Candidates, votes: int) -> Floats:
        """[N, votes] nats that the first, second, ... next vote tells beyond the ones before it; falling in each row.

        Args:
            candidates: the pairs.
            votes: how many, 1 or more. Each multiset of outcomes costs a sum over the nodes: of 3 votes that are a or b
                there are 9, or 34 where a position bias makes the order matter.
        """
        found = [
            successive(belief, channel, votes)
            for belief, channel in (self._chunk(candidates, start) for start in range(0, len(candidates), CHUNK))
        ]
        return np.concatenate(found) if found else np.zeros((0, votes))

    def beliefs(self, candidates: Candidates) -> Floats:
        """[N, Q] how probable each difference is, at the nodes of the fit's likelihood."""
        likelihood, x = self.fit.likelihood, self.fit.parameters
        log = -0.5 * (likelihood.nodes - likelihood.layout.taste_get(x) * candidates.length[:, None]) ** 2
        belief = np.exp(log)
        belief /= belief.sum(1, keepdims=True)
        place = np.array([self.known.get(key, -1) for key in candidates.ids.tolist()], dtype=np.int64)
        belief[place >= 0] = self.posterior[place[place >= 0]]
        return belief

    def _chunk(self, every: Candidates, start: int) -> tuple[Floats, Floats]:
        """(belief [n, Q], channel [outcomes, n, Q]) of some candidates; an outcome is an order with a vote."""
        part = slice(start, start + CHUNK)
        some = Candidates(every.ids[part], every.length[part])
        likelihood, x = self.fit.likelihood, self.fit.parameters
        slope, tie, position, length = self.habits
        eta = slope * likelihood.nodes + length * some.length[:, None]
        cuts = x[likelihood.layout.cuts_at]
        orders = (1.0, -1.0) if position else (0.0,)
        outcomes = [
            np.exp(likelihood.votes.log_probability(eta + position * order, np.array(tie), cuts)) / len(orders)
            for order in orders
        ]
        return self.beliefs(some), np.concatenate(outcomes)

    def _habits(self) -> tuple[float, float, float, float]:
        """Slope, tie, position and length of who votes."""
        layout, x = self.fit.likelihood.layout, self.fit.parameters
        kinds = ("tie", "position", "length")
        if self.rater is None:
            tie = float(np.median(layout.raters_get(x, "tie")))
            return self.fit.reference, tie, layout.mean_get(x, "position"), layout.mean_get(x, "length")
        ids = self.fit.rater_ids.tolist()
        if self.rater not in ids:
            raise ValueError(f"{self.rater!r} is no rater of the fit")
        at = ids.index(self.rater)
        tie, position, length = (float(layout.raters_get(x, kind)[at]) for kind in kinds)
        return float(self.fit.slope.value[at]), tie, position, length


def information(belief: Floats, channel: Floats) -> Floats:
    """[N] mutual information of an outcome and what it depends on, in nats (Lindley 1956).

    Args:
        belief: [N, Q] probabilities of Q states, each row adding up to 1.
        channel: [V, N, Q] probability of each outcome, given the state.
    """
    predicted = np.einsum("nq,vnq->vn", belief, channel)
    within = np.einsum("nq,vnq->n", belief, _plogp(channel))
    return np.maximum(within - _plogp(predicted).sum(0), 0.0)


def successive(belief: Floats, channel: Floats, votes: int) -> Floats:
    """[N, votes] information of the first, second, ... outcome beyond those before it.

    Outcomes are independent given the state, so their order does not matter: each multiset of outcomes is reckoned once
    and counted as often as it can be ordered. Arguments as for `information`.

    Raises:
        ValueError: fewer than one vote.
    """
    if votes < 1:
        raise ValueError(f"{votes} votes tell nothing: give 1 or more")
    if votes == 1:
        return information(belief, channel)[:, None]
    within = np.einsum("nq,vnq->n", belief, _plogp(channel))
    total = np.zeros((len(belief), votes + 1))
    for count in range(1, votes + 1):
        total[:, count] = count * within
        for chosen, ways in _multisets(len(channel), count):
            predicted = np.einsum("nq,nq->n", belief, np.prod(channel[list(chosen)], axis=0))
            total[:, count] -= ways * _plogp(predicted)
    return np.maximum(np.diff(total, axis=1), 0.0)


def _multisets(outcomes: int, count: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Multisets of so many outcomes, with the number of their orders."""
    for chosen in combinations_with_replacement(range(outcomes), count):
        same = math.prod(math.factorial(chosen.count(one)) for one in set(chosen))
        yield chosen, math.factorial(count) // same


def _plogp(p: Floats) -> Floats:
    """p log p, 0 at 0."""
    return p * np.log(np.where(p > 0, p, 1.0))


def choose(scores: ArrayLike, count: int, *, features: ArrayLike | None = None, diversity: float = 0.0) -> Ints:
    """Which candidates to take, the first choice first.

    The best by score; with features, one after the other, each the best by

        (1 - diversity) score - diversity (largest cosine similarity to one taken already)

    with scores stretched over 0 to 1 (maximal marginal relevance, Carbonell and Goldstein 1998). At a diversity of 1
    each is the farthest from those taken (the greedy k-center of Sener and Savarese 2018), beginning with the best.
    Of candidates alike the first is taken.

    Args:
        scores: [N] the higher the better.
        count: how many; all, where there are no more.
        features: [N, D]; a row of zeros is like nothing.
        diversity: 0 to 1.

    Raises:
        ValueError: scores that are not finite, a count below 0, a diversity outside 0 to 1 or without features of N
            rows.
    """
    worth = np.asarray(scores, dtype=np.float64)
    if worth.ndim != 1 or not np.isfinite(worth).all() or count < 0 or not 0 <= diversity <= 1:
        raise ValueError("choosing needs finite scores [N], a count of 0 or more and a diversity from 0 to 1")
    taken = min(count, len(worth))
    if not diversity:
        return np.argsort(-worth, kind="stable")[:taken].astype(np.int64)
    rows = None if features is None else np.asarray(features, dtype=np.float64)
    if rows is None or rows.ndim != 2 or len(rows) != len(worth):
        raise ValueError(f"diversity needs features [{len(worth)}, D]")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms > 0, norms, 1.0)
    spread = float(np.ptp(worth)) if len(worth) else 0.0
    worth = (worth - worth.min(initial=np.inf)) / spread if spread > 0 else np.zeros_like(worth)
    found = np.zeros(taken, dtype=np.int64)
    alike = np.full(len(worth), -1.0)
    left = worth.copy()
    for place in range(taken):
        best = int(left.argmax())
        found[place] = best
        alike = np.maximum(alike, rows @ rows[best])
        left = (1 - diversity) * worth - diversity * alike
        left[found[: place + 1]] = -np.inf
    return found


def _members(candidates: Candidates) -> Floats:
    if candidates.margins is None or len(candidates.margins) < 2:
        raise ValueError("how models differ needs the margins of two or more")
    return candidates.margins
