"""Order and batches: every record once per epoch, whatever the batch size; micro-batches cover, within budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heedful.data.packing import micro_batches
from heedful.training.batching import Example, batch_at, collate, records_between, total_steps


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 200))
def test_micro_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = micro_batches(lengths, budget)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        assert group
        padded = len(group) * max(lengths[row] for row in group)
        assert padded <= budget or len(group) == 1


def test_micro_batches_put_similar_lengths_together() -> None:
    assert micro_batches([1, 9, 2, 10], 20) == [[3, 1], [2, 0]]


@given(st.integers(1, 40), st.integers(1, 17), st.integers(1, 3), st.integers(0, 5))
def test_an_epoch_holds_every_record_once(records: int, batch: int, epochs: int, seed: int) -> None:
    steps = total_steps(records, batch, epochs)
    stream = [i for step in range(steps) for i in batch_at(step, records, batch, epochs, seed)]
    assert len(stream) == records * epochs
    for epoch in range(epochs):
        assert sorted(stream[epoch * records : (epoch + 1) * records]) == list(range(records))


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    first = records_between(0, 20, 20, seed=1)
    assert first != records_between(20, 40, 20, seed=1)
    assert first != records_between(0, 20, 20, seed=2)
    assert first == records_between(0, 20, 20, seed=1)


def test_a_part_of_an_epoch_is_a_whole_run() -> None:
    assert total_steps(100, 8, 0.5) == 7
    assert len(batch_at(6, 100, 8, 0.5, 0)) == 2


def test_collate_pads_on_the_right_and_masks_what_is_learnt() -> None:
    batch = collate([Example([5, 6, 7], [False, True, True]), Example([8], [True])], pad=0)
    assert batch.tokens.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.attention.tolist() == [[True, True, True], [True, False, False]]
    assert batch.mask.tolist() == [[False, True, True], [True, False, False]]
