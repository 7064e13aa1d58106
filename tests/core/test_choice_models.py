from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.core.choice_models import bradley_terry, plackett_luce
from heedful.core.ranked_pairs import ranked_pairs

STIGLER = [[714, 730, 498, 221], [33, 425, 68, 17], [320, 813, 1072, 142], [284, 276, 325, 188]]
"""Citations of Biometrika, Comm. Statist., JASA and JRSS-B by the column's journal (Stigler 1994)."""


class TestBradleyTerry:
    def test_stigler_s_journals(self) -> None:
        found = bradley_terry(STIGLER, reference=0)
        assert found.converged
        assert found.score == pytest.approx([0, -2.9491, -0.4796, 0.2690], abs=5e-5)
        assert found.error == pytest.approx([0, 0.10255, 0.06059, 0.07083], abs=6e-6)

    def test_two_items_are_the_log_odds(self) -> None:
        found = bradley_terry([[0, 6], [2, 0]])
        assert found.score == pytest.approx([math.log(3) / 2, -math.log(3) / 2])
        # the log-odds' variance is 1/6 + 1/2
        assert found.covariance[0, 0] * 4 == pytest.approx(2 / 3)
        assert found.probability(0, 1) == pytest.approx(0.75)

    def test_davidson_s_ties_in_closed_form(self) -> None:
        # three free figures fit three counts: 6, 2 and 4 of 12, nu = 4 / sqrt(6 * 2)
        found = bradley_terry([[0, 6], [2, 0]], [[0, 4], [4, 0]])
        assert found.score[0] - found.score[1] == pytest.approx(math.log(3))
        assert found.ties == pytest.approx([math.log(4 / math.sqrt(12))])
        assert found.probability(0, 1) == pytest.approx(8 / 12)

    def test_the_reference_moves_nothing_else(self) -> None:
        one, other = bradley_terry(STIGLER, reference=2), bradley_terry(STIGLER)
        assert one.score - one.score.mean() == pytest.approx(other.score)
        assert one.posterior(0, 3) == pytest.approx(other.posterior(0, 3))
        assert one.posterior(0, 3) + one.posterior(3, 0) == pytest.approx(1)

    def test_without_a_maximum_it_says_so_and_a_prior_mends_it(self) -> None:
        unbeaten = [[0, 3, 2], [0, 0, 1], [0, 1, 0]]
        with pytest.raises(ValueError, match="infinite"):
            bradley_terry(unbeaten)
        apart = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
        with pytest.raises(ValueError, match="2 groups"):
            bradley_terry(apart)
        found = bradley_terry(unbeaten, prior=1.0)
        assert found.converged
        assert found.score[0] > found.score[1:].max() + 0.5
        assert bradley_terry(apart, prior=1.0).score == pytest.approx([0, 0, 0, 0])

    @pytest.mark.parametrize("wins", [[[1, 2]], [[0]], [[0, -1], [1, 0]], [[0, np.nan], [1, 0]]])
    def test_bad_tables(self, wins: list[list[float]]) -> None:
        with pytest.raises(ValueError):
            bradley_terry(wins)

    @given(st.lists(st.integers(1, 9), min_size=12, max_size=12), st.permutations(range(4)))
    @settings(max_examples=25, deadline=None)
    def test_names_do_not_matter(self, counts: list[int], order: list[int]) -> None:
        wins = np.zeros((4, 4))
        wins[~np.eye(4, dtype=bool)] = counts
        one, other = bradley_terry(wins), bradley_terry(wins[np.ix_(order, order)])
        assert other.score == pytest.approx(one.score[order], abs=1e-6)


