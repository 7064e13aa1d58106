"""What many GPUs need of memory, of their wires and of time: plain formulas, figures in and figures out.

Bytes and seconds of one device, that of the fullest. P are numbers (weights), N devices. docs/scale.md states the same
formulas in words, and how far off they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FULL, HALF = 4, 2
"""Bytes of a float32 and of a bfloat16."""


@dataclass(frozen=True)
class Device:
    """What one device can do.

    Attributes:
        flops: multiply-adds counted as two, a second, dense, in the type that is computed in, as its maker states it.
        bandwidth: bytes a second from its memory.
        link: bytes a second to a device of the same host, one way.
        network: bytes a second to another host, one way, for each device.
        per_host: devices of a host.
        efficiency: share of `flops` that training's matrix products reach.
        launch: seconds that an operation takes at least, however small.
    """

    flops: float
    bandwidth: float
    link: float
    network: float
    per_host: int
    efficiency: float
    launch: float


@dataclass(frozen=True)
class Work:
    """What a pass asks of a device: floating-point operations, bytes of weights and cache read, operations started."""

    flops: float = 0.0
    bytes: float = 0.0
    operations: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes, self.operations + other.operations)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.bytes * times, self.operations * times)


def seconds(device: Device, work: Work) -> float:
    """Time of some work: whatever bounds it, of arithmetic, memory and the starting of operations (the roofline of
    Williams, Waterman and Patterson 2009, with a floor for small operations)."""
    return max(
        work.flops / (device.flops * device.efficiency),
        work.bytes / device.bandwidth,
        work.operations * device.launch,
    )


def wire(device: Device, count: int) -> float:
    """Bytes a second of the narrowest wire that a ring of so many devices passes, for each device."""
    return device.link if count <= device.per_host else min(device.link, device.network)


def all_reduced(size: float, count: int) -> float:
    """Bytes that each device sends so that all have the sum of `size` bytes: a ring's, 2 size (N - 1) / N."""
    return 2 * size * (count - 1) / count


def gathered(size: float, count: int) -> float:
    """Bytes that each device sends so that all have `size` bytes of which each has a share, or that are summed and
    shared out again: a ring's, size (N - 1) / N."""
    return size * (count - 1) / count


@dataclass(frozen=True)
class Weights:
    """Numbers of a model.

    Attributes:
        total: all of them.
        trained: those that learn.
        block: those of the largest layer, which is gathered at a time.
        root: those outside the layers (embeddings, head), which stay gathered through a pass.
    """

    total: float
    trained: float
    block: float
    root: float


def held_whole(weights: Weights, low: bool) -> float:
    """Bytes of a replica that trains: float32 weights, their two moments, and a working copy in bfloat16."""
    frozen = weights.total - weights.trained
    return FULL * (weights.total + 2 * weights.trained) + (HALF * (weights.trained + frozen) if low else 0)


def held_shared(weights: Weights, count: int, frozen: float = FULL) -> float:
    """Bytes of one of N shares (FSDP2): float32 weights and two moments of what trains, and `frozen` bytes for each
    number that does not; the working copy exists only while a layer is gathered."""
    return (3 * FULL * weights.trained + frozen * (weights.total - weights.trained)) / count


def gather_buffers(weights: Weights, width: int) -> float:
    """Bytes of what is gathered at a time: the root, the layer that computes, and the next one, fetched meanwhile."""
    return width * (weights.root + 2 * weights.block)


def scatter_buffers(weights: Weights, width: int) -> float:
    """Bytes of gradients on their way to their shares: a layer's as it is made, and in float32 as it is summed; the
    root's are summed last, when no layer's are left. 0 where nothing of the layers trains but adapters."""
    share = weights.trained / weights.total
    return (width + FULL) * share * max(weights.block, weights.root)


def decoding(weights: float, cache: float, flops: float, operations: float, steps: int) -> Work:
    """Sampling `steps` tokens of each row: every step reads all weights, and the cache as long as it is by then.

    Args:
        weights: bytes of the weights.
        cache: bytes of all rows' keys and values at their mean length.
        flops: of one step, all rows.
        operations: of one step.
    """
    return Work(flops, weights + cache, operations) * steps


def shares(items: int, count: int) -> int:
    """Items of the fullest of N devices."""
    return math.ceil(items / count)
