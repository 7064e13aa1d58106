from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.core.statistics import (
    Interval,
    cluster_bootstrap,
    outcomes,
    t_interval,
    wilson,
    win_rate,
)


class TestWilson:
    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        # Newcombe 1998, table I, method 3 (score without continuity correction)
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
    )
    def test_published_values(self, successes: int, n: int, low: float, high: float) -> None:
        interval = wilson(successes, n)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
        assert interval.mean == successes / n

    def test_level(self) -> None:
        # the 90% bounds of 5 of 10: 0.5 -+ z sqrt(0.025 + z^2/400) / (1 + z^2/10), z = 1.6448536
        interval = wilson(5, 10, level=0.90)
        assert (interval.low, interval.high) == pytest.approx((0.2693, 0.7307), abs=1e-4)

    @pytest.mark.parametrize("rate", [0.05, 0.3, 0.5])
    def test_coverage_by_enumeration(self, rate: float) -> None:
        n = 60
        covered = sum(
            math.comb(n, k) * rate**k * (1 - rate) ** (n - k)
            for k in range(n + 1)
            if wilson(k, n).low <= rate <= wilson(k, n).high
        )
        assert 0.93 < covered < 0.98

    def test_a_clean_sweep_reaches_one_and_a_rout_zero(self) -> None:
        assert wilson(60, 60).high == 1.0  # rounding alone would end just below the rate itself
        assert wilson(0, 60).low == 0.0

    @given(n=st.integers(1, 500), share=st.floats(0, 1))
    def test_mirror_image(self, n: int, share: float) -> None:
        k = round(share * n)
        one, other = wilson(k, n), wilson(n - k, n)
        assert one.low == pytest.approx(1 - other.high, abs=1e-12)
        assert 0 <= one.low <= one.mean <= one.high <= 1

    @pytest.mark.parametrize(("successes", "n"), [(1, 0), (3, 2), (-1, 2)])
    def test_refuses(self, successes: int, n: int) -> None:
        with pytest.raises(ValueError, match="trials"):
            wilson(successes, n)


class TestTInterval:
    def test_published_quantiles(self) -> None:
        # t(0.975, 4) = 2.776445, t(0.975, 1) = 12.706205
        assert t_interval([1, 2, 3, 4, 5]) == Interval(3.0, pytest.approx(1.036757), pytest.approx(4.963243))
        assert t_interval([0.0, 2.0]) == Interval(1.0, pytest.approx(-11.706205), pytest.approx(13.706205))

    def test_coverage_of_five_seeds(self) -> None:
        draws = np.random.default_rng(0).normal(3.0, 2.0, size=(2000, 5))
        covered = sum(i.low <= 3.0 <= i.high for i in map(t_interval, draws))
        assert covered / 2000 == pytest.approx(0.95, abs=0.02)

    def test_refuses_one_value(self) -> None:
        with pytest.raises(ValueError, match="spread"):
            t_interval([1.0])


class TestClusterBootstrap:
    def test_two_clusters_by_enumeration(self) -> None:
        # draws: both first (mean 0), one of each (3 zeros and a four: 1), both second (4), at 1/4, 1/2, 1/4
        values, clusters = [0, 0, 0, 4], ["a", "a", "a", "b"]
        assert cluster_bootstrap(values, clusters, level=0.4) == Interval(1.0, 1.0, 1.0)
        assert cluster_bootstrap(values, clusters, level=0.95) == Interval(1.0, 0.0, 4.0)

    def test_same_seed_same_interval_other_seed_another(self) -> None:
        values, clusters = np.random.default_rng(1).normal(size=60), np.arange(60) // 3
        one = cluster_bootstrap(values, clusters, samples=500, seed=3)
        assert one == cluster_bootstrap(values, clusters, samples=500, seed=3)
        assert one != cluster_bootstrap(values, clusters, samples=500, seed=4)

    def test_names_of_clusters_do_not_matter(self) -> None:
        values = np.random.default_rng(1).normal(size=60)
        by_number = cluster_bootstrap(values, np.arange(60) // 3, samples=500)
        assert by_number == cluster_bootstrap(values, [f"{i // 3:03d}" for i in range(60)], samples=500)

    def test_width_is_that_of_the_normal_theory(self) -> None:
        values = np.random.default_rng(2).normal(size=400)
        interval = cluster_bootstrap(values, np.arange(400))
        expected = 2 * 1.959964 * values.std(ddof=1) / 20
        assert interval.high - interval.low == pytest.approx(expected, rel=0.05)
        assert interval.mean == pytest.approx(values.mean())

    def test_coverage_where_values_share_their_cluster(self) -> None:
        """40 facts of 5 phrasings, most of the spread between facts: only whole facts give honest intervals."""
        random = np.random.default_rng(5)
        clusters = np.arange(200) // 5
        honest = naive = 0
        for trial in range(300):
            values = np.repeat(random.normal(size=40), 5) + 0.5 * random.normal(size=200)
            whole = cluster_bootstrap(values, clusters, samples=400, seed=trial)
            single = cluster_bootstrap(values, np.arange(200), samples=400, seed=trial)
            honest += whole.low <= 0 <= whole.high
            naive += single.low <= 0 <= single.high
        assert 0.89 <= honest / 300 <= 0.98
        assert naive / 300 < 0.75

    @settings(deadline=None, max_examples=25)
    @given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=30))
    def test_stays_within_the_values(self, values: list[float]) -> None:
        interval = cluster_bootstrap(values, range(len(values)), samples=100)
        assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9

    @pytest.mark.parametrize(
        ("values", "clusters", "more", "word"),
        [
            ([1, 2], [0, 0], {}, "one cluster"),
            ([1, 2], [0, 1, 2], {}, "length"),
            ([1, math.nan], [0, 1], {}, "finite"),
            ([], [], {}, "at least one"),
            ([1, 2], [0, 1], {"level": 1.0}, "level"),
            ([1, 2], [0, 1], {"samples": 0}, "samples"),
        ],
    )
    def test_refuses(self, values: list, clusters: list, more: dict, word: str) -> None:
        with pytest.raises(ValueError, match=word):
            cluster_bootstrap(values, clusters, **more)


class TestWins:
    def test_outcomes(self) -> None:
        assert outcomes([1.0, 2.0, 3.0], [2.0, 2.0, 2.5]).tolist() == [0.0, 0.5, 1.0]

    def test_outcomes_are_paired(self) -> None:
        with pytest.raises(ValueError, match="length"):
            outcomes([1.0, 2.0], [1.0])

    def test_ties_count_half(self) -> None:
        # 3 wins, 2 ties, 1 loss: 4 of 6, Wilson's interval
        interval = win_rate([1, 1, 0.5, 0.5, 1, 0])
        assert interval.mean == pytest.approx(2 / 3)
        assert (interval.low, interval.high) == pytest.approx((0.3000, 0.9032), abs=1e-4)

    def test_refuses_scores(self) -> None:
        with pytest.raises(ValueError, match="outcome"):
            win_rate([0.7, 1.0])


def test_works_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from heedful.core.statistics import *; print(t_interval([1, 2]).mean)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1.5"
