"""How many people's labels one label of a judge is worth, and win rates that people and a judge tell together.

Works without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.crowd import Floats
from heedful.core.resampling import percentiles
from heedful.core.statistics import Interval, finite_numbers

MOST = 100.0
"""Worth is reported up to here; more cannot be told from a judge without error."""


@dataclass(frozen=True)
class Worth:
    """What a judge's label tells of what people think of a pair, in labels of one person.

    A person's vote on a pair has the pair's own mean p and a variance of p (1 - p) about it. Its mean over pairs is
    `noise`. A judge's label q misses p by E[(q - p)^2] = `error`. The mean of w people misses it by noise / w, so the
    judge's label is worth w = noise / error people's. The best linear combination of n votes and q is
    (sum of votes + w q) / (n + w): q counts as w votes.
    """

    labels: Interval
    """w, `MOST` where no error is left."""
    noise: float
    error: float
    """Estimated without bias, so that it may come out at 0 or below for a judge that is as good as can be told."""
    pairs: int
    repeated: int
    """Pairs that two people or more voted on: they tell the noise."""


def label_worth(
    prediction: ArrayLike,
    label: ArrayLike,
    votes: ArrayLike,
    squares: ArrayLike,
    cluster: ArrayLike,
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Worth | None:
    """The worth of a judge's labels, with a bootstrap interval by prompt; None where nobody's vote was repeated.

    noise is the mean over pairs with n >= 2 votes of squares / (n - 1). error is the mean over all pairs of
    (prediction - label)^2 less noise_i / n_i, noise_i the pair's own where n >= 2 and the mean one elsewhere.

    Args:
        prediction: [n] the judge's probability for a, not fitted on these very pairs (`cross_fitted`).
        label, votes, squares: [n] as in `judge_correction.Overlap`.
        cluster: [n] the prompts.
        samples, seed, level: of the bootstrap.

    Raises:
        ValueError: columns of different lengths, or a figure that is not finite.
    """
    q, y, n, s = (finite_numbers(one) for one in (prediction, label, votes, squares))
    _, member = np.unique(np.asarray(cluster), return_inverse=True)
    if not q.shape == y.shape == n.shape == s.shape == member.reshape(-1).shape:
        raise ValueError("predictions, labels, votes and clusters must be given for the same pairs")
    repeated = n >= 2
    if not repeated.any():
        return None
    own = np.where(repeated, s / np.maximum(n - 1, 1), 0.0)
    # Sums by prompt of: pairs repeated, their noise, pairs, squared misses, noise in the mean of repeated pairs, and
    # how much mean noise the others hold.
    columns = np.column_stack([repeated, own, np.ones_like(q), (q - y) ** 2, own / n, np.where(repeated, 0, 1 / n)])
    sums = np.zeros((int(member.max()) + 1, columns.shape[1]))
    np.add.at(sums, member.reshape(-1), columns)
    noise, error, worth = _worth(sums.sum(0)[None])
    drawn = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=samples)
    _, _, resampled = _worth(drawn @ sums)
    low, high = percentiles(resampled, level)
    return Worth(Interval(float(worth[0]), low, high), float(noise[0]), float(error[0]), len(q), int(repeated.sum()))


def _worth(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """(noise, error, worth) of rows of sums."""
    repeated, spread, pairs, missed, inside, outside = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = spread / repeated
        error = (missed - inside - noise * outside) / pairs
        worth = np.where(error > 0, np.minimum(noise / error, MOST), MOST)
    return noise, error, np.where(np.isfinite(noise), worth, np.nan)


def pooled(label: ArrayLike, votes: ArrayLike, prediction: ArrayLike, worth: float) -> Floats:
    """[n] people and judge together: (votes * label + worth * prediction) / (votes + worth); see `Worth`.

    Where nobody voted (0 votes) it is the prediction.

    Raises:
        ValueError: a worth below 0, or 0 where nobody voted.
    """
    y, n, q = (np.asarray(one, dtype=np.float64) for one in (label, votes, prediction))
    if not worth >= 0 or (worth == 0 and (n == 0).any()):
        raise ValueError(f"a worth of {worth} weighs nothing")
    return np.asarray((n * np.where(n > 0, y, 0.0) + worth * q) / (n + worth))


@dataclass(frozen=True)
class Powered:
    """A mean of people's labels, sharpened by a judge's."""

    mean: Interval
    people: Interval
    """The same from people alone."""
    power: float
    """How much of the judge is used, 0 (not at all) to 1; see `prediction_powered`."""
    labels: float
    """One label of a person does as much here as this many do without the judge: the variances' ratio."""


def prediction_powered(
    label: ArrayLike,
    prediction: ArrayLike,
    cluster: ArrayLike,
    unlabelled: ArrayLike,
    unlabelled_cluster: ArrayLike,
    *,
    level: float = 0.95,
) -> Powered:
    """Prediction-powered inference for a mean (Angelopoulos et al. 2023, arXiv 2301.09633; tuned as in 2311.01453).

    power * mean(unlabelled) + mean(label - power * prediction): unbiased whatever the judge's errors, and never wider
    than people's labels alone but for the noise in the power. That is cov(label, prediction) over the sum of both
    sides' var(prediction), all of them of means, held between 0 and 1.
    Variances are of sums over whole prompts.

    Args:
        label: [n] people's, for whatever the mean is of: 1 for a win, say.
        prediction: [n] the judge's of the same. Not fitted on these labels, or cross-fitted.
        cluster: [n] prompts.
        unlabelled: [N] the judge's predictions of what no person labelled, drawn from the same population.
        unlabelled_cluster: [N]
        level: coverage.

    Raises:
        ValueError: fewer than two prompts on either side, lengths that differ, a figure that is not finite.
    """
    from statistics import NormalDist

    y, f, more = finite_numbers(label), finite_numbers(prediction), finite_numbers(unlabelled)
    here, there = _members(cluster, len(y)), _members(unlabelled_cluster, len(more))
    if f.shape != y.shape:
        raise ValueError("labels and predictions must be of the same pairs")
    spread = _covariance(f, f, here) + _covariance(more, more, there)
    power = float(np.clip(_covariance(y, f, here) / spread, 0.0, 1.0)) if spread > 0 else 0.0
    left = y - power * f
    mean = power * float(more.mean()) + float(left.mean())
    variance = power**2 * _covariance(more, more, there) + _covariance(left, left, here)
    alone = _covariance(y, y, here)
    z = NormalDist().inv_cdf((1 + level) / 2)
    half, own = z * variance**0.5, z * alone**0.5
    people = float(y.mean())
    return Powered(
        Interval(mean, mean - half, mean + half),
        Interval(people, people - own, people + own),
        power,
        alone / variance if variance > 0 else 1.0,
    )


def _members(cluster: ArrayLike, n: int) -> NDArray[np.int64]:
    names, member = np.unique(np.asarray(cluster), return_inverse=True)
    if member.size != n or len(names) < 2:
        raise ValueError("a cluster for each figure, and two clusters at least")
    return member.reshape(-1).astype(np.int64)


def _covariance(one: Floats, other: Floats, member: NDArray[np.int64]) -> float:
    """Of two means, from sums over clusters."""
    count = int(member.max()) + 1
    sums = [np.bincount(member, weights=values - values.mean(), minlength=count) for values in (one, other)]
    return float(sums[0] @ sums[1]) / len(one) ** 2 * count / (count - 1)
