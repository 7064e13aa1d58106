"""Logistic regressions with normal priors, many at once: one set of rows, each regression with weights of its own.

Bootstrap resamples differ in how often a row was drawn and in nothing else, so that all are fitted in one go. Works
without torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from heedful.core.crowd import Floats

STEPS = 100
TOLERANCE = 1e-9
"""Converged when no coefficient of any regression moves by more, in logits per unit of its column."""
LONGEST = 2.0
"""Newton's method can overshoot: a step changes no coefficient by more."""


def sigmoid(x: ArrayLike) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(np.asarray(x, dtype=np.float64) / 2)))


def logistic_modes(
    x: Floats, wins: Floats, trials: Floats, precision: ArrayLike, start: Floats | None = None
) -> tuple[Floats, Floats]:
    """Where the posterior of each regression is highest, by Newton's method, and its curvature there.

    The log of the posterior is sum(wins * log p + (trials - wins) * log(1 - p)) - precision * beta**2 / 2 with
    p = sigmoid(x @ beta), up to a constant.

    Args:
        x: [n, F] a row for each outcome.
        wins: [S, n] successes, which may be parts of one (a tie is half).
        trials: [S, n] of how many.
        precision: [F] or one number, of the normal prior around 0; above 0 where the data could leave a
            coefficient free or infinite.
        start: [S, F] coefficients to begin with; by default 0.

    Returns:
        [S, F] coefficients, and [S, F, F] the negative Hessian of the log posterior there.

    Raises:
        ValueError: shapes that do not go together.
    """
    x, wins, trials = (np.asarray(given, dtype=np.float64) for given in (x, wins, trials))
    if x.ndim != 2 or wins.shape != trials.shape or wins.shape[1:] != x.shape[:1]:
        raise ValueError(f"rows {x.shape}, wins {wins.shape} and trials {trials.shape} do not go together")
    regressions, columns = len(wins), x.shape[1]
    prior = np.broadcast_to(np.asarray(precision, dtype=np.float64), (columns,))
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    beta = np.zeros((regressions, columns)) if start is None else np.asarray(start, dtype=np.float64)

    def curvature(p: Floats) -> Floats:
        return ((trials * p * (1 - p)) @ products).reshape(-1, columns, columns) + np.diag(prior)

    for _ in range(STEPS):
        p = sigmoid(beta @ x.T)
        gradient = (wins - trials * p) @ x - prior * beta
        step = np.linalg.solve(curvature(p), gradient[:, :, None])[:, :, 0]
        size = np.abs(step).max(1, keepdims=True)
        beta = beta + step / np.maximum(1, size / LONGEST)
        if size.max() < TOLERANCE:
            break
    return beta, curvature(sigmoid(beta @ x.T))
