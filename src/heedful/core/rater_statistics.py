"""What judgments tell of the raters who gave them: agreement with others, speed, habits, drift. Works without torch.

Each function takes judgments in long form and gives an array over raters, in the order of `names`. None of them says
that somebody is bad: see `heedful.core.rater_cards`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.codes import coded

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class WithOthers:
    """How often each rater says what most of the others say of the same item."""

    names: NDArray[Any]
    """[R] the raters."""
    agreed: Counts
    """[R] judgments that are the others' commonest value."""
    compared: Counts
    """[R] judgments of items where the others have one commonest value."""
    p: Floats
    """[R] how likely so few would be, were the rater as the crowd: binomial, lower tail; nan where none compares."""
    row: NDArray[np.int64]
    """[N] of each judgment: 1 it agrees, 0 it does not, -1 the others have no commonest value."""


def with_others(item: ArrayLike, rater: ArrayLike, value: ArrayLike) -> WithOthers:
    """Leave-one-out agreement: each judgment against the plurality of the item's other judgments.

    The others' plurality never holds the rater's own vote, so nobody agrees with themselves. Where the others are
    split evenly, or there are none, the judgment is not compared.

    Args:
        item: [N] what was judged.
        rater: [N] who judged.
        value: [N] what they said: numbers or strings, compared for equality.

    Raises:
        ValueError: lengths differ.
    """
    items, raters, values = _same_length(item, rater, value)
    names, who = coded(raters)
    units, unit = coded(items)
    scale, code = coded(values)
    width = max(1, len(scale))
    counts = np.bincount(unit * width + code, minlength=len(units) * width).reshape(-1, width)
    own = counts[unit, code] - 1
    rest = counts[unit]
    rest[np.arange(len(unit)), code] -= 1
    top = rest.max(1) if len(rest) else np.zeros(0, dtype=np.int64)
    single = (rest == top[:, None]).sum(1) == 1
    row = np.where(single & (top > 0), (own == top).astype(np.int64), -1)
    compared = np.bincount(who, weights=row >= 0, minlength=len(names)).astype(np.int64)
    agreed = np.bincount(who, weights=row == 1, minlength=len(names)).astype(np.int64)
    others, of = agreed.sum() - agreed, compared.sum() - compared
    return WithOthers(names, agreed, compared, binomial_below(agreed, compared, _share(others, of)), row)


@dataclass(frozen=True)
class Speed:
    """How fast each rater is, beside others at the same kind of work."""

    names: NDArray[Any]
    factor: Floats
    """[R] the median of a rater's seconds over the median seconds of that kind of work: 0.5 is twice as fast."""
    z: Floats
    """[R] log factor less the raters' median, over their median absolute deviation (scaled as a standard deviation)."""
    hasty: Floats
    """[R] share of a rater's judgments in less than a quarter of the median seconds of that kind of work."""
    judgments: Counts


def speed(rater: ArrayLike, seconds: ArrayLike, stratum: ArrayLike | None = None) -> Speed:
    """Speed outliers, robustly: a few sleepers or sprinters do not move the medians.

    Args:
        rater: [N] who judged.
        seconds: [N] active time; those at or below 0, or nan, are left out.
        stratum: [N] the kind of work whose times can be compared, such as task and length; by default all.

    Raises:
        ValueError: lengths differ.
    """
    raters, times = np.asarray(rater), np.asarray(seconds, dtype=np.float64)
    kinds = np.zeros(len(raters)) if stratum is None else np.asarray(stratum)
    _same_length(raters, times, kinds)
    kept = np.isfinite(times) & (times > 0)
    raters, times, kinds = raters[kept], times[kept], kinds[kept]
    names, who = coded(raters)
    _, kind = coded(kinds)
    log = np.log(times)
    away = log - _medians(log, kind)[kind]
    median = _medians(away, who)
    centre = np.median(median) if len(median) else 0.0
    spread = 1.4826 * float(np.median(np.abs(median - centre))) if len(median) else 0.0
    z = (median - centre) / spread if spread > 1e-9 else np.zeros_like(median)
    count = np.bincount(who, minlength=len(names))
    hasty = np.bincount(who, weights=away < np.log(0.25), minlength=len(names)) / np.maximum(count, 1)
    return Speed(names, np.exp(median), z, hasty, count.astype(np.int64))


@dataclass(frozen=True)
class Runs:
    """The longest run of one answer in a row."""

    longest: int
    length: int
    """Answers there were."""
    p: float
    """At most how likely so long a run is in a random order of the same answers."""


def longest_run(answers: ArrayLike) -> Runs:
    """Straight-lining: whether the same answer comes in a row for longer than a shuffle would have it.

    In a random order of n answers of which m are v, the expected number of maximal runs of v of length L or more is
    m (m-1) ... (m-L+1) / (n ... (n-L+1)) · (1 + n - m): the first place, and n - L places with another answer before.
    Their sum over v bounds the probability of any such run (Markov), and is that probability where two
    cannot occur together, as for 2L > n. So p is never too small, and near exact where it is small.

    A rater who always says the same has no shuffle to differ from: p is 1, and `first_shown` tells of them.

    Args:
        answers: [n] in the order given, as the rater saw them: which place was preferred, not which item.

    Raises:
        ValueError: no answers.
    """
    given = np.asarray(answers)
    if given.ndim != 1 or not len(given):
        raise ValueError("a run needs answers")
    n = len(given)
    changes = np.flatnonzero(given[1:] != given[:-1]) + 1
    longest = int(np.diff(np.concatenate([[0], changes, [n]])).max())
    expected = 0.0
    for m in np.unique(given, return_counts=True)[1].tolist():
        if m >= longest:
            steps = np.arange(longest)
            expected += float(np.exp(np.log((m - steps) / (n - steps)).sum())) * (1 + n - m)
    return Runs(longest, n, min(1.0, expected))


