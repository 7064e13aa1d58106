"""The key-value cache of generation: written in place, grown seldom, left by finished rows.

It is a cache of `transformers`, so a model runs with it through its ordinary forward and builds its own
masks (causal, sliding, chunked) from the sizes that the cache reports.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import cache_utils
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

STATELESS: Any = getattr(cache_utils, "DummyLayer", ())
"""Layers that hold nothing; transformers before 5.21, which vLLM 0.33 asks for, has none of its own for them."""

MIN_ROOM = 256
"""Tokens of room that a growing layer makes at least, as far as the rollout can still use them."""


class PreallocatedLayer(CacheLayerMixin):
    """Keys and values of one attention layer in a buffer with room ahead.

    B rows, H key-value heads, C tokens of capacity, D size of a head. The buffer grows by half of what it
    holds, at least by `MIN_ROOM` tokens, never beyond `limit` tokens seen. With a `window`, only the
    last `window - 1` tokens before the new ones are shown, and those that have passed out of it are
    dropped whenever the buffer is full.
    """

    keys: Tensor | None  # [B, H, C, D]
    values: Tensor | None  # [B, H, C, D of the values]
    is_compileable = False
    is_croppable = False

    def __init__(self, *, limit: int, window: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.window = window
        self.is_sliding = window is not None
        self.seen = 0
        self.held = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Adopt the keys and values of the prompts as they are; the first `spread` or growth copies them."""
        self.keys, self.values = key_states, value_states
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append [B, H, Q, D] new keys and values; return those that the new tokens may attend to."""
        new = key_states.shape[-2]
        self.seen += new
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            self.held = new
            return key_states, value_states
        if self.held + new > self.keys.shape[-2]:
            self._make_room(new)
        end = self.held + new
        self.keys[:, :, self.held : end] = key_states
        self.values[:, :, self.held : end] = value_states
        self.held = end
        first = 0 if self.window is None else max(end - (self.window - 1 + new), 0)
        return self.keys[:, :, first:end], self.values[:, :, first:end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many tokens `update` will return for Q new ones, and the index of the first of them."""
        first = 0 if self.window is None else max(self.seen - self.window + 1, 0)
        return self.seen - first + query_length, first

    def get_seq_length(self) -> int:
        """Tokens seen so far, padding included."""
        return self.seen

    def get_max_length(self) -> int:
        """-1: no fixed maximum."""
        return -1

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes a copy of what row `beam_idx[i]` was; rows may be repeated. [B'] int64."""
        self._copy(self._kept(), self._capacity(self._kept()), beam_idx)

    def leave(self, holes: Tensor, movers: Tensor, rows: int) -> None:
        """Move the rows `movers` into `holes`, then keep the first `rows`. Costs as many copies as movers."""
        assert self.keys is not None
        assert self.values is not None
        if holes.numel():
            for buffer in (self.keys, self.values):
                used = buffer[:, :, : self.held]
                used[holes] = used[movers]
        self.keys, self.values = self.keys[:rows], self.values[:rows]

    def _kept(self) -> int:
        return self.held if self.window is None else min(self.held, self.window - 1)

    def _capacity(self, kept: int) -> int:
        return kept + min(max(kept // 2, MIN_ROOM), max(self.limit - self.seen, 0))

    def _make_room(self, new: int) -> None:
        kept = self._kept()
        before = self.seen - new
        room = min(max(kept // 2, MIN_ROOM), max(self.limit - before, 0))
        self._copy(kept, kept + max(room, new), None)

    def _copy(self, kept: int, capacity: int, rows: Tensor | None) -> None:
        assert self.keys is not None
        assert self.values is not None
        self.keys = _roomy(self.keys[:, :, self.held - kept : self.held], capacity, rows)
        self.values = _roomy(self.values[:, :, self.held - kept : self.held], capacity, rows)
        self.held = kept


class RolloutCache(Cache):
    """A cache for one batch of a rollout: preallocated layers wherever the model's layers are attention.

    Layers of another kind (linear attention, convolutions, indexers) keep the layer class that
    `transformers` gives them, and rows enter and leave those by index.

    Args:
        config: the model's config.
        limit: tokens per row at the end of the rollout, prompt and padding included.
    """

    def __init__(self, config: Any, *, limit: int) -> None:
        super().__init__(layers=[_preallocated(layer, limit) for layer in DynamicCache(config=config).layers])

    def spread(self, parents: Tensor) -> None:
        """Row i becomes a copy of row `parents[i]`, [B] int64: the prompts' cache handed to their samples."""
        for layer in self._stateful():
            layer.reorder_cache(parents)

    def leave(self, holes: Tensor, movers: Tensor, rows: int) -> None:
        """Keep the first `rows` rows, after the rows `movers` [M] took the places `holes` [M] among them."""
        index = None
        for layer in self._stateful():
            if isinstance(layer, PreallocatedLayer):
                layer.leave(holes, movers, rows)
                continue
            if index is None:
                index = torch.arange(rows, device=holes.device)
                index[holes] = movers
            layer.reorder_cache(index)

    def _stateful(self) -> list[Any]:
        return [layer for layer in self.layers if not isinstance(layer, STATELESS)]


def _preallocated(layer: Any, limit: int) -> Any:
    if type(layer) is DynamicLayer:
        return PreallocatedLayer(limit=limit)
    if type(layer) is DynamicSlidingWindowLayer:
        return PreallocatedLayer(limit=limit, window=layer.sliding_window)
    return layer


def _roomy(states: Tensor, capacity: int, rows: Tensor | None) -> Tensor:
    """[B, H, C, D] copied, by row index if there is one, to the front of a buffer of that capacity."""
    batch, heads, held, size = states.shape
    batch = batch if rows is None else rows.numel()
    buffer = states.new_empty((batch, heads, capacity, size))
    buffer[:, :, :held] = states if rows is None else states.index_select(0, rows)
    return buffer
