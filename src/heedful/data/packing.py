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


COPIED = 0.125
"""What a token of a prompt that is read once takes for each answer behind it, in tokens: its keys and values, copied.
A token leaves some 20 numbers of the hidden size in a layer, and keys and values are at most two."""


def prompt_micro_batches(
    groups: Sequence[int], prompts: Sequence[int], answers: Sequence[int], budget: int, limit: int | None = None
) -> tuple[list[list[int]], int]:
    """Group row numbers so that what is read of them stays within `budget` tokens, where a prompt is read once.

    Answers of similar length go together, or answers of one prompt, whichever reads fewer tokens: the first pads less,
    the second reads prompts less often, which pays where they are long. A row that is longer than the budget gets a
    group of its own.

    Args:
        groups: of each row, the number of its prompt.
        prompts, answers: of each row, the tokens of its prompt and of its answer.
        budget: with each prompt's copies for its answers (`COPIED`).
        limit: the model's context, which the longest prompt and the longest answer of a group must fit together.

    Returns:
        the groups, in which every row appears exactly once, and how many tokens are read in all, padding counted.
    """
    rows = range(len(groups))
    by_answer = sorted(rows, key=lambda row: (-answers[row], groups[row], row))
    by_prompt = sorted(rows, key=lambda row: (-prompts[row], groups[row], -answers[row], row))
    found = [_filled(order, groups, prompts, answers, budget, limit) for order in (by_answer, by_prompt)]
    return min(found, key=lambda one: (one[1], len(one[0])))


def shared_micro_batches(
    starts: Sequence[int], answers: Sequence[int], counts: Sequence[int], budget: int, limit: int | None = None
) -> list[list[int]]:
    """Group item numbers so that what is read of them, padded, stays within `budget` tokens; long starts first.

    Args:
        starts: of each item, the tokens that its answers share, which are read once.
        answers, counts: of each item, the tokens of its longest answer behind them, and how many answers it has.
        budget, limit: as for `prompt_micro_batches`.

    Returns:
        the groups, in which every item appears exactly once; one that is longer than the budget is alone.
    """
    found: list[list[int]] = []
    start = answer = rows = 0
    for item in sorted(range(len(starts)), key=lambda i: (-starts[i], -answers[i], i)):
        wider, longer, more = max(start, starts[item]), max(answer, answers[item]), rows + counts[item]
        fits = limit is None or wider + longer <= limit
        if found and fits and (len(found[-1]) + 1 + COPIED * more) * wider + more * longer <= budget:
            found[-1].append(item)
            start, answer, rows = wider, longer, more
        else:
            found.append([item])
            start, answer, rows = starts[item], answers[item], counts[item]
    return found


def _filled(
    order: Sequence[int],
    groups: Sequence[int],
    prompts: Sequence[int],
    answers: Sequence[int],
    budget: int,
    limit: int | None,
) -> tuple[list[list[int]], int]:
    """Rows in that order, a new group whenever the next does not fit; with the tokens read."""
    found: list[list[int]] = []
    total = cost = prompt = answer = 0
    seen: set[int] = set()
    for row in order:
        wider, longer = max(prompt, prompts[row]), max(answer, answers[row])
        more = wider * len(seen | {groups[row]}) + (len(found[-1]) + 1) * longer if found else 0
        copies = COPIED * wider * (len(found[-1]) + 1) if found else 0
        if found and more + copies <= budget and (limit is None or wider + longer <= limit):
            found[-1].append(row)
            prompt, answer, cost = wider, longer, more
            seen.add(groups[row])
        else:
            total += cost
            found.append([row])
            prompt, answer, cost, seen = prompts[row], answers[row], prompts[row] + answers[row], {groups[row]}
    return found, total + cost
