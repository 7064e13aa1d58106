"""What people would have said, from what a judge said: a correction fitted where both judged. Works without torch.

A pair (a, b) has the judge's score for a over b, in units of its own (a logit, a difference of points), and features
of which nobody should be swayed: a's length less b's, and so on. The probability that a person prefers a is

    sigmoid(slope * score + coefficients . features)

There is no intercept: naming the pair the other way round turns the sign of everything, and the probability about one
half. The slope says how much the judge's scores mean; a coefficient below 0 that people like a feature less than
the score has it, which is to say that the judge likes it too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.crowd import Floats, settled
from heedful.core.logistic import logistic_modes, sigmoid
from heedful.core.statistics import Interval

SPREADS = (0.05, 0.15, 0.4, 1.0, 2.5)
"""Standard deviations of the normal prior of the features' coefficients, in logits, from which the evidence chooses."""
SLOPE_SPREAD = 5.0
"""The same of the slope, in logits for a score of one root mean square: next to none."""
LARGEST = 4.0
"""Scores beyond so many root mean squares count as that many: a judge that is sure of everything is not told apart."""


@dataclass(frozen=True)
class Overlap:
    """n pairs that a judge scored and people voted on.

    Raises:
        ValueError: shapes differ, a figure is not finite, a share outside 0 to 1, or fewer than one vote.
    """

    score: Floats
    """[n] the judge's, of a over b."""
    features: Floats
    """[n, F] of a less of b."""
    label: Floats
    """[n] people's mean vote: 1 for a, 0 for b, one half for a tie."""
    votes: Floats
    """[n] how many people."""
    squares: Floats
    """[n] the votes' summed squared deviations from their mean; 0 with one vote."""
    cluster: NDArray[np.int64]
    """[n] the prompt, 0 to C - 1: what is resampled, and kept on one side of a fold."""

    def __post_init__(self) -> None:
        n = len(self.score)
        columns = (self.score, self.label, self.votes, self.squares, self.cluster)
        if self.features.ndim != 2 or len(self.features) != n or any(one.shape != (n,) for one in columns):
            raise ValueError("scores, features, labels, votes and clusters must be given for the same pairs")
        if n == 0 or not all(np.isfinite(one).all() for one in (*columns, self.features)):
            raise ValueError("there must be a pair, and every figure finite")
        if self.label.min() < 0 or self.label.max() > 1 or self.votes.min() < 1:
            raise ValueError("labels lie between 0 and 1, and each pair has a vote")

    def take(self, rows: NDArray[np.int64]) -> Overlap:
        """Some of the pairs."""
        return Overlap(
            self.score[rows],
            self.features[rows],
            self.label[rows],
            self.votes[rows],
            self.squares[rows],
            self.cluster[rows],
        )


def overlap(
    score: ArrayLike,
    label: ArrayLike,
    cluster: ArrayLike,
    *,
    features: ArrayLike | None = None,
    votes: ArrayLike | None = None,
    squares: ArrayLike | None = None,
) -> Overlap:
    """An overlap from columns; by default one vote a pair, and no features.

    Raises:
        ValueError: as `Overlap`.
    """
    own = np.asarray(score, dtype=np.float64)
    n = len(own)
    _, member = np.unique(np.asarray(cluster), return_inverse=True)
    return Overlap(
        own,
        np.zeros((n, 0)) if features is None else np.asarray(features, dtype=np.float64),
        np.asarray(label, dtype=np.float64),
        np.ones(n) if votes is None else np.asarray(votes, dtype=np.float64),
        np.zeros(n) if squares is None else np.asarray(squares, dtype=np.float64),
        member.reshape(-1).astype(np.int64),
    )


@dataclass(frozen=True)
class Correction:
    """A fitted correction."""

    scale: float
    """The root mean square of the scores it was fitted on; scores are divided by it."""
    coefficients: Floats
    """[1 + F] the slope, in logits for a score of one root mean square, then the features' coefficients."""
    covariance: Floats
    """[1 + F, 1 + F] of the normal approximation."""
    spread: float
    """Of the features' prior, as the evidence chose it; 0 without features."""

    def probability(self, score: ArrayLike, features: ArrayLike) -> Floats:
        """[n] that a person prefers a."""
        x = _design(np.asarray(score, dtype=np.float64), np.asarray(features, dtype=np.float64), self.scale)
        return settled(sigmoid(x @ self.coefficients))

    @property
    def bias(self) -> Floats:
        """[F] what is taken off the score for a feature of 1, in the score's own units; NaN at no slope.

        For prediction: where the judge's scores are noisy and the feature goes with quality, a part of it is the
        feature standing in for quality. `feature_bias` is what the judge itself adds.
        """
        slope = self.coefficients[0]
        return -self.coefficients[1:] / slope * self.scale if slope > 0 else np.full(len(self.coefficients) - 1, np.nan)


