"""Shares whose cases hang together, with their uncertainty. Needs no Django."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heedful.core.statistics import Interval, wilson

FEW = 3
"""Clusters below which the spread between them is not looked at."""


@dataclass(frozen=True)
class Share:
    """A share of pairs, or of judgments."""

    interval: Interval
    """Its mean is the share."""
    of: float
    """How many pairs or judgments it was taken over."""
    clusters: int
    """Items, or raters, that they come from."""

    @property
    def share(self) -> float:
        """The share itself."""
        return self.interval.mean


def share(rows: Iterable[tuple[float, float]]) -> Share | None:
    """The share of hits over all rows, where a row's cases hang together.

    The interval is Wilson's for as many independent cases as would give the variance of the ratio estimator over rows
    (Cochran 1977, equation 6.13); never more than there are cases. Where the rows do not differ at all, they count
    as one case each.

    Args:
        rows: (hits, cases) of each item or rater; rows without cases are left out.

    Returns:
        None without a single case.
    """
    kept = [(hits, cases) for hits, cases in rows if cases > 0]
    if not kept:
        return None
    total = sum(cases for _, cases in kept)
    mean = min(1.0, sum(hits for hits, _ in kept) / total)
    count = len(kept)
    effective = float(total)
    if count >= FEW:
        residual = sum((hits - mean * cases) ** 2 for hits, cases in kept)
        spread = count / (count - 1) * residual / total**2
        effective = min(total, mean * (1 - mean) / spread if spread > 1e-12 else count)
    cases = max(1, round(effective))
    return Share(Interval(mean, *_bounds(mean, cases)), total, count)


def _bounds(mean: float, cases: int) -> tuple[float, float]:
    found = wilson(mean * cases, cases)
    return found.low, found.high
