"""What people would have said: the correction's optimum, its symmetry, and a planted bias over many worlds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.core.judge_correction import Overlap, cross_fitted, feature_bias, fit_correction, overlap


def world(seed: int, *, n: int = 400, votes: int = 2, bias: float = 0.0, tied_to_quality: float = 0.0, noise: float = 1.0) -> tuple[Overlap, np.ndarray]:  # fmt: skip  # noqa: E501
    """Pairs whose quality people see through coin tosses, and a judge through noise and a taste for a feature."""
    random = np.random.default_rng(seed)
    feature = random.uniform(-1, 1, n)
    quality = random.normal(0, 1.2, n) + tied_to_quality * feature
    p = 1 / (1 + np.exp(-quality))
    wins = random.binomial(votes, p)
    score = 1.5 * quality + bias * feature + random.normal(0, noise, n)
    label = wins / votes
    squares = wins * (1 - label) ** 2 + (votes - wins) * label**2
    made = overlap(score, label, np.arange(n), features=feature[:, None], votes=np.full(n, votes), squares=squares)
    return made, p


def test_the_slope_alone_solves_its_score_equation() -> None:
    # Three pairs of the score 1 that people prefer in two votes of three: the likelihood's slope is log 2 but for the
    # prior, whose precision of 1/25 makes it solve 3 (2/3 - sigmoid(b)) = b / 25.
    data = overlap([1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0, 1, 2])
    slope = float(fit_correction(data).coefficients[0])
    assert 3 * (2 / 3 - 1 / (1 + np.exp(-slope))) == pytest.approx(slope / 25, abs=1e-8)
    assert slope == pytest.approx(0.6538, abs=1e-3)


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_naming_a_pair_the_other_way_round_changes_nothing(seed: int) -> None:
    data, _ = world(seed, n=40)
    turned = np.random.default_rng(seed).random(40) < 0.5
    sign = np.where(turned, -1.0, 1.0)
    label = np.where(turned, 1 - data.label, data.label)
    other = Overlap(data.score * sign, data.features * sign[:, None], label, data.votes, data.squares, data.cluster)
    one, two = fit_correction(data), fit_correction(other)
    np.testing.assert_allclose(one.coefficients, two.coefficients, atol=1e-6)
    probability = one.probability(data.score, data.features)
    np.testing.assert_allclose(
        np.where(turned, 1 - probability, probability), two.probability(other.score, other.features), atol=1e-6
    )


def test_a_judge_that_tells_nothing_is_not_believed() -> None:
    random = np.random.default_rng(4)
    votes = random.integers(0, 2, 500).astype(float)
    data = overlap(random.normal(size=500), votes, np.arange(500))
    assert abs(fit_correction(data).probability([2.0], np.zeros((1, 0)))[0] - 0.5) < 0.1
    contrary = overlap(votes * 2 - 1, 1 - votes, np.arange(500))
    assert fit_correction(contrary).probability([1.0], np.zeros((1, 0)))[0] < 0.05  # turned over, not ignored


def test_out_of_fold_predictions_do_not_see_their_own_prompt() -> None:
    # Prompts of two pairs; a fold's fit must not change when the labels inside the fold do.
    random = np.random.default_rng(0)
    score = random.normal(size=60)
    label = (random.random(60) < 1 / (1 + np.exp(-score))).astype(float)
    cluster = np.repeat(np.arange(30), 2)
    before = cross_fitted(overlap(score, label, cluster), folds=30)
    label[10:12] = 1 - label[10:12]
    after = cross_fitted(overlap(score, label, cluster), folds=30)
    np.testing.assert_array_equal(before[10:12], after[10:12])
    assert not np.array_equal(before[:10], after[:10])


def test_planted_bias_is_found_and_none_is_not_even_where_people_like_the_feature() -> None:
    found: dict[tuple[float, float], int] = {}
    means = {}
    for bias, tied in ((0.0, 0.0), (0.0, 1.0), (1.5, 0.0), (1.5, 1.0)):
        rows = [feature_bias(world(seed, bias=bias, tied_to_quality=tied)[0], samples=300) for seed in range(20)]
        intervals = [row[0] for row in rows if row is not None]
        found[bias, tied] = sum(one.low > 0 or one.high < 0 for one in intervals)
        means[bias, tied] = float(np.mean([one.mean for one in intervals]))
    assert found[0.0, 0.0] <= 3
    assert found[0.0, 1.0] <= 3
    assert found[1.5, 0.0] >= 17
    assert found[1.5, 1.0] >= 10
    for (bias, _), mean in means.items():
        assert mean == pytest.approx(bias, abs=0.3)


def test_the_correction_takes_a_planted_bias_out_of_the_labels() -> None:
    for seed in range(5):
        data, p = world(seed, bias=3.0, noise=0.3)
        corrected = cross_fitted(data)
        raw = cross_fitted(overlap(data.score, data.label, data.cluster, votes=data.votes, squares=data.squares))
        assert np.mean((corrected - p) ** 2) < 0.25 * np.mean((raw - p) ** 2)


def test_without_a_second_vote_bias_is_not_told_from_taste() -> None:
    data, _ = world(0, votes=1)
    assert feature_bias(data) is None


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (([1.0], [1.5], [0]), "between 0 and 1"),
        (([1.0, 2.0], [1.0], [0]), "same pairs"),
        (([np.nan], [1.0], [0]), "finite"),
        (([], [], []), "must be a pair"),
    ],
)
def test_wrong_columns_are_refused(columns: tuple[list[float], list[float], list[int]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        overlap(*columns)
    with pytest.raises(ValueError, match="one prompt"):
        cross_fitted(overlap([1.0, 2.0], [1.0, 0.0], [0, 0]))
