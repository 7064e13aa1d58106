"""Order, batches and micro-batches: pure functions of the seed and the step, so that a resumed run sees the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Example:
    """One sequence to train on: its tokens, and which of them the model learns to produce."""

    tokens: list[int]
    mask: list[bool]


@dataclass(frozen=True)
class TokenBatch:
    """Sequences side by side, right-padded. Index `t` describes token `t`."""

    tokens: Tensor  # [B, T] int64
    attention: Tensor  # [B, T] bool, True at real tokens
    mask: Tensor  # [B, T] bool, True at tokens to learn


def collate(examples: Sequence[Example], pad: int, device: torch.device | str = "cpu") -> TokenBatch:
    """Lay examples side by side, padded on the right to the longest."""
    width = max(len(example.tokens) for example in examples)
    tokens = np.full((len(examples), width), pad, dtype=np.int64)
    mask = np.zeros((len(examples), width), dtype=bool)
    lengths = np.array([len(example.tokens) for example in examples])
    for row, example in enumerate(examples):
        tokens[row, : len(example.tokens)] = example.tokens
        mask[row, : len(example.mask)] = example.mask
    attention = np.arange(width)[None, :] < lengths[:, None]
    return TokenBatch(
        torch.from_numpy(tokens).to(device),
        torch.from_numpy(attention).to(device),
        torch.from_numpy(mask).to(device),
    )


def total_steps(records: int, batch_size: int, epochs: float) -> int:
    """Optimiser steps in `epochs` passes over the records; the last batch may be smaller."""
    return max(1, math.ceil(round(records * epochs) / batch_size))


def records_between(start: int, end: int, records: int, seed: int) -> list[int]:
    """Record numbers at positions [start, end) of an endless stream: one seeded permutation after another."""
    chosen = []
    epoch, order = -1, np.empty(0, dtype=np.int64)
    for position in range(start, end):
        if position // records != epoch:
            epoch = position // records
            order = np.random.default_rng([seed, epoch]).permutation(records)
        chosen.append(int(order[position % records]))
    return chosen


def batch_at(step: int, records: int, batch_size: int, epochs: float, seed: int) -> list[int]:
    """The record numbers of one step's batch; the last batch of the run may be smaller."""
    end = min((step + 1) * batch_size, max(1, round(records * epochs)))
    return records_between(step * batch_size, end, records, seed)
