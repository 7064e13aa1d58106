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
        block: those of the largest decoder layer, which is gathered at a time.
        root: those outside the layers (embeddings, last norm, head), which every device holds whole.
    """

    total: float
    trained: float
    block: float
    root: float

    @property
    def layers(self) -> float:
        """Those of the layers, which are parted."""
        return self.total - self.root

    def own(self, count: int) -> float:
        """Those that one of N devices holds."""
        return self.root + self.layers / count


def gather_buffers(weights: Weights, width: int) -> float:
    """Bytes of what is gathered at a time: the layer that computes, and the next one, fetched meanwhile."""
    return width * 2 * weights.block


def scatter_buffers(weights: Weights, width: int) -> float:
    """Bytes of a layer's gradients on their way to their shares: as they are made, and as float32 to be summed."""
    return (width + FULL) * weights.block


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