@dataclass(frozen=True)
class Position:
    """How often each rater prefers what was shown first."""

    names: NDArray[Any]
    first: Counts
    """[R] decided comparisons in which the answer shown first was preferred."""
    decided: Counts
    """[R] comparisons without a tie."""
    p: Floats
    """[R] exact two-sided binomial test against one half."""


def first_shown(rater: ArrayLike, prefers_first: ArrayLike) -> Position:
    """Position preference, where the order shown was drawn at random.

    Args:
        rater: [N] who judged.
        prefers_first: [N] 1 the answer shown first is preferred, 0 the other, nan a tie (left out).

    Raises:
        ValueError: lengths differ, or a number other than 1, 0 and nan.
    """
    raters, sides = np.asarray(rater), np.asarray(prefers_first, dtype=np.float64)
    _same_length(raters, sides)
    names, who = coded(raters)
    decided = ~np.isnan(sides)
    if not np.isin(sides[decided], (0.0, 1.0)).all():
        raise ValueError("prefers_first is 1, 0 or nan")
    first = np.bincount(who[decided], weights=sides[decided], minlength=len(names)).astype(np.int64)
    count = np.bincount(who[decided], minlength=len(names)).astype(np.int64)
    fewer = np.minimum(first, count - first)
    return Position(names, first, count, np.minimum(1.0, 2 * binomial_below(fewer, count, np.full(len(names), 0.5))))


@dataclass(frozen=True)
class Drift:
    """Whether a rater's hits come more rarely, or more often, as time goes on."""

    early: float
    """Share of hits in the first third."""
    late: float
    """In the last third."""
    z: float
    """The trend over all: above 0 rising. Cochran-Armitage, on the order of the judgments."""
    p: float
    """Two-sided, by the normal distribution; 1 where all or none hit."""
    judgments: int


def drift(when: ArrayLike, hit: ArrayLike) -> Drift:
    """A trend in time of one rater's hits, against gold or the others (Armitage 1955).

    Args:
        when: [n] times, or any numbers that rise with time.
        hit: [n] 1 or 0.

    Raises:
        ValueError: lengths differ, fewer than three judgments, or a hit other than 1 and 0.
    """
    times, hits = np.asarray(when, dtype=np.float64), np.asarray(hit, dtype=np.float64)
    _same_length(times, hits)
    if len(hits) < 3:
        raise ValueError("a trend needs three judgments or more")
    if not np.isin(hits, (0.0, 1.0)).all():
        raise ValueError("a hit is 1 or 0")
    from scipy.special import ndtr

    _, which, ties = np.unique(times, return_inverse=True, return_counts=True)
    place = (np.cumsum(ties) - (ties - 1) / 2)[which]  # equal times share the mean of their places
    third = len(hits) // 3
    ordered = hits[np.argsort(times, kind="stable")]
    early, late = float(ordered[:third].mean()), float(ordered[-third:].mean())
    share, away = hits.mean(), place - place.mean()
    variance = share * (1 - share) * float((away**2).sum())
    if variance < 1e-12:
        return Drift(early, late, 0.0, 1.0, len(hits))
    z = float((away * hits).sum()) / float(np.sqrt(variance))
    return Drift(early, late, z, float(2 * ndtr(-abs(z))), len(hits))


@dataclass(frozen=True)
class WithSelf:
    """How often each rater says the same of an item that they are shown again."""

    names: NDArray[Any]
    same: Counts
    repeated: Counts


def with_self(rater: ArrayLike, first: ArrayLike, again: ArrayLike) -> WithSelf:
    """Consistency of raters with themselves.

    Args:
        rater: [N] who judged twice.
        first: [N] what they said.
        again: [N] what they said later of the same item.

    Raises:
        ValueError: lengths differ.
    """
    raters, one, other = _same_length(rater, first, again)
    names, who = coded(raters)
    same = np.bincount(who, weights=one == other, minlength=len(names)).astype(np.int64)
    return WithSelf(names, same, np.bincount(who, minlength=len(names)).astype(np.int64))


def binomial_below(hits: Counts, of: Counts, rate: Floats) -> Floats:
    """[R] how likely `hits` or fewer of `of` trials are at a rate; nan without trials."""
    from scipy.special import bdtr

    with np.errstate(invalid="ignore"):
        return np.where(of > 0, bdtr(hits.astype(np.float64), np.maximum(of, 1), rate), np.nan)


def _share(hits: Counts, of: Counts) -> Floats:
    return np.divide(hits, of, out=np.full(len(of), np.nan), where=of > 0)


def _medians(values: Floats, group: NDArray[np.int64]) -> Floats:
    """[G] the median of each group's values."""
    order = np.lexsort((values, group))
    size = np.bincount(group)
    start = np.cumsum(size) - size
    ordered = values[order]
    return (ordered[start + (size - 1) // 2] + ordered[start + size // 2]) / 2 if len(values) else np.zeros(0)


def _same_length(*given: ArrayLike) -> list[NDArray[Any]]:
    found = [np.asarray(one) for one in given]
    if any(one.shape != found[0].shape or one.ndim != 1 for one in found):
        raise ValueError("all must be lists of the same length")
    return found
