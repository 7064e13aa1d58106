"""The worth of a judge's label by the formula's own numbers, by simulation, and prediction-powered win rates."""

from __future__ import annotations

import numpy as np
import pytest

from heedful.core.label_worth import label_worth, pooled, prediction_powered


def test_worth_by_hand() -> None:
    # Two votes on each of two pairs: 1 and 0 (mean 1/2, squares 1/2), 1 and 1. The noise is (1/2 + 0) / 2 = 1/4.
    # The judge says 0.9 and 0.4: it misses by 0.16 and 0.36, of which (1/4 + 0) / 2 = 1/8 a pair is the votes' own.
    found = label_worth([0.9, 0.4], [0.5, 1.0], [2, 2], [0.5, 0.0], ["p", "q"], samples=50)
    assert found is not None
    assert found.noise == pytest.approx(0.25)
    assert found.error == pytest.approx((0.16 + 0.36) / 2 - 0.125)
    assert found.labels.mean == pytest.approx(0.25 / 0.135)
    assert (found.pairs, found.repeated) == (2, 2)
    # A third pair with one vote misses by 0.09 and holds the mean noise of 1/4.
    more = label_worth([0.9, 0.4, 0.7], [0.5, 1.0, 1.0], [2, 2, 1], [0.5, 0.0, 0.0], ["p", "q", "r"], samples=50)
    assert more is not None
    assert more.error == pytest.approx((0.16 + 0.36 + 0.09 - 0.25 - 0.25) / 3)


def test_votes_that_were_never_repeated_tell_no_worth() -> None:
    assert label_worth([0.9, 0.4], [1.0, 1.0], [1, 1], [0.0, 0.0], [0, 1]) is None


def test_worth_is_what_it_says_and_its_interval_covers() -> None:
    """A judge of known error against people of known noise: w people predict a pair as well as it does."""
    covered = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        p = random.uniform(0.1, 0.9, 600)
        judge = np.clip(p + random.normal(0, 0.2, 600), 0, 1)
        true = float(np.mean(p * (1 - p)) / np.mean((judge - p) ** 2))
        wins = random.binomial(3, p)
        label = wins / 3
        squares = wins * (1 - label) ** 2 + (3 - wins) * label**2
        found = label_worth(judge, label, np.full(600, 3), squares, np.arange(600), samples=300)
        assert found is not None
        covered += found.labels.low <= true <= found.labels.high
    assert covered >= 26


def test_the_judge_counts_as_so_many_votes() -> None:
    np.testing.assert_allclose(pooled([1.0, 0.0, 0.3], [1, 3, 0], [0.5, 0.5, 0.8], 2.0), [2 / 3, 0.2, 0.8])
    with pytest.raises(ValueError, match="weighs nothing"):
        pooled([0.0], [0], [0.5], 0.0)


def test_pooling_beats_either_source() -> None:
    random = np.random.default_rng(1)
    p = random.uniform(0.05, 0.95, 4000)
    judge = np.clip(p + random.normal(0, 0.25, 4000), 0, 1)
    label = random.binomial(2, p) / 2
    worth = float(np.mean(p * (1 - p)) / np.mean((judge - p) ** 2))
    error = {w: np.mean((pooled(label, np.full(4000, 2), judge, w) - p) ** 2) for w in (1e-9, worth, 4 * worth, 1e9)}
    assert min(error, key=lambda w: error[w]) == worth


def test_prediction_powered_by_hand() -> None:
    # The judge is right on average and its predictions of people's labels are perfect: the power is V_n / (V_n + V_N).
    label = np.array([1.0, 0.0, 1.0, 0.0])
    found = prediction_powered(label, label, np.arange(4), np.tile([1.0, 0.0, 1.0, 1.0], 4), np.arange(16))
    here, there = 0.25 / 3, 0.1875 / 15
    assert found.power == pytest.approx(here / (here + there))
    assert found.mean.mean == pytest.approx(0.5 + found.power * 0.25)
    left = (1 - found.power) ** 2 * here + found.power**2 * there
    assert found.labels == pytest.approx(here / left)
    useless = prediction_powered(label, [0.5, 0.5, 0.5, 0.5], np.arange(4), [0.5] * 16, np.arange(16))
    assert (useless.power, useless.labels) == (0.0, 1.0)
    assert useless.mean == useless.people


def test_prediction_powered_intervals_cover_and_are_narrower_whatever_the_judges_bias() -> None:
    covered, narrower = 0, 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        prompt = random.normal(0, 1, 300)  # two pairs a prompt share its difficulty
        truth = 1 / (1 + np.exp(-np.repeat(prompt, 2) - 0.3))
        judge = np.clip(truth**0.5 + random.normal(0, 0.1, 600), 0, 1)  # biased upwards throughout
        label = (random.random(600) < truth).astype(float)
        cluster = np.repeat(np.arange(300), 2)
        found = prediction_powered(label[:120], judge[:120], cluster[:120], judge[120:], cluster[120:])
        covered += found.mean.low <= 0.5619 <= found.mean.high
        narrower += found.mean.high - found.mean.low < found.people.high - found.people.low
    assert covered >= 89
    assert narrower == 100


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="same pairs"):
        label_worth([0.5], [0.5, 0.5], [2, 2], [0.5, 0.5], [0, 1])
    with pytest.raises(ValueError, match="two clusters"):
        prediction_powered([1.0], [1.0], [0], [1.0, 0.0], [0, 1])
