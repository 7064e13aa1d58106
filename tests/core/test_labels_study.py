"""The study of labels: what it counts, on figures that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from labels_study import ARMS, SELECTIONS, labelled, needed, parts, table

from heedful.data.records import Message
from heedful.world.raters import Verdicts

CURVE = [
    {"labels": 100, "phrasing": 0.6, "fact": 0.5},
    {"labels": 200, "phrasing": 0.7, "fact": 0.6},
    {"labels": 400, "phrasing": 0.8, "fact": 0.6},
]


def test_labels_needed_lie_on_a_line_over_log_labels() -> None:
    assert needed(CURVE, "phrasing", 0.55) == 100
    assert needed(CURVE, "phrasing", 0.65) == pytest.approx(100 * math.sqrt(2))
    assert needed(CURVE, "phrasing", 0.8) == pytest.approx(400)
    assert needed(CURVE, "phrasing", 0.81) == math.inf
    assert needed(CURVE, "fact", 0.6) == pytest.approx(200)


def test_votes_become_labels_by_method_and_settled_ties_are_left_out() -> None:
    pairs = [((Message("user", "Why?"),), "one", f"answer {i}") for i in range(3)]
    votes = np.array([[True, True], [True, False], [False, False]])
    said = Verdicts(votes, np.array([[0, 1]] * 3), np.array([[True, False]] * 3))
    records, told = labelled(pairs, said, "share")
    assert [(record.b, record.probability) for record in records] == [("answer 0", 1.0), ("answer 2", 0.0)]
    assert told == {"pairs": 2, "converged": True, "caveats": []}
    aware, _ = labelled(pairs, said, "rater-aware")
    assert 0.5 < aware[0].probability < 1
    assert 0 < aware[-1].probability < 0.5


def test_the_table_holds_what_is_there() -> None:
    arm = {"pairs": 10, "right": 0.75} | {
        split: {"accuracy": 0.7, "win_rate": 0.6, "kl": 1.0} for split in ("phrasing", "fact")
    }
    better = [{**point, "phrasing": point["phrasing"] + 0.1} for point in CURVE]
    seed = {"one-label": arm, "select-random": {"curve": CURVE}, "select-information": {"curve": better}}
    said = table({1: seed})
    assert "| one-label | 10 | 0.750 | 0.700 | 0.600 | 1.000 |" in said
    assert "| random | 0.600 | 0.700 | 0.800 | 400 | 200 |" in said
    assert "| information | 0.700 | 0.800 | 0.900 | 200 | 200 |" in said
    assert "majority-3" not in said
    assert len(parts()) == 1 + len(ARMS) + len(SELECTIONS)
