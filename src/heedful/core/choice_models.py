"""Scores of items from comparisons and rankings with ties: Bradley-Terry, Davidson, Plackett-Luce, Davidson-Luce.

All are one conditional logit model with linear predictors, whose log-likelihood is concave: Newton's method with a
line search finds the one maximum, if there is one. Works without torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.special import ndtr

from heedful.core.crowd import Floats, Ints, settled

TOLERANCE = 1e-12
"""Converged when Newton's decrement, half the gain still expected in log-likelihood, is below this."""
MOST = 4_000_000
"""Alternatives that all stages of all rankings may have together."""


@dataclass(frozen=True)
class Scores:
    """Fitted scores: log of the items' strengths, less their mean or the reference's."""

    score: Floats
    """[items]"""
    covariance: Floats
    """[items, items] of the scores; 0 in the reference's row where there is one."""
    ties: Floats
    """[orders] log of the parameter for ties of 2, 3 ... items; empty without ties."""
    log_likelihood: float
    """Of the data, without the prior."""
    decrement: float
    """Newton's at the end; converged at or below `TOLERANCE`."""
    converged: bool

    @property
    def error(self) -> Floats:
        """[items] standard errors."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))

    def probability(self, i: int, j: int) -> float:
        """That i is preferred to j, a tie counting half."""
        gap = float(self.score[i] - self.score[j])
        tie = float(np.exp(self.ties[0])) if len(self.ties) else 0.0
        up, down = np.exp(gap / 2), np.exp(-gap / 2)
        return float((up + tie / 2) / (up + down + tie))

    def posterior(self, i: int, j: int) -> float:
        """That i's score is the higher, in the normal approximation."""
        variance = self.covariance[i, i] + self.covariance[j, j] - 2 * self.covariance[i, j]
        gap = self.score[i] - self.score[j]
        return float(settled(ndtr(gap / np.sqrt(variance)))) if variance > 0 else 0.5


def bradley_terry(
    wins: ArrayLike, ties: ArrayLike | None = None, *, reference: int | None = None, prior: float = np.inf
) -> Scores:
    """Bradley and Terry's (1952) model of comparisons, with Davidson's (1970) ties.

    P(i beats j) is proportional to sqrt(strength of i / strength of j), a tie to nu. Without ties this is
    strength of i / (strength of i + strength of j).

    Args:
        wins: [items, items] how often the row's item beat the column's; the diagonal is not read.
        ties: [items, items] symmetric, how often each two tied.
        reference: the item whose score is 0; by default the scores sum to 0.
        prior: standard deviation of a normal prior of the scores around 0; infinite for maximum likelihood.

    Raises:
        ValueError: no square tables of counts, or no maximum without a prior: items that were never compared, or
            some that never lost to the others (Ford 1957), named.
    """
    won = _counts(wins, "wins")
    tied = np.zeros_like(won) if ties is None else _counts(ties, "ties")
    if tied.shape != won.shape or not np.array_equal(tied, tied.T):
        raise ValueError("ties must be symmetric and of the shape of wins")
    beaten = won + tied
    if not np.isfinite(prior):
        _require_maximum(beaten, tied)
    first, second = np.nonzero(np.triu(won + won.T + tied))
    sides = 3 if tied.any() else 2
    stage = np.repeat(np.arange(len(first)), sides)
    rows, columns, values = [], [], []
    for at, sign in ((0, 0.5), (sides - 1, -0.5)):
        row = np.arange(len(first)) * sides + at
        rows += [row, row]
        columns += [first, second]
        values += [np.full(len(row), sign), np.full(len(row), -sign)]
    counts = np.zeros((len(first), sides))
    counts[:, 0], counts[:, -1] = won[first, second], won[second, first]
    if sides == 3:
        rows.append(np.arange(len(first)) * 3 + 1)
        columns.append(np.full(len(first), len(won)))
        values.append(np.ones(len(first)))
        counts[:, 1] = tied[first, second]
    design = csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(len(first) * sides, len(won) + sides - 2),
    )
    return _fit(design, counts.ravel(), stage, len(won), reference, prior)


def plackett_luce(
    rankings: Sequence[ArrayLike], items: int, *, reference: int | None = None, prior: float = np.inf
) -> Scores:
    """Plackett and Luce's model of rankings, with ties as Davidson and Luce's (Firth, Turner and Kosmidis 2019).

    A ranking chooses its best, then the best of the rest, and so on. A set of t tied items is chosen in proportion
    to delta_t times the geometric mean of their strengths, among all sets of at most as many items as any tie has.

    Args:
        rankings: for each, [items] ranks, lower is better, equal ranks a tie, NaN for items not ranked.
        items: how many there are.
        reference: the item whose score is 0; by default the scores sum to 0.
        prior: as in `bradley_terry`.

    Raises:
        ValueError: rankings of another shape, ties too large to enumerate, or no maximum without a prior.
    """
    stages = [stage for ranks in rankings for stage in _stages(ranks, items)]
    if not stages:
        raise ValueError("no ranking orders two items")
    order = max(len(best) for best, _ in stages)
    size = sum(comb(len(rest), t) for _, rest in stages for t in range(1, min(order, len(rest)) + 1))
    if size > MOST:
        raise ValueError(f"ties of {order} make {size} sets to compare, above {MOST}: break the longest ties up")
    beaten = np.zeros((items, items))
    tied = np.zeros((items, items))
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    stage: list[int] = []
    chosen: list[float] = []
    row = 0
    for at, (best, rest) in enumerate(stages):
        for t in range(1, min(order, len(rest)) + 1):
            for group in itertools.combinations(rest, t):
                rows += [row] * t
                columns += group
                values += [1 / t] * t
                if t > 1:
                    rows.append(row)
                    columns.append(items + t - 2)
                    values.append(1.0)
                stage.append(at)
                chosen.append(float(group == best))
                row += 1
        for winner in best:
            for loser in rest:
                beaten[winner, loser] += winner != loser
                tied[winner, loser] += loser in best and winner != loser
    if not np.isfinite(prior):
        _require_maximum(beaten, tied)
    design = csr_matrix((values, (rows, columns)), shape=(row, items + order - 1))
    return _fit(design, np.array(chosen), np.array(stage), items, reference, prior)


