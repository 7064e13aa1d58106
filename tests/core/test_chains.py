"""A win rate along a chain of policies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.core.chains import chained
from heedful.core.statistics import Interval


def test_odds_along_a_chain_multiply() -> None:
    found = chained([Interval(0.65, 0.58, 0.72), Interval(0.6, 0.52, 0.68)])
    assert found.mean == pytest.approx((13 / 7 * 1.5) / (1 + 13 / 7 * 1.5))  # odds of 13:7 and 3:2
    # on log-odds: 0.07 / 1.95996 / (0.65 x 0.35) = 0.15699 and 0.08 / 1.95996 / (0.6 x 0.4) = 0.17007
    assert found.low == pytest.approx(0.63896, abs=1e-5)
    assert found.high == pytest.approx(0.81429, abs=1e-5)


def test_one_rate_is_its_own_chain() -> None:
    rate = Interval(1.0, 0.9, 1.0)
    assert chained([rate]) is rate


@pytest.mark.parametrize("rates", [[], [Interval(0.6, 0.5, 0.7), Interval(1.0, 0.9, 1.0)]])
def test_no_chain_is_refused(rates: list[Interval]) -> None:
    with pytest.raises(ValueError, match=r"one rate|log-odds"):
        chained(rates)


@given(st.lists(st.floats(0.1, 0.9), min_size=2, max_size=5))
def test_there_and_back_again_is_even(means: list[float]) -> None:
    rates = [Interval(m, m - 0.05, m + 0.05) for m in [*means, *(1 - m for m in means)]]
    found = chained(rates)
    assert found.mean == pytest.approx(0.5)
    assert found.high - 0.5 == pytest.approx(0.5 - found.low)
    wider = chained([*rates, Interval(0.5, 0.4, 0.6)])
    assert wider.high - wider.low > found.high - found.low
    assert math.isclose(wider.mean, 0.5)
