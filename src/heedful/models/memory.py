"""A device without memory left: the same work in smaller parts, and what need not lie on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from heedful.errors import HeedfulError

T = TypeVar("T")

SMALLEST_OFFLOADED = 2**16
"""Bytes below which a saved tensor stays on the device: a copy would cost more than its room."""


def within_memory(
    amount: int,
    smallest: int,
    work: Callable[[int], T],
    *,
    undo: Callable[[], None] = lambda: None,
    told: Callable[[int], None] = lambda amount: None,
) -> T:
    """Do `work` in parts of at most `amount`; where the device runs out of memory, again in parts of half the size.

    A second try begins where the first did: with the random numbers of torch put back, and after `undo`.

    Args:
        amount: tokens (or rows) at a time.
        smallest: parts of this size are the smallest there are; when they do not fit, nothing does.
        work: does it all, given the size of a part. What it changes, `undo` must take back.
        told: is told each new size.

    Raises:
        HeedfulError: the smallest parts do not fit.
    """
    while True:
        random, on_devices = torch.get_rng_state(), _device_random_states()
        try:
            return work(amount)
        except torch.OutOfMemoryError as error:
            if amount <= smallest:
                raise _no_room() from error
        # Outside the handler, whose exception holds every tensor of the try that failed.
        undo()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        torch.set_rng_state(random)
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)
        amount = max(1, amount // 2)
        told(amount)


def _device_random_states() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _no_room() -> HeedfulError:
    return HeedfulError(
        "the device has no memory left, and what it works on cannot be made smaller: it is one sequence, or one pair.",
        mend="Shorten --records.max-length, turn on --memory.gradient-checkpointing, or train adapters with "
        "--loading.lora-rank; heedful plan shows what takes the room.",
    )


@contextmanager
def offloaded(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside, what forward passes keep for the backward pass lies in the machine's memory, not on the device.

    Weights stay where they are, as does what is small. Only for a GPU: elsewhere there is nowhere to go.

    Args:
        weights: of the models that run.
    """
    staying = {weight.untyped_storage().data_ptr() for weight in weights}

    def pack(tensor: Tensor) -> tuple[torch.device, Tensor]:
        small = tensor.nbytes < SMALLEST_OFFLOADED
        if small or tensor.device.type == "cpu" or tensor.untyped_storage().data_ptr() in staying:
            return tensor.device, tensor
        kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return tensor.device, kept.copy_(tensor)

    def unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
        device, tensor = packed
        return tensor.to(device, non_blocking=True)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
