"""Ids as whole numbers: the same as sorting, whichever way is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.core.codes import coded


@pytest.mark.parametrize(
    ("ids", "names", "codes"),
    [
        ([3, 1, 3, 0], [0, 1, 3], [2, 1, 2, 0]),
        ([7000, 2, 7000], [2, 7000], [1, 0, 1]),
        ([-1, 4, -1], [-1, 4], [0, 1, 0]),
        (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
        ([2.5, 0.5], [0.5, 2.5], [1, 0]),
    ],
)
def test_by_hand(ids: list[Any], names: list[Any], codes: list[int]) -> None:
    found, places = coded(np.array(ids))
    assert (found.tolist(), places.tolist()) == (names, codes)
    assert found.dtype == np.array(ids).dtype


def test_none() -> None:
    found, places = coded(np.zeros(0, dtype=np.int64))
    assert (len(found), len(places)) == (0, 0)


@given(st.lists(st.integers(-5, 60), min_size=1, max_size=30))
def test_as_sorting_has_it(ids: list[int]) -> None:
    names, codes = np.unique(np.array(ids), return_inverse=True)
    found, places = coded(np.array(ids))
    assert found.tolist() == names.tolist()
    assert places.tolist() == codes.tolist()