class TestPlackettLuce:
    def test_rankings_of_two_are_bradley_terry(self) -> None:
        rankings = [[1, 2]] * 6 + [[2, 1]] * 2 + [[1, 1]] * 4
        one, other = plackett_luce(rankings, 2), bradley_terry([[0, 6], [2, 0]], [[0, 4], [4, 0]])
        assert one.score == pytest.approx(other.score)
        assert one.ties == pytest.approx(other.ties)

    def test_shares_of_all_orders_give_the_strengths_back(self) -> None:
        strengths = np.array([5.0, 3.0, 2.0])
        rankings, weights = [], []
        for order in itertools.permutations(range(3)):
            left, chance = 10.0, 1.0
            for item in order:
                chance *= strengths[item] / left
                left -= strengths[item]
            rankings.append([order.index(i) + 1 for i in range(3)])
            weights.append(round(chance * 280))
        assert weights == [84, 56, 60, 24, 35, 21]
        repeated = [r for r, n in zip(rankings, weights, strict=True) for _ in range(n)]
        found = plackett_luce(repeated, 3)
        assert np.exp(found.score - found.score[2]) == pytest.approx([2.5, 1.5, 1.0])

    def test_ties_of_three_and_items_left_out(self) -> None:
        rankings = [[1, 1, 1, 2], [1, 2, 3, np.nan], [2, 1, np.nan, 1], [3, 2, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1]]
        found = plackett_luce(rankings, 4)
        assert found.converged
        assert len(found.ties) == 2
        gain = 1e-4 * np.random.default_rng(0).normal(size=(20, 4))
        assert all(_likelihood(rankings, found.score + g, found.ties) < found.log_likelihood + 1e-9 for g in gain)
        assert _likelihood(rankings, found.score, found.ties) == pytest.approx(found.log_likelihood)

    def test_nothing_ranked(self) -> None:
        with pytest.raises(ValueError, match="no ranking"):
            plackett_luce([[1, np.nan]], 2)
        with pytest.raises(ValueError, match="does not rank 3"):
            plackett_luce([[1, 2]], 3)


def _likelihood(rankings: list[list[float]], score: np.ndarray, ties: np.ndarray) -> float:
    """By going through every set of items, choice by choice."""
    total = 0.0
    for ranks in rankings:
        left = [i for i, rank in enumerate(ranks) if not np.isnan(rank)]
        while len(left) > 1:
            best = min(ranks[i] for i in left)
            chosen = tuple(i for i in left if ranks[i] == best)
            weight = {
                group: math.exp(np.mean(score[list(group)]) + (ties[size - 2] if size > 1 else 0.0))
                for size in range(1, len(ties) + 2)
                for group in itertools.combinations(left, size)
            }
            total += math.log(weight[chosen] / sum(weight.values()))
            left = [i for i in left if i not in chosen]
    return total


class TestRankedPairs:
    def test_the_example_of_open_assistant(self) -> None:
        votes = ["wxzy"] * 3 + ["wyxz"] * 2 + ["xyzw"] * 4 + ["xzwy"] * 5 + ["ywxz"]
        found = ranked_pairs([[vote.index(name) for name in "wxyz"] for vote in votes])
        assert found.tolist() == [3, 1, 4, 2]  # x > z > w > y

    def test_ties_stay_ties(self) -> None:
        assert ranked_pairs([[1, 2], [2, 1]]).tolist() == [1, 1]
        assert ranked_pairs([[1, 1, 2]]).tolist() == [1, 1, 3]
        # a > b > c > a, each by one: nothing is decided
        assert ranked_pairs([[1, 2, 3], [3, 1, 2], [2, 3, 1]]).tolist() == [1, 1, 1]

    @given(st.lists(st.permutations(range(4)), min_size=1, max_size=6), st.permutations(range(4)))
    def test_names_do_not_matter(self, rankings: list[list[int]], order: list[int]) -> None:
        turned = [[ranks[i] for i in order] for ranks in rankings]
        assert ranked_pairs(turned).tolist() == [ranked_pairs(rankings)[i] for i in order]

    def test_one_voter_is_followed(self) -> None:
        assert ranked_pairs([[3, 1, 2]]).tolist() == [3, 1, 2]
        with pytest.raises(ValueError):
            ranked_pairs([])
