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
Places = NDArray[np.int64]
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
        judged = _judged(won, prompts, raters)
        rate = _sequence(judged, self.level, self.effect)
        verdict: Verdict = "undecided"
        if rate.low > 0.5:
            verdict = "better"
        elif rate.high < 0.5:
            verdict = "worse"
        elif self.margin and 0.5 - self.margin <= rate.low and rate.high <= 0.5 + self.margin:
            verdict = "alike"
        return Looked(
            rate,
            pairs=len(judged.won),
            prompts=judged.asked_prompts,
            raters=judged.people,
            verdict=verdict,
            stop=verdict != "undecided" or len(judged.won) >= self.most,
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
    return _sequence(_judged(won, prompts, raters), level, effect)


def _sequence(judged: _Judged, level: float, effect: float) -> Interval:
    """As `confidence_sequence`."""
    mean = float(judged.won.mean())
    told_apart = judged.raters is not None
    if judged.asked_prompts < LEAST_PROMPTS or (told_apart and judged.people < LEAST_RATERS):
        return Interval(mean, 0.0, 1.0)
    radius = mixture_radius(*_spread(judged), level=level, effect=effect)
    low, high = max(0.0, mean - radius), min(1.0, mean + radius)
    if told_apart and judged.people < FEW_RATERS:
        for middle, variance, prompts in zip(*_without_each(judged), strict=True):
            if prompts < LEAST_PROMPTS:
                return Interval(mean, 0.0, 1.0)
            radius = mixture_radius(variance, prompts - 1, level=level, effect=effect)
            low, high = max(0.0, min(low, middle - radius)), min(1.0, max(high, middle + radius))
    return Interval(mean, low, high)


def _without_each(judged: _Judged) -> tuple[list[float], list[float], list[int]]:
    """[people] what the others said without each rater: the mean, its variance clustered by prompt, and the prompts."""
    assert judged.raters is not None
    shape = (int(judged.prompts.max()) + 1, judged.people + 1)  # nobody is the last column
    cells = judged.prompts * shape[1] + judged.raters % shape[1]

    def of_others(weights: Floats | None) -> Floats:
        own = np.bincount(cells, weights, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
        return own.sum(axis=1, keepdims=True) - own[:, :-1]

    won, asked = of_others(judged.won), of_others(None)
    total = asked.sum(axis=0)
    middle = (won.sum(axis=0) + 1) / (total + 2)
    squares = np.square(won - middle * asked).sum(axis=0) + np.square(1 - middle) + np.square(middle)
    means, variances = won.sum(axis=0) / total, squares / np.square(total + 2)
    return means.tolist(), variances.tolist(), np.count_nonzero(asked, axis=0).tolist()


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
    return _spread(_judged(won, prompts, raters))


def _spread(judged: _Judged) -> tuple[float, float]:
    """As `cluster_spread`."""
    centred = _with_two(judged.won)
    size = len(centred) ** 2

    def squares(index: Places, weights: Floats) -> float:
        return float(np.square(np.bincount(index, weights=weights)).sum()) / size

    by_prompt = _apart(judged.prompts)
    own = squares(by_prompt, centred)
    freedom = max(judged.asked_prompts - 1, 1)
    if judged.raters is None:
        return own, float(freedom)
    asked = judged.raters >= 0
    nobody = judged.people + np.arange(len(asked))  # what nobody judged shares no rater with anything
    by_rater = _apart(np.where(asked, judged.raters, nobody))
    cells = np.unique(by_prompt * (by_rater.max() + 1) + by_rater, return_inverse=True)[1]
    heard = np.zeros(len(centred))
    heard[np.append(asked, (True, True))] = _with_two(judged.won[asked])
    tastes = max(0.0, squares(by_rater, heard) - squares(cells, heard)) * judged.people / max(judged.people - 1, 1)
    total = own + tastes
    return total, total**2 / (own**2 / freedom + tastes**2 / max(judged.people - 1, 1))


@dataclass(frozen=True)
class _Judged:
    """[n] outcomes with the numbers of their prompts and raters; a rater of -1 is nobody."""

    won: Floats
    prompts: Places
    raters: Places | None
    people: int
    """How many raters there are."""

    @property
    def asked_prompts(self) -> int:
        """How many prompts there are."""
        return int(np.count_nonzero(np.bincount(self.prompts)))


def _judged(won: ArrayLike, prompts: Sequence[Hashable], raters: Sequence[Hashable] | None) -> _Judged:
    numbers = outcomes(won)
    if len(prompts) != len(numbers) or (raters is not None and len(raters) != len(numbers)):
        raise ValueError(f"{len(numbers)} outcomes need as many prompts and raters")
    if raters is None:
        return _Judged(numbers, _number(prompts), None, 0)
    who = _number(raters, {None: -1})
    return _Judged(numbers, _number(prompts), who, int(who.max()) + 1)


def _with_two(won: Floats) -> Floats:
    """Outcomes and one win and one loss more, less their mean."""
    return np.append(won, (1.0, 0.0)) - (won.sum() + 1) / (len(won) + 2)


def _apart(index: Places) -> Places:
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


def _number(names: Sequence[Hashable], known: dict[Hashable, int] | None = None) -> Places:
    """Numbers from 0 on in the order in which names come up, but for those that have one."""
    numbers = dict(known or {})
    given = len(numbers)
    return np.array([numbers.setdefault(name, len(numbers) - given) for name in names], dtype=np.int64)
