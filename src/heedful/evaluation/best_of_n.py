"""Best-of-n: the gain that a judge's choice alone can bring, from one pool of N samples a prompt.

Source of the estimator: Gao, Schulman and Hilton 2022 (arXiv 2210.10760), appendix; of the KL bound:
Stiennon et al. 2020 (arXiv 2009.01325), appendix G.3.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.statistics import Interval
from heedful.evaluation.winrate import cluster_index, resampled_counts, vector

Floats = NDArray[np.float64]


def best_of_n(proxy: ArrayLike, value: ArrayLike, n: int) -> Floats:
    """[P] the expected value of the answer that the proxy likes best among n, per prompt; unbiased.

    With the N samples of a prompt sorted ascending by proxy, the i-th is the best of a random n-subset
    with probability C(i-1, n-1) / C(N, n); this averages over every subset at once. Samples with equal
    proxy share their weight, as if the tie were broken at random.

    Args:
        proxy: [P, N] the score that chooses.
        value: [P, N] what the choice is worth: gold score, correctness, or a win (1, 1/2, 0).
        n: how many to choose among, 1 to N.

    Raises:
        ValueError: shapes differ or are not [P, N], n is out of range, or a proxy or value is not finite.
    """
    chooser, worth = np.asarray(proxy, dtype=np.float64), np.asarray(value, dtype=np.float64)
    if chooser.ndim != 2 or chooser.shape != worth.shape:
        raise ValueError(f"proxy and value must both be [P, N], not {chooser.shape} and {worth.shape}")
    if not 1 <= n <= chooser.shape[1]:
        raise ValueError(f"best of {n} cannot be had from {chooser.shape[1]} samples a prompt")
    if not (np.isfinite(chooser).all() and np.isfinite(worth).all()):
        raise ValueError("proxy and value must be finite")
    weights = _rank_weights(chooser.shape[1], n)
    return np.array([_chosen(p, v, weights) for p, v in zip(chooser, worth, strict=True)])


def best_of_n_kl(n: int) -> float:
    """log n - (n-1)/n: the KL from the sampling policy, in nats per completion, at most (ties make it less).

    Raises:
        ValueError: n below 1.
    """
    if n < 1:
        raise ValueError(f"best-of-n needs n of at least 1, not {n}")
    return math.log(n) - (n - 1) / n


def headroom_share(
    policy: ArrayLike,
    baseline: ArrayLike,
    best: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """The share of the way from the baseline's gold to the best reachable gold that the policy went.

    mean(policy - baseline) / mean(best - baseline), both over the same prompts, its interval from
    resampling clusters. 1 means that the policy's plain samples are as good as the chosen ones. None where
    the headroom itself cannot be told from nothing (a resample has none): the ratio then says nothing.

    Args:
        policy, baseline, best: [P] mean gold per prompt; `best` usually best-of-n by gold, see `best_of_n`.
        clusters: [P] each prompt's fact or topic.

    Raises:
        ValueError: lengths differ, a number is not finite, or fewer than two clusters.
    """
    of_policy, of_baseline, of_best = (
        vector(policy, "policy"),
        vector(baseline, "baseline"),
        vector(best, "best"),
    )
    if not of_policy.size == of_baseline.size == of_best.size:
        raise ValueError("policy, baseline and best must be given for the same prompts")
    index = cluster_index(clusters, of_policy.size)
    gain = np.bincount(index, weights=of_policy - of_baseline)
    headroom = np.bincount(index, weights=of_best - of_baseline)
    counts = resampled_counts(gain.size, samples, seed)
    low_headroom = np.quantile(counts @ headroom, (1 - level) / 2)
    if headroom.sum() <= 0 or low_headroom <= 0:
        return None
    low, high = np.quantile((counts @ gain) / (counts @ headroom), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(gain.sum() / headroom.sum()), float(low), float(high))


def _rank_weights(total: int, n: int) -> Floats:
    """[N] probability that the sample at each rank (ascending) is the best of a random n-subset."""
    weights = np.zeros(total)
    weights[-1] = n / total  # C(N-1, n-1) / C(N, n)
    for i in range(total - 1, n - 1, -1):  # C(i-1, n-1) = C(i, n-1) * (i - n + 1) / i
        weights[i - 1] = weights[i] * (i - n + 1) / i
    return weights


def _chosen(proxy: Floats, value: Floats, weights: Floats) -> float:
    order = np.argsort(proxy, kind="stable")
    _, tie = np.unique(proxy[order], return_inverse=True)
    mean = np.bincount(tie, weights=value[order]) / np.bincount(tie)
    return float(weights @ mean[tie])
