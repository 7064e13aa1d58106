"""Figures of answers, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.core.text import distinct_n, self_repetition, top_opening, words
from heedful.evaluation.text import describe


def test_words_are_folded_and_marks_stand_alone() -> None:
    assert words("Hello, WORLD!\nÉté 42") == ["hello", ",", "world", "!", "été", "42"]


def test_distinct_n_pools_all_texts() -> None:
    assert distinct_n(["a b a b", "a b"], 1) == pytest.approx(2 / 6)
    assert distinct_n(["a b a b", "a b"], 2) == pytest.approx(2 / 4)  # ab ba ab | ab
    assert distinct_n(["a", ""], 2) == 0.0


def test_self_repetition() -> None:
    assert self_repetition("a b c d e") == 0.0
    assert self_repetition("a b a b a b a b") == pytest.approx(3 / 5)  # of 5 four-grams, 2 differ
    assert self_repetition("short one") == 0.0


def test_top_opening() -> None:
    texts = ["I am so sorry", "i am SO happy", "the cat", "", "the dog"]
    assert top_opening(texts) == ("i am so", 0.4)
    assert top_opening(["b", "a"]) == ("a", 0.5)
    assert top_opening([""]) == ("", 0.0)


def test_describe_literals() -> None:
    found = describe(["one two three", "one two three", "", "one"], [True, True, True, False])
    assert (found.answers, found.mean_words, found.median_words, found.longest_words) == (4, 1.75, 2.0, 3)
    assert (found.different, found.empty, found.truncated) == (0.75, 0.25, 0.25)
    assert (found.top_opening, found.top_opening_share) == ("one two three", 0.5)
    assert found.distinct_1 == pytest.approx(3 / 7)


@given(st.lists(st.text("ab .\n", max_size=20), min_size=1, max_size=8))
def test_shares_are_shares(texts: list[str]) -> None:
    found = describe(texts, [True] * len(texts))
    for share in (found.distinct_1, found.distinct_2, found.repetition, found.top_opening_share, found.empty):
        assert 0 <= share <= 1
    assert 0 < found.different <= 1
    assert found.truncated == 0


def test_what_is_no_set_of_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        describe([], [])
    with pytest.raises(ValueError, match="2 texts and 1"):
        describe(["a", "b"], [True])
    with pytest.raises(ValueError, match="at least 1"):
        distinct_n(["a"], 0)
