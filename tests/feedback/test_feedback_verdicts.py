"""How much raters of one item disagree."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.feedback.verdicts import disagree, distance, spread, spread_of_sides


def sides(*strengths: int) -> list[dict[str, Any]]:
    return [{"strength": strength} for strength in strengths]


@pytest.mark.parametrize(
    ("strengths", "wanted"),
    [
        ((), 0.0),
        ((3,), 0.0),
        ((2, 1), 0.0),
        ((3, -3), 2 / 3),
        ((1, -1), 2 / 3),  # sides count, not how strongly
        ((1, 0), 1 / 3),
        ((1, 1, -1), 2 / 3),
        ((1, 1, -1, -1), 4 / 5),
        ((1, 1, 1, -1, -1, -1), 6 / 7),
        ((1, 1, 1, -1), 3 / 5),
        ((1, 0, -1), 2 / 3),
    ],
)
def test_spread_of_comparisons(strengths: tuple[int, ...], wanted: float) -> None:
    assert spread("pairwise", sides(*strengths)) == pytest.approx(wanted)


@given(st.lists(st.integers(-3, 3), max_size=8))
def test_counts_tell_the_same_as_votes_and_their_order_does_not_matter(strengths: list[int]) -> None:
    counts = (sum(s < 0 for s in strengths), sum(s == 0 for s in strengths), sum(s > 0 for s in strengths))
    found = spread("pairwise", sides(*strengths))
    assert found == pytest.approx(spread_of_sides(*counts))
    assert found == pytest.approx(spread("pairwise", sides(*sorted(strengths))))
    assert 0 <= found < 1


def test_an_even_split_of_more_raters_weighs_more() -> None:
    found = [spread_of_sides(n, 0, n) for n in range(1, 10)]
    assert found == sorted(found)
    assert len(set(found)) == 9


def test_distance_of_rankings_and_points() -> None:
    first, opposite, near = {"ranks": [1, 2, 3]}, {"ranks": [3, 2, 1]}, {"ranks": [1, 3, 2]}
    assert distance("ranking", first, opposite) == 1
    assert distance("ranking", first, near) == pytest.approx(1 / 3)
    assert distance("ranking", first, {"ranks": [1, 1, 1]}) == pytest.approx(1 / 2)
    one, two = {"scores": [{"helpful": 1, "honest": 3}]}, {"scores": [{"helpful": 4, "honest": 3}]}
    assert distance("attributes", one, two) == 3 / 4
    assert distance("attributes", one, {"scores": [{"other": 5}]}) == 0  # nothing that both were asked
    assert distance("attributes", {"scores": [{"x": 1}]}, {"scores": [{"x": 10}]}) == 1
    assert distance("demonstration", {}, {}) == 0


@given(st.permutations([1, 2, 3, 4]), st.permutations([1, 2, 3, 4]))
def test_distance_has_no_direction_and_is_nought_with_oneself(one: list[int], other: list[int]) -> None:
    a, b = {"ranks": one}, {"ranks": other}
    assert distance("ranking", a, b) == distance("ranking", b, a)
    assert distance("ranking", a, a) == 0


def test_whatever_is_disputed_has_a_spread() -> None:
    for strengths in itertools.product((-2, 0, 1), repeat=3):
        if disagree("pairwise", sides(*strengths), 0.5):
            assert spread("pairwise", sides(*strengths)) >= 1 / 2
