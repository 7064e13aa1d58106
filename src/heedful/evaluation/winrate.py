"""Does the policy's answer beat the baseline's? Paired win rates with intervals that respect clusters.

Answers to prompts about one fact stand or fall together, so pairs are not independent draws. All
intervals here resample whole clusters (facts, topics or prompts), never single pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.logistic import logistic_modes, sigmoid
from heedful.core.statistics import Interval, cluster_bootstrap, wilson
from heedful.core.statistics import outcomes as plain_outcomes

Floats = NDArray[np.float64]

PRIOR = 0.01
"""Precision of a weak Gaussian prior on regressions' coefficients: finite even where one side wins everything."""


@dataclass(frozen=True)
class WinRate:
    """How often the policy's answer scored above the baseline's, over pairs on the same prompts.

    `rate` is a share (0 to 1) in which a tie counts half; its interval resamples whole clusters.
    `sign_p` is the exact two-sided sign test over the pairs that are no ties: it takes pairs for
    independent, so it flatters where clusters hold many pairs. `cluster_sign_p` is the same test with one
    vote per cluster (the side that won more of it), which stays honest.
    """

    rate: Interval
    wins: int
    ties: int
    losses: int
    clusters: int
    sign_p: float
    cluster_sign_p: float

    @property
    def pairs(self) -> int:
        """How many pairs were judged."""
        return self.wins + self.ties + self.losses


def outcomes(policy_scores: ArrayLike, baseline_scores: ArrayLike, *, tie_margin: float = 1e-9) -> Floats:
    """[n] 1 where the policy's answer scored higher, 0 where lower, 1/2 where the two tie.

    Scores within `tie_margin` of each other tie, so that rounding never decides a pair.

    Raises:
        ValueError: the two are not equally long vectors of finite numbers, or there are none.
    """
    policy, baseline = vector(policy_scores, "policy_scores"), vector(baseline_scores, "baseline_scores")
    if policy.shape != baseline.shape:
        raise ValueError(f"{policy.size} policy scores cannot be paired with {baseline.size} baseline scores")
    difference = policy - baseline
    told_apart = np.where(np.abs(difference) <= tie_margin, 0.0, difference)
    return plain_outcomes(told_apart, np.zeros_like(told_apart))


