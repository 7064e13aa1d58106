"""Masks [B, T] that say which tokens are the policy's own: the check that all formulas share, and their last places."""

from __future__ import annotations

import torch
from torch import Tensor


def check_mask(mask: Tensor, **tensors: Tensor) -> None:
    """Refuse a mask that is no bool, and tensors of another shape than the mask's.

    Raises:
        ValueError: naming what differs.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool, got {mask.dtype}")
    wrong = {name: list(tensor.shape) for name, tensor in tensors.items() if tensor.shape != mask.shape}
    if wrong:
        raise ValueError(f"mask is {list(mask.shape)}, but {wrong}")


def last_place(mask: Tensor) -> Tensor:
    """[B, T] bool: True at the last masked token of each row; nowhere in a row without any."""
    place = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, place, -1).amax(1, keepdim=True)
    return mask & (place == last)
