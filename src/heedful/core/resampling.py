"""Bootstrap of sums over items that come in clusters, when many items look alike. Works without torch."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
BLOCK = 2**22
"""Numbers drawn at a time."""


def resampled_sums(
    features: Floats, member: NDArray[np.int64], cluster: NDArray[np.int64], *, samples: int, seed: int
) -> Floats:
    """[samples, F] sums of features over resamples of whole clusters (Efron's bootstrap by prompt).

    As many clusters are drawn, with replacement, as there are. Clusters with the same sums are drawn together: how
    often each kind comes is multinomial, so the cost depends on how many kinds there are.

    Args:
        features: [P, F] figures of each kind of item.
        member: [U] the kind of each item.
        cluster: [U] the cluster of each item, 0 to C - 1.
        samples: resamples.
        seed: the same seed gives the same sums.

    Raises:
        ValueError: fewer than two clusters, or fewer than one sample.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    count = int(cluster.max()) + 1 if len(cluster) else 0
    if count < 2:
        raise ValueError("one cluster alone says nothing about the spread between clusters")
    kinds, times = _kinds(features, member, cluster, count)
    random = np.random.default_rng(seed)
    sums = np.empty((samples, features.shape[1]))
    if len(kinds) * 4 <= count:
        share = times / count
        size = max(1, BLOCK // len(kinds))
        for start in range(0, samples, size):
            drawn = random.multinomial(count, share, size=min(size, samples - start))
            sums[start : start + size] = drawn.astype(np.float64) @ kinds
        return sums
    each = np.repeat(kinds, times, axis=0)
    size = max(1, BLOCK // count)
    for start in range(0, samples, size):
        rows = min(size, samples - start)
        drawn = random.integers(0, count, size=(rows, count), dtype=np.int32)
        weight = np.stack([np.bincount(row, minlength=count) for row in drawn])
        sums[start : start + rows] = weight.astype(np.float64) @ each
    return sums


def percentiles(values: Floats, level: float) -> tuple[float, float]:
    """The bounds of the middle `level` of resampled values; nan where more than one in twenty is not finite.

    Raises:
        ValueError: level outside 0 to 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    kept = values[np.isfinite(values)]
    if len(kept) < 0.95 * len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _kinds(
    features: Floats, member: NDArray[np.int64], cluster: NDArray[np.int64], count: int
) -> tuple[Floats, NDArray[np.int64]]:
    """[D, F] different sums of a cluster, and how many clusters have each."""
    if len(cluster) == count:  # each item stands alone
        times = np.bincount(member, minlength=len(features))
        return features, times
    sums: Floats = np.empty((count, features.shape[1]))
    for place, column in enumerate(features.T):
        sums[:, place] = np.bincount(cluster, weights=column[member], minlength=count)
    _, first, times = np.unique(_marks(sums), return_index=True, return_counts=True)
    return sums[first], times.astype(np.int64)


def _marks(rows: Floats) -> NDArray[np.uint64]:
    """[C] a number for each row, equal for equal rows and different for others (but for one pair in 2^64).

    The bits of each figure are mixed as in splitmix64 (Steele et al. 2014), from a start of the column's own. Sorting
    one number a row is far quicker than sorting rows.
    """
    bits: NDArray[np.uint64] = np.ascontiguousarray(rows + 0.0, dtype=np.float64).view(np.uint64)
    mark = np.zeros(len(rows), dtype=np.uint64)
    for place, column in enumerate(bits.T, 1):
        mixed: NDArray[np.uint64] = column + np.uint64(place * 0x9E3779B97F4A7C15 % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mark += mixed ^ (mixed >> np.uint64(31))
    return mark
