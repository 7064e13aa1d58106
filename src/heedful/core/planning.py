"""How many judgments a figure needs, and what more of them would bring a reward model. Works without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.resampling import percentiles
from heedful.core.statistics import Interval, finite_numbers, wilson

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Needed:
    """What it takes to know a share to within plus or minus so much."""

    items: int
    judgments: int
    design_effect: float
    """How many judgments of clustered items say as much as one independent judgment."""
    half_width: float
    """That these many reach: half the width of Wilson's interval."""


def design_effect(size: float, correlation: float) -> float:
    """1 + (size - 1) · correlation: the variance of a mean of clustered cases over independent ones' (Kish 1965).

    Args:
        size: cases of a cluster: judgments of an item, items of a prompt.
        correlation: intraclass, between cases of one cluster; see `intraclass_correlation`.

    Raises:
        ValueError: a size below 1, or a correlation outside 0 to 1.
    """
    if size < 1:
        raise ValueError(f"a cluster has at least one case, got {size}")
    if not 0 <= correlation <= 1:
        raise ValueError(f"the correlation must lie between 0 and 1, got {correlation}")
    return 1 + (size - 1) * correlation


def intraclass_correlation(values: ArrayLike, clusters: ArrayLike) -> float:
    """How alike values of one cluster are: the one-way analysis of variance estimate, ICC(1) of Shrout & Fleiss 1979.

    (MSB - MSW) / (MSB + (m - 1) MSW), with m the size of clusters, adjusted where sizes differ (Donner 1986).

    Returns:
        at most 1; near 0, or below by chance, where values are as unlike within a cluster as between clusters; nan
        where no value differs.

    Raises:
        ValueError: lengths that differ, a value that is not finite, fewer than two clusters, or none with two values.
    """
    numbers = finite_numbers(values)
    ids = np.asarray(clusters)
    if ids.shape != numbers.shape:
        raise ValueError(f"values and clusters differ in length: {numbers.shape} and {ids.shape}")
    _, member = np.unique(ids, return_inverse=True)
    size = np.bincount(member).astype(np.float64)
    count, total = len(size), len(numbers)
    if count < 2 or total == count:
        raise ValueError("the correlation needs two clusters, one of them with two values")
    means = np.bincount(member, weights=numbers) / size
    between = float((size * (means - numbers.mean()) ** 2).sum()) / (count - 1)
    within = float(((numbers - means[member]) ** 2).sum()) / (total - count)
    typical = (total - float((size**2).sum()) / total) / (count - 1)
    whole = between + (typical - 1) * within
    return (between - within) / whole if whole > 1e-15 else float("nan")


def judgments_for_share(
    half_width: float, *, rate: float = 0.5, per_item: int = 1, correlation: float = 0.0, level: float = 0.95
) -> Needed:
    """How many judgments tell a win rate to within ± half_width, where each item gets several.

    The fewest items whose judgments, divided by the design effect, have a Wilson interval that narrow.

    Args:
        half_width: wanted, above 0 and below one half.
        rate: expected; 0.5 asks for the most.
        per_item: judgments of each item.
        correlation: between judgments of one item (`intraclass_correlation` of outcomes by item). At 1 a second
            judgment of an item says nothing new about the win rate.
        level: coverage.

    Raises:
        ValueError: an argument out of its range.
    """
    effect = design_effect(per_item, correlation)
    items = _fewest(half_width, rate, per_item / effect, level)
    return Needed(items, items * per_item, effect, _half(rate, items * per_item / effect, level))


def judgments_for_agreement(
    half_width: float,
    *,
    agreement: float = 0.7,
    per_item: int = 2,
    correlation: float | None = None,
    level: float = 0.95,
) -> Needed:
    """How many judgments tell the raw agreement of raters to within ± half_width.

    An item with r judgments has r (r - 1) / 2 pairs, which hang together, so that its design effect is
    1 + (pairs - 1) · correlation.

    Args:
        half_width: wanted, above 0 and below one half.
        agreement: a, expected.
        per_item: judgments of each item, 2 or more.
        correlation: between pairs of one item; measure it with `intraclass_correlation` of "these two agree" by item.
            By default (2a - 1) / (2a), 0 below a = 1/2. Of three raters who choose between two answers all agree
            with probability (3a - 1) / 2, so that is the correlation of pairs that share a rater, however hard items
            are; pairs that share none correlate by that much at most (where items are unanimous or coin tosses).
        level: coverage.

    Raises:
        ValueError: an argument out of its range.
    """
    if per_item < 2:
        raise ValueError(f"agreement needs two judgments of an item, got {per_item}")
    if not 0 <= agreement <= 1:
        raise ValueError(f"a share lies between 0 and 1, got {agreement}")
    pairs = per_item * (per_item - 1) // 2
    alike = (2 * agreement - 1) / (2 * agreement) if agreement > 0.5 else 0.0
    effect = design_effect(pairs, alike if correlation is None else correlation)
    items = _fewest(half_width, agreement, pairs / effect, level)
    return Needed(items, items * per_item, effect, _half(agreement, items * pairs / effect, level))


def _half(rate: float, cases: float, level: float) -> float:
    whole = max(1, int(cases))
    found = wilson(rate * whole, whole, level=level)
    return (found.high - found.low) / 2


def _fewest(half_width: float, rate: float, per_item: float, level: float) -> int:
    if not 0 < half_width < 0.5:
        raise ValueError(f"half_width must lie between 0 and 0.5, got {half_width}")
    if not 0 <= rate <= 1:
        raise ValueError(f"a share lies between 0 and 1, got {rate}")
    low, high = 0, 1
    while _half(rate, high * per_item, level) > half_width:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _half(rate, middle * per_item, level) <= half_width else (middle, high)
    return high


