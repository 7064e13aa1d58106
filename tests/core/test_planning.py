from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from heedful.core.planning import (
    design_effect,
    intraclass_correlation,
    judgments_for_agreement,
    judgments_for_share,
    learning_curve,
)
from heedful.core.statistics import wilson


class TestJudgments:
    def test_the_textbook_number(self) -> None:
        # +-5 points about one half: 1.96² / (4 · 0.05²) = 384.1; Wilson's interval is narrower by z² = 3.8 cases
        found = judgments_for_share(0.05)
        assert (found.items, found.judgments, found.design_effect) == (381, 381, 1.0)
        assert (wilson(381 / 2, 381).high - wilson(381 / 2, 381).low) / 2 <= 0.05
        assert (wilson(190, 380).high - wilson(190, 380).low) / 2 > 0.05

    def test_judgments_of_one_item_are_worth_less(self) -> None:
        assert design_effect(3, 0.5) == 2.0
        found = judgments_for_share(0.05, per_item=3, correlation=0.5)
        assert found.items == pytest.approx(381 * 2 / 3, abs=1)
        assert found.judgments == 3 * found.items
        assert judgments_for_share(0.05, per_item=3, correlation=1.0).items == 381
        assert judgments_for_share(0.05, per_item=3).items == 127

    def test_a_clear_win_needs_fewer(self) -> None:
        assert judgments_for_share(0.05, rate=0.8).judgments < judgments_for_share(0.05).judgments
        assert judgments_for_share(0.02).judgments > 6 * judgments_for_share(0.05).judgments

    def test_agreement_of_two_raters_is_one_case_an_item(self) -> None:
        found = judgments_for_agreement(0.05, agreement=0.5)
        assert (found.items, found.judgments) == (381, 762)

    @pytest.mark.parametrize("shares", [(0.5, 1.0), (0.75, 0.75), (0.6, 0.9)])
    def test_pairs_of_three_raters_correlate_as_the_docstring_says(self, shares: tuple[float, float]) -> None:
        """Whatever the difficulty: enumerate three raters of items preferred by such shares."""
        both = first = 0.0
        for p in shares:
            for votes in itertools.product([0, 1], repeat=3):
                weight = math.prod(p if v else 1 - p for v in votes) / len(shares)
                first += weight * (votes[0] == votes[1])
                both += weight * (votes[0] == votes[1] == votes[2])
        correlation = (both - first**2) / (first * (1 - first))
        assert correlation == pytest.approx((2 * first - 1) / (2 * first))
        found = judgments_for_agreement(0.05, agreement=first, per_item=3)
        assert found.design_effect == pytest.approx(1 + 2 * correlation)

    def test_a_measured_correlation_goes_before_the_assumed(self) -> None:
        assert judgments_for_agreement(0.05, per_item=4, correlation=0.0).design_effect == 1.0
        assert judgments_for_agreement(0.05, agreement=0.4, per_item=4).design_effect == 1.0

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda: judgments_for_share(0.0), "half_width"),
            (lambda: judgments_for_share(0.05, rate=1.2), "share"),
            (lambda: judgments_for_share(0.05, per_item=0), "at least one case"),
            (lambda: judgments_for_share(0.05, correlation=1.5), "correlation"),
            (lambda: judgments_for_agreement(0.05, per_item=1), "two judgments"),
            (lambda: judgments_for_agreement(0.05, agreement=-0.1), "share"),
        ],
    )
    def test_refuses(self, call: object, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            call()  # type: ignore[operator]


class TestIntraclassCorrelation:
    def test_the_published_example(self) -> None:
        # Shrout & Fleiss 1979, table 2: six targets, four judges; ICC(1, 1) = .17 in table 4
        table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
        values = [v for row in table for v in row]
        found = intraclass_correlation(values, np.repeat(np.arange(6), 4))
        assert f"{found:.2f}" == "0.17"

    def test_ends(self) -> None:
        assert intraclass_correlation([1, 1, 0, 0], [0, 0, 1, 1]) == 1.0
        assert intraclass_correlation([1, 0, 1, 0], [0, 0, 1, 1]) == pytest.approx(-1.0)
        assert math.isnan(intraclass_correlation([1, 1, 1, 1], [0, 0, 1, 1]))

    def test_recovers_a_planted_correlation_in_clusters_of_differing_size(self) -> None:
        random = np.random.default_rng(0)
        cluster = np.repeat(np.arange(3000), random.integers(1, 6, 3000))
        values = math.sqrt(0.3) * random.normal(size=3000)[cluster] + math.sqrt(0.7) * random.normal(size=len(cluster))
        assert intraclass_correlation(values, cluster) == pytest.approx(0.3, abs=0.03)

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="two clusters"):
            intraclass_correlation([1, 2], [0, 1])
        with pytest.raises(ValueError, match="differ in length"):
            intraclass_correlation([1, 2], [0])