def _stages(ranks: ArrayLike, items: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(the best, all that were left) of each choice that a ranking makes."""
    given = np.asarray(ranks, dtype=np.float64)
    if given.shape != (items,):
        raise ValueError(f"a ranking of the shape {given.shape} does not rank {items} items")
    found = []
    for rank in np.unique(given[~np.isnan(given)]):
        left = tuple(int(i) for i in np.flatnonzero(given >= rank))
        if len(left) > 1:
            found.append((tuple(int(i) for i in np.flatnonzero(given == rank)), left))
    return found


def _counts(values: ArrayLike, name: str) -> Floats:
    found = np.array(values, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or len(found) < 2:
        raise ValueError(f"{name} must be a square table of two items or more, got {found.shape}")
    np.fill_diagonal(found, 0.0)
    if not np.isfinite(found).all() or found.min() < 0:
        raise ValueError(f"{name} holds counts: finite, 0 or more")
    return found


def _require_maximum(beaten: Floats, tied: Floats) -> None:
    """Refuse data whose likelihood has no maximum: the graph of who beat or tied whom is not strongly connected."""
    parts, part = connected_components(csr_matrix(beaten > 0), connection="strong")
    if parts > 1:
        first = np.flatnonzero(part == part[0]).tolist()
        raise ValueError(
            f"the items fall into {parts} groups of which one never lost to another, or was never compared with it"
            f" (one group: {first[:10]}): scores without a prior would be infinite. Give a prior, or more comparisons"
        )
    if tied.any() and not (beaten - tied).any():
        raise ValueError("everything tied: without a prior the ties' parameter would be infinite")


def _fit(design: csr_matrix, counts: Floats, stage: Ints, items: int, reference: int | None, prior: float) -> Scores:
    """Newton's method on the log-likelihood of a conditional logit model."""
    if reference is not None and not 0 <= reference < items:
        raise ValueError(f"there is no item {reference} of {items}")
    stages = int(stage.max()) + 1
    sums = np.bincount(stage, counts, minlength=stages)
    precision = np.zeros(design.shape[1])
    precision[:items] = 1 / prior**2 if np.isfinite(prior) else 0.0
    precision[items:] = 1e-2 if np.isfinite(prior) else 0.0
    # What the likelihood leaves free, a shift of all scores, is pinned: by the prior, or at the mean 0.
    pin = np.zeros(design.shape[1])
    pin[:items] = 0.0 if np.isfinite(prior) else 1 / np.sqrt(items)

    def state(x: Floats) -> tuple[float, Floats]:
        score = design @ x
        top = np.full(stages, -np.inf)
        np.maximum.at(top, stage, score)
        log = score - top[stage]
        log -= np.log(np.bincount(stage, np.exp(log), minlength=stages))[stage]
        return float(counts @ log), np.exp(log)

    x = np.zeros(design.shape[1])
    value, chance = state(x)
    decrement = np.inf
    for _ in range(200):
        gradient = design.T @ (counts - sums[stage] * chance) - precision * x
        information = _information(design, sums[stage] * chance, stage, stages) + np.diag(precision)
        step = np.linalg.solve(information + np.outer(pin, pin), gradient)
        decrement = float(gradient @ step) / 2
        if decrement <= TOLERANCE:
            break
        size = 1.0
        before = value - precision @ x**2 / 2
        while size > 1e-8:
            there = x + size * step
            value, chance = state(there)
            if value - precision @ there**2 / 2 >= before + 1e-4 * size * 2 * decrement - 1e-12 * abs(before):
                break
            size /= 2
        x = there
    turned = np.eye(items)
    if reference is None:
        turned -= 1 / items
    else:
        turned[:, reference] -= 1
    covariance = np.linalg.inv(information + np.outer(pin, pin))[:items, :items]
    score = turned @ x[:items]
    return Scores(score, turned @ covariance @ turned.T, x[items:], value, decrement, bool(decrement <= TOLERANCE))


def _information(design: csr_matrix, weight: Floats, stage: Ints, stages: int) -> Floats:
    """[parameters, parameters] weighted covariance of the alternatives within their stages."""
    total = np.bincount(stage, weight, minlength=stages)
    choose = csr_matrix((weight, (stage, np.arange(len(stage)))), shape=(stages, len(stage)))
    means = (choose @ design).toarray()
    scaled = means / np.sqrt(np.where(total > 0, total, 1.0))[:, None]
    return np.asarray((design.T @ design.multiply(weight[:, None])).toarray() - scaled.T @ scaled)
