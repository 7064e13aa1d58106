"""Rows in groups: every row once, within the budget, and the tokens counted right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heedful.data.packing import prompt_micro_batches, shared_micro_batches

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 30)), min_size=1, max_size=40)
PROMPTS = st.tuples(*[st.integers(1, 20)] * 5)


def cost(rows: list[int], groups: list[int], prompts: list[int], answers: list[int]) -> int:
    """Tokens read for some rows: each prompt once, padded to the longest of them; answers likewise."""
    return len({groups[r] for r in rows}) * max(prompts[r] for r in rows) + len(rows) * max(answers[r] for r in rows)


@given(ROWS, PROMPTS, st.integers(20, 200))
def test_rows_are_grouped_within_a_budget_of_tokens(
    rows: list[tuple[int, int]], lengths: tuple[int, ...], budget: int
) -> None:
    groups, answers = [g for g, _ in rows], [a for _, a in rows]
    prompts = [lengths[g] for g in groups]
    found, total = prompt_micro_batches(groups, prompts, answers, budget)
    assert sorted(row for part in found for row in part) == list(range(len(rows)))
    costs = [cost(part, groups, prompts, answers) for part in found]
    assert all(tokens <= budget or len(part) == 1 for tokens, part in zip(costs, found, strict=True))
    assert total == sum(costs)


def test_answers_of_one_prompt_pay_for_it_once() -> None:
    assert prompt_micro_batches([7] * 4, [10] * 4, [3, 3, 2, 1], 100) == ([[0, 1, 2, 3]], 10 + 4 * 3)
    assert prompt_micro_batches([1, 2], [10, 4], [3, 3], 100) == ([[0, 1]], 2 * 10 + 2 * 3)
    assert prompt_micro_batches([1, 2], [10, 4], [3, 3], 25) == ([[0], [1]], 13 + 7)


def test_long_prompts_keep_their_answers_together() -> None:
    groups, prompts, answers = [0, 1, 0, 1], [100, 90, 100, 90], [10, 9, 2, 1]
    assert prompt_micro_batches(groups, prompts, answers, 150) == ([[0, 2], [1, 3]], 120 + 108)
    assert prompt_micro_batches(groups, prompts, answers, 140)[0] == [
        [0],
        [2],
        [1, 3],
    ]  # copies of keys and values count
    assert prompt_micro_batches(groups, prompts, answers, 400, limit=105)[0] == [[0], [2], [1, 3]]
    # answers of like length together would read each prompt twice: 2 x 110 + 2 x 99 and more


@given(st.lists(st.tuples(*[st.integers(1, 40)] * 2, st.integers(1, 5)), min_size=1, max_size=20), st.integers(20, 300))
def test_items_are_grouped_within_a_budget_of_tokens(items: list[tuple[int, int, int]], budget: int) -> None:
    starts, answers, counts = (list(column) for column in zip(*items, strict=True))
    found = shared_micro_batches(starts, answers, counts, budget)
    assert sorted(item for part in found for item in part) == list(range(len(items)))
    for part in found:
        read = len(part) * max(starts[i] for i in part) + sum(counts[i] for i in part) * max(answers[i] for i in part)
        assert read <= budget or len(part) == 1
