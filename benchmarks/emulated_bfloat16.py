"""Products of bfloat16 on a processor without units for them: in float32, rounded once, as those units do.

Such units (AVX-512 BF16, AMX) multiply bfloat16 and add up in float32. A product of two bfloat16 numbers is exact in
float32, so that float32's own product of the same operands, rounded to bfloat16, is theirs but for the order of the
sum. Torch's way without units is some hundred times as slow as that. For studies of what training gives; nothing of how
fast it would be is learnt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_aten = torch.ops.aten
FORWARD = _aten._scaled_dot_product_flash_attention_for_cpu.default
PRODUCTS = {
    FORWARD,
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
    _aten.mv.default,
    _aten.addmv.default,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
}
IN_PLACE = {_aten.addmm_.default, _aten.baddbmm_.default}


class EmulatedBfloat16(TorchDispatchMode):
    """Within it, products and attention of bfloat16 tensors on a CPU are taken in float32 and rounded."""

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        low = any(isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 for value in args)
        if not low or function not in PRODUCTS | IN_PLACE:
            return function(*args, **kwargs)
        raised, named = tree_map_only(torch.Tensor, _raised, (args, kwargs))
        found = function(*raised, **named)
        if function in IN_PLACE:
            return args[0].copy_(found)
        if function is FORWARD:  # the sums of exponentials, [B, H, L], are float32 in any case
            return found[0].to(torch.bfloat16), *found[1:]
        return tree_map_only(torch.Tensor, _rounded, found)


def _raised(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.dtype == torch.bfloat16 else value


def _rounded(value: torch.Tensor) -> torch.Tensor:
    return value.to(torch.bfloat16)
