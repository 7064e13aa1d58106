"""Does a scorer order pairs as the truth does? Accuracy, its length-only rival, and calibration."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.calibration import calibration_error, favoured, reliability
from heedful.core.statistics import Interval
from heedful.data.records import Preference, prompt_key
from heedful.evaluation.winrate import Floats, cluster_index, rate_interval, vector

if TYPE_CHECKING:
    from heedful.models.rewards import Reward

CALIBRATION_SAMPLES = 1000
"""Most resamples for the interval of a calibration error, each of which is sorted and cut anew."""


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
    ece: Interval
    """The calibration error with an interval that resamples clusters."""
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
    everyone = cluster_index(clusters, a.size)
    confident = favoured(a - b, p)
    return RewardAccuracy(
        accuracy=rate_interval(right, index, samples=samples, seed=seed),
        length_only=rate_interval(by_length, index, samples=samples, seed=seed),
        pairs=int(kept.sum()),
        truth_ties=int((~kept).sum()),
        score_ties=int((gap == 0).sum()),
        ece=calibration_error(*confident, everyone, bins=bins, samples=min(samples, CALIBRATION_SAMPLES), seed=seed),
        calibration=calibration(a - b, p, bins=bins),
        slices=_by_length(right, by_length, longer, slices),
    )


def scored(reward: Reward, records: Sequence[Preference]) -> tuple[Floats, Floats]:
    """[n], [n]: what a reward says of both answers of each pair."""
    prompts = [record.prompt for record in records]
    both = reward([*prompts, *prompts], [*(record.a for record in records), *(record.b for record in records)])
    scores = np.asarray([float(score) for score in both])
    return scores[: len(records)], scores[len(records) :]


def accuracy_on(
    scores_a: ArrayLike, scores_b: ArrayLike, records: Sequence[Preference], *, slices: int = 4, bins: int = 10
) -> RewardAccuracy:
    """`reward_accuracy` on judged pairs, with lengths in words and prompts as clusters.

    Args:
        scores_a, scores_b: [n] as `scored` gives them.
        records: the n pairs.

    Raises:
        ValueError: as `reward_accuracy`.
    """
    return reward_accuracy(
        scores_a,
        scores_b,
        [record.probability for record in records],
        lengths_a=[len(record.a.split()) for record in records],
        lengths_b=[len(record.b.split()) for record in records],
        clusters=[prompt_key(record.prompt) for record in records],
        slices=slices,
        bins=bins,
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
    if bins < 1:
        raise ValueError(f"{bins} bins")
    confidence, favourite = favoured(score_difference, truth)
    found = reliability(confidence, favourite, bins=bins)
    return Calibration(
        ece=found.error,
        brier=float(np.mean((confidence - favourite) ** 2)),
        confidence=found.confidence,
        outcome=found.outcome,
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
