"""Whether groups of raters prefer different things, and what a stated population would say. Works without torch.

Raters, not judgments, are what varies: a rater's judgments hang together. So every test here shuffles the groups among
the raters, each with all their judgments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.multiplicity import Method, adjusted
from heedful.core.statistics import Interval

Floats: TypeAlias = NDArray[np.float64]
DOMINANT = 2 / 3
"""Share of the labels from which one group decides what the crowd seems to prefer."""


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
        permutations: shuffles.
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
    told = np.array([bool(one) for one in groups.tolist()], dtype=bool)
    topics, raters, groups, values = topics[told], raters[told], groups[told], values[told]
    owner = group_of_rater(raters, groups)
    random = np.random.default_rng(seed)
    found: list[Difference] = []
    names, where = np.unique(topics, return_inverse=True)
    order = np.argsort(where, kind="stable")
    ends = np.cumsum(np.bincount(where, minlength=len(names)))
    for name, rows in zip(names.tolist(), np.split(order, ends[:-1]) if len(names) else [], strict=True):
        if len(rows) < 2 * least:
            continue
        found += _of_topic(name, raters[rows], values[rows], owner, least, permutations, random)
    corrected = adjusted([one.p for one in found], method)
    found = [replace(one, adjusted_p=float(p)) for one, p in zip(found, corrected, strict=True)]
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
    told = np.array([bool(one) for one in groups.tolist()], dtype=bool)
    items, raters, values, groups = items[told], raters[told], values[told], groups[told]
    owner = group_of_rater(raters, groups)
    names = list(owner)
    place = {one: index for index, one in enumerate(names)}
    _, label = np.unique(np.array([owner[one] for one in names]), return_inverse=True)
    who = np.array([place[one] for one in raters.tolist()], dtype=np.int64)
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
    told = [one for one in np.asarray(group).tolist() if one]
    if not told:
        raise ValueError("no judgment comes from a rater whose group is known")
    names, counts = np.unique(np.array(told), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shares = {names[i].item(): float(counts[i] / counts.sum()) for i in order}
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


def group_of_rater(rater: NDArray[Any], group: NDArray[Any]) -> dict[Any, Any]:
    """The group of each rater.

    Raises:
        ValueError: a rater has two.
    """
    owner: dict[Any, Any] = {}
    for who, own in set(zip(rater.tolist(), group.tolist(), strict=True)):
        if owner.setdefault(who, own) != own:
            raise ValueError(f"the rater {who!r} is in two groups")
    return dict(sorted(owner.items()))


def _of_topic(
    topic: Any,
    rater: NDArray[Any],
    outcome: Floats,
    owner: Mapping[Any, Any],
    least: int,
    permutations: int,
    random: np.random.Generator,
) -> list[Difference]:
    names, who = np.unique(rater, return_inverse=True)
    total = np.bincount(who, weights=outcome)
    count = np.bincount(who).astype(np.float64)
    own = np.array([owner[name] for name in names.tolist()])
    kinds, sizes = np.unique(own, return_counts=True)
    tested = [kind for kind, size in zip(kinds, sizes, strict=True) if size >= least and len(names) - size >= least]
    if len(kinds) == 2:
        tested = tested[:1]
    if not tested:
        return []
    moments = np.column_stack([total, count, total**2, total * count, count**2, np.ones_like(count)])
    shuffled = random.permuted(np.tile(np.arange(len(names)), (permutations, 1)), axis=1)
    found = []
    for kind in tested:
        inside = own == kind
        mean, others, error, freedom = _contrast(inside[None].astype(np.float64), moments)
        draws = _contrast(inside[shuffled].astype(np.float64), moments)
        observed = _studentised(mean - others, error)[0]
        p = (1 + int((_studentised(draws[0] - draws[1], draws[2]) >= observed - 1e-12).sum())) / (1 + permutations)
        gap = float(mean[0] - others[0])
        half = _t(float(freedom[0])) * float(error[0])
        spread = Interval(gap, gap - half, gap + half)
        raters = int(inside.sum())
        found.append(
            Difference(topic, kind.item(), spread, float(mean[0]), float(others[0]), raters, len(names) - raters, p, p)
        )
    return found


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
    _, unit = np.unique(items, return_inverse=True)
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
