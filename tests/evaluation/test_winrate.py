"""Win rates: literal values, exact tails, and intervals that cover as often as they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from heedful.evaluation.winrate import (
    cluster_index,
    length_controlled_win_rate,
    outcomes,
    resampled_counts,
    sign_test,
    win_rate,
)


def test_ties_count_half_and_clusters_are_resampled_whole() -> None:
    found = win_rate([1, 2, 3, 4], [0, 2, 5, 1], ["a", "a", "b", "b"])
    assert (found.wins, found.ties, found.losses, found.clusters, found.pairs) == (2, 1, 1, 2, 4)
    assert found.rate.mean == 0.625
    # Resamples are aa (3/4), ab (5/8) and bb (1/2), the outer ones a quarter of the time each.
    assert (found.rate.low, found.rate.high) == (0.5, 0.75)


def test_scores_that_differ_by_rounding_tie() -> None:
    assert outcomes([0.1 + 0.2, 1.0, 0.0], [0.3, 0.0, 1.0]).tolist() == [0.5, 1.0, 0.0]
    assert outcomes([1.0, 2.0], [1.4, 1.4], tie_margin=0.5).tolist() == [0.5, 1.0]


def test_cluster_sign_test_gives_each_cluster_one_vote() -> None:
    clusters = [i // 30 for i in range(300)]
    found = win_rate([1.0] * 300, [0.0] * 300, clusters)
    assert found.cluster_sign_p == 2 / 1024
    assert found.sign_p < 1e-80
    undecided = win_rate([1, 0, 1, 0], [0, 1, 0, 1], ["a", "a", "b", "b"])
    assert undecided.cluster_sign_p == 1.0


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(8, 2, 0.109375), (2, 8, 0.109375), (10, 0, 2 / 1024), (5, 5, 1.0), (0, 0, 1.0), (1, 0, 1.0)],
)
def test_sign_test_literals(wins: int, losses: int, p: float) -> None:
    assert sign_test(wins, losses) == p


@given(st.integers(0, 120), st.integers(0, 120))
def test_sign_test_is_the_exact_binomial_tail(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_sign_test_does_not_underflow_in_between() -> None:
    # C(5000, 2000) is beyond any float; the tail is about 1.6e-45 (normal tail at z = 14.1 gives 2e-45).
    assert 1e-46 < sign_test(3000, 2000) < 1e-44


def simulate(seed: int) -> tuple[np.ndarray, list[int]]:
    """40 topics of 8 pairs each; the policy wins a topic's pairs nearly always or nearly never. Truth: 1/2."""
    rng = np.random.default_rng(seed)
    chance = np.repeat(rng.choice([0.1, 0.9], 40), 8)
    return (rng.random(320) < chance).astype(float), [i // 8 for i in range(320)]


def test_cluster_intervals_cover_and_pair_intervals_do_not() -> None:
    covered = naive = 0
    for seed in range(150):
        won, clusters = simulate(seed)
        by_topic = win_rate(won, 1 - won, clusters, samples=400, seed=seed).rate
        by_pair = win_rate(won, 1 - won, range(320), samples=400, seed=seed).rate
        covered += by_topic.low <= 0.5 <= by_topic.high
        naive += by_pair.low <= 0.5 <= by_pair.high
    assert covered / 150 > 0.88
    assert naive / 150 < 0.72


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_swapping_the_two_sides_mirrors_the_rate(scores: list[tuple[int, int]]) -> None:
    ours, theirs = zip(*scores, strict=True)
    clusters = [0, 1, *[i % 5 for i in range(len(scores) - 2)]]
    forth, back = win_rate(ours, theirs, clusters, samples=50), win_rate(theirs, ours, clusters, samples=50)
    assert forth.rate.mean + back.rate.mean == pytest.approx(1.0)
    assert (forth.wins, forth.ties, forth.losses) == (back.losses, back.ties, back.wins)
    assert forth.sign_p == back.sign_p


@pytest.mark.parametrize(
    ("ours", "theirs", "clusters", "words"),
    [
        ([1.0], [1.0, 2.0], ["a"], "1 policy scores cannot be paired with 2"),
        ([], [], [], "at least one"),
        ([1.0, float("nan")], [1.0, 2.0], ["a", "b"], "not finite"),
        ([1.0, 2.0], [0.0, 0.0], ["a"], "1 cluster"),
        ([1.0, 2.0], [0.0, 0.0], ["a", "a"], "two clusters"),
    ],
)
def test_what_is_no_paired_comparison_is_refused(ours: list, theirs: list, clusters: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        win_rate(ours, theirs, clusters)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        sign_test(-1, 3)


def length_driven(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Outcomes that depend on nothing but which answer is longer; the policy's usually is."""
    rng = np.random.default_rng(seed)
    difference = rng.normal(8, 10, 3000)
    p = 1 / (1 + np.exp(-2 * np.tanh(difference / difference.std())))
    return (rng.random(3000) < p).astype(float), difference, [i % 100 for i in range(3000)]


def test_length_control_takes_away_a_win_that_was_only_length() -> None:
    won, difference, clusters = length_driven()
    controlled = length_controlled_win_rate(won, difference, clusters, samples=200)
    assert won.mean() > 0.66
    assert controlled.mean == pytest.approx(0.5, abs=0.03)
    assert controlled.low < 0.5 < controlled.high


def test_length_control_leaves_a_win_that_has_nothing_to_do_with_length() -> None:
    rng = np.random.default_rng(1)
    won, difference = (rng.random(3000) < 0.8).astype(float), rng.normal(8, 10, 3000)
    controlled = length_controlled_win_rate(won, difference, [i % 100 for i in range(3000)], samples=200)
    assert controlled.mean == pytest.approx(0.8, abs=0.04)


def test_length_control_without_any_difference_is_the_plain_rate() -> None:
    won = [1.0, 1.0, 1.0, 0.0] * 50
    controlled = length_controlled_win_rate(won, [3.0] * 200, list(range(200)), samples=200)
    assert controlled.mean == pytest.approx(0.75, abs=1e-3)


def test_length_control_is_the_same_seen_from_the_other_side() -> None:
    won, difference, clusters = length_driven(5)
    forth = length_controlled_win_rate(won, difference, clusters, samples=50)
    back = length_controlled_win_rate(1 - won, -difference, clusters, samples=50)
    assert forth.mean + back.mean == pytest.approx(1.0, abs=1e-6)
    assert forth.low + back.high == pytest.approx(1.0, abs=1e-6)


def test_length_control_stays_finite_when_one_side_always_wins() -> None:
    lengths = np.arange(60.0) - 10
    controlled = length_controlled_win_rate(np.ones(60), lengths, list(range(60)), samples=100)
    assert 0.97 < controlled.low <= controlled.mean <= controlled.high < 1


def test_length_control_refuses_lengths_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="2 outcomes but 1"):
        length_controlled_win_rate([1.0, 0.0], [1.0], ["a", "b"])


def test_clusters_are_numbered_as_they_come() -> None:
    assert cluster_index(["z", "a", "z", ("t", 1)], 4).tolist() == [0, 1, 0, 2]


def test_each_resample_draws_as_many_clusters_as_there_are() -> None:
    counts = resampled_counts(7, 500, 3)
    assert counts.shape == (500, 7)
    assert (counts.sum(1) == 7).all()
    assert counts.mean(0) == pytest.approx(np.ones(7), abs=0.2)


def test_a_side_that_won_everything_is_not_certain_to_win() -> None:
    all_won = win_rate([1.0] * 10, [0.0] * 10, range(10)).rate
    assert (all_won.mean, all_won.high) == (1.0, 1.0)
    assert all_won.low == pytest.approx(0.722, abs=0.001)  # Wilson's, of 10 of 10
    two_topics = win_rate([0.0] * 10, [1.0] * 10, [i // 5 for i in range(10)]).rate
    assert (two_topics.mean, two_topics.low) == (0.0, 0.0)
    assert two_topics.high == pytest.approx(0.658, abs=0.001)  # of 0 of 2
    level = win_rate([1.0] * 10, [1.0] * 10, range(10)).rate
    assert (level.low, level.high) == (0.5, 0.5)  # the same answers, whatever the judge
