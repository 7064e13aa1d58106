"""The budget of KL that a run's own fresh checks predict: when there is one, what it says, and how seldom it errs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from heedful.core.statistics import Interval
from heedful.monitoring.budget import PredictedBudget, forecast, gold_gain
from heedful.monitoring.checks import Check, Contest
from heedful.monitoring.signs import Tier

KL = np.arange(1.0, 21.0)


def check(kl: float, gain: float, deviation: float = 0.05, *, rate: float = 0.6, scored: bool = True) -> Check:
    """A check that found this gain in gold scores, known as well as that, or only a win rate of 200 pairs."""
    gold = Interval(gain, gain - 1.645 * deviation, gain + 1.645 * deviation) if scored else None
    found = Contest(Interval(rate, rate - 0.1, rate + 0.1), Interval(1, 0.5, 1.5), "better", 200, 200, gold)
    return Check(int(kl * 10), kl, 0, found, found)


def falling(kl: np.ndarray) -> np.ndarray:
    """Highest at a KL of 5, with 1.4; not of the fitted form."""
    d = np.sqrt(kl / 5)
    return 1.4 * (2 * d - d**2)


def levelling(kl: np.ndarray) -> np.ndarray:
    return 1.5 * (1 - np.exp(-np.sqrt(kl) / 1.5))


def test_a_peak_that_the_checks_show_gives_a_budget_below_it() -> None:
    d = np.sqrt(KL)
    gains = d * (1.2 - 0.6 * np.log(d))  # highest at d = e, a KL of e² = 7.39
    found = forecast([check(kl, gain) for kl, gain in zip(KL, gains, strict=True)])
    assert found.curve is not None
    assert found.curve.peak is not None
    assert found.curve.peak.kl.mean == pytest.approx(np.e**2)
    assert found.budget.kl == pytest.approx(0.9 * np.e**2)  # no error, no width: the peak less a tenth
    assert "gold is highest at a KL of about 7.39" in found.budget.reason
    assert json.loads(json.dumps(found.to_json()))["budget"]["kl"] == found.budget.kl


def test_where_no_fall_is_shown_there_is_no_budget_and_it_says_why() -> None:
    few = forecast([check(kl, 0.1) for kl in (1.0, 2.0, 3.0, -0.2, 4.0)])
    assert few.budget.kl is None
    assert "4 fresh checks are too few" in few.budget.reason
    near = forecast([check(1.0 + 1e-9 * i, 0.1 * i) for i in range(6)])
    assert near.budget.kl is None  # KLs that differ by rounding are one
    level = forecast([check(kl, gain) for kl, gain in zip(KL, levelling(KL), strict=True)])
    assert level.budget.kl is None
    assert "levels off" in level.budget.reason
    assert "If it does, it is highest at" in level.budget.reason
    rising = forecast([check(kl, 0.3 * kl) for kl in KL])
    assert rising.budget.kl is None
    assert "cannot be told from none" in rising.budget.reason


def test_win_rates_stand_in_where_there_are_no_gold_scores() -> None:
    assert gold_gain(check(1.0, 0.7, 0.1).against_start) == pytest.approx((0.7, 0.01))
    # 150 of 200 pairs won: log(150.5 / 50.5), variance 1 / 150.5 + 1 / 50.5
    assert gold_gain(check(1.0, 0, rate=0.75, scored=False).against_start) == pytest.approx(
        (1.091971, 0.026446), rel=1e-4
    )
    rates = 1 / (1 + np.exp(-falling(KL)))
    found = forecast([check(kl, 0, rate=rate, scored=False) for kl, rate in zip(KL, rates, strict=True)])
    assert found.budget.kl is not None
    assert 1.5 < found.budget.kl < 5


def test_it_warns_near_the_budget_and_acts_beyond_it_once_each() -> None:
    budget = PredictedBudget()
    assert budget.see(1, 3.0) == []
    budget.learn([check(kl, gain) for kl, gain in zip(KL, falling(KL), strict=True)])
    limit = budget.found.budget.kl
    assert limit is not None
    budget.alarmed = Tier.NONE  # its last check lay beyond the budget
    assert budget.see(2, 0.5 * limit) == []
    (near,) = budget.see(3, 0.9 * limit)
    assert (near.tier, near.threshold) == (Tier.WARN, pytest.approx(0.8 * limit))
    assert budget.see(4, 0.95 * limit) == []
    (beyond,) = budget.see(5, 1.1 * limit)
    assert (beyond.tier, budget.now) == (Tier.ACT, Tier.ACT)
    assert "is past the" in beyond.sentence
    assert budget.see(6, 0.9 * limit) == []
    assert budget.now == Tier.WARN  # the response brought it back: no more of it is asked for
    again = PredictedBudget()
    again.restore([check(kl, gain) for kl, gain in zip(KL, falling(KL), strict=True)], budget.to_json())
    assert (again.alarmed, again.now, again.found) == (budget.alarmed, budget.now, budget.found)
    budget.learn([check(kl, 0.3 * kl) for kl in KL])
    assert (budget.found.budget.kl, budget.alarmed) == (None, Tier.NONE)


def acted_at(curve: np.ndarray, seed: int) -> float | None:
    """The KL at which a run whose gold follows a curve first lies beyond its predicted budget: a check a nat."""
    random = np.random.default_rng(seed)
    checks: list[Check] = []
    budget = PredictedBudget()
    for kl, gain in zip(KL, curve, strict=True):
        checks.append(check(float(kl), float(gain + random.normal(0, 0.15)), 0.15))
        budget.learn(checks)
        budget.see(len(checks), float(kl))
        if budget.now == Tier.ACT:
            return float(kl)
    return None


def test_gold_that_only_levels_off_seldom_gets_a_budget_and_gold_that_falls_does() -> None:
    false = [acted_at(levelling(KL), seed) for seed in range(30)]
    assert sum(kl is not None for kl in false) <= 1
    true = [acted_at(falling(KL), seed) for seed in range(30)]
    assert all(kl is not None and 5 < kl < 18 for kl in true)
