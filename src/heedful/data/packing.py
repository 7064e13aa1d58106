"""Sequences of unequal length in groups, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group row numbers so that rows x longest row stays within `budget` tokens, similar lengths together.

    A row longer than the budget gets a group of its own. Every row appears exactly once; no group is empty;
    the first row of a group is its longest.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    groups: list[list[int]] = []
    for row in order:
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and (len(groups[-1]) + 1) * longest <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
