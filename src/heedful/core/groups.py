"""Whether groups of raters prefer different things, and what a stated population would say. Works without torch.

Raters, not judgments, are what varies: a rater's judgments hang together. So every test here shuffles the groups among
the raters, each with all their judgments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.codes import coded
from heedful.core.multiplicity import Method, adjusted
from heedful.core.statistics import Interval

Floats: TypeAlias = NDArray[np.float64]
DOMINANT = 2 / 3
"""Share of the labels from which one group decides what the crowd seems to prefer."""
FEW = 5
"""Shuffles that go beyond what was seen, at or below which more are drawn."""
FINER, FINEST = 40, 200_000
"""How many then: so many for each difference that is looked at, and at most."""
BLOCK = 2**20
"""Raters' places shuffled at a time."""


@dataclass(frozen=True)
class Difference:
    """How much a group differs from all others in one topic."""

    topic: Any
    group: Any
    difference: Interval
    """The group's mean outcome less the others', with a 95% interval (Welch's, over raters)."""
    mean: float
    """The group's."""
    others: float
    """The others'."""
    raters: int
    """Of the group, in this topic."""
    other_raters: int
    p: float
    """Of the permutation test."""
    adjusted_p: float
    """Corrected for the number of differences looked at."""


def differences(
    topic: ArrayLike,
    rater: ArrayLike,
    outcome: ArrayLike,
    group: ArrayLike,
    *,
    least: int = 2,
    permutations: int = 2000,
    method: Method = "benjamini-hochberg",
    seed: int = 0,
) -> list[Difference]:
    """Each group against all others, in each topic: the difference of mean outcomes and whether chance explains it.

    The mean of a group is over its judgments; its standard error takes raters as clusters (Cochran 1977, equation
    6.13). The p-value compares the difference over its standard error with those after shuffling groups among the
    topic's raters: valid in small groups, and, since it is studentised, asymptotically also where groups differ in
    spread (Janssen 1997). Two groups give one test, told once, of the first by name.

    Args:
        topic: [N] what the outcome is about: an item, a kind of prompt, a question such as "prefers the longer one".
        rater: [N] who judged.
        outcome: [N] what is compared: 1, 0.5 or 0 for a preference that means the same throughout the topic, or points.
        group: [N] the rater's group; the same in all their rows. Rows with an empty string or None are left out.
        least: raters that a group and the others must each have in a topic; with fewer there is no test.
        permutations: shuffles. Where hardly any goes beyond what was seen more are drawn, 40 for each difference
            looked at, so that one true difference among many can still be told after the correction.
        method: of the correction, over all topics and groups together.
        seed: of the shuffles.

    Returns:
        the smallest p-value first; none where no topic has two groups that are large enough.

    Raises:
        ValueError: lengths differ, an outcome is not finite, or a rater has two groups.
    """
    topics, raters, groups = np.asarray(topic), np.asarray(rater), np.asarray(group)
    values = np.asarray(outcome, dtype=np.float64)
    if not topics.shape == raters.shape == groups.shape == values.shape or topics.ndim != 1:
        raise ValueError("topic, rater, outcome and group must be lists of the same length")
    if not np.isfinite(values).all():
        raise ValueError("an outcome is not finite")
    if least < 2:
        raise ValueError(f"least must be 2 or more, got {least}: one rater's spread is unknown")
    told = _told(groups)
    topics, where = coded(topics[told])
    names = topics.tolist()
    owned = _owned(raters[told], groups[told])
    values = values[told]
    order = np.argsort(where, kind="stable")
    size = np.bincount(where, minlength=len(names))
    ends = np.cumsum(size)
    tests: list[_Test] = []
    for at in np.flatnonzero(size >= 2 * least).tolist():
        rows = order[ends[at] - size[at] : ends[at]]
        tests += _of_topic(names[at], owned, rows, values[rows], least)
    random = np.random.default_rng(seed)
    p = [_p_value(one, permutations, len(tests), random) for one in tests]
    found = [one.found(p_value, float(q)) for one, p_value, q in zip(tests, p, adjusted(p, method), strict=True)]
    return sorted(found, key=lambda one: (one.p, -abs(one.difference.mean)))


