"""What several judgments say together: pairs, margins, labels, the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.feedback.export_votes import MARGINS, Judged, Text, Vote, best, labels, pairs
from heedful.feedback.pseudonyms import Pseudonyms


def judged(kind: str, payloads: Sequence[Mapping[str, Any]], count: int = 2, **more: Any) -> Judged:
    votes = tuple(Vote(str(i), "person", (payload,)) for i, payload in enumerate(payloads))
    answers = tuple(Text(f"answer {i}") for i in range(count))
    return Judged("item", kind, [{"role": "user", "content": "?"}], answers, votes, **more)


def test_votes_of_a_comparison() -> None:
    (found,) = pairs(judged("pairwise", [{"strength": -3}, {"strength": -1}, {"strength": 2}]))
    assert (found.first, found.second, found.votes) == (0, 1, 3)
    assert found.probability == pytest.approx(2 / 3)
    assert found.strength == pytest.approx(2 / 3)  # (3 + 1 - 2) / 3 for a
    (found,) = pairs(judged("pairwise", [{"strength": 1}, {"strength": 0}]))
    assert (found.first, found.probability, found.strength) == (1, 0.75, 0.5)
    (found,) = pairs(judged("pairwise", [{"strength": 1}, {"strength": -3}]))
    assert (found.first, found.probability) == (0, 0.5)


def test_margins_by_name() -> None:
    assert [MARGINS[name](2.0) for name in ("none", "strength", "scaled")] == [0.0, 2.0, pytest.approx(2 / 3)]
    assert MARGINS["strength"](-1.0) == 0.0  # two weak votes won over one strong: no margin


def test_a_ranking_of_k_gives_all_pairs_with_shared_weight() -> None:
    found = list(pairs(judged("ranking", [{"ranks": [2, 1, 2, 4]}], 4)))
    assert [(p.first, p.second, p.probability) for p in found] == [
        (1, 0, 1.0), (0, 2, 0.5), (0, 3, 1.0), (1, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0)
    ]  # fmt: skip
    assert sum(p.weight for p in found) == pytest.approx(1.0)
    assert {p.strength for p in found} == {0.0}


@given(st.lists(st.lists(st.integers(1, 4), min_size=4, max_size=4), min_size=1, max_size=5))
def test_pairs_of_rankings_agree_with_counting(given: list[list[int]]) -> None:
    one = judged("ranking", [{"ranks": ranks} for ranks in given], 4)
    for pair in pairs(one):
        wins = sum(r[pair.first] < r[pair.second] for r in given)
        ties = sum(r[pair.first] == r[pair.second] for r in given)
        assert pair.probability == pytest.approx((wins + ties / 2) / len(given))
        assert pair.probability >= 0.5
    winner = best(one)
    if winner is not None:
        means = [sum(r[i] for r in given) for i in range(4)]
        assert [i for i, mean in enumerate(means) if mean == min(means)] == [winner]


def test_an_attribute_compares_where_it_is_named() -> None:
    scores = [{"helpful": 5, "honest": 1}, {"helpful": 2, "honest": 5}]
    one = judged("attributes", [{"scores": scores}], points={"helpful": 5, "honest": 5})
    assert list(pairs(one)) == []
    assert [p.first for p in pairs(one, "helpful")] == [0]
    assert [p.first for p in pairs(one, "honest")] == [1]
    assert [p.first for p in pairs(one, "mean")] == [1]  # 3 against 3.5
    assert list(pairs(one, "polite")) == []
    assert labels(one, "honest") == {0: False, 1: True}
    assert labels(one) == {}


def test_labels_leave_out_what_is_in_doubt() -> None:
    assert labels(judged("pairwise", [{"strength": 2}])) == {1: True, 0: False}
    assert labels(judged("pairwise", [{"strength": 0}])) == {}
    assert labels(judged("pairwise", [{"strength": 0, "both_bad": True}])) == {0: False, 1: False}
    assert labels(judged("pairwise", [{"strength": 0, "both_good": True}, {"strength": 0}])) == {}
    assert labels(judged("ranking", [{"ranks": [1, 2, 2]}], 3)) == {0: True}
    assert labels(judged("ranking", [{"ranks": [1, 2, 3]}], 3)) == {0: True, 2: False}
    assert labels(judged("ranking", [{"ranks": [1, 1, 1]}], 3)) == {}


@given(st.binary(min_size=16, max_size=16), st.uuids(), st.uuids())
def test_pseudonyms_are_the_same_within_an_export_only(key: bytes, one: UUID, other: UUID) -> None:
    names = Pseudonyms(key)
    assert names.of(one) == names.of(str(one))
    assert (names.of(one) == names.of(other)) == (one == other)
    assert names.of(one) != Pseudonyms().of(one)
    assert names.of(one).version == 8
