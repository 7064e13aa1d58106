"""Accuracy of scorers, what length alone reaches, and calibration."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.evaluation.accuracy import RewardAccuracy, calibration, reward_accuracy


def small() -> RewardAccuracy:
    """Five pairs: right, wrong, right (b is better), a score tie, and one without a truth."""
    return reward_accuracy(
        [2.0, 0.0, 1.0, 3.0, 9.0],
        [1.0, 1.0, 4.0, 3.0, 0.0],
        [1.0, 1.0, 0.0, 0.7, 0.5],
        lengths_a=[5, 9, 4, 4, 1],
        lengths_b=[3, 3, 8, 6, 7],
        clusters=["p", "p", "q", "r", "r"],
        slices=2,
        samples=500,
    )


def test_literals() -> None:
    found = small()
    assert found.accuracy.mean == 2.5 / 4
    assert found.length_only.mean == 3 / 4
    assert (found.pairs, found.truth_ties, found.score_ties) == (4, 1, 1)


def test_slices_by_how_much_longer_the_better_answer_is() -> None:
    first, second = small().slices
    # The better answer is longer by -2 (the score tie), 2 (right), 4 (right), 6 (wrong).
    assert (first.low, first.high, first.pairs, first.accuracy, first.length_only) == (-2, 2, 2, 0.75, 0.5)
    assert (second.low, second.high, second.pairs, second.accuracy, second.length_only) == (4, 6, 2, 0.5, 1.0)


@given(
    st.lists(
        st.tuples(*[st.integers(-3, 3)] * 2, st.sampled_from([0.0, 0.25, 0.5, 1.0]), *[st.integers(1, 5)] * 2),
        min_size=2,
        max_size=25,
    ),
    st.integers(1, 5),
)
def test_which_answer_is_called_a_does_not_matter(rows: list[tuple], slices: int) -> None:
    rows = [(1, 0, 1.0, 1, 2), (0, 1, 1.0, 2, 1), *rows]
    a, b, truth, la, lb = (list(column) for column in zip(*rows, strict=True))
    clusters = list(range(len(rows)))
    kwargs = {"clusters": clusters, "slices": slices, "samples": 20}
    forth = reward_accuracy(a, b, truth, lengths_a=la, lengths_b=lb, **kwargs)
    back = reward_accuracy(b, a, [1 - t for t in truth], lengths_a=lb, lengths_b=la, **kwargs)
    assert forth.accuracy == back.accuracy
    assert forth.slices == back.slices
    assert forth.calibration.brier == pytest.approx(back.calibration.brier)
    assert sum(part.pairs for part in forth.slices) == forth.pairs
    edges = [(part.low, part.high) for part in forth.slices]
    assert all(high < low for (_, high), (low, _) in pairwise(edges))


def test_calibration_literals() -> None:
    found = calibration([np.log(3), 0.0], [1.0, 0.5], bins=1)
    assert found.brier == pytest.approx(0.03125)  # (0.75 - 1)^2 / 2
    assert found.ece == pytest.approx(0.125)  # said 0.625 on average, came 0.75
    assert found.confidence == pytest.approx((0.625,))
    assert found.outcome == pytest.approx((0.75,))


def test_an_honest_scorer_is_calibrated_and_a_loud_one_is_not() -> None:
    rng = np.random.default_rng(0)
    gap = rng.normal(0, 1.5, 20_000)
    truth = (rng.random(20_000) < 1 / (1 + np.exp(-gap))).astype(float)
    honest, loud = calibration(gap, truth), calibration(4 * gap, truth)
    assert honest.ece < 0.015
    assert loud.ece > 0.1
    assert honest.brier < loud.brier
    assert all(said > came for said, came in zip(loud.confidence[2:], loud.outcome[2:], strict=True))


def test_a_wrong_favourite_counts_as_wrong() -> None:
    found = calibration([-100.0], [1.0])
    assert found.brier == pytest.approx(1.0)
    assert found.ece == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"truth": [1.0, 1.5]}, "probability"),
        ({"truth": [0.5, 0.5]}, "no pair"),
        ({"truth": [1.0]}, "same pairs"),
        ({"clusters": ["a"]}, "same pairs"),
        ({"clusters": ["a", "a"]}, "two clusters"),
        ({"scores_b": [0.0, float("inf")]}, "scores_b holds 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: dict, words: str) -> None:
    given_ = {"scores_a": [1.0, 2.0], "scores_b": [0.0, 1.0], "truth": [1.0, 0.0]}
    given_ |= {"lengths_a": [1, 2], "lengths_b": [2, 1], "clusters": ["a", "b"]} | change
    positional = [given_.pop(name) for name in ("scores_a", "scores_b", "truth")]
    with pytest.raises(ValueError, match=words):
        reward_accuracy(*positional, **given_)