@dataclass(frozen=True)
class Omnibus:
    """Whether raters agree more with their own group than with others, over all items at once."""

    within: float
    """Agreement of two raters of one group on the same item."""
    between: float
    """Agreement of two raters of different groups."""
    difference: float
    p: float
    """One-sided: chance of so large a difference where groups do not matter."""
    within_pairs: int
    between_pairs: int


def agreement_within_groups(
    item: ArrayLike,
    rater: ArrayLike,
    value: ArrayLike,
    group: ArrayLike,
    *,
    permutations: int = 1000,
    seed: int = 0,
    most_pairs: int = 50_000,
) -> Omnibus:
    """Agreement within groups less agreement between them, which needs no say about what "the same preference" is.

    Groups are shuffled among raters. Where items have more pairs of judgments than `most_pairs`, so many are drawn.

    Args:
        item: [N] what was judged.
        rater: [N] who judged.
        value: [N] what they said; two agree where it is equal.
        group: [N] the rater's group; rows with an empty string or None are left out.
        permutations: shuffles.
        seed: of the shuffles.
        most_pairs: pairs of judgments taken in.

    Raises:
        ValueError: lengths differ; a rater has two groups; no pair within a group, or none between two.
    """
    items, raters, values, groups = (np.asarray(one) for one in (item, rater, value, group))
    if not items.shape == raters.shape == values.shape == groups.shape or items.ndim != 1:
        raise ValueError("item, rater, value and group must be lists of the same length")
    told = _told(groups)
    items, values = items[told], values[told]
    owned = _owned(raters[told], groups[told])
    who, label = owned.rater, owned.group
    random = np.random.default_rng(seed)
    first, second = _pairs_within(items, random, most_pairs)
    same = values[first] == values[second]
    alike = int(np.count_nonzero(same))
    one, other = who[first], who[second]

    def gap(labels: NDArray[np.int64]) -> tuple[float, float, int]:
        inside = labels[one] == labels[other]
        count = int(np.count_nonzero(inside))
        if count in (0, len(inside)):
            return float("nan"), float("nan"), count
        total = int(np.count_nonzero(inside & same))
        return total / count, (alike - total) / (len(inside) - count), count

    within, between, count = gap(label)
    if within != within:
        raise ValueError("no item was judged by two raters of one group, and by two of different groups")
    drawn = [gap(random.permutation(label)) for _ in range(permutations)]
    beaten = sum(not a - b < within - between - 1e-12 for a, b, _ in drawn)
    p = (1 + beaten) / (1 + permutations)
    return Omnibus(within, between, within - between, p, count, len(same) - count)


@dataclass(frozen=True)
class LabelShares:
    """Who gave the labels."""

    shares: Mapping[Any, float]
    """Share of the judgments, by group; the largest first."""
    dominant: Any | None
    """The group that gave two thirds or more of them, if one did."""
    effective: float
    """Groups that would give as even a mixture: 1 over the sum of squared shares."""


