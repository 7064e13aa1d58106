"""A win rate that may be looked at again and again: always-valid intervals for pairs in clusters, and when to stop.

The interval is Robbins' normal mixture (Robbins 1970, "Statistical methods related to the law of the iterated
logarithm"), which is the mixture sequential probability ratio test of Johari et al. 2022 ("Always valid inference")
turned into an interval, with an estimated variance as in the asymptotic confidence sequences of Waudby-Smith et al.
2024 ("Time-uniform central limit theory and asymptotic confidence sequences"). Two things are added to it: the variance
is clustered by prompt and by rater, and a cluster number too small for the normal law is paid for with Student's t.

Its error rates are those of a limit, so they are shown by simulation (tests/core/test_sequential.py), not promised.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.statistics import Interval, finite_numbers

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "alike", "undecided"]

LEAST_PROMPTS = 10
"""Fewer prompts give no verdict: a variance between clusters cannot be read off so few."""

LEAST_RATERS = 3
"""Where raters are told apart, fewer give no verdict: two do not show how raters differ."""

FEW_RATERS = 8
"""Where raters are told apart and are fewer than this, what they say has to hold without any one of them: the spread
between so few is known too badly for the interval alone to keep its level."""

TYPICAL_EFFECT = 0.1
"""The effect that the mixture is tuned to, as a distance from one half. It moves how soon the test ends, not its
error rate."""


@dataclass(frozen=True)
class Looked:
    """What is known of a win rate at one look, and whether more need be asked.

    `rate` is a share with ties as halves; `low` and `high` hold at every look together. `raters` is 0 where the
    raters were not told apart, and the interval then speaks of these raters alone.
    """

    rate: Interval
    pairs: int
    prompts: int
    raters: int
    verdict: Verdict
    stop: bool


@dataclass(frozen=True)
class SequentialTest:
    """When to stop asking whether one policy beats another.

    Args:
        level: coverage of the interval at all looks together. A rate that is one half is called better at any look
            with probability (1 - level) / 2 at most, and worse with as much.
        margin: within this distance of one half two policies are alike; 0 never calls them so.
        most: pairs after which the asking ends without a verdict.
        effect: see `TYPICAL_EFFECT`.

    Raises:
        ValueError: a level, margin, effect or number of pairs that means nothing.
    """

    level: float = 0.95
    margin: float = 0.0
    most: int = 400
    effect: float = TYPICAL_EFFECT

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {self.level}")
        if not 0 <= self.margin < 0.5:
            raise ValueError(f"margin must lie in 0 to 0.5, got {self.margin}")
        if self.most < 1 or not self.effect > 0:
            raise ValueError(f"most must be at least 1 and effect above 0, got {self.most} and {self.effect}")

    def look(self, won: ArrayLike, prompts: Sequence[Hashable], raters: Sequence[Hashable] | None = None) -> Looked:
        """What n judged pairs say.

        Args:
            won: [n] outcomes from 0 to 1; a tie is one half.
            prompts: [n] which prompt each pair answers.
            raters: [n] who judged it; None where one judge judged all, or where they are not to be generalised over. A
                rater of None is nobody: a pair that decided itself, such as a tie of equal texts.

        Raises:
            ValueError: lengths differ, or an outcome lies outside 0 to 1.
        """
        numbers = outcomes(won)
        rate = confidence_sequence(numbers, prompts, raters, level=self.level, effect=self.effect)
        found = len(set(prompts))
        verdict: Verdict = "undecided"
        if rate.low > 0.5:
            verdict = "better"
        elif rate.high < 0.5:
            verdict = "worse"
        elif self.margin and 0.5 - self.margin <= rate.low and rate.high <= 0.5 + self.margin:
            verdict = "alike"
        return Looked(
            rate,
            pairs=len(numbers),
            prompts=found,
            raters=0 if raters is None else _people(raters),
            verdict=verdict,
            stop=verdict != "undecided" or len(numbers) >= self.most,
        )


def confidence_sequence(
    won: ArrayLike,
    prompts: Sequence[Hashable],
    raters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    effect: float = TYPICAL_EFFECT,
) -> Interval:
    """An interval for a win rate that holds at all looks together, pairs clustered by prompt and by rater.

    With fewer than `FEW_RATERS` raters it reaches over the intervals, clustered by prompt, of what the others said
    without each of them in turn. That only widens it, so its error rate can only fall.

    Args:
        won, prompts, raters: as `SequentialTest.look`.
        level: coverage over all looks.
        effect: see `TYPICAL_EFFECT`.

    Returns:
        within 0 to 1; all of it where there are fewer than `LEAST_PROMPTS` prompts, or fewer than `LEAST_RATERS`
        raters where these are told apart.

    Raises:
        ValueError: as `SequentialTest.look`.
    """
    numbers = outcomes(won)
    if len(prompts) != len(numbers) or (raters is not None and len(raters) != len(numbers)):
        raise ValueError(f"{len(numbers)} outcomes need as many prompts and raters")
    mean = float(numbers.mean())
    if len(set(prompts)) < LEAST_PROMPTS or (raters is not None and _people(raters) < LEAST_RATERS):
        return Interval(mean, 0.0, 1.0)
    variance, freedom = cluster_spread(numbers, prompts, raters)
    radius = mixture_radius(variance, freedom, level=level, effect=effect)
    low, high = max(0.0, mean - radius), min(1.0, mean + radius)
    for others in _without_each(raters):
        some = confidence_sequence(numbers[others], [prompts[i] for i in others], level=level, effect=effect)
        low, high = min(low, some.low), max(high, some.high)
    return Interval(mean, low, high)


def _without_each(raters: Sequence[Hashable] | None) -> list[list[int]]:
    """Of few raters, the places of what the others said, for each of them; none where they are many, or one."""
    known = [] if raters is None else list(dict.fromkeys(rater for rater in raters if rater is not None))
    if raters is None or len(known) >= FEW_RATERS:
        return []
    return [[i for i, rater in enumerate(raters) if rater != one] for one in known]


def mixture_radius(variance: float, freedom: float, *, level: float = 0.95, effect: float = TYPICAL_EFFECT) -> float:
    """Half the width of the normal-mixture interval of an estimate.

    sqrt(v (v + τ²) / τ² * (2 log(1 / α) + log((v + τ²) / v))), v the variance, τ the effect, α = 1 - level; in units
    of sqrt(v) this is a normal quantile, and Student's with as many degrees of freedom takes its place.

    Args:
        variance: of the estimate, above 0.
        freedom: degrees of freedom of the variance, at least 1.

    Raises:
        ValueError: a variance or degrees of freedom of 0 or less.
    """
    from scipy.special import log_ndtr, stdtrit

    if not variance > 0 or freedom < 1:
        raise ValueError(f"need a variance above 0 and a degree of freedom, got {variance} and {freedom}")
    wide = variance + effect**2
    quantile = math.sqrt(wide / effect**2 * (2 * math.log(1 / (1 - level)) + math.log(wide / variance)))
    tail = math.exp(float(log_ndtr(-quantile)))
    return -float(stdtrit(freedom, tail)) * math.sqrt(variance) if tail > 0 else math.inf


def cluster_spread(
    won: ArrayLike, prompts: Sequence[Hashable], raters: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """The variance of a mean whose values share prompts and raters, never 0, and its degrees of freedom.

    The two-way estimate of Cameron, Gelbach and Miller 2011: what clusters of prompts say, and what clusters of raters
    say beyond single (prompt, rater) cells, which is taken for 0 where it is less. The degrees of freedom are
    Satterthwaite's (1946) for that sum: near (prompts - 1) where raters agree, near (raters - 1) where what they say
    hangs on who they are. One win and one loss on prompts of their own are added (Agresti and Coull 1998), so that
    pairs that all went one way are not taken for certain. What raters say is held against what raters say on average;
    pairs that nobody judged have no part in it.
    """
    numbers = outcomes(won)
    centred = np.append(numbers, (1.0, 0.0)) - (numbers.sum() + 1) / (len(numbers) + 2)
    size = len(centred) ** 2

    def squares(index: NDArray[np.int64], weights: Floats) -> float:
        return float((np.bincount(index, weights=weights) ** 2).sum()) / size

    by_prompt = _apart(_number(prompts))
    own = squares(by_prompt, centred)
    clusters = int(by_prompt.max()) - 1
    if raters is None:
        return own, float(clusters - 1)
    by_rater = _apart(_number([(i,) if rater is None else rater for i, rater in enumerate(raters)]))
    cells = np.unique(by_prompt * (by_rater.max() + 1) + by_rater, return_inverse=True)[1]
    several = _people(raters)
    asked = np.array([rater is not None for rater in raters], dtype=np.float64)
    judged = np.append(numbers, (1.0, 0.0)) - (float(numbers @ asked) + 1) / (float(asked.sum()) + 2)
    judged *= np.append(asked, (1.0, 1.0))
    tastes = max(0.0, squares(by_rater, judged) - squares(cells, judged)) * several / max(several - 1, 1)
    total = own + tastes
    freedom = total**2 / (own**2 / max(clusters - 1, 1) + tastes**2 / max(several - 1, 1))
    return total, freedom


def _people(raters: Sequence[Hashable]) -> int:
    """How many raters there are; None is nobody."""
    return len({rater for rater in raters if rater is not None})


def _apart(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cluster numbers, with two more for the win and the loss that are added."""
    return np.append(index, index.max() + np.array((1, 2)))


def outcomes(won: ArrayLike) -> Floats:
    """[n] outcomes, at least one, each in 0 to 1.

    Raises:
        ValueError: otherwise.
    """
    numbers = finite_numbers(won)
    if numbers.min() < 0 or numbers.max() > 1:
        raise ValueError("an outcome lies in 0 to 1: 1 for a win, 0.5 for a tie, 0 for a loss")
    return numbers


def _number(names: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
