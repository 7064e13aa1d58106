from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.core.multiplicity import adjusted

# Benjamini & Hochberg 1995, section 4.1: fifteen p-values; at 0.05 theirs rejects four, Bonferroni's kind three.
PUBLISHED = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
]


def test_the_published_example() -> None:
    assert (adjusted(PUBLISHED) <= 0.05).sum() == 4
    assert (adjusted(PUBLISHED, "holm") <= 0.05).sum() == 3


def test_by_hand() -> None:
    assert adjusted([0.04, 0.01, 0.03]).tolist() == pytest.approx([0.04, 0.03, 0.04])
    assert adjusted([0.04, 0.01, 0.03], "holm").tolist() == pytest.approx([0.06, 0.03, 0.06])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_no_bolder_and_neither_bolder_than_no_correction(p: list[float]) -> None:
    bh, holm = adjusted(p), adjusted(p, "holm")
    assert (bh <= holm + 1e-12).all()
    assert (bh >= np.array(p) - 1e-12).all()
    assert (holm <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(bh[order]) >= -1e-12).all()


def test_what_was_not_tested_counts_for_nothing() -> None:
    found = adjusted([0.02, math.nan, 0.03])
    assert math.isnan(found[1])
    assert found[[0, 2]].tolist() == pytest.approx([0.03, 0.03])


def test_refuses() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        adjusted([1.2])
    with pytest.raises(ValueError, match="no method"):
        adjusted([0.2], "bonferroni")  # type: ignore[arg-type]