def label_shares(group: ArrayLike) -> LabelShares:
    """The share of judgments that each group gave.

    Args:
        group: [N] the group of each judgment's rater; empty strings and None are left out.

    Raises:
        ValueError: no judgment has a group.
    """
    groups = np.asarray(group)
    told = groups[_told(groups)]
    if not len(told):
        raise ValueError("no judgment comes from a rater whose group is known")
    names, codes = coded(told)
    counts = np.bincount(codes, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    called = names.tolist()
    shares = {called[i]: float(counts[i] / counts.sum()) for i in order}
    largest = next(iter(shares))
    dominant = largest if shares[largest] >= DOMINANT and len(shares) > 1 else None
    return LabelShares(shares, dominant, 1 / sum(share**2 for share in shares.values()))


@dataclass(frozen=True)
class PopulationWeights:
    """Weights that give each group its share of a population."""

    weights: Floats
    """[N] of each judgment; their mean is 1."""
    effective: float
    """Judgments that would say as much unweighted (Kish 1965): (sum w)² / sum w²."""


def population_weights(group: ArrayLike, target: Mapping[Any, float]) -> PopulationWeights:
    """Post-stratification: judgments weighted by the target share of their group over its share of the judgments.

    A weighted mean of outcomes is then what the population would say, if raters of a group judge as the group does and
    every group met the same items.

    Args:
        group: [N] the group of each judgment's rater.
        target: the share of each group in the population; positive, scaled to sum to 1.

    Raises:
        ValueError: a group without a target or without a judgment, or a target that is not positive.
    """
    names, where, counts = np.unique(np.asarray(group), return_inverse=True, return_counts=True)
    known = names.tolist()
    missing = [one for one in target if one not in known]
    unknown = [one for one in known if one not in target]
    if missing:
        raise ValueError(f"no judgment comes from the group {missing[0]!r}, so nothing can be weighted up to it")
    if unknown:
        raise ValueError(f"the target says nothing of the group {unknown[0]!r}")
    shares = np.array([float(target[one]) for one in known])
    if not np.isfinite(shares).all() or (shares <= 0).any():
        raise ValueError("a target share is a number above 0")
    weights = (shares / shares.sum() / (counts / counts.sum()))[where]
    return PopulationWeights(weights, float(weights.sum() ** 2 / (weights**2).sum()))


@dataclass(frozen=True)
class _Owned:
    """Judgments whose raters' groups are known."""

    rater: NDArray[np.int64]
    """[N] who, from 0."""
    group: NDArray[np.int64]
    """[R] the group of each rater, from 0."""
    names: list[Any]
    """[G] the groups."""


def _owned(rater: NDArray[Any], group: NDArray[Any]) -> _Owned:
    """Raters with their groups.

    Raises:
        ValueError: a rater has two.
    """
    raters, who = coded(rater)
    names, own = coded(group)
    of_rater = np.zeros(len(raters), dtype=np.int64)
    of_rater[who] = own
    twice = np.flatnonzero(of_rater[who] != own)
    if len(twice):
        raise ValueError(f"the rater {raters.tolist()[who[twice[0]]]!r} is in two groups")
    return _Owned(who, of_rater, names.tolist())


def _told(group: NDArray[Any]) -> NDArray[np.bool_]:
    """[N] whether the group is known: no empty string, and not None."""
    if group.dtype.kind == "O":
        return np.array([one is not None and one != "" for one in group.tolist()], dtype=bool)
    return group != "" if group.dtype.kind == "U" else np.ones(len(group), dtype=bool)


@dataclass(frozen=True)
class _Test:
    """One group against all others in a topic, before any shuffle."""

    topic: Any
    group: Any
    inside: Floats
    """[R] 1 for raters of the group, else 0."""
    moments: Floats
    """[R, 6] of each rater, as `_contrast` reads them."""
    mean: float
    others: float
    error: float
    freedom: float

    def beaten(self, shuffles: int, random: np.random.Generator) -> int:
        """In how many shuffles of the raters the difference is as large, in standard errors."""
        observed = _studentised(np.array([self.mean - self.others]), np.array([self.error]))[0]
        block = max(1, BLOCK // len(self.inside))
        count = 0
        for start in range(0, shuffles, block):
            drawn = np.tile(self.inside, (min(block, shuffles - start), 1))
            mean, others, error, _ = _contrast(random.permuted(drawn, axis=1, out=drawn), self.moments)
            count += int((_studentised(mean - others, error) >= observed - 1e-12).sum())
        return count

    def found(self, p: float, adjusted_p: float) -> Difference:
        """With its p-values."""
        gap, half = self.mean - self.others, _t(self.freedom) * self.error
        raters = int(self.inside.sum())
        return Difference(
            self.topic,
            self.group,
            Interval(gap, gap - half, gap + half),
            self.mean,
            self.others,
            raters,
            len(self.inside) - raters,
            p,
            adjusted_p,
        )


def _of_topic(topic: Any, owned: _Owned, rows: NDArray[np.int64], outcome: Floats, least: int) -> list[_Test]:
    names, who = coded(owned.rater[rows])
    total = np.bincount(who, weights=outcome)
    count = np.bincount(who).astype(np.float64)
    own = owned.group[names]
    kinds, sizes = np.unique(own, return_counts=True)
    tested = [kind for kind, size in zip(kinds, sizes, strict=True) if size >= least and len(names) - size >= least]
    if len(kinds) == 2:
        tested = tested[:1]
    moments = np.column_stack([total, count, total**2, total * count, count**2, np.ones_like(count)])
    found = []
    for kind in tested:
        inside = (own == kind).astype(np.float64)
        figures = (float(one[0]) for one in _contrast(inside[None], moments))
        found.append(_Test(topic, owned.names[kind], inside, moments, *figures))
    return found


def _p_value(test: _Test, shuffles: int, tests: int, random: np.random.Generator) -> float:
    """Of the permutation test; where few shuffles go beyond what was seen, of so many that `tests` can be corrected.

    Each p is never too small: what a second draw adds depends on the first alone, and the second p is that of all.
    """
    beaten = test.beaten(shuffles, random)
    wanted = min(FINER * tests, FINEST)
    if beaten <= FEW and wanted > shuffles:
        beaten += test.beaten(wanted - shuffles, random)
        shuffles = wanted
    return (1 + beaten) / (1 + shuffles)


def _contrast(inside: Floats, moments: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Means of a group and the others, the standard error of the difference and its degrees of freedom, by shuffle."""
    group = inside @ moments
    others = moments.sum(0) - group
    means, variances, clusters = [], [], []
    for sums in (group, others):
        total, count, squares, cross, sizes, raters = sums.T
        mean = total / count
        residual = np.maximum(squares - 2 * mean * cross + mean**2 * sizes, 0.0)
        means.append(mean)
        variances.append(raters / np.maximum(raters - 1, 1) * residual / count**2)
        clusters.append(raters)
    both = variances[0] + variances[1]
    parts = sum(v**2 / np.maximum(n - 1, 1) for v, n in zip(variances, clusters, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = np.where(parts > 0, both**2 / parts, np.inf)
    return means[0], means[1], np.sqrt(both), freedom


def _studentised(gap: Floats, error: Floats) -> Floats:
    """|gap| over its standard error; infinite where raters do not differ at all within groups but groups do."""
    size = np.abs(gap)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(error > 1e-12, size / error, np.where(size > 1e-12, np.inf, 0.0))


def _t(freedom: float) -> float:
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(freedom, 0.975)) if np.isfinite(freedom) else float(ndtri(0.975))


def _pairs_within(
    items: NDArray[Any], random: np.random.Generator, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of pairs of judgments of the same item: all, or `most` of them drawn at random."""
    _, unit = coded(items)
    order = np.argsort(unit, kind="stable")
    size = np.bincount(unit)
    start = np.cumsum(size) - size
    pairs = size * (size - 1) // 2
    total = int(pairs.sum())
    chosen = np.arange(total) if total <= most else np.sort(random.choice(total, most, replace=False))
    ends = np.cumsum(pairs)
    owner = np.searchsorted(ends, chosen, side="right")
    index = chosen - (ends[owner] - pairs[owner])
    # the index-th pair (i, j), i < j, counted by j: j (j - 1) / 2 + i
    later = ((1 + np.sqrt(1 + 8 * index.astype(np.float64))) / 2).astype(np.int64)
    later -= (later * (later - 1) // 2 > index).astype(np.int64)
    later += ((later + 1) * later // 2 <= index).astype(np.int64)
    earlier = index - later * (later - 1) // 2
    return order[start[owner] + earlier], order[start[owner] + later]