def fit_correction(data: Overlap, *, spreads: Sequence[float] = SPREADS) -> Correction:
    """The correction with the highest posterior density, its prior's spread chosen by Laplace's evidence.

    A pair counts once, however many voted: its mean vote is what is learnt, weighted by 2 n / (n + 1), since a second
    vote tells less than a first. Votes are treated as binomial, ties as halves (quasi-likelihood).

    Args:
        data: where the judge and people both judged.
        spreads: of the features' prior, to choose from.
    """
    scale = float(np.sqrt(np.mean(data.score**2))) or 1.0
    x = _design(data.score, data.features, scale)
    weight = 2 * data.votes / (data.votes + 1)
    best: tuple[float, Correction] | None = None
    for spread in spreads if data.features.shape[1] else (0.0,):
        precision = np.full(x.shape[1], 1 / spread**2 if spread else 0.0)
        precision[0] = 1 / SLOPE_SPREAD**2
        (beta,), (curve,) = logistic_modes(x, (weight * data.label)[None], weight[None], precision)
        eta = x @ beta
        fit = weight @ (data.label * eta - np.logaddexp(0, eta))
        sign, logdet = np.linalg.slogdet(curve)
        evidence = fit - 0.5 * precision @ beta**2 + 0.5 * np.log(precision).sum() - 0.5 * sign * logdet
        made = Correction(scale, beta, np.asarray(np.linalg.inv(curve), dtype=np.float64), float(spread))
        if best is None or evidence > best[0]:
            best = (evidence, made)
    assert best is not None
    return best[1]


def cross_fitted(data: Overlap, *, folds: int = 5, seed: int = 0) -> Floats:
    """[n] the probability of each pair by a correction that was fitted without its prompt.

    Args:
        data: at least two prompts.
        folds: into which prompts are dealt; no more than there are prompts.
        seed: of the deal.

    Raises:
        ValueError: one prompt alone.
    """
    clusters = int(data.cluster.max()) + 1
    if clusters < 2:
        raise ValueError("one prompt alone cannot be left out and learnt from")
    deal = np.random.default_rng(seed).permutation(clusters) % min(folds, clusters)
    fold = deal[data.cluster]
    found = np.empty(len(data.score))
    for one in range(int(fold.max()) + 1):
        out = fold == one
        fitted = fit_correction(data.take(np.flatnonzero(~out)))
        found[out] = fitted.probability(data.score[out], data.features[out])
    return found


def feature_bias(data: Overlap, *, samples: int = 1000, seed: int = 0, level: float = 0.95) -> list[Interval] | None:
    """By how much the judge's score goes with each feature beyond what people think of the pair.

    Least squares of the score on people's share less one half and the features. Their share is known with the noise of
    a few votes, which would let a feature that goes with quality stand in for it; the noise's known variance is taken
    off (errors in variables: Fuller 1987, section 2.2), so that neither the votes' noise nor the judge's own makes a
    bias of taste that people share. In units of the score, for a feature of 1; 0 for a judge that sees a pair as people
    do.

    Args:
        data: where the judge and people both judged.
        samples, seed, level: of the bootstrap by prompt.

    Returns:
        an interval a feature; None where no two people voted on one pair, so that the noise is not known.
    """
    from heedful.core.resampling import percentiles

    n = data.votes
    repeated = n >= 2
    if not repeated.any():
        return None
    scale = float(np.sqrt(np.mean(data.score**2))) or 1.0
    score = np.clip(data.score, -LARGEST * scale, LARGEST * scale)
    x = np.column_stack([data.label - 0.5, data.features])
    width = x.shape[1]
    own = np.where(repeated, data.squares / np.maximum(n - 1, 1), 0.0)
    noise = own[repeated].mean()
    noise_of_mean = np.where(repeated, own, noise) / n
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    products[:, 0] -= noise_of_mean
    columns = np.column_stack([products, x * score[:, None]])
    sums = np.zeros((int(data.cluster.max()) + 1, columns.shape[1]))
    np.add.at(sums, data.cluster, columns)

    def solved(totals: Floats) -> Floats:
        left, right = totals[:, : width * width].reshape(-1, width, width), totals[:, width * width :]
        usable = np.linalg.det(left) > 1e-12 * len(x)
        found = np.full((len(totals), width - 1), np.nan)
        found[usable] = np.linalg.solve(left[usable], right[usable][:, :, None])[:, 1:, 0]
        return found

    mean = solved(sums.sum(0)[None])[0]
    drawn = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=samples)
    resampled = solved(drawn @ sums)
    return [Interval(float(one), *percentiles(column, level)) for one, column in zip(mean, resampled.T, strict=True)]


def _design(score: Floats, features: Floats, scale: float) -> Floats:
    return np.column_stack([np.clip(score / scale, -LARGEST, LARGEST), features])
