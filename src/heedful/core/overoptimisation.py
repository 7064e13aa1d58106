"""How the gold reward rises and falls as a policy moves away, and how far it should be let go.

Gao et al. 2022 ("Scaling laws for reward model overoptimization", equations 1 and 2): with d = sqrt(KL) the gain in
gold reward over the starting policy is d (α - β d) for best-of-n and d (α - β log d) for reinforcement learning. Both
are linear in (α, β), so they are fitted by least squares; both peaks are functions of α / β, whose interval is
Fieller's (1954). That interval is unbounded where β may be 0: then the data do not tell whether the gold reward ever
falls, and no peak is given.
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
Form = Literal["best_of_n", "rl"]
FORMS: tuple[Form, ...] = ("best_of_n", "rl")
LEAST_POINTS = 5
FAR = 2.0
"""A peak at more than this many times the largest KL seen is no finding but a guess, and is not given."""

POOR_FIT = 0.5
"""A curve that explains less of the gains than this is said to."""


@dataclass(frozen=True)
class Peak:
    """Where the fitted curve is highest: KL in nats, with its interval, and the gold gain there."""

    kl: Interval
    gold: float
    beyond: bool
    """Whether it lies beyond the largest KL that was seen."""


@dataclass(frozen=True)
class Curve:
    """A fitted curve of gold gain against KL.

    `peak` is None where it cannot be told, and `reason` then says why. `r_squared` is about a gain of 0, which is
    where the curve is pinned at KL 0.
    """

    form: Form
    alpha: Interval
    beta: Interval
    points: int
    largest_kl: float
    r_squared: float
    peak: Peak | None
    reason: str

    def at(self, kl: ArrayLike) -> Floats:
        """The gold gain that the curve gives at some KLs, 0 or more."""
        distance = np.sqrt(np.asarray(kl, dtype=np.float64))
        return distance * self.alpha.mean - self.beta.mean * _bend(self.form, distance)


@dataclass(frozen=True)
class Budget:
    """How far a policy may go: nats of KL, or None where the data do not tell, and the reason in words."""

    kl: float | None
    reason: str


def latent_gain(rate: float, pairs: float) -> tuple[float, float]:
    """A win rate over the starting policy as a gain in gold on a latent scale, and the variance of it.

    Bradley and Terry (1952): if the chance to win is sigmoid(gold gained), the gain is the logit of the win rate, in
    units in which a gain of 1 is odds of e to 1. Half a win and half a loss are added (Haldane 1956, Anscombe 1956), so
    that a policy which wins every pair has a finite gain; the variance is that of such a logit, 1 / w + 1 / l. Where
    the gains of single pairs differ by much, the logit of the mean is nearer to 0 than the mean of the logits: the
    scale bends, and rises and falls where gold does.

    Args:
        rate: share of wins, ties as halves, 0 to 1.
        pairs: independent pairs behind it, above 0: prompts, where several raters judge each.

    Raises:
        ValueError: a rate outside 0 to 1, or no pairs.
    """
    if not 0 <= rate <= 1 or not pairs > 0:
        raise ValueError(f"need a rate within 0 to 1 and pairs above 0, got {rate} of {pairs}")
    won, lost = rate * pairs + 0.5, (1 - rate) * pairs + 0.5
    return math.log(won / lost), 1 / won + 1 / lost


def fit_curve(
    kl: ArrayLike,
    gain: ArrayLike,
    form: Form,
    *,
    variances: ArrayLike | None = None,
    runs: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Curve:
    """Fit one form to measured gains.

    Args:
        kl: [n] nats per completion to the starting policy, above 0.
        gain: [n] gold reward less that of the starting policy.
        form: best_of_n or rl.
        variances: [n] of the gains, up to a common factor, which is fitted: weighted least squares. None takes them
            for equal.
        runs: [n] which run (seed) a point belongs to. Points of one run err together: with three runs or more the
            intervals are clustered by run (CR1, with runs less one degrees of freedom). Without it, points are taken
            for independent, which one run's are not quite: its intervals are then too narrow.
        level: coverage.

    Raises:
        ValueError: lengths differ, fewer than `LEAST_POINTS` points, a KL or variance of 0 or less, KLs at fewer than
            three places (`places`), or fewer than three runs.
    """
    x, y = finite_numbers(kl), finite_numbers(gain)
    spread = np.ones_like(x) if variances is None else finite_numbers(variances)
    if not x.shape == y.shape == spread.shape:
        raise ValueError(f"{len(x)} KLs but {len(y)} gains and {len(spread)} variances")
    if spread.min() <= 0:
        raise ValueError("a variance must be above 0")
    if len(x) < LEAST_POINTS:
        raise ValueError(f"a curve needs at least {LEAST_POINTS} points, and there are {len(x)}")
    if x.min() <= 0 or places(x) < 3:
        raise ValueError("a curve needs KLs above 0, at three places at least")
    if form not in FORMS:
        raise ValueError(f"the form is one of {FORMS}, not {form!r}")
    distance = np.sqrt(x)
    scale = np.sqrt(spread.mean() / spread)
    design, y = np.column_stack([distance, -_bend(form, distance)]) * scale[:, None], y * scale
    inverse = np.linalg.inv(design.T @ design)
    estimate = inverse @ design.T @ y
    error = y - design @ estimate
    covariance, freedom = _covariance(design, inverse, error, runs)
    total = float(y @ y)
    r_squared = 1 - float(error @ error) / total if total > 0 else 0.0
    alpha, beta = (_interval(estimate[i], covariance[i, i], freedom, level) for i in (0, 1))
    peak, reason = _peak(form, estimate, covariance, freedom, level, float(x.max()))
    return Curve(form, alpha, beta, len(x), float(x.max()), r_squared, peak, reason)


def places(kl: ArrayLike) -> int:
    """How many KLs there are that differ by a thousandth of the largest: nearer ones show no bend, but rounding."""
    numbers = finite_numbers(kl)
    return len(np.unique(np.round(numbers / numbers.max(), 3)))


def kl_budget(curve: Curve, *, margin: float = 0.1) -> Budget:
    """How far a policy may go: the lower end of the peak's interval, less a share of it.

    Args:
        curve: fitted at the level that the caution asks for: at 0.8, one peak in ten lies below the lower end.
        margin: the share taken off, 0 to 1.

    Raises:
        ValueError: a margin outside 0 to 1.
    """
    if not 0 <= margin < 1:
        raise ValueError(f"margin must lie in 0 to 1, got {margin}")
    if curve.peak is None:
        return Budget(None, curve.reason)
    kl = curve.peak.kl
    words = f"gold is highest at a KL of about {kl.mean:.3g} nats ({kl.low:.3g} to {kl.high:.3g})"
    if curve.r_squared < POOR_FIT:
        words += f", by a curve that explains {max(0.0, curve.r_squared):.0%} of the gains alone"
    return Budget(kl.low * (1 - margin), f"{words}; the budget is the lower end less {margin:.0%}.")


def beyond_saturation(kl: ArrayLike, gain: ArrayLike, form: Form, variances: ArrayLike) -> float:
    """By how much a form that falls explains the gains better than any of many that rise ever more slowly and never do.

    Gold that saturates bends as well, and either form of Gao et al. then shows a peak that is not there. So the form is
    held against a d, a (1 - exp(-d / s)) and a log(1 + d / s), with no more free numbers than it has.

    Args:
        kl, gain, form: as `fit_curve`.
        variances: [n] of the gains, in their own units.

    Returns:
        the difference of their squared errors in units of the variances (twice the log of a likelihood ratio); above
        0 where the form that falls fits better. Where it leaves more error itself than the variances explain, those
        are taken for as much larger.

    Raises:
        ValueError: as `fit_curve`.
    """
    curve = fit_curve(kl, gain, form, variances=variances)
    x, y, spread = (finite_numbers(values) for values in (kl, gain, variances))
    distance, weight = np.sqrt(x), 1 / spread

    def error(fitted: Floats) -> float:
        return float((weight * (y - fitted) ** 2).sum())

    own = error(curve.at(x))
    scales = np.geomspace(0.05, 20, 60) * distance.max()
    shapes = [distance, *(-np.expm1(-distance / s) for s in scales), *(np.log1p(distance / s) for s in scales)]
    heights = [max(0.0, float((weight * one * y).sum() / (weight * one**2).sum())) for one in shapes]
    least = min(error(height * one) for height, one in zip(heights, shapes, strict=True))
    return (least - own) / max(1.0, own / (len(x) - 2))


def _bend(form: Form, distance: Floats) -> Floats:
    """What β multiplies: d² or d log d, which is 0 at 0."""
    if form == "best_of_n":
        return distance**2
    return distance * np.log(np.where(distance > 0, distance, 1.0))


def _covariance(design: Floats, inverse: Floats, error: Floats, runs: Sequence[Hashable] | None) -> tuple[Floats, int]:
    """[2, 2] of (α, β), and the degrees of freedom."""
    n = len(error)
    if runs is None:
        return inverse * float(error @ error) / (n - 2), n - 2
    if len(runs) != n:
        raise ValueError(f"{n} points but {len(runs)} runs")
    names: dict[Hashable, int] = {}
    index = np.array([names.setdefault(run, len(names)) for run in runs])
    groups = len(names)
    if groups < 3:
        raise ValueError(f"intervals clustered by run need three runs, and there are {groups}")
    scores = np.zeros((groups, 2))
    np.add.at(scores, index, design * error[:, None])
    factor = groups / (groups - 1) * (n - 1) / (n - 2)
    return factor * inverse @ (scores.T @ scores) @ inverse, groups - 1


def _interval(estimate: float, variance: float, freedom: int, level: float) -> Interval:
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(max(variance, 0.0))
    return Interval(float(estimate), float(estimate) - half, float(estimate) + half)


def _peak(
    form: Form, estimate: Floats, covariance: Floats, freedom: int, level: float, largest: float
) -> tuple[Peak | None, str]:
    """The peak with Fieller's interval, or why there is none."""
    from scipy.special import stdtrit

    (alpha, beta), t = estimate, float(stdtrit(freedom, (1 + level) / 2))
    if alpha <= 0 and form == "best_of_n":
        return None, "the gold reward falls from the start: there is no peak but the starting policy itself."
    a = beta**2 - t**2 * covariance[1, 1]
    if beta <= 0 or a <= 0:
        return None, (
            "the bend of the curve cannot be told from none: these data do not show whether the gold reward falls. "
            "Go further in KL, or measure gold more often."
        )
    b = alpha * beta - t**2 * covariance[0, 1]
    c = alpha**2 - t**2 * covariance[0, 0]
    root = math.sqrt(max(b * b - a * c, 0.0))
    place = [_peak_kl(form, ratio) for ratio in ((b - root) / a, alpha / beta, (b + root) / a)]
    if place[1] > FAR * largest:
        return None, (
            f"the curve's peak would lie at a KL of {place[1]:.3g}, and nothing beyond {largest:.3g} was seen: "
            "that is too far to tell."
        )
    distance = math.sqrt(place[1])
    height = alpha**2 / (4 * beta) if form == "best_of_n" else beta * distance
    return Peak(Interval(place[1], place[0], place[2]), float(height), bool(place[1] > largest)), ""


def _peak_kl(form: Form, ratio: float) -> float:
    """KL at the peak from α / β: (α / 2β)² or exp(α / β - 1)²."""
    if form == "best_of_n":
        return (max(ratio, 0.0) / 2) ** 2
    return math.exp(min(2 * (ratio - 1), 700.0))
