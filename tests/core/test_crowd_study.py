"""The study of docs/consensus.md, much reduced: fixed seeds, so nothing here is left to chance."""

from __future__ import annotations

import numpy as np
import pytest
from crowd_study import CROWDS, covered, error, line, measure, right, simulate

from heedful.core.consensus import by_dawid_skene, majority, share
from heedful.core.rater_aware import rater_aware

SEEDS = range(2)


@pytest.mark.parametrize(
    ("crowd", "gain"), [("8 spammers", 0.0), ("5 adversaries", 0.04), ("8 position-biased", -0.01)]
)
def test_a_model_of_raters_beats_their_votes_as_a_label(crowd: str, gain: float) -> None:
    gains, labels = [], []
    for seed in SEEDS:
        data, truth = simulate(CROWDS[crowd], 3, seed, pairs=300)
        found = rater_aware(data).consensus
        assert found.posterior is not None
        gains.append(right(found.posterior, truth) - right(majority(data).probability, truth))
        labels.append(error(found.probability, truth) - error(share(data).probability, truth))
    assert np.mean(gains) > gain
    assert max(labels) < 0


def test_intervals_cover_what_is_true() -> None:
    slopes, positions = [], []
    for crowd in ("experts", "8 spammers", "8 position-biased"):
        for seed in SEEDS:
            data, truth = simulate(CROWDS[crowd], 5, seed, pairs=300)
            found = rater_aware(data)
            slopes.append(covered(found, truth, "slope"))
            positions.append(covered(found, truth, "position"))
    assert 0.9 < np.mean(slopes) <= 1
    assert 0.9 < np.mean(positions) <= 1


def test_one_judgment_a_pair_is_no_better_than_a_vote_and_says_so() -> None:
    data, truth = simulate(CROWDS["8 spammers"], 1, 0)
    found = rater_aware(data)
    assert found.consensus.posterior is not None
    assert right(found.consensus.posterior, truth) == pytest.approx(right(majority(data).probability, truth), abs=0.04)
    assert not found.slope.identified.any()


def test_adversaries_are_turned_round_by_dawid_and_skene_too() -> None:
    data, truth = simulate(CROWDS["5 adversaries"], 5, 0)
    told = by_dawid_skene(data).consensus.posterior
    assert told is not None
    assert right(told, truth) > right(majority(data).probability, truth) + 0.05


def test_a_line_of_the_table() -> None:
    rows = [measure(CROWDS["experts"], 2, seed) for seed in range(2)]
    assert line("experts", 2, rows).count("|") == 15
