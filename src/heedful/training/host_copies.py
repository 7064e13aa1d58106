"""An optimiser that steps in the machine's memory, for weights on a device that has no room for AdamW's moments."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class HostCopies:
    """Copies of weights in the machine's memory, which AdamW steps in the weights' place; its moments lie there too.

    On the device stay the weights and their gradients. A step takes the gradients over one by one, and brings the
    stepped weights back: eight bytes of traffic for each float32 weight. What others do to the weights between steps is
    seen by their version counters, and taken over first.
    """

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        self._copies = {weight: nn.Parameter(_on_host(weight)) for weight in weights}
        self._seen = {weight: weight._version for weight in self._copies}

    def of(self, weight: nn.Parameter) -> nn.Parameter:
        """The copy of a weight."""
        return self._copies[weight]

    @torch.no_grad()
    def take(self) -> None:
        """Gradients, and weights that were changed by others, into the machine's memory."""
        for weight, copy in self._copies.items():
            if weight._version != self._seen[weight]:
                copy.copy_(weight)
            copy.grad = None if weight.grad is None else _on_host(weight.grad)
            weight.grad = None

    @torch.no_grad()
    def give(self) -> None:
        """The stepped weights back onto the device."""
        for weight, copy in self._copies.items():
            copy.grad = None
            weight.copy_(copy)
            self._seen[weight] = weight._version


def _on_host(tensor: Tensor) -> Tensor:
    """A copy in the machine's memory, of pages that a GPU copies from and to at full speed."""
    return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda).copy_(tensor.detach())
