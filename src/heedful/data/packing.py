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


def prompt_micro_batches(
    groups: Sequence[int], prompts: Sequence[int], answers: Sequence[int], budget: int
) -> tuple[list[list[int]], int]:
    """Group row numbers so that what is read of them stays within `budget` tokens, where a prompt is read once.

    Answers of similar length go together. A row that is longer than the budget gets a group of its own.

    Args:
        groups: of each row, the number of its prompt.
        prompts, answers: of each row, the tokens of its prompt and of its answer.

    Returns:
        the groups, in which every row appears exactly once, and how many tokens are read in all, padding counted.
    """
    order = sorted(range(len(groups)), key=lambda row: (-answers[row], groups[row], row))
    found: list[list[int]] = []
    total = cost = longest = 0
    seen: set[int] = set()
    for row in order:
        wider = max(longest, prompts[row])
        more = wider * len(seen | {groups[row]}) + (len(found[-1]) + 1) * answers[found[-1][0]] if found else 0
        if found and more <= budget:
            found[-1].append(row)
            longest, cost = wider, more
            seen.add(groups[row])
        else:
            total += cost
            found.append([row])
            longest, cost, seen = prompts[row], prompts[row] + answers[row], {groups[row]}
    return found, total + cost
