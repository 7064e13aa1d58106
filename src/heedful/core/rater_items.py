"""A rater-aware Bradley-Terry model for items that meet many others, such as models in an arena.

As `rater_aware`, but a vote on items i and j has the score difference score[i] - score[j], and the scores are fitted
with the raters, since many judgments bear on each. The objective is not convex (a slope multiplies scores), so the
fit says how far from a stationary point it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, vstack
from scipy.special import ndtr

from heedful.core.crowd import Caveat, Floats, Ints, Judgments, judgments, settled
from heedful.core.rater_fit import (
    NOT_POSITIVE,
    STEP,
    STUCK,
    Estimates,
    estimates_of,
    inverse,
    move_left,
    penalised,
    polished,
    reference_of,
    search,
)
from heedful.core.rater_terms import Layout, Penalty, Priors, Votes

ITEM_PRIORS = Priors(slope=(1.0, 0.1))
"""The crowd's mean slope is held near 1, which sets the scale of the scores."""
SPREAD = 3.0
"""Standard deviation of the scores' prior, around 0, in logits."""
MOST = 4000
"""Parameters for which standard errors are reckoned: a matrix of them is inverted."""
TOO_MANY = Caveat("no-errors", f"More than {MOST} parameters: no standard errors are reckoned.")


@dataclass(frozen=True)
class Contests:
    """n judgments, each of two of many items; made by `contests`."""

    first: Ints
    """[n] the item that is a, 0 to items - 1."""
    second: Ints
    """[n] the item that is b."""
    judged: Judgments
    """Who said what; its items are the pairs."""
    item_ids: NDArray[Any]
    """[items] as they were given."""


def contests(
    first: ArrayLike,
    second: ArrayLike,
    rater: ArrayLike,
    vote: ArrayLike | Sequence[str],
    **more: ArrayLike | None,
) -> Contests:
    """Judgments of items against each other, from columns of equal length.

    Args:
        first, second: [n] ids of the items a and b.
        rater, vote: as in `judgments`.
        more: order, length and weight, as in `judgments`.

    Raises:
        ValueError: as `judgments`, or an item against itself.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"first and second differ in shape: {a.shape} and {b.shape}")
    ids, which = np.unique(np.concatenate([a, b]), return_inverse=True)
    i, j = which[: len(a)].astype(np.int64), which[len(a) :].astype(np.int64)
    if (i == j).any():
        raise ValueError(f"{ids[i[i == j][0]]!r} is compared with itself")
    judged = judgments(i * len(ids) + j, rater, vote, **more)  # type: ignore[arg-type]
    return Contests(i, j, judged, ids)


@dataclass(frozen=True)
class RatedItems:
    """Fitted items and raters. Scores are in logits of a rater with the slope 1, and sum to 0."""

    item_ids: NDArray[Any]
    score: Floats
    """[items]"""
    covariance: Floats | None
    """[items, items] of the scores; None where it was not reckoned."""
    slope: Estimates
    position: Estimates
    length: Estimates
    tie: Estimates
    reference: float
    """The slope of the rater whom `probability` speaks of: the median of those above 0, over judgments."""
    nu: float
    """Davidson's parameter of that rater; 0 without ties."""
    gradient: float
    """The largest move still to be made, in standard errors; converged at or below `rater_fit.STEP`."""
    converged: bool
    rounds: int
    caveats: tuple[Caveat, ...] = ()

    @property
    def error(self) -> Floats:
        """[items] standard errors of the scores; NaN where they were not reckoned."""
        return np.full(len(self.score), np.nan) if self.covariance is None else np.sqrt(np.diag(self.covariance))

    def probability(self, i: int, j: int) -> float:
        """That the reference rater prefers item i to j, position set aside, a tie counting half.

        In the mean over the scores' normal approximation, by 21 Gauss-Hermite nodes.
        """
        node, weight = np.polynomial.hermite_e.hermegauss(21)
        eta = self.reference * (self.score[i] - self.score[j] + np.sqrt(self._variance(i, j)) * node)
        up, down = np.exp(eta / 2), np.exp(-eta / 2)
        return float(settled(0.5 + weight @ ((up - down) / (up + down + self.nu)) / weight.sum() / 2))

    def posterior(self, i: int, j: int) -> float:
        """That item i's score is higher than j's, in the normal approximation; NaN where it was not reckoned."""
        gap, variance = self.score[i] - self.score[j], self._variance(i, j)
        if self.covariance is None:
            return float("nan")
        return float(settled(ndtr(gap / np.sqrt(variance)))) if variance > 0 else 0.5

    def _variance(self, i: int, j: int) -> float:
        if self.covariance is None:
            return 0.0
        return float(max(self.covariance[i, i] + self.covariance[j, j] - 2 * self.covariance[i, j], 0.0))


