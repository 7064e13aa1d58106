"""Curves of gold against KL: exact recovery, literal peaks, coverage by simulation, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heedful.core.overoptimisation import beyond_saturation, fit_curve, kl_budget, latent_gain

KL = np.linspace(0.5, 20, 25)


def gains(form: str, alpha: float, beta: float, kl: np.ndarray = KL) -> np.ndarray:
    d = np.sqrt(kl)
    return d * (alpha - beta * (d if form == "best_of_n" else np.log(d)))


def test_exact_data_give_their_numbers_back_and_the_known_peaks() -> None:
    best = fit_curve(KL, gains("best_of_n", 1.2, 0.2), "best_of_n")
    assert (best.alpha.mean, best.beta.mean) == pytest.approx((1.2, 0.2))
    assert best.peak is not None
    assert best.peak.kl.mean == pytest.approx(9.0)  # (1.2 / 0.4)²
    assert best.peak.gold == pytest.approx(1.8)  # 1.2² / 0.8
    assert best.r_squared == pytest.approx(1.0)
    rl = fit_curve(KL, gains("rl", 0.9, 0.45), "rl")
    assert rl.peak is not None
    assert rl.peak.kl.mean == pytest.approx(math.e**2)  # d = exp(2 - 1)
    assert rl.peak.gold == pytest.approx(0.45 * math.e)
    assert rl.at([0.0, math.e**2]) == pytest.approx([0.0, 0.45 * math.e])


@pytest.mark.parametrize("form", ["best_of_n", "rl"])
def test_the_peak_is_where_the_curve_itself_is_highest(form: str) -> None:
    curve = fit_curve(KL, gains(form, 0.9, 0.4), form)  # type: ignore[arg-type]
    fine = np.linspace(0.01, 39, 200_001)
    assert curve.peak is not None
    assert fine[int(curve.at(fine).argmax())] == pytest.approx(curve.peak.kl.mean, abs=1e-3)
    assert float(curve.at(fine).max()) == pytest.approx(curve.peak.gold, abs=1e-6)


def test_the_peaks_interval_covers_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered, told = 0, 0
    for _ in range(400):
        curve = fit_curve(KL, gains("best_of_n", 1.2, 0.2) + random.normal(0, 0.2, len(KL)), "best_of_n", level=0.9)
        if curve.peak is not None:
            told += 1
            covered += curve.peak.kl.low <= 9.0 <= curve.peak.kl.high
    assert told > 380
    assert 0.86 < covered / told < 0.94


def test_runs_that_err_together_are_clustered() -> None:
    random = np.random.default_rng(1)
    long = np.linspace(0.5, 20, 200)
    kl, runs = np.tile(long, 8), np.repeat(np.arange(8), len(long))
    covered = {"clustered": 0, "apart": 0}
    for _ in range(200):
        drift = np.repeat(random.normal(0, 0.15, 8), len(long)) * np.sqrt(kl)
        gain = gains("rl", 0.9, 0.4, kl) + drift + random.normal(0, 0.05, len(kl))
        for name, given in (("clustered", runs.tolist()), ("apart", None)):
            alpha = fit_curve(kl, gain, "rl", runs=given).alpha
            covered[name] += alpha.low <= 0.9 <= alpha.high
    assert covered["clustered"] / 200 > 0.9
    assert covered["apart"] / 200 < 0.8


def test_what_cannot_be_told_is_not_told() -> None:
    rising = fit_curve(KL, np.sqrt(KL) + np.random.default_rng(2).normal(0, 0.3, len(KL)), "best_of_n")
    assert rising.peak is None
    assert kl_budget(rising).kl is None
    assert "cannot be told" in kl_budget(rising).reason
    near = np.linspace(0.1, 2.0, 25)
    far = fit_curve(near, gains("best_of_n", 1.2, 0.2, near), "best_of_n")
    assert far.peak is None
    assert "too far" in far.reason
    falling = fit_curve(KL, -np.sqrt(KL) - 0.1 * KL, "best_of_n")
    assert "from the start" in falling.reason


def test_the_budget_is_the_lower_end_less_the_margin() -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, len(KL))
    curve = fit_curve(KL, gains("best_of_n", 1.2, 0.2) + noise, "best_of_n", level=0.8)
    assert curve.peak is not None
    assert kl_budget(curve, margin=0.25).kl == pytest.approx(0.75 * curve.peak.kl.low)
    assert curve.peak.kl.low < 9.0 < curve.peak.kl.high
    assert not curve.peak.beyond


def test_a_curve_that_explains_little_is_said_to() -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, len(KL))
    good = kl_budget(fit_curve(KL, gains("best_of_n", 1.2, 0.2) + noise, "best_of_n", level=0.8))
    assert "alone" not in good.reason
    bent = gains("best_of_n", 0.3, 0.1)
    poor = fit_curve(KL, bent + np.tile([0.8, -0.8], len(KL))[: len(KL)], "best_of_n", level=0.2)
    assert poor.peak is not None
    assert poor.r_squared < 0.5
    assert f"explains {poor.r_squared:.0%} of the gains alone" in kl_budget(poor).reason


def test_a_win_rate_on_the_latent_scale_of_gold() -> None:
    assert latent_gain(0.5, 40) == pytest.approx((0.0, 2 / 20.5))
    # 30 wins of 40: log(30.5 / 10.5), variance 1 / 30.5 + 1 / 10.5
    assert latent_gain(0.75, 40) == pytest.approx((1.066352, 0.128025), rel=1e-5)
    assert latent_gain(1.0, 40)[0] == pytest.approx(math.log(81))
    assert latent_gain(0.2, 30)[0] == pytest.approx(-latent_gain(0.8, 30)[0])
    for rate, pairs in ((1.1, 10), (0.5, 0)):
        with pytest.raises(ValueError):
            latent_gain(rate, pairs)


def test_points_that_are_known_better_count_for_more() -> None:
    wrong = gains("rl", 0.9, 0.45)
    wrong[::2] += 3.0
    spread = np.where(np.arange(len(KL)) % 2 == 0, 1e8, 1.0)
    curve = fit_curve(KL, wrong, "rl", variances=spread)
    assert (curve.alpha.mean, curve.beta.mean) == pytest.approx((0.9, 0.45), abs=1e-6)
    noisy = gains("rl", 0.9, 0.45) + np.random.default_rng(0).normal(0, 0.1, len(KL))
    plain, scaled = fit_curve(KL, noisy, "rl"), fit_curve(KL, noisy, "rl", variances=np.full(len(KL), 7.0))
    assert (scaled.alpha.low, scaled.beta.high) == pytest.approx((plain.alpha.low, plain.beta.high))
    with pytest.raises(ValueError, match="variance"):
        fit_curve(KL, noisy, "rl", variances=np.zeros(len(KL)))


def test_levelling_off_is_no_fall() -> None:
    spread = np.full(len(KL), 0.01)
    for levelling in (1 - np.exp(-np.sqrt(KL)), np.log1p(2 * np.sqrt(KL)), np.sqrt(KL)):
        curve = fit_curve(KL, levelling, "rl", variances=spread)
        assert beyond_saturation(KL, levelling, "rl", spread) < 0
        if levelling[-1] < 1.1:
            assert curve.peak is not None  # the form itself sees a peak in it that is not there
    assert beyond_saturation(KL, gains("rl", 0.9, 0.6), "rl", spread) > 20


@pytest.mark.parametrize(
    ("kl", "gain", "runs"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], None),
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], None),
        ([1, 1, 2, 2, 2], [0, 1, 2, 3, 4], None),
        ([1, 1 + 1e-9, 1 + 2e-9, 1, 1], [0.1, 0.2, 0.1, 0.3, 0.2], None),  # three KLs by rounding alone
        ([1, 2, 3, 4, 5], [0, 1, 2, 3], None),
        ([1, 2, 3, 4, 5], [0, 1, 2, 3, 4], [0, 0, 1, 1, 1]),
    ],
)
def test_too_little_is_refused(kl: list[float], gain: list[float], runs: list[int] | None) -> None:
    with pytest.raises(ValueError):
        fit_curve(kl, gain, "rl", runs=runs)
