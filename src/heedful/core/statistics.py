"""Figures with their uncertainty: intervals for means, rates and win rates, and raters' agreement.

Works without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Interval:
    """An estimate between two bounds."""

    mean: float
    low: float
    high: float


def cluster_bootstrap(
    values: ArrayLike, clusters: ArrayLike, *, samples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile interval for a mean whose values come in clusters that belong together.

    Whole clusters are drawn with replacement, as many as there are, and all their values are averaged. Use
    it when several figures share a prompt, a fact or a rater; for a paired comparison give the differences.
    Few clusters make it too narrow: with 10 a 95% interval covers about 90% of the time.

    Args:
        values: [n] numbers.
        clusters: [n] ids (numbers or strings) of the clusters they belong to.
        samples: resamples.
        seed: of the resampling; the same seed gives the same interval.
        level: coverage, between 0 and 1.

    Raises:
        ValueError: no values, lengths that differ, a value that is not finite, fewer than two clusters.
    """
    numbers = finite_numbers(values)
    ids = np.asarray(clusters)
    _check_level(level)
    if ids.shape != numbers.shape:
        raise ValueError(f"values and clusters differ in length: {numbers.shape} and {ids.shape}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    names, member = np.unique(ids, return_inverse=True)
    groups = len(names)
    if groups < 2:
        raise ValueError("one cluster alone says nothing about the spread between clusters")
    sums = np.bincount(member, weights=numbers, minlength=groups)
    counts = np.bincount(member, minlength=groups).astype(np.float64)
    random = np.random.default_rng(seed)
    means = np.empty(samples)
    block = max(1, 2**20 // groups)
    for start in range(0, samples, block):
        stop = min(start + block, samples)
        drawn = random.integers(0, groups, size=(stop - start, groups))
        means[start:stop] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers.mean()), float(low), float(high))


def wilson(successes: float, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval for a rate (Wilson 1927); sensible for small n and at 0 and 1.

    Args:
        successes: how many of the n; halves are allowed, as ties count.
        n: independent trials, at least 1.
        level: coverage, between 0 and 1.

    Raises:
        ValueError: n below 1, or successes outside 0..n.
    """
    _check_level(level)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials make no rate")
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * float(np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return Interval(rate, min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half)))


def outcomes(scores: ArrayLike, baseline: ArrayLike) -> NDArray[np.float64]:
    """[n] paired outcomes: 1 where the score beats the baseline's, 0 where it loses, one half for a tie.

    Raises:
        ValueError: no values, lengths that differ, a value that is not finite.
    """
    ours, theirs = finite_numbers(scores), finite_numbers(baseline)
    if ours.shape != theirs.shape:
        raise ValueError(f"scores and baseline differ in length: {ours.shape} and {theirs.shape}")
    return (np.sign(ours - theirs) + 1) / 2


def win_rate(wins: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean of outcomes 1, 0.5 and 0 with Wilson's interval, for independent comparisons.

    Ties make the interval a little too wide, never too narrow. Comparisons that share prompts are not
    independent: give those to `cluster_bootstrap`.

    Raises:
        ValueError: no comparisons, or an outcome other than 1, 0.5 and 0.
    """
    numbers = finite_numbers(wins)
    if not np.isin(numbers, (0.0, 0.5, 1.0)).all():
        raise ValueError("an outcome is 1 for a win, 0.5 for a tie, 0 for a loss")
    return wilson(float(numbers.sum()), len(numbers), level=level)


def t_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Student's interval for the mean of a few independent, roughly normal figures, such as one per seed.

    Raises:
        ValueError: fewer than two values, or one that is not finite.
    """
    from scipy.special import stdtrit

    numbers = finite_numbers(values)
    _check_level(level)
    if len(numbers) < 2:
        raise ValueError("one figure alone says nothing about the spread")
    mean = float(numbers.mean())
    half = float(stdtrit(len(numbers) - 1, (1 + level) / 2) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return Interval(mean, mean - half, mean + half)


def finite_numbers(values: ArrayLike) -> NDArray[np.float64]:
    """[n] numbers, at least one.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"need a list of at least one number, got the shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{int((~np.isfinite(numbers)).sum())} of {len(numbers)} values are not finite")
    return numbers


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
