"""Best-of-n against brute force over every subset."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.evaluation.best_of_n import best_of_n, best_of_n_kl, headroom_share


def brute_force(proxy: list[float], value: list[float], n: int) -> float:
    """Over all n-subsets: the mean value of those that share the best proxy."""
    found = []
    for chosen in combinations(range(len(proxy)), n):
        top = max(proxy[i] for i in chosen)
        found.append(np.mean([value[i] for i in chosen if proxy[i] == top]))
    return float(np.mean(found))


def test_a_literal() -> None:
    # Of the pairs {10,20}, {10,30}, {20,30} the proxy picks 20, 30, 30.
    assert best_of_n([[2.0, 1.0, 3.0]], [[20.0, 10.0, 30.0]], 2)[0] == pytest.approx(80 / 3)


@given(st.data())
def test_it_is_the_mean_over_every_subset(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 7))
    n = data.draw(st.integers(1, total))
    proxy = data.draw(st.lists(st.integers(0, 3).map(float), min_size=total, max_size=total))
    value = data.draw(st.lists(st.floats(-5, 5), min_size=total, max_size=total))
    assert best_of_n([proxy], [value], n)[0] == pytest.approx(brute_force(proxy, value, n), abs=1e-9)


def test_best_of_one_is_the_mean_and_best_of_all_the_favourite() -> None:
    proxy, gold = [[0.3, 0.1, 0.9, 0.5]], [[4.0, 8.0, -2.0, 2.0]]
    assert best_of_n(proxy, gold, 1)[0] == pytest.approx(3.0)
    assert best_of_n(proxy, gold, 4)[0] == pytest.approx(-2.0)


def test_large_pools_neither_overflow_nor_lose_weight() -> None:
    rng = np.random.default_rng(0)
    proxy = rng.random((1, 4096))
    assert best_of_n(proxy, np.ones((1, 4096)), 1024)[0] == pytest.approx(1.0)
    # The best of n uniforms has mean n / (n + 1); here n = 9.
    assert best_of_n(proxy, proxy, 9)[0] == pytest.approx(0.9, abs=0.01)


def test_the_bound_on_kl() -> None:
    assert best_of_n_kl(1) == 0.0
    assert best_of_n_kl(16) == pytest.approx(1.835088722)
    with pytest.raises(ValueError, match="at least 1"):
        best_of_n_kl(0)


@pytest.mark.parametrize("n", [0, 4])
def test_n_outside_the_pool_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="3 samples a prompt"):
        best_of_n([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]], n)


def test_shapes_and_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\[P, N\]"):
        best_of_n([[1.0, 2.0]], [[1.0]], 1)
    with pytest.raises(ValueError, match="finite"):
        best_of_n([[1.0, float("nan")]], [[1.0, 2.0]], 1)


def test_the_share_of_the_headroom() -> None:
    found = headroom_share([1.5, 2.5], [1.0, 2.0], [2.0, 3.0], ["a", "b"], samples=100)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_share_is_of_the_means_not_the_mean_of_shares() -> None:
    found = headroom_share([1.0, 0.0], [0.0, 0.0], [1.0, 3.0], ["a", "b"], samples=100)
    assert found is not None
    assert found.mean == pytest.approx(0.25)  # gains of 1 and 0 in headrooms of 1 and 3
    assert (found.low, found.high) == pytest.approx((0.0, 1.0))


@pytest.mark.parametrize("best", [[1.0, 2.0], [0.0, 2.5], [5.0, 1.0]])
def test_no_share_without_a_headroom_clear_of_nothing(best: list[float]) -> None:
    assert headroom_share([1.0, 2.0], [1.0, 2.0], best, ["a", "b"], samples=100) is None


def test_the_share_needs_the_same_prompts() -> None:
    with pytest.raises(ValueError, match="same prompts"):
        headroom_share([1.0], [1.0, 2.0], [1.0, 2.0], ["a", "b"])