SIZES = np.array([250, 500, 1000, 2000, 4000, 8000, 16000])


class TestLearningCurve:
    def test_an_exact_curve_is_recovered(self) -> None:
        found = learning_curve(SIZES, 0.8 - 2.0 * SIZES**-0.5, np.full(7, 1e-4), samples=200)
        assert found.told
        assert found.why == ""
        assert (found.ceiling.mean, found.scale, found.exponent.mean) == pytest.approx((0.8, 2.0, 0.5), rel=1e-9)
        assert found.at(64000).mean == pytest.approx(0.8 - 2 / math.sqrt(64000))
        assert found.ceiling.high - found.ceiling.low < 0.003

    def test_extrapolation_covers_the_truth(self) -> None:
        covered = 0
        for seed in range(60):
            noise = 0.004 * np.random.default_rng(seed).normal(size=7)
            found = learning_curve(SIZES, 0.78 - 1.5 * SIZES**-0.4 + noise, np.full(7, 0.004), samples=200, seed=seed)
            interval = found.at(64000)
            covered += interval.low <= 0.78 - 1.5 * 64000**-0.4 <= interval.high
        assert covered >= 52

    def test_a_ceiling_is_at_most_one(self) -> None:
        found = learning_curve([1, 10, 100, 1000], [0.2, 0.5, 0.8, 0.999], np.full(4, 0.01), samples=100)
        assert found.ceiling.mean <= 1.0
        assert found.at(1e9).high <= 1.0

    @pytest.mark.parametrize(
        ("sizes", "accuracies", "error", "said"),
        [
            ([100, 200, 400], [0.6, 0.65, 0.68], 0.001, "3 sizes leave nothing"),
            ([100, 150, 200, 300], [0.6, 0.63, 0.65, 0.68], 0.001, "less than a factor of four"),
            ([100, 400, 1600, 6400], [0.65, 0.66, 0.64, 0.66], 0.01, "not better than the smallest"),
            ([100, 400, 1600, 6400], [0.60, 0.64, 0.68, 0.72], 0.01, "the ceiling may lie anywhere"),
        ],
    )
    def test_what_cannot_be_told_is_said(
        self, sizes: list[int], accuracies: list[float], error: float, said: str
    ) -> None:
        found = learning_curve(sizes, accuracies, [error] * len(sizes), samples=200)
        assert not found.told
        assert said in found.why

    def test_a_flat_curve_does_not_fall(self) -> None:
        found = learning_curve(SIZES, np.linspace(0.7, 0.65, 7), np.full(7, 0.01), samples=50)
        assert found.scale == 0.0
        assert found.at(10**6).mean == pytest.approx(0.675)

    @pytest.mark.parametrize(
        ("sizes", "accuracies", "errors", "said"),
        [
            ([1, 2], [0.5, 0.6], [0.1, 0.1], "three different sizes"),
            ([1, 2, 3], [0.5, 0.6], [0.1, 0.1], "same length"),
            ([0, 2, 3], [0.5, 0.6, 0.7], [0.1] * 3, "sizes are 1 or more"),
            ([1, 2, 3], [0.5, 0.6, 1.7], [0.1] * 3, "from 0 to 1"),
        ],
    )
    def test_refuses(self, sizes: list[int], accuracies: list[float], errors: list[float], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            learning_curve(sizes, accuracies, errors)
