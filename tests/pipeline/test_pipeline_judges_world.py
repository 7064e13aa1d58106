"""An oracle judge of settable skill and bias on the embedded world: what is planted is found, and taken out."""

from __future__ import annotations

import numpy as np
import pytest
from judge_bias import JUDGES, Trial, trial

from heedful.feedback.ai.ways import LogprobWay, Manner
from heedful.world.raters import Rater

SEEDS = range(2)


@pytest.fixture(scope="module")
def trials() -> dict[str, list[Trial]]:
    return {name: [trial(rater, seed, 450) for seed in SEEDS] for name, rater in JUDGES.items()}


def test_a_planted_liking_for_length_is_found_and_no_other(trials: dict[str, list[Trial]]) -> None:
    for name, rows in trials.items():
        found = [row.card.bias["length"] for row in rows]
        assert all(one is not None for one in found)
        if name == "length":
            assert all(one.low > 0 for one in found if one)
            assert any("likes length more" in said for said in rows[0].card.advice)
        else:
            assert sum(one.low > 0 or one.high < 0 for one in found if one) <= 1


def test_a_planted_position_bias_is_measured_exactly_and_gone_from_the_labels(trials: dict[str, list[Trial]]) -> None:
    for fair, biased in zip(trials["fair"], trials["position"], strict=True):
        assert biased.card.position is not None
        assert biased.card.position.mean == pytest.approx(1.5, abs=0.02)
        assert biased.card.consistency is not None
        assert biased.card.consistency.high < 0.8
        assert biased.corrected == pytest.approx(fair.corrected, abs=5e-4)


def test_people_take_the_liking_for_length_out_of_labels_that_they_never_saw(trials: dict[str, list[Trial]]) -> None:
    for fair, biased in zip(trials["fair"], trials["length"], strict=True):
        assert biased.corrected < 0.6 * biased.scaled
        assert biased.corrected < biased.own
        assert biased.corrected < fair.corrected + 0.01


def test_a_better_judge_is_worth_more() -> None:
    good, poor = (trial(Rater("o", noise=1.0), 1, 450, error=error) for error in (0.5, 6.0))
    assert good.worth > 3 * poor.worth
    assert good.card.worth is not None
    assert poor.card.worth is not None
    assert good.card.worth.labels.low > poor.card.worth.labels.high


def test_one_order_leaves_the_position_in(trials: dict[str, list[Trial]]) -> None:
    one = trial(JUDGES["position"], 0, 450, way=LogprobWay(Manner(both=False)))
    assert one.card.position is None  # nothing tells it from the answers
    assert one.card.first is not None
    assert one.card.first.low > 0.55
    assert one.corrected > trials["position"][0].corrected
    assert np.isfinite(one.corrected)
