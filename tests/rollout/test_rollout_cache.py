from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from heedful.rollout import cache as cache_module
from heedful.rollout.cache import PreallocatedLayer


def states(rows: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, tokens, 3), torch.randn(rows, 2, tokens, 5)


@settings(max_examples=60)
@given(
    window=st.one_of(st.none(), st.integers(2, 9)),
    prompt=st.integers(1, 12),
    steps=st.lists(st.integers(1, 3), max_size=25),
    ahead=st.integers(0, 40),
    room=st.integers(1, 6),
    data=st.data(),
)
def test_shows_the_model_what_the_cache_of_transformers_shows(window, prompt, steps, ahead, room, data):
    """Whatever the growth, and while rows are spread and leave: same keys, values, mask sizes, length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_module, "MIN_ROOM", room)
        mine = PreallocatedLayer(limit=prompt + ahead, window=window)
        theirs = DynamicLayer() if window is None else DynamicSlidingWindowLayer(sliding_window=window)
        rows = 3
        for number, new in enumerate([prompt, *steps]):
            assert mine.get_mask_sizes(new) == theirs.get_mask_sizes(new)
            new_keys, new_values = states(rows, new)
            for got, expected in zip(
                mine.update(new_keys, new_values), theirs.update(new_keys, new_values), strict=True
            ):
                assert torch.equal(got, expected)
            assert mine.get_seq_length() == theirs.get_seq_length()
            if number == 0:
                parents = torch.tensor([0, 0, 1, 2, 2])
                mine.reorder_cache(parents)
                theirs.reorder_cache(parents)
                rows = 5
            elif rows > 1 and data.draw(st.booleans()):
                leaves = data.draw(st.integers(0, rows - 1))
                rows -= 1
                order = torch.arange(rows)
                if leaves < rows:
                    order[leaves] = rows
                holes = torch.tensor([leaves] if leaves < rows else [], dtype=torch.int64)
                mine.leave(holes, torch.tensor([rows] * len(holes), dtype=torch.int64), rows)
                theirs.reorder_cache(order)


def test_no_copy_is_made_while_there_is_room():
    layer = PreallocatedLayer(limit=40)
    layer.update(*states(2, 10))
    layer.reorder_cache(torch.tensor([0, 1, 1]))
    where = layer.keys.data_ptr()
    for _ in range(30):
        layer.update(*states(3, 1))
    assert layer.keys.shape == (3, 2, 40, 3)
    assert layer.keys.data_ptr() == where


def test_a_long_rollout_is_not_reserved_whole():
    layer = PreallocatedLayer(limit=100_000)
    layer.update(*states(1, 10))
    layer.reorder_cache(torch.tensor([0]))
    assert layer.keys.shape[2] == 10 + cache_module.MIN_ROOM


def test_a_sliding_layer_stays_small(monkeypatch):
    monkeypatch.setattr(cache_module, "MIN_ROOM", 16)
    layer = PreallocatedLayer(limit=10_000, window=8)
    layer.update(*states(1, 100))
    layer.reorder_cache(torch.tensor([0]))
    for _ in range(300):
        layer.update(*states(1, 1))
        assert layer.keys.shape[2] <= 7 + 16
