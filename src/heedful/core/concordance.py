"""Agreement of rankings: Kendall's coefficient of concordance. Works without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from heedful.core.statistics import Interval, cluster_bootstrap


@dataclass(frozen=True)
class Concordance:
    """How alike several items' answers were ranked."""

    w: Interval
    """Mean of Kendall's W over items. Chance alone gives one over the number of raters."""
    rho: Interval
    """Mean of (m W - 1) / (m - 1), the mean Spearman correlation of two raters: 0 by chance."""
    items: int
    """Items with two rankings or more that tell answers apart."""


def kendall_w(ranks: ArrayLike) -> float:
    """Kendall's W of m rankings of the same n answers, corrected for ties (Kendall & Gibbons 1990, chapter 6).

    W = 12 S / (m² (n³ - n) - m T), with S the sum of squares of the answers' rank sums about their mean and T the sum
    over rankings and tied sets of t³ - t.

    Args:
        ranks: [m, n] rank, or any score, of each answer by each rater; equal numbers tie. All rank all answers:
            W is not defined where some are missing.

    Returns:
        0 to 1: 1 where all rank alike; nan where every rater ties everything.

    Raises:
        ValueError: not a table, fewer than two rankings or two answers, or a rank that is missing.
    """
    table = np.asarray(ranks, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 2:
        raise ValueError(f"W needs two rankings or more of two answers or more, got the shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("W needs whole rankings: a rank is missing")
    m, n = table.shape
    below = (table[:, None, :] < table[:, :, None]).sum(2)
    equal = (table[:, None, :] == table[:, :, None]).sum(2)
    placed = below + (equal + 1) / 2  # tied answers share the mean of their places
    ties = float((equal.astype(np.float64) ** 2 - 1).sum())  # t answers of t² - 1 each
    sums = placed.sum(0)
    whole = m * m * (n**3 - n) - m * ties
    return float(12 * ((sums - sums.mean()) ** 2).sum() / whole) if whole > 1e-9 else float("nan")


def concordance(
    rankings: Sequence[ArrayLike], clusters: ArrayLike | None = None, *, samples: int = 2000, seed: int = 0
) -> Concordance:
    """Kendall's W over items, each ranked by raters of its own, with a bootstrap over clusters of items.

    Args:
        rankings: of each item the [m, n] ranks, as `kendall_w` takes them. Items with one ranking, and those whose
            raters tie everything, are left out.
        clusters: [items] ids of what items belong to; by default each stands alone.
        samples: resamples.
        seed: of the resampling.

    Returns:
        both means; their bounds are nan where no item differs from another.

    Raises:
        ValueError: no item has two rankings that tell answers apart; fewer than two clusters are left.
    """
    ids = np.arange(len(rankings)) if clusters is None else np.asarray(clusters)
    if ids.shape != (len(rankings),):
        raise ValueError(f"rankings and clusters differ in length: {len(rankings)} and {ids.shape}")
    found = []
    for one, cluster in zip(rankings, ids.tolist(), strict=True):
        table = np.asarray(one, dtype=np.float64)
        if len(table) >= 2:
            w = kendall_w(table)
            if w == w:
                found.append((w, (len(table) * w - 1) / (len(table) - 1), cluster))
    if not found:
        raise ValueError("no item was ranked by two raters who tell its answers apart")
    ws, rhos, kept = zip(*found, strict=True)
    mean_w, mean_rho = (_bounded(cluster_bootstrap(one, kept, samples=samples, seed=seed)) for one in (ws, rhos))
    return Concordance(mean_w, mean_rho, len(found))


def _bounded(found: Interval) -> Interval:
    """Without bounds where no item differs: that tells nothing of items not seen."""
    return found if found.low < found.high else Interval(found.mean, float("nan"), float("nan"))
