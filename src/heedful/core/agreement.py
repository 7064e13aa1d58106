"""Agreement of raters, corrected for chance or not, from how often each value was given to each item.

Every coefficient here is a function of sums over items. So a million judgments shrink to a few dozen patterns ("two
said 1, one said 3"), and an interval is a draw of how often each pattern comes. Works without torch.

votes = tabulate(item, rater, value)
alpha("ordinal").interval(votes)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.codes import coded
from heedful.core.resampling import percentiles, resampled_sums
from heedful.core.statistics import Interval, wilson

Floats: TypeAlias = NDArray[np.float64]
Level: TypeAlias = Literal["nominal", "ordinal", "interval", "ratio"]
"""Levels of measurement: values are names; have an order; have distances; have a true zero."""
Weights: TypeAlias = Literal["identity", "linear", "quadratic", "ordinal"]
"""What a disagreement counts as agreement: nothing; 1 - |distance|; 1 - distance²; by how many values lie between."""
MOST_VALUES = 200
"""Different values that a table may have. Round or bin what has more."""


@dataclass(frozen=True)
class Votes:
    """Items by how often each value was given to them; items with the same counts share a pattern."""

    patterns: NDArray[np.int64]
    """[P, V] counts of each value, no two rows alike."""
    member: NDArray[np.int64]
    """[U] the pattern of each item."""
    cluster: NDArray[np.int64]
    """[U] which items belong together, as those of one prompt do: 0 to C - 1."""
    values: NDArray[Any]
    """[V] the values, in their order."""

    @property
    def judgments(self) -> int:
        """How many judgments there are."""
        return int(self.patterns.sum(1)[self.member].sum())

    @property
    def items(self) -> int:
        """How many items two raters or more have judged."""
        return int((self.patterns.sum(1) >= 2)[self.member].sum())

    @property
    def pairs(self) -> int:
        """How many pairs of judgments of the same item there are."""
        given = self.patterns.sum(1)
        return int((given * (given - 1) // 2)[self.member].sum())


@dataclass(frozen=True)
class Pairs:
    """Items that the same two raters judged, or one rater twice."""

    patterns: NDArray[np.int64]
    """[P, 2] the indices of the first value and the second, no two rows alike."""
    member: NDArray[np.int64]
    """[U] the pattern of each item."""
    cluster: NDArray[np.int64]
    """[U] which items belong together."""
    values: NDArray[Any]
    """[V] the values, in their order."""


def tabulate(
    item: ArrayLike,
    rater: ArrayLike,
    value: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    values: Sequence[Any] | None = None,
) -> Votes:
    """Judgments in long form as votes.

    Args:
        item: [N] ids of what was judged, numbers or strings.
        rater: [N] ids of who judged. What a rater did not judge is missing: it has no row, or a NaN.
        value: [N] what they said: numbers or strings.
        cluster: [N] ids of what items belong to (their prompt); by default each item stands alone.
        values: the scale in its order, with values that nobody gave. AC1, AC2 and weights depend on it. By default
            the values that occur, sorted.

    Raises:
        ValueError: lengths differ; a rater judged an item twice; a value is not on the scale; an item has two clusters;
            more than 200 values.
    """
    items, raters, given = np.asarray(item), np.asarray(rater), np.asarray(value)
    groups = items if cluster is None else np.asarray(cluster)
    if not items.shape == raters.shape == given.shape == groups.shape or items.ndim != 1:
        raise ValueError("item, rater, value and cluster must be lists of the same length")
    if given.dtype.kind == "f":
        kept = ~np.isnan(given)
        items, raters, given, groups = items[kept], raters[kept], given[kept], groups[kept]
    names, unit = coded(items)
    people, who = coded(raters)
    units = len(names)
    seen = np.sort(unit * max(1, len(people)) + who)
    if (seen[1:] == seen[:-1]).any():
        raise ValueError("a rater judged the same item twice: keep one judgment of each rater and item")
    scale, code = _coded(given, values)
    counts = np.bincount(unit * len(scale) + code, minlength=units * len(scale)).reshape(units, len(scale))
    patterns, member = _patterns(counts)
    return Votes(patterns, member, _cluster_of(unit, groups, units), scale)


def paired(
    first: ArrayLike, second: ArrayLike, *, cluster: ArrayLike | None = None, values: Sequence[Any] | None = None
) -> Pairs:
    """What two raters said of the same items, item by item. Items that either left out (NaN) are left out.

    Args:
        first: [U] what one rater said.
        second: [U] what the other said.
        cluster: [U] ids of what items belong to; by default each stands alone.
        values: the scale in its order; by default the values that occur, sorted.

    Raises:
        ValueError: lengths differ, or a value is not on the scale.
    """
    one, other = np.asarray(first), np.asarray(second)
    groups = np.arange(len(one)) if cluster is None else np.asarray(cluster)
    if not one.shape == other.shape == groups.shape or one.ndim != 1:
        raise ValueError("first, second and cluster must be lists of the same length")
    kept = np.ones(len(one), dtype=bool)
    for side in (one, other):
        if side.dtype.kind == "f":
            kept &= ~np.isnan(side)
    scale, code = _coded(np.concatenate([one[kept], other[kept]]), values)
    table = code.reshape(2, -1).T
    patterns, member = _patterns(table)
    return Pairs(patterns, member, coded(groups[kept])[1], scale)


@dataclass(frozen=True)
class Coefficient:
    """A coefficient of agreement: `of` gives its value, `interval` its value with a bootstrap interval."""

    name: str
    features: Callable[[NDArray[np.int64], NDArray[Any]], Floats]
    """Of [P, ...] patterns and the [V] values: [P, F] figures whose sums over items are all that is needed."""
    finish: Callable[[Floats, NDArray[Any]], Floats]
    """Of [..., F] sums: [...] the coefficient, nan where it is not defined."""
    share: bool = False
    """It is a share of cases, 0 to 1."""

    def of(self, data: Votes | Pairs) -> float:
        """The coefficient. It is nan where chance alone explains everything, as when all gave one value.

        Raises:
            ValueError: no item was judged twice.
        """
        _require_pairs(data)
        features = self.features(data.patterns, data.values)
        weight = np.bincount(data.member, minlength=len(features)).astype(np.float64)
        return float(self.finish(weight @ features, data.values))

    def interval(self, data: Votes | Pairs, *, samples: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
        """The coefficient between the percentiles of a bootstrap that draws whole clusters of items.

        Resamples in which the coefficient is not defined are left out; if more than one in twenty is, the bounds are
        nan. Where all resamples are alike, as when all items agree, they tell nothing of items not seen: then a share
        has Wilson's bounds, each cluster a case, and another coefficient none (nan).

        Raises:
            ValueError: no item was judged twice, or there are fewer than two clusters.
        """
        middle = self.of(data)
        features = self.features(data.patterns, data.values)
        sums = resampled_sums(features, data.member, data.cluster, samples=samples, seed=seed)
        drawn = self.finish(sums, data.values)
        low, high = percentiles(drawn, level)
        if low != high or np.ptp(drawn[np.isfinite(drawn)]) > 1e-12:
            return Interval(middle, low, high)
        if not self.share:
            return Interval(middle, float("nan"), float("nan"))
        counted = len(coded(data.cluster[features[data.member].any(1)])[0])
        return wilson(middle * counted, counted, level=level)


def raw() -> Coefficient:
    """The share of pairs of judgments of one item that say the same; an item with r judgments has r (r - 1) / 2."""
    return Coefficient(
        "raw agreement", lambda counts, values: _raw_features(counts), lambda s, v: _ratio(s), share=True
    )


def across(width: int) -> Coefficient:
    """The share of pairs, one of each of two crowds, that say the same: people and an AI judge, say.

    Args:
        width: V values. Tabulate the first crowd's values as 0 to V - 1, the second's as V to 2 V - 1.
    """

    def features(counts: NDArray[np.int64], values: NDArray[Any]) -> Floats:
        first, second = counts[:, :width], counts[:, width:]
        return np.column_stack([(first * second).sum(1), first.sum(1) * second.sum(1)]).astype(np.float64)

    return Coefficient("raw agreement of two crowds", features, lambda s, v: _ratio(s), share=True)


def alpha(level: Level = "nominal") -> Coefficient:
    """Krippendorff's alpha, 1 - observed / expected disagreement (Krippendorff 2011, Computing alpha-reliability).

    Of `Votes`. Any number of raters, missing judgments allowed; items with one judgment are left out. 1 is perfect, 0
    what chance gives. Squared differences: nominal 0 or 1; ordinal by the ranks between, from the data; interval
    (c - k)²; ratio ((c - k) / (c + k))².

    Raises:
        ValueError: an unknown level. On use: values that are no numbers (interval, ratio), or negative ones (ratio).
    """
    if level == "ordinal":
        return Coefficient("Krippendorff's alpha (ordinal)", _ordinal_features, _ordinal_alpha)
    if level not in ("nominal", "interval", "ratio"):
        raise ValueError(f"no level of measurement is called {level!r}")

    def features(counts: NDArray[np.int64], values: NDArray[Any]) -> Floats:
        pairable, given = _pairable(counts)
        observed = ((pairable @ _differences(values, level)) * pairable).sum(1) / np.maximum(given - 1, 1)
        return np.column_stack([observed, pairable])

    def finish(sums: Floats, values: NDArray[Any]) -> Floats:
        marginal = sums[..., 1:]
        expected = ((marginal @ _differences(values, level)) * marginal).sum(-1)
        return _alpha(sums[..., 0], expected, marginal.sum(-1))

    return Coefficient(f"Krippendorff's alpha ({level})", features, finish)


def fleiss(weights: Weights = "identity") -> Coefficient:
    """Fleiss's kappa (Fleiss 1971), (p_a - p_e) / (1 - p_e) with p_e from how often each value was given.

    Of `Votes`. With missing judgments and weights as Gwet (2014, Handbook of inter-rater reliability, chapters 2 and 3)
    extends it: p_a is the mean over items with two judgments or more, p_e from the mean over all items of the
    shares of the values. With the same number of judgments for each item it is Fleiss's own.
    """

    def chance(share: Floats, table: Floats) -> Floats:
        return ((share @ table) * share).sum(-1)

    return _of_items(f"Fleiss's kappa{_named(weights)}", weights, chance)


def gwet(weights: Weights = "identity") -> Coefficient:
    """Gwet's AC1, with weights AC2 (Gwet 2008, British Journal of Mathematical and Statistical Psychology 61).

    Of `Votes`. p_e = T / (q (q - 1)) · sum of p_k (1 - p_k), with T the sum of the weights over all q values. It
    stays near p_a where one value dominates, where kappa and alpha fall towards 0. Needs the whole scale: give
    `tabulate` its `values`.
    """

    def chance(share: Floats, table: Floats) -> Floats:
        q = len(table)
        spread = (share * (1 - share)).sum(-1)
        return spread * table.sum() / (q * (q - 1)) if q > 1 else np.ones_like(spread)

    return _of_items("Gwet's AC1" if weights == "identity" else f"Gwet's AC2{_named(weights)}", weights, chance)


def cohen(weights: Weights = "identity") -> Coefficient:
    """Cohen's kappa of two raters, each with their own shares of the values (Cohen 1960); weighted as Cohen 1968.

    Of `Pairs`. Weights are 1 - distance / largest distance ("linear") or its square ("quadratic"), by the values
    where they are numbers, else by their places on the scale.
    """

    def features(codes: NDArray[np.int64], values: NDArray[Any]) -> Floats:
        lost = 1 - weight_table(values, weights)
        one = np.eye(len(values))
        return np.column_stack(
            [lost[codes[:, 0], codes[:, 1]], np.ones(len(codes)), one[codes[:, 0]], one[codes[:, 1]]]
        )

    def finish(sums: Floats, values: NDArray[Any]) -> Floats:
        lost = 1 - weight_table(values, weights)
        first, second = sums[..., 2 : 2 + len(values)], sums[..., 2 + len(values) :]
        expected = ((first @ lost) * second).sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            kappa = 1 - sums[..., 0] * sums[..., 1] / expected
        return np.where(expected > 0, kappa, np.nan)

    return Coefficient(f"Cohen's kappa{_named(weights)}", features, finish)


def weight_table(values: NDArray[Any], weights: Weights) -> Floats:
    """[V, V] how much of an agreement each pair of values is: 1 on the diagonal, 0 for the furthest apart.

    Args:
        values: [V] in their order; distances are theirs where they are numbers, else those of their places.
        weights: "ordinal" is 1 - (values from one to the other over 2) / (all values over 2), Gwet's.

    Raises:
        ValueError: unknown weights.
    """
    count = len(values)
    places = np.arange(count, dtype=np.float64)
    at = values.astype(np.float64) if values.dtype.kind in "iuf" else places
    if weights == "identity" or count < 2:
        return np.eye(count)
    if weights in ("linear", "quadratic"):
        apart = np.abs(at[:, None] - at) / (at.max() - at.min())
        return 1 - (apart if weights == "linear" else apart**2)
    if weights == "ordinal":
        between = np.abs(places[:, None] - places) + 1
        return 1 - between * (between - 1) / (count * (count - 1))
    raise ValueError(f"no weights are called {weights!r}")


def _of_items(name: str, weights: Weights, chance: Callable[[Floats, Floats], Floats]) -> Coefficient:
    """A coefficient of the mean agreement on an item, with a chance agreement from the shares of the values."""

    def features(counts: NDArray[np.int64], values: NDArray[Any]) -> Floats:
        given = counts.sum(1)
        alike = (counts * (counts @ weight_table(values, weights) - 1)).sum(1)
        twice = given >= 2
        agreed = np.where(twice, alike / np.maximum(given * (given - 1), 1), 0.0)
        shares = counts / np.maximum(given, 1)[:, None]
        return np.column_stack([agreed, twice, given >= 1, shares])

    def finish(sums: Floats, values: NDArray[Any]) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            agreed = sums[..., 0] / sums[..., 1]
            expected = chance(sums[..., 3:] / sums[..., 2:3], weight_table(values, weights))
            return np.where(expected < 1 - 1e-12, (agreed - expected) / (1 - expected), np.nan)

    return Coefficient(name, features, finish)


def _raw_features(counts: NDArray[np.int64]) -> Floats:
    given = counts.sum(1)
    return np.column_stack([(counts * (counts - 1)).sum(1), given * (given - 1)]).astype(np.float64)


def _ratio(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def _pairable(counts: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Counts of items with two judgments or more (else zeros), and how many judgments each has."""
    given = counts.sum(1)
    return np.where((given >= 2)[:, None], counts, 0).astype(np.float64), given


