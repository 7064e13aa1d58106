"""Reliability, calibration error and temperature: literal numbers, planted miscalibration, planted temperature."""

from __future__ import annotations

import numpy as np
import pytest

from heedful.core.calibration import calibration_error, favoured, fit_temperature, reliability


def draw(pairs: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Score gaps, and who won when the truth is sigmoid(gap / temperature)."""
    random = np.random.default_rng(seed)
    gap = random.normal(0.0, 2.0, pairs)
    return gap, (random.random(pairs) < 1 / (1 + np.exp(-gap / temperature))).astype(float)


def test_reliability_by_hand() -> None:
    found = reliability([0.6, 0.9, 0.8, 0.7], [1.0, 1.0, 0.0, 0.0], bins=2)
    assert found.sizes == (2, 2)
    assert found.confidence == pytest.approx((0.65, 0.85))
    assert found.outcome == pytest.approx((0.5, 0.5))
    assert found.error == pytest.approx((0.15 + 0.35) / 2)


def test_the_favourite_comes_first() -> None:
    confidence, right = favoured([np.log(3), -np.log(4), 0.0], [0.9, 0.1, 1.0])
    assert confidence.tolist() == pytest.approx([0.75, 0.8, 0.5])
    assert right.tolist() == pytest.approx([0.9, 0.9, 0.5])


def test_a_known_miscalibration_is_measured() -> None:
    """All is said with 80% and comes true in 60%: the error is 20 points, and its interval holds them."""
    random = np.random.default_rng(1)
    outcome = (random.random(4000) < 0.6).astype(float)
    found = calibration_error(np.full(4000, 0.8), outcome, np.arange(4000), bins=1, samples=300)
    assert found.mean == pytest.approx(0.2, abs=0.02)
    assert found.low < 0.2 < found.high


def test_clusters_make_the_interval_wider() -> None:
    """Forty prompts of twenty pairs that stand or fall together."""
    random = np.random.default_rng(2)
    outcome = np.repeat((random.random(40) < 0.7).astype(float), 20)
    said = np.full(800, 0.9)
    apart = calibration_error(said, outcome, np.arange(800), bins=1, samples=300)
    together = calibration_error(said, outcome, np.repeat(np.arange(40), 20), bins=1, samples=300)
    assert together.high - together.low > 3 * (apart.high - apart.low)
    assert together.mean == apart.mean
    assert together == calibration_error(said, outcome, np.repeat(np.arange(40), 20), bins=1, samples=300)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_planted_temperature_is_recovered(temperature: float) -> None:
    gap, won = draw(20_000, temperature)
    assert fit_temperature(gap, won) == pytest.approx(temperature, rel=0.08)
    exact = 1 / (1 + np.exp(-gap / temperature))
    assert fit_temperature(gap, exact) == pytest.approx(temperature, rel=1e-6)


def test_the_temperature_is_the_likeliest_of_a_grid() -> None:
    gap, won = draw(300, 2.0, seed=5)
    weights = np.random.default_rng(6).random(300) + 0.1

    def loss(t: float) -> float:
        return float(np.sum(weights * (won * np.logaddexp(0, -gap / t) + (1 - won) * np.logaddexp(0, gap / t))))

    best = fit_temperature(gap, won, weights)
    assert loss(best) <= min(loss(t) for t in np.geomspace(0.1, 20, 4000)) + 1e-9


def test_calibrating_helps() -> None:
    gap, won = draw(5000, 3.0, seed=7)
    before = calibration_error(*favoured(gap, won), np.arange(5000), samples=100)
    after = calibration_error(*favoured(gap / fit_temperature(gap, won), won), np.arange(5000), samples=100)
    assert before.low > 0.1
    assert after.high < 0.05


def test_where_no_temperature_is_best_it_says_so() -> None:
    with pytest.raises(ValueError, match="no better than chance"):
        fit_temperature([1.0, 1.0], [0.0, 0.5])
    with pytest.raises(ValueError, match="every pair rightly"):
        fit_temperature([1.0, -2.0], [1.0, 0.0])


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        fit_temperature([np.nan, 1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="2 differences, 1 truths"):
        fit_temperature([1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="0 bins"):
        reliability([0.5], [1.0], bins=0)
    with pytest.raises(ValueError, match="lies in 0 to 1"):
        favoured([1.0], [1.5])
    with pytest.raises(ValueError, match="1 clusters"):
        calibration_error([0.5, 0.6], [1.0, 0.0], [0, 0])
