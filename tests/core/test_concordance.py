from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.core.ceilings import ANCHORS, accuracy_ceiling
from heedful.core.concordance import concordance, kendall_w


class TestKendallW:
    def test_by_hand(self) -> None:
        # rank sums 4, 7, 8, 11 about 7.5: S = 12.25 + 0.25 + 0.25 + 12.25 = 25; 12 · 25 / (9 · 60)
        assert kendall_w([[1, 2, 3, 4], [2, 1, 3, 4], [1, 4, 2, 3]]) == pytest.approx(12 * 25 / (9 * 60))

    def test_ties_by_hand(self) -> None:
        # 1, 2.5, 2.5 and 1, 2, 3: sums 2, 4.5, 5.5 about 4, S = 6.5; T = 2³ - 2 = 6; 12 · 6.5 / (4 · 24 - 2 · 6)
        assert kendall_w([[1, 2, 2], [1, 2, 3]]) == pytest.approx(78 / 84)

    def test_as_friedmans_statistic(self) -> None:
        # scipy 1.17 friedmanchisquare(*columns) of this table is 11.936170212765957, over m (n - 1) = 5 · 3
        table = [[1, 2, 3, 3], [1, 1, 3, 4], [2, 1, 3, 4], [1, 2, 2, 4], [1, 3, 2, 4]]
        assert kendall_w(table) == pytest.approx(11.936170212765957 / 15, abs=1e-10)

    @given(st.lists(st.permutations([1, 2, 3, 4]), min_size=2, max_size=6))
    @settings(max_examples=50)
    def test_without_ties_it_is_the_mean_spearman_correlation(self, rows: list[list[int]]) -> None:
        m = len(rows)
        rho = [
            1 - 6 * sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / 60
            for x, y in itertools.combinations(rows, 2)
        ]
        assert (m * kendall_w(rows) - 1) / (m - 1) == pytest.approx(sum(rho) / len(rho), abs=1e-12)

    @given(
        st.integers(2, 5).flatmap(
            lambda n: st.lists(st.lists(st.integers(1, n), min_size=n, max_size=n), min_size=2, max_size=5)
        ),
    )
    @settings(max_examples=60)
    def test_neither_order_nor_spacing_matters(self, rows: list[list[int]]) -> None:
        table = np.array(rows)
        value = kendall_w(table)
        order = np.argsort(table[0], kind="stable")
        assert kendall_w(table[::-1][:, order] ** 3) == pytest.approx(value, nan_ok=True)
        assert math.isnan(value) or 0 <= value <= 1 + 1e-12

    def test_perfect_opposed_and_undecided(self) -> None:
        assert kendall_w([[1, 2, 2, 4]] * 3) == pytest.approx(1.0)
        assert kendall_w([[1, 2, 3], [3, 2, 1]]) == 0.0
        assert math.isnan(kendall_w([[1, 1, 1], [1, 1, 1]]))

    def test_chance_is_one_over_the_raters(self) -> None:
        """Over all pairs of orders of three answers the mean W is 1/2, the mean rho 0."""
        rankings = [np.array(pair) for pair in itertools.product(itertools.permutations([1, 2, 3]), repeat=2)]
        found = concordance(rankings, samples=200)
        assert (found.w.mean, found.rho.mean) == (pytest.approx(0.5), pytest.approx(0.0, abs=1e-12))
        assert found.items == 36

    @pytest.mark.parametrize(
        ("ranks", "said"),
        [([[1, 2, 3]], "two rankings"), ([[1], [1]], "two rankings"), ([[1, math.nan], [1, 2]], "missing")],
    )
    def test_refuses(self, ranks: list[list[float]], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            kendall_w(ranks)

    def test_items_ranked_once_or_not_at_all_are_left_out(self) -> None:
        found = concordance([[[1, 2]], [[1, 1], [1, 1]], [[1, 2], [1, 2]], [[1, 2], [2, 1]]], samples=200)
        assert (found.items, found.w.mean) == (2, 0.5)
        with pytest.raises(ValueError, match="no item was ranked by two"):
            concordance([[[1, 2]]])
        with pytest.raises(ValueError, match="differ in length"):
            concordance([[[1, 2], [1, 2]]], [1, 2])


class TestCeiling:
    @pytest.mark.parametrize(
        ("agreement", "low", "high"), [(0.5, 0.5, 0.5), (0.625, 0.625, 0.75), (0.82, 0.82, 0.9), (1.0, 1.0, 1.0)]
    )
    def test_values(self, agreement: float, low: float, high: float) -> None:
        found = accuracy_ceiling(agreement)
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    @settings(max_examples=100)
    def test_any_mixture_of_difficulties_lies_within(self, shares: list[float]) -> None:
        agreement = sum(p * p + (1 - p) ** 2 for p in shares) / len(shares)
        best = sum(max(p, 1 - p) for p in shares) / len(shares)
        found = accuracy_ceiling(min(agreement, 1.0))
        assert found.low - 1e-9 <= best <= found.high + 1e-9

    def test_both_ends_are_reached(self) -> None:
        # one pair in four unanimous, the rest coin tosses: a = 0.625, best 0.625; all at p = 3/4: a = 0.625, best 0.75
        assert accuracy_ceiling((1 + 3 * 0.5) / 4).low == pytest.approx((1 + 3 * 0.5) / 4)
        assert accuracy_ceiling(0.75**2 + 0.25**2).high == pytest.approx(0.75)

    def test_a_sample_may_agree_less_than_coins(self) -> None:
        assert accuracy_ceiling(0.41) == accuracy_ceiling(0.5)
        with pytest.raises(ValueError, match="between 0 and 1"):
            accuracy_ceiling(1.2)

    def test_anchors(self) -> None:
        found = {one.name: (one.agreement, one.margin) for one in ANCHORS}
        assert found["InstructGPT, raters who made the training data"] == (0.726, 0.015)
        assert found["Helpful and Harmless"] == (0.63, None)
        assert sorted(one.agreement for one in ANCHORS if "AlpacaFarm" in one.name) == [0.622, 0.657]
        assert [one.name for one in ANCHORS if not one.of_people] == ["AlpacaFarm, always the longer answer"]
