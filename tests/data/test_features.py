"""Hashed n-grams: alike texts are alike, on any machine."""

from __future__ import annotations

import numpy as np
import pytest

from heedful.data.features import hashed_ngrams


def test_words_make_texts_alike_and_case_and_marks_do_not_part_them() -> None:
    rows = hashed_ngrams(["Where is my order?", "where is my ORDER", "Where is my parcel?", "Write a poem", "?!"])
    alike = rows @ rows.T
    assert alike[0, 1] == pytest.approx(1)
    assert 0.4 < alike[0, 2] < 0.9
    assert abs(alike[0, 3]) < 0.1
    assert not rows[4].any()


def test_the_order_of_words_counts_through_their_pairs() -> None:
    one, other = "the dog bites the man", "the man bites the dog"
    pairs = hashed_ngrams([one, other])
    assert pairs[0] @ pairs[1] < 0.99
    single = hashed_ngrams([one, other], longest=1)
    assert single[0] @ single[1] == pytest.approx(1)


def test_a_word_has_its_place_by_its_crc() -> None:
    # CRC-32 of "123456789" is 0xCBF43926: even, so the sign is minus, and its half modulo 8 is 3.
    row = hashed_ngrams(["123456789"], width=8)[0]
    assert np.flatnonzero(row).tolist() == [3]
    assert row[3] == -1


def test_widths_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        hashed_ngrams(["a"], width=0)
