"""Does "80% sure" come out right 80% of the time? Reliability, calibration error, temperature. Without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.logistic import sigmoid
from heedful.core.statistics import Interval, finite_numbers

Floats = NDArray[np.float64]

LOWEST, HIGHEST = 1e-6, 1e6
"""Between these a temperature is looked for."""


@dataclass(frozen=True)
class Reliability:
    """Bins of like confidence, each with its size and its means: the data of a reliability diagram."""

    sizes: tuple[int, ...]
    confidence: tuple[float, ...]
    outcome: tuple[float, ...]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between confidence and outcome, weighted by the bins' sizes."""
        gaps = zip(self.sizes, self.confidence, self.outcome, strict=True)
        return sum(size * abs(said - came) for size, said, came in gaps) / sum(self.sizes)


def favoured(difference: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    """Confidence [n] in the favourite of each pair, and the share [n] of its being right.

    Which answer is called `a` is arbitrary, so each pair is turned to have the scorer's favourite first: confidence
    sigmoid(|difference|) runs from 1/2 to 1. A pair that the scorer cannot tell apart is half right.

    Args:
        difference: [n] score of a minus score of b.
        truth: [n] probability in 0..1 that a is better.

    Raises:
        ValueError: lengths differ, a number is not finite, a truth outside 0..1.
    """
    gap, p = finite_numbers(difference), finite_numbers(truth)
    if gap.shape != p.shape or p.min() < 0 or p.max() > 1:
        raise ValueError(f"{gap.size} differences, {p.size} truths; a truth lies in 0 to 1")
    confidence = sigmoid(np.abs(gap))
    return confidence, np.where(gap > 0, p, np.where(gap < 0, 1 - p, 0.5))


def reliability(confidence: ArrayLike, outcome: ArrayLike, *, bins: int = 10) -> Reliability:
    """Sort by confidence and cut into bins of equal size (Guo et al. 2017, with as many pairs in each bin).

    Args:
        confidence, outcome: [n] numbers in 0..1.
        bins: how many; fewer where there are fewer pairs.

    Raises:
        ValueError: lengths differ, a number is not finite, or bins is below 1.
    """
    said, came = finite_numbers(confidence), finite_numbers(outcome)
    if said.shape != came.shape or bins < 1:
        raise ValueError(f"{said.size} confidences, {came.size} outcomes, {bins} bins")
    parts = np.array_split(np.argsort(said, kind="stable"), min(bins, said.size))
    return Reliability(
        sizes=tuple(len(part) for part in parts),
        confidence=tuple(float(said[part].mean()) for part in parts),
        outcome=tuple(float(came[part].mean()) for part in parts),
    )


def calibration_error(
    confidence: ArrayLike,
    outcome: ArrayLike,
    clusters: ArrayLike,
    *,
    bins: int = 10,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Expected calibration error with a percentile interval that resamples whole clusters (prompts).

    The estimate is biased upwards, the more the fewer pairs a bin holds, and so are the resamples: a perfectly
    calibrated scorer has an interval above 0. Compare two scorers on the same pairs rather than one with nought.

    Args:
        confidence, outcome: [n] numbers in 0..1.
        clusters: [n] ids of the clusters that pairs belong to.
        bins: as in `reliability`; each resample is cut anew.
        samples: resamples. seed: theirs. level: coverage.

    Raises:
        ValueError: as `reliability`, or fewer than two clusters.
    """
    said, came = finite_numbers(confidence), finite_numbers(outcome)
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    if member.shape != said.shape or len(names) < 2:
        raise ValueError(f"{member.size} clusters ids of {len(names)} clusters for {said.size} pairs")
    order = np.argsort(member, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(member))[:-1])
    random = np.random.default_rng(seed)
    found = np.empty(samples)
    for number in range(samples):
        drawn = np.concatenate([rows[i] for i in random.integers(0, len(rows), len(rows))])
        found[number] = reliability(said[drawn], came[drawn], bins=bins).error
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(reliability(said, came, bins=bins).error, float(low), float(high))


def fit_temperature(difference: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The temperature T that makes sigmoid(difference / T) the likeliest (Guo et al. 2017, section 4.2).

    T above 1: the scores were too sure of themselves. The likelihood is concave in 1/T, so its one maximum is found by
    bisection of its slope, the weighted sum of difference * (truth - sigmoid(difference / T)).

    Args:
        difference: [n] score of a minus score of b, on pairs that nothing was trained on.
        truth: [n] probability in 0..1 that a is better.
        weights: [n] above 0; equal where left out.

    Raises:
        ValueError: lengths differ, a number is not finite; or no temperature is best: the scores do no better than
            chance, or order every pair rightly.
    """
    gap, p = finite_numbers(difference), finite_numbers(truth)
    w = np.ones_like(gap) if weights is None else finite_numbers(weights)
    if not gap.shape == p.shape == w.shape:
        raise ValueError(f"{gap.size} differences, {p.size} truths, {w.size} weights")

    def slope(log_temperature: float) -> float:
        expected = sigmoid(gap / np.exp(log_temperature))
        return float(np.sum(w * gap * (p - expected)))

    low, high = np.log(LOWEST), np.log(HIGHEST)
    if slope(high) <= 0:
        raise ValueError("the scores do no better than chance here, so no temperature is best")
    if slope(low) >= 0:
        raise ValueError("the scores order every pair rightly, so no temperature is best: the lower the likelier")
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return float(np.exp((low + high) / 2))