def rater_aware_items(
    data: Contests, *, priors: Priors = ITEM_PRIORS, spread: float = SPREAD, rounds: int = 1000
) -> RatedItems:
    """Fit items and raters together.

    Args:
        data: the judgments. A length bias that all raters share goes into the items' scores as far as these can tell
            it; what is left to raters is how they differ.
        priors: of the raters' parameters.
        spread: of the scores' prior.
        rounds: of the search, at most.
    """
    model = _Model.of(data, priors, spread)
    start = np.concatenate([model.layout.start(priors), np.zeros(model.items)])
    scale = 1 / np.sqrt(np.maximum(model.information(start).diagonal(), 1e-8))
    x, gradient, used = search(model.value_and_gradient, model.penalty, start, scale, rounds)
    caveats = []
    covariance = None
    if model.size > MOST:
        caveats.append(TOO_MANY)
    else:
        covariance = inverse(model.information(x, gradient=True).toarray())
        if covariance is None:
            caveats.append(NOT_POSITIVE)
        else:
            x, gradient = polished(penalised(model.value_and_gradient, model.penalty), x, gradient, covariance)
    step = move_left(gradient, scale, covariance)
    if step > STEP:
        caveats.append(STUCK)
    estimates = {
        kind: estimates_of(model.layout, priors, priors, x, covariance, kind)
        for kind in ("slope", "position", "length", "tie")
    }
    centre = np.eye(model.items) - 1 / model.items
    own = slice(model.layout.size, None)
    judged = data.judged
    tied = "tie" in model.layout.kinds
    return RatedItems(
        data.item_ids,
        centre @ x[own],
        None if covariance is None else centre @ covariance[own, own] @ centre,
        **estimates,
        reference=reference_of(estimates["slope"].value, judged.rater, judged.weight),
        nu=float(np.exp(np.median(estimates["tie"].value))) if tied else 0.0,
        gradient=step,
        converged=step <= STEP,
        rounds=used,
        caveats=tuple(caveats),
    )