def _differences(values: NDArray[Any], level: Level) -> Floats:
    """[V, V] squared differences of the values."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    if values.dtype.kind not in "iuf":
        raise ValueError(f"the {level} level needs numbers, not {str(values[0])!r}")
    number = values.astype(np.float64)
    apart = number[:, None] - number
    if level == "interval":
        return apart**2
    if (number < 0).any():
        raise ValueError("the ratio level needs values from zero up")
    total = number[:, None] + number
    return np.divide(apart, total, out=np.zeros_like(apart), where=total > 0) ** 2


def _ordinal_features(counts: NDArray[np.int64], values: NDArray[Any]) -> Floats:
    """How often each pair of different values came together, and how often each value came."""
    pairable, given = _pairable(counts)
    upper, lower = np.triu_indices(len(values), 1)
    together = pairable[:, upper] * pairable[:, lower] / np.maximum(given - 1, 1)[:, None]
    return np.column_stack([2 * together, pairable])


def _ordinal_alpha(sums: Floats, values: NDArray[Any]) -> Floats:
    upper, lower = np.triu_indices(len(values), 1)
    together, marginal = sums[..., : len(upper)], sums[..., len(upper) :]
    total = marginal.sum(-1)
    rank = np.cumsum(marginal, -1) - marginal / 2
    observed = (together * (rank[..., upper] - rank[..., lower]) ** 2).sum(-1)
    expected = 2 * (total * (marginal * rank**2).sum(-1) - (marginal * rank).sum(-1) ** 2)
    several = (marginal > 0).sum(-1) > 1
    return _alpha(observed, np.where(several, expected, 0.0), total)


def _alpha(observed: Floats, expected: Floats, total: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)


def _named(weights: Weights) -> str:
    return "" if weights == "identity" else f" ({weights} weights)"


def _require_pairs(data: Votes | Pairs) -> None:
    if isinstance(data, Pairs):
        if not len(data.member):
            raise ValueError("the two raters have no item in common, so there is nothing to agree on")
    elif not (data.patterns.sum(1) >= 2).any():
        raise ValueError("no item was judged by two raters, so there is nothing to agree on")


def _coded(given: NDArray[Any], values: Sequence[Any] | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The scale, and the place of each value on it."""
    found, code = coded(given)
    scale = found if values is None else np.asarray(values)
    if len(scale) > MOST_VALUES:
        raise ValueError(f"{len(scale)} different values; at most {MOST_VALUES} are told apart: round or bin them")
    if values is None:
        return scale, code
    if len(np.unique(scale)) != len(scale):
        raise ValueError("the scale names a value twice")
    place = {one: index for index, one in enumerate(scale.tolist())}
    unknown = [one for one in found.tolist() if one not in place]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not on the scale")
    return scale, np.array([place[one] for one in found.tolist()], dtype=np.int64)[code]


def _patterns(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Different rows, and which of them each row is."""
    most = int(rows.max()) + 1 if rows.size else 1
    if rows.shape[1] * np.log2(max(most, 2)) < 62:  # a row is a number in that base
        code = np.zeros(len(rows), dtype=np.int64)
        for column in rows.T:
            code = code * most + column
        _, first, member = np.unique(code, return_index=True, return_inverse=True)
        return rows[first].astype(np.int64), member.astype(np.int64)
    found, member = np.unique(rows, axis=0, return_inverse=True)
    return found.astype(np.int64), member.reshape(-1).astype(np.int64)


def _cluster_of(unit: NDArray[np.int64], groups: NDArray[Any], units: int) -> NDArray[np.int64]:
    _, group = coded(groups)
    owner = np.zeros(units, dtype=np.int64)
    owner[unit] = group
    if (owner[unit] != group).any():
        raise ValueError("an item stands in two clusters")
    return coded(owner)[1]