def win_rate(
    policy_scores: ArrayLike,
    baseline_scores: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    tie_margin: float = 1e-9,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> WinRate:
    """The paired win rate of a policy over a baseline; ties count half.

    Args:
        policy_scores: [n] score of the policy's answer in each pair.
        baseline_scores: [n] score of the baseline's answer to the same prompt.
        clusters: [n] what each pair belongs to (its fact, topic or prompt); whole clusters are resampled.
        tie_margin: scores this near to each other tie.
        samples: bootstrap resamples. seed: theirs. level: coverage of the interval.

    Raises:
        ValueError: lengths differ, a score is not finite, or there are fewer than two clusters (no interval
            can be had from one).
    """
    won = outcomes(policy_scores, baseline_scores, tie_margin=tie_margin)
    index = cluster_index(clusters, won.size)
    rate = rate_interval(won, index, samples=samples, seed=seed, level=level)
    balance = np.bincount(index, weights=won - 0.5)
    wins, losses = int((won == 1).sum()), int((won == 0).sum())
    return WinRate(
        rate=rate,
        wins=wins,
        ties=int(won.size - wins - losses),
        losses=losses,
        clusters=int(balance.size),
        sign_p=sign_test(wins, losses),
        cluster_sign_p=sign_test(int((balance > 0).sum()), int((balance < 0).sum())),
    )


def rate_interval(
    won: ArrayLike, clusters: ArrayLike, *, samples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """A share with an interval that resamples whole clusters (`core.statistics.cluster_bootstrap`).

    Where one side won everything, resampling sees no spread at all, and ten wins of ten would be certain for ever: the
    interval is then Wilson's, each cluster one trial.

    Args:
        won: [n] numbers from 0 to 1. clusters: [n] ids.

    Raises:
        ValueError: as `cluster_bootstrap`.
    """
    found = cluster_bootstrap(won, clusters, samples=samples, seed=seed, level=level)
    if 0 < found.mean < 1:
        return found
    trials = len(np.unique(np.asarray(clusters)))
    return wilson(trials * found.mean, trials, level=level)


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of a sign test: how surprising is so uneven a split of fair coin tosses?

    Computed in whole numbers, so it neither rounds nor underflows early. Without any decided pair it is 1.

    Raises:
        ValueError: a negative count.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"counts cannot be negative: {wins} wins, {losses} losses")
    n = wins + losses
    ways = tail = 1  # C(n, 0)
    for k in range(1, min(wins, losses) + 1):
        ways = ways * (n - k + 1) // k
        tail += ways
    return min(2 * tail, 2**n) / 2**n  # whole-number division: exact to the last bit of a float


def length_controlled_win_rate(
    won: ArrayLike,
    length_difference: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    samples: int = 2_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The win rate as it would be if both answers were equally long.

    A logistic regression of the outcome on tanh(length difference / its standard deviation) and an
    intercept, predicted at a difference of nought: Dubois et al. 2024 (arXiv 2404.04475), equation 2
    without the per-prompt difficulty. A weak Gaussian prior (`PRIOR`) keeps it finite when one side wins
    every pair. The interval resamples clusters and refits.

    Args:
        won: [n] outcomes 1, 1/2 or 0 (see `outcomes`).
        length_difference: [n] policy's length minus baseline's, in whatever unit.
        clusters: [n] as in `win_rate`.

    Raises:
        ValueError: lengths differ, a number is not finite, or there are fewer than two clusters.
    """
    target, difference = vector(won, "won"), vector(length_difference, "length_difference")
    if target.shape != difference.shape:
        raise ValueError(f"{target.size} outcomes but {difference.size} length differences")
    index = cluster_index(clusters, target.size)
    distinct, place = np.unique(difference, return_inverse=True)
    spread = difference.std()
    feature = np.tanh(distinct / spread) if spread > 0 else np.zeros_like(distinct)
    shape = (int(index.max()) + 1, distinct.size)  # pairs of one cluster and one difference go together
    pairs, wins = np.zeros(shape), np.zeros(shape)
    np.add.at(pairs, (index, place), 1.0)
    np.add.at(wins, (index, place), target)
    x = np.column_stack([np.ones_like(feature), feature])
    whole = logistic_modes(x, wins.sum(0, keepdims=True), pairs.sum(0, keepdims=True), PRIOR)[0][0, 0]
    resamples = np.array_split(resampled_counts(shape[0], samples, seed), max(1, samples // 256))
    resampled = np.concatenate([logistic_modes(x, c @ wins, c @ pairs, PRIOR)[0][:, 0] for c in resamples])
    low, high = np.quantile(sigmoid(resampled), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sigmoid(whole)), float(low), float(high))


def cluster_index(clusters: Sequence[Hashable], n: int) -> NDArray[np.int64]:
    """[n] clusters numbered from 0 in the order in which they first appear.

    Raises:
        ValueError: not one cluster per value, or fewer than two clusters.
    """
    if len(clusters) != n:
        raise ValueError(f"{n} values but {len(clusters)} cluster labels")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
    if len(numbers) < 2:
        raise ValueError(f"an interval needs at least two clusters, and there are {len(numbers)}")
    return index


def resampled_counts(clusters: int, samples: int, seed: int) -> Floats:
    """[samples, clusters] how often each cluster was drawn in each bootstrap resample."""
    share = np.full(clusters, 1 / clusters)
    return np.random.default_rng(seed).multinomial(clusters, share, size=samples).astype(np.float64)


def vector(values: ArrayLike, name: str) -> Floats:
    """`values` as a float64 vector.

    Raises:
        ValueError: not a vector, empty, or not finite.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or found.size == 0:
        raise ValueError(f"{name} must be a vector with at least one value, not of shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(found)).sum())} value(s) that are not finite")
    return found
