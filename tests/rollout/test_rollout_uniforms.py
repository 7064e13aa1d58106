from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from heedful.rollout.uniforms import GAMMA, _mix, uniforms


def test_mix_is_splitmix64():
    # The published first five outputs of SplitMix64 seeded with 1234567.
    state = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * GAMMA
    assert [int(x) for x in _mix(state)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(
    seed=st.integers(0, 2**64 - 1),
    rows=st.lists(st.integers(0, 10**6), min_size=1, max_size=6),
    first=st.integers(0, 200),
    steps=st.integers(1, 20),
)
def test_a_number_depends_on_its_coordinates_alone(seed, rows, first, steps):
    block = uniforms(seed, np.array(rows), first, steps)
    assert block.shape == (len(rows), steps)
    assert ((block >= 0) & (block < 1)).all()
    for i, row in enumerate(rows):
        for j in range(steps):
            assert block[i, j] == uniforms(seed, np.array([row]), first + j, 1)[0, 0]


def test_uniform_and_independent_across_rows_steps_and_seeds():
    drawn = uniforms(0, np.arange(400), 0, 250)
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 0.01
    neighbour = uniforms(1, np.arange(400), 0, 250)
    bound = 4 / np.sqrt(drawn.size)
    for other in (np.roll(drawn, 1, 0), np.roll(drawn, 1, 1), neighbour):
        assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < bound
    # Pairs of successive numbers fill the square evenly.
    counts = np.histogram2d(drawn[:, ::2].ravel(), drawn[:, 1::2].ravel(), bins=16)[0]
    assert stats.chisquare(counts.ravel()).pvalue > 0.01
