"""A policy's weights one by one, as a checkpoint of its architecture names them: for engines that load checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from heedful.errors import HeedfulError
from heedful.models.adapters import effective_weight, is_adapted, underlying
from heedful.models.policy import Policy
from heedful.models.storage import torch_dtype


def check_names(policy: Policy) -> None:
    """Refuse what has other weights in a checkpoint than in memory.

    Raises:
        HeedfulError: a base in 4 bits, or an architecture whose weights transformers renames or fuses as it loads them.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping

    model = underlying(policy.model)
    if any(hasattr(module, "quant_state") for module in model.modules()):
        raise HeedfulError(
            "a base in 4 bits is not sent to a vLLM server.",
            where="loading.base_dtype",
            mend="Take bfloat16, or leave rollout.engine at built-in.",
        )
    if get_model_conversion_mapping(model, add_legacy=False):
        raise HeedfulError(
            f"{type(model).__name__} has other weights in memory than in a checkpoint (fused experts, say), so a vLLM "
            "server would not know them.",
            where="rollout.engine",
            mend="Leave it at built-in for this architecture.",
        )


@torch.no_grad()
def checkpoint_weights(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """Every weight with its name, tied ones once, adapters merged, in the precision that the policy computes in.

    Merging rounds: where that is bfloat16, part of a small update is lost, and the engine's log-probabilities differ
    the more from the policy's.
    """
    if not is_adapted(policy.model):
        for name, weight in policy.running().named_parameters():
            yield name, weight.detach()
        return
    model, dtype = underlying(policy.model), torch_dtype(policy.precision)
    modules: dict[str, Any] = dict(model.named_modules())
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            continue
        name = name.replace(".base_layer.", ".")
        owner, _, last = name.rpartition(".")
        adapted = last == "weight" and hasattr(modules[owner], "get_delta_weight")
        yield name, (effective_weight(modules[owner]) if adapted else weight).detach().to(dtype).contiguous()


def weight_shapes(policy: Policy) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    """Name, type and shape of everything that `checkpoint_weights` yields, in its order; nothing is merged."""
    if not is_adapted(policy.model):
        return [(name, weight.dtype, tuple(weight.shape)) for name, weight in policy.running().named_parameters()]
    dtype = torch_dtype(policy.precision)
    return [
        (name.replace(".base_layer.", "."), dtype, tuple(weight.shape))
        for name, weight in underlying(policy.model).named_parameters()
        if ".lora_" not in name
    ]
