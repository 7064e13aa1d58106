"""Uniform numbers that depend on the seed, the row and the step, and on nothing else.

A generator that is drawn from step by step gives other numbers when the batch is split or when finished
rows leave it. Here each number is computed from its coordinates, so neither can matter.
"""

from __future__ import annotations

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seed: int, rows: np.ndarray, first_step: int, steps: int) -> np.ndarray:
    """Uniform numbers in [0, 1) with 53 random bits: row r holds a SplitMix64 stream of its own.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014). The
    stream of a row starts at the mix of the seed's mix with the row's mix.

    Args:
        seed: 0 to 2**64 - 1.
        rows: [R] integers, not negative: the rows of the whole rollout, not of a batch.
        first_step: the first step wanted.
        steps: how many.

    Returns:
        [R, steps] float64.
    """
    key = _mix(np.array([seed], dtype=np.uint64) + GAMMA)
    stream = _mix(key ^ _mix((rows.astype(np.uint64) + np.uint64(1)) * GAMMA))
    count = np.arange(first_step + 1, first_step + steps + 1, dtype=np.uint64)
    bits = _mix(stream[:, None] + count[None, :] * GAMMA)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: a bijection of 64 bits in which every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