@dataclass(frozen=True)
class _Model:
    """The joint log-likelihood of raters' parameters, then the items' scores."""

    data: Contests
    votes: Votes
    layout: Layout
    penalty: Penalty
    items: int

    @staticmethod
    def of(data: Contests, priors: Priors, spread: float) -> _Model:
        judged = data.judged
        votes = Votes.of(judged.vote)
        ordered = bool((judged.order > 0).any() and (judged.order < 0).any())
        kinds = ("slope", *(("tie",) if votes.tied.any() else ()), *(("position",) if ordered else ()))
        lengthy = bool((judged.length != 0).any())
        layout = Layout(judged.raters, votes.cuts, (*kinds, *(("length",) if lengthy else ())), kinds, False)
        items = len(data.item_ids)
        raters = Penalty.of(layout, priors)
        wide = csr_matrix((raters.rows.shape[0], items))
        own = csr_matrix((np.full(items, 1 / spread), (np.arange(items), layout.size + np.arange(items))))
        rows = vstack([_beside(raters.rows, wide), own]).tocsr()
        return _Model(data, votes, layout, Penalty(rows, np.append(raters.aims, np.zeros(items))), items)

    @property
    def size(self) -> int:
        return self.layout.size + self.items

    def _gap(self, x: Floats) -> Floats:
        score = x[self.layout.size :]
        return np.asarray(score[self.data.first] - score[self.data.second])

    def _off(self, x: Floats) -> tuple[Floats, Floats, Mapping[str, Floats]]:
        """(log-probabilities of what was said [n], probabilities [V, n], the raters' parameters of each judgment)."""
        judged, layout = self.data.judged, self.layout
        own = {kind: layout.raters_get(x, kind)[judged.rater] for kind in ("slope", "tie", "position", "length")}
        eta = own["slope"] * self._gap(x) + own["position"] * judged.order + own["length"] * judged.length
        logs = self.votes.log_probability(eta, own["tie"], x[layout.cuts_at])
        said = logs[self.votes.place(judged.vote), np.arange(len(eta))]
        return said, np.exp(logs), own

    def value_and_gradient(self, x: Floats) -> tuple[float, Floats]:
        """The log-likelihood and its gradient."""
        judged, layout, votes = self.data.judged, self.layout, self.votes
        said, chance, own = self._off(x)
        weight = judged.weight
        eta = weight * (judged.vote / 2 - (votes.values / 2) @ chance)
        terms = {
            "slope": eta * self._gap(x),
            "position": eta * judged.order,
            "length": eta * judged.length,
            "tie": weight * ((judged.vote == 0) - votes.tied @ chance),
        }
        gradient = np.zeros(self.size)
        for kind in layout.kinds:
            gradient[layout.of_raters(kind)] = np.bincount(judged.rater, terms[kind], minlength=layout.raters)
        place = votes.place(judged.vote)
        for at in range(layout.cuts):
            mine = votes.cut == at
            gradient[layout.cuts_at.start + at] = weight @ (mine[place] - mine.astype(np.float64) @ chance)
        pull = eta * own["slope"]
        gradient[layout.size :] = np.bincount(self.data.first, pull, minlength=self.items)
        gradient[layout.size :] -= np.bincount(self.data.second, pull, minlength=self.items)
        return float(weight @ said), gradient

    def information(self, x: Floats, *, gradient: bool = False) -> csr_matrix:
        """[parameters, parameters] the expected information and the priors' precision; observed with `gradient`."""
        judged, layout, votes = self.data.judged, self.layout, self.votes
        _, chance, own = self._off(x)
        n = len(judged.vote)
        row = np.arange(n, dtype=np.int64)
        linear = [
            (row, layout.of_raters("slope").start + judged.rater, self._gap(x)),
            (row, layout.size + self.data.first, own["slope"]),
            (row, layout.size + self.data.second, -own["slope"]),
        ]
        for kind, effect in (("position", judged.order), ("length", judged.length)):
            if kind in layout.kinds:
                linear.append((row, layout.of_raters(kind).start + judged.rater, effect))
        eta = _sparse(linear, n, self.size)
        tie = csr_matrix((n, self.size))
        if "tie" in layout.kinds:
            tie = _sparse([(row, layout.of_raters("tie").start + judged.rater, np.ones(n))], n, self.size)
        found = self.penalty.precision
        mean = (votes.values / 2) @ chance
        for at, value in enumerate(votes.values):
            part = eta.multiply((value / 2 - mean)[:, None]) + tie.multiply(
                (votes.tied[at] - votes.tied @ chance)[:, None]
            )
            for cut in range(layout.cuts):
                mine = (votes.cut == cut).astype(np.float64)
                column = np.full(n, layout.cuts_at.start + cut)
                part = part + _sparse([(row, column, mine[at] - mine @ chance)], n, self.size)
            part = part.multiply(np.sqrt(judged.weight * chance[at])[:, None]).tocsr()
            found = found + part.T @ part
        if gradient:
            off = judged.weight * (judged.vote / 2 - mean)
            slope = layout.of_raters("slope").start + judged.rater
            for item, sign in ((self.data.first, 1.0), (self.data.second, -1.0)):
                cross = csr_matrix((sign * off, (slope, layout.size + item)), shape=(self.size, self.size))
                found = found - cross - cross.T
        return csr_matrix(found)


def _sparse(entries: Sequence[tuple[Ints, Ints, Floats]], height: int, width: int) -> csr_matrix:
    rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    return csr_matrix((values, (rows, columns)), shape=(height, width))


def _beside(left: csr_matrix, right: csr_matrix) -> csr_matrix:
    return csr_matrix((left.data, left.indices, left.indptr), shape=(left.shape[0], left.shape[1] + right.shape[1]))
