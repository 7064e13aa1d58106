"""Tideman's ranked pairs: one ranking out of many, with ties said as ties. Works without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from heedful.core.crowd import Ints


def ranked_pairs(rankings: Sequence[ArrayLike]) -> Ints:
    """[items] ranks, 1 the best, of the ranking that locks the largest majorities first (Tideman 1987).

    Majorities of one size are locked together, and those of them that would close a cycle are left out together, so
    nothing hangs on the order of items. Items that nothing decides between share a rank; a vote that balances is none.

    Args:
        rankings: for each voter, [items] ranks, lower is better, equal ranks a tie.

    Raises:
        ValueError: no ranking, or rankings of different lengths.
    """
    table = np.asarray(rankings, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"rankings must be [voters, items], got {table.shape}")
    better = np.sign(table[:, None, :] - table[:, :, None]).sum(0)
    locked = np.zeros(better.shape, dtype=bool)
    for margin in np.unique(better[better > 0])[::-1]:
        wanted = locked | ((better == margin) & ~_reached(locked).T)
        _, part = connected_components(csr_matrix(wanted), connection="strong")
        locked = wanted & (locked | (part[:, None] != part[None, :]))
    return (1 + _reached(locked).sum(0)).astype(np.int64)


def _reached(edges: np.ndarray) -> np.ndarray:
    """[items, items] whether a path leads from the row's item to the column's."""
    found = edges.copy()
    for middle in range(len(edges)):
        found |= found[:, middle, None] & found[None, middle, :]
    return found
