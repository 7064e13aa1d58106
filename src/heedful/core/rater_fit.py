"""The search for raters' parameters, its test of convergence, and their standard errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize

from heedful.core.crowd import Caveat, Floats, Ints
from heedful.core.rater_terms import Layout, Penalty, Priors

Objective: TypeAlias = Callable[[Floats], tuple[float, Floats]]
"""Parameters to a value and its gradient."""
STEP = 0.01
"""A fit has converged when no parameter would move by more than this part of its standard error."""
POLISH = 8
"""Newton's steps after the search, at most."""
NOT_POSITIVE = Caveat(
    "no-errors", "The information matrix is not positive, so there are no standard errors: give more judgments a rater."
)
STUCK = Caveat("not-converged", "The fit has not converged; do not use it.")


@dataclass(frozen=True)
class Estimates:
    """A figure for each rater, with how well it is known."""

    value: Floats
    """[raters] NaN where it is not fitted."""
    error: Floats
    """[raters] standard error, with the prior; NaN where it was not reckoned."""
    identified: NDArray[np.bool_]
    """[raters] whether data tell it: by themselves to within the prior's first spread, or half of itself."""

    def interval(self, rater: int, z: float = 1.959964) -> tuple[float, float]:
        """Normal interval, of 95% by default."""
        return float(self.value[rater] - z * self.error[rater]), float(self.value[rater] + z * self.error[rater])


def estimates_of(
    layout: Layout, first: Priors, last: Priors, x: Floats, covariance: Floats | None, kind: str
) -> Estimates:
    """The raters' parameters of a kind with their errors; NaN where they are not fitted.

    Args:
        layout: where they stand.
        first, last: the priors as they were given, and with fitted spreads.
        x, covariance: the fit.
        kind: slope, tie, position or length.
    """
    none, unknown = np.full(layout.raters, np.nan), np.zeros(layout.raters, dtype=bool)
    if kind not in layout.kinds:
        return Estimates(none, none, unknown)
    value = x[layout.of_raters(kind)].copy()
    if covariance is None:
        return Estimates(value, none, unknown)
    variance = np.diag(covariance)[layout.of_raters(kind)]
    own = 1 / variance - 1 / getattr(last, f"{kind}_spread") ** 2
    enough = np.maximum(getattr(first, f"{kind}_spread"), np.abs(value) / 2)
    return Estimates(value, np.sqrt(variance), own >= 1 / enough**2)


def spreads(layout: Layout, first: Priors, x: Floats, covariance: Floats) -> Priors:
    """The priors with the spreads that the raters show: one step of expectation maximisation (Laird and Ware 1982).

    A spread's square becomes the mean, over raters and `firm` imagined ones of the first spread, of the squared
    distance from the crowd's mean and its variance.
    """
    found = {}
    variance = np.diag(covariance)
    for kind in layout.kinds:
        own = layout.of_raters(kind)
        off = (x[own] - layout.mean_get(x, kind)) ** 2 + variance[own]
        if kind in layout.means:
            mean = layout.mean_at(kind)
            off += variance[mean] - 2 * covariance[own, mean]
        name = f"{kind}_spread"
        squared = (first.firm * getattr(first, name) ** 2 + off.sum()) / (first.firm + layout.raters)
        found[name] = float(np.sqrt(squared))
    return replace(first, **found)  # type: ignore[arg-type]


def moved(one: Priors, other: Priors, layout: Layout) -> float:
    """By how much of itself the spread that differs most does."""
    names = [f"{kind}_spread" for kind in layout.kinds]
    return max(abs(getattr(one, name) / getattr(other, name) - 1) for name in names)


def search(
    log_likelihood: Objective,
    penalty: Penalty,
    start: Floats,
    scale: Floats,
    rounds: int,
) -> tuple[Floats, Floats, int]:
    """(parameters, gradient of the objective there, evaluations): L-BFGS on parameters in units of `scale`.

    Args:
        log_likelihood: gives the value and its gradient.
        penalty: the priors.
        start: parameters to begin at.
        scale: about a standard error of each.
        rounds: at most.
    """
    used = 0
    whole = penalised(log_likelihood, penalty)

    def objective(u: Floats) -> tuple[float, Floats]:
        nonlocal used
        used += 1
        value, gradient = whole(u * scale)
        return value, gradient * scale

    options = {"maxiter": rounds, "maxfun": 2 * rounds, "gtol": STEP / 4, "ftol": 0.0, "maxcor": 20}
    found = minimize(objective, start / scale, jac=True, method="L-BFGS-B", options=options)
    return found.x * scale, np.asarray(found.jac) / scale, used


def penalised(log_likelihood: Objective, penalty: Penalty) -> Objective:
    """What is minimised, with its gradient: the penalty less the log-likelihood."""

    def objective(x: Floats) -> tuple[float, Floats]:
        value, gradient = log_likelihood(x)
        extra, slope = penalty.value_and_gradient(x)
        return extra - value, slope - gradient

    return objective


def polished(objective: Objective, x: Floats, gradient: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """(parameters, gradient) after Newton's steps with one covariance, while they are needed and gain.

    Parameters hang together, so that a gradient that is small in each by itself can leave a move of several hundredths
    of a standard error to make.
    """
    worth, _ = objective(x)
    for _ in range(POLISH):
        if move_left(gradient, gradient, covariance) <= STEP:
            break
        there = x - covariance @ gradient
        value, slope = objective(there)
        if not value < worth:
            break
        x, gradient, worth = there, slope, value
    return x, gradient


def move_left(gradient: Floats, scale: Floats, covariance: Floats | None) -> float:
    """The largest move still to be made: Newton's step in standard errors, or `scale` of each parameter by itself
    where these were not reckoned."""
    if covariance is None:
        return float(np.max(np.abs(gradient) * scale))
    return float(np.max(np.abs(covariance @ gradient) / np.sqrt(np.diag(covariance))))


def inverse(information: Floats) -> Floats | None:
    """Of a symmetric matrix; None where it is not positive."""
    factor, failed = dpotrf(information, lower=1)
    if failed:
        return None
    found, _ = dpotri(factor, lower=1)
    return np.asarray(np.tril(found) + np.tril(found, -1).T)


def reference_of(slopes: Floats, who: Ints, weight: Floats) -> float:
    """The median slope over judgments [n] by `who`, of some `weight`, of raters above 0; 0 where there is none."""
    total = np.zeros(len(slopes))
    np.add.at(total, who, weight * (slopes[who] > 0))
    if not total.any():
        return 0.0
    order = np.argsort(slopes)
    reached = np.cumsum(total[order]) / total.sum()
    return float(slopes[order][np.searchsorted(reached, 0.5)])
