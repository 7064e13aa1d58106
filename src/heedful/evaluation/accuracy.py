"""Does a scorer order pairs as the truth does? Accuracy, its length-only rival, and calibration."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.statistics import Interval, cluster_bootstrap
from heedful.evaluation.winrate import Floats, cluster_index, vector


@dataclass(frozen=True)
class Slice:
    """Accuracy where the better answer is `low` to `high` longer than the worse one (in the unit given)."""

    low: float
    high: float
    pairs: int
    accuracy: float
    length_only: float


@dataclass(frozen=True)
class Calibration:
    """Do pairs called "80% sure" come out right 80% of the time?

    `ece` is the mean gap between confidence and outcome over bins of equal size, weighted by their size;
    `brier` the mean squared error of the probability (0 perfect, 0.25 for always saying a half);
    `confidence` and `outcome` are the bins' means, for the reliability curve.
    """

    ece: float
    brier: float
    confidence: tuple[float, ...]
    outcome: tuple[float, ...]


@dataclass(frozen=True)
class RewardAccuracy:
    """How well scores order pairs of answers, beside what "the longer one" alone would reach.

    Chance is 1/2. `pairs` counts the pairs that have a better answer; `truth_ties` those without, which are
    left out; `score_ties` pairs that the scorer could not tell apart (counted half).
    """

    accuracy: Interval
    length_only: Interval
    pairs: int
    truth_ties: int
    score_ties: int
    calibration: Calibration
    slices: tuple[Slice, ...]


def reward_accuracy(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    truth: ArrayLike,
    *,
    lengths_a: ArrayLike,
    lengths_b: ArrayLike,
    clusters: Sequence[Hashable],
    slices: int = 4,
    bins: int = 10,
    samples: int = 10_000,
    seed: int = 0,
) -> RewardAccuracy:
    """Accuracy of a reward model (or any scorer) on pairs.

    Args:
        scores_a, scores_b: [n] scores of both answers of each pair.
        truth: [n] probability that `a` is the better one: 1 or 0 for a known truth, a share of votes
            otherwise. A half is no truth and is left out.
        lengths_a, lengths_b: [n] lengths of the answers, for the length-only baseline and the slices.
        clusters: [n] each pair's prompt, fact or topic: pairs of one prompt are not independent.
        slices: into how many parts of equal size to cut by how much longer the better answer is.
        bins: calibration bins of equal size.

    Raises:
        ValueError: lengths differ, a number is not finite, a truth is outside 0 to 1, no pair has a better
            answer, or these lie in fewer than two clusters.
    """
    named = {"scores_a": scores_a, "scores_b": scores_b, "truth": truth}
    named |= {"lengths_a": lengths_a, "lengths_b": lengths_b}
    a, b, p, length_a, length_b = (vector(values, name) for name, values in named.items())
    if len({x.size for x in (a, b, p, length_a, length_b)}) > 1 or len(clusters) != a.size:
        raise ValueError("scores, truth, lengths and clusters must be given for the same pairs")
    if p.min() < 0 or p.max() > 1:
        raise ValueError("truth is the probability that a is better, so it lies in 0 to 1")
    kept = p != 0.5
    if not kept.any():
        raise ValueError("no pair has a better answer: every truth is one half")
    direction = np.where(p > 0.5, 1.0, -1.0)[kept]
    gap, longer = direction * (a - b)[kept], direction * (length_a - length_b)[kept]
    right, by_length = _share(gap), _share(longer)
    index = cluster_index([c for c, k in zip(clusters, kept, strict=True) if k], right.size)
    return RewardAccuracy(
        accuracy=cluster_bootstrap(right, index, samples=samples, seed=seed),
        length_only=cluster_bootstrap(by_length, index, samples=samples, seed=seed),
        pairs=int(kept.sum()),
        truth_ties=int((~kept).sum()),
        score_ties=int((gap == 0).sum()),
        calibration=calibration(a - b, p, bins=bins),
        slices=_by_length(right, by_length, longer, slices),
    )


def calibration(score_difference: ArrayLike, truth: ArrayLike, *, bins: int = 10) -> Calibration:
    """Calibration of the Bradley-Terry probability sigmoid(score_a - score_b) against the truth.

    Each pair is turned so that the scorer's favourite comes first, because which answer is called `a` is
    arbitrary; confidence thus runs from 1/2 to 1. Soft truths (shares of votes) are used as they are.

    Args:
        score_difference: [n] score of a minus score of b. truth: [n] probability that a is better.
        bins: how many bins of equal size (fewer when there are fewer pairs).

    Raises:
        ValueError: lengths differ, a number is not finite, or bins is below 1.
    """
    difference, p = vector(score_difference, "score_difference"), vector(truth, "truth")
    if difference.size != p.size or bins < 1:
        raise ValueError(f"{difference.size} differences, {p.size} truths, {bins} bins")
    confidence = 0.5 * (1 + np.tanh(np.abs(difference) / 2))
    favourite = np.where(difference > 0, p, np.where(difference < 0, 1 - p, 0.5))
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, p.size))
    means = [(float(confidence[part].mean()), float(favourite[part].mean())) for part in parts]
    ece = sum(len(part) * abs(said - came) for part, (said, came) in zip(parts, means, strict=True)) / p.size
    return Calibration(
        ece=float(ece),
        brier=float(np.mean((confidence - favourite) ** 2)),
        confidence=tuple(said for said, _ in means),
        outcome=tuple(came for _, came in means),
    )


def _share(signed: Floats) -> Floats:
    """1 where positive, 0 where negative, 1/2 at nought."""
    return 0.5 * (1 + np.sign(signed))


def _by_length(right: Floats, by_length: Floats, longer: Floats, slices: int) -> tuple[Slice, ...]:
    """Slices of nearly equal size by length difference; equal differences are never torn apart."""
    order: NDArray[np.int64] = np.argsort(longer, kind="stable")
    edges = {round(i * longer.size / slices) for i in range(1, slices)}
    moved = {int(np.searchsorted(longer[order], longer[order][edge])) for edge in edges if edge < longer.size}
    parts = [part for part in np.split(order, sorted(moved)) if part.size]
    return tuple(
        Slice(
            low=float(longer[part].min()),
            high=float(longer[part].max()),
            pairs=int(part.size),
            accuracy=float(right[part].mean()),
            length_only=float(by_length[part].mean()),
        )
        for part in parts
    )