EXPONENTS = np.linspace(0.05, 2.0, 79)
"""Of the power laws that are tried."""


@dataclass(frozen=True)
class LearningCurve:
    """accuracy(n) = ceiling - scale · n ** -exponent, and how sure that is."""

    ceiling: Interval
    scale: float
    exponent: Interval
    told: bool
    """Whether the sizes tell where the curve goes: False makes an extrapolation a guess."""
    why: str
    """What is the matter where it is not told; else empty."""
    draws: Floats
    """[samples, 3] ceiling, scale and exponent of each bootstrap fit."""

    def at(self, size: float, *, level: float = 0.95) -> Interval:
        """The accuracy at a number of judgments, with the bootstrap's interval.

        Raises:
            ValueError: a size below 1.
        """
        if size < 1:
            raise ValueError(f"a size is 1 or more, got {size}")
        middle = self.ceiling.mean - self.scale * size**-self.exponent.mean
        ceiling, scale, exponent = self.draws.T
        low, high = percentiles(ceiling - scale * size**-exponent, level)
        return Interval(float(middle), low, high)


def learning_curve(
    sizes: ArrayLike,
    accuracies: ArrayLike,
    errors: ArrayLike,
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> LearningCurve:
    """A power law through a reward model's accuracies at growing numbers of judgments (Hestness et al. 2017).

    Weighted least squares: for each of 79 exponents from 0.05 to 2 the best ceiling (at most 1) and scale (at
    least 0) have a closed form. The interval is a parametric bootstrap: accuracies drawn about the fit by their errors.

    Args:
        sizes: [n] judgments (or pairs) that each model was trained on; several models of one size are welcome.
        accuracies: [n] on the same held-out pairs.
        errors: [n] their standard errors, over held-out pairs and training seeds.
        samples: bootstrap fits.
        seed: of the bootstrap.
        level: coverage.

    Returns:
        the curve; `told` is False with fewer than four different sizes, a span under a factor of four, no
        gain from the smallest size to the largest beyond its error, or a ceiling whose interval is wider than 0.1.

    Raises:
        ValueError: lengths differ, fewer than three different sizes, or a number out of its range.
    """
    n, y, error = finite_numbers(sizes), finite_numbers(accuracies), finite_numbers(errors)
    if not n.shape == y.shape == error.shape:
        raise ValueError("sizes, accuracies and errors must be lists of the same length")
    if (n < 1).any() or (error <= 0).any() or ((y < 0) | (y > 1)).any():
        raise ValueError("sizes are 1 or more, errors above 0, accuracies from 0 to 1")
    if len(np.unique(n)) < 3:
        raise ValueError("a curve of three unknowns needs three different sizes or more")
    best = _fit(n, y[None], error)[0]
    random = np.random.default_rng(seed)
    fitted = best[0] - best[1] * n ** -best[2]
    draws = _fit(n, fitted + error * random.standard_normal((samples, len(n))), error)
    ceiling = Interval(float(best[0]), *percentiles(draws[:, 0], level))
    exponent = Interval(float(best[2]), *percentiles(draws[:, 2], level))
    why = _untold(n, y, error, ceiling)
    return LearningCurve(ceiling, float(best[1]), exponent, not why, why, draws)


def _untold(n: Floats, y: Floats, error: Floats, ceiling: Interval) -> str:
    distinct = len(np.unique(n))
    if distinct < 4:
        return f"{distinct} sizes leave nothing to check three unknowns with: train at one more size"
    if n.max() < 4 * n.min():
        return "the sizes span less than a factor of four: add a smaller or a larger one"
    small, large = n == n.min(), n == n.max()
    rise = y[large].mean() - y[small].mean()
    spread = math.sqrt(
        float((error[small] ** 2).sum()) / small.sum() ** 2 + float((error[large] ** 2).sum()) / large.sum() ** 2
    )
    if rise < 1.96 * spread:
        return "the largest size is not better than the smallest beyond its error: measure on more held-out pairs"
    if ceiling.high - ceiling.low > 0.1:
        return (
            f"the ceiling may lie anywhere from {ceiling.low:.2f} to {ceiling.high:.2f}: the curve has not "
            "bent enough, or the accuracies are too uncertain"
        )
    return ""


def _fit(n: Floats, y: Floats, error: Floats) -> Floats:
    """[S, 3] ceiling, scale and exponent of each row [S, n] of accuracies."""
    weight = 1 / error**2
    found = np.empty((len(y), 3))
    least = np.full(len(y), np.inf)
    total, mean = weight.sum(), y @ weight / weight.sum()
    for exponent in EXPONENTS:
        x = n**-exponent
        centre = float(x @ weight / total)
        away = x - centre
        scale = np.maximum(-((y - mean[:, None]) * away) @ weight / float((away**2) @ weight), 0.0)
        ceiling = mean + scale * centre
        over = ceiling > 1  # the best fit with the ceiling at 1
        scale = np.where(over, np.maximum((1 - y) @ (weight * x) / float((x**2) @ weight), 0.0), scale)
        ceiling = np.minimum(ceiling, 1.0)
        lost = ((y - ceiling[:, None] + scale[:, None] * x) ** 2) @ weight
        better = lost < least - 1e-12
        least = np.where(better, lost, least)
        found[better] = np.column_stack([ceiling, scale, np.full(len(y), exponent)])[better]
    return found
