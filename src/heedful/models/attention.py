"""Attention on a CPU: the stock function, without its two detours.

- Where several query heads share keys and values and there is a mask, transformers copies these for each of the heads,
  at every token that is sampled. Without gradients they are read where they lie: the same function, which differs by
  the order of a sum at most. Where heads share nothing, sampling and scoring are stock to the bit.
- In bfloat16 PyTorch's backward pass of scaled dot-product attention takes 5 to 8 times as long as batched matrix
  products do. The forward pass stays the stock one.

`benchmarks/quick_operations.py` measures both. The function is registered with transformers' attention interface, so
that every architecture that runs on that interface gains. Whatever it is not made for goes to the stock one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "heedful_short"
"""What transformers knows it by."""

LONGEST = 512
"""Keys above which the stock backward pass is as fast."""


class _Attention(torch.autograd.Function):
    """softmax(scale q k^T) v, with H query heads on G heads of keys and values; L queries, S keys, size D."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float) -> Tensor:
        # query [B, H, L, D], key and value [B, G, S, D], seen [B or 1, 1, L, S] bool, None for causal
        ctx.scale = scale
        ctx.save_for_backward(query, key, value, seen)
        shared = query.shape[1] != key.shape[1]
        return scaled_dot_product_attention(
            query, key, value, seen, is_causal=seen is None, scale=scale, enable_gqa=shared
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, seen = ctx.saved_tensors
        batch, heads, length, size = query.shape
        groups, keys = key.shape[1], key.shape[2]
        # heads of one group stand below each other: [B x G, H / G x L, D]
        q = query.reshape(batch * groups, -1, size)
        pull = gradient.reshape(batch * groups, -1, value.shape[-1])
        k, v = key.reshape(batch * groups, keys, size), value.reshape(batch * groups, keys, -1)
        scores = torch.bmm(q, k.transpose(1, 2)).view(batch, groups, heads // groups, length, keys)
        share = _shares(scores, seen, ctx.scale).view(batch * groups, -1, keys)
        for_value = torch.bmm(share.transpose(1, 2), pull)
        slope = torch._softmax_backward_data(torch.bmm(pull, v.transpose(1, 2)), share, -1, share.dtype)
        slope *= ctx.scale
        for_query, for_key = torch.bmm(slope, k), torch.bmm(slope.transpose(1, 2), q)
        return for_query.view_as(query), for_key.view_as(key), for_value.view_as(value), None, None


def _shares(scores: Tensor, seen: Tensor | None, scale: float) -> Tensor:
    """softmax of scaled scores [B, G, H / G, L, S] over the keys that each query sees; `scores` is used up."""
    length, keys = scores.shape[-2:]
    if seen is None:
        hidden = torch.ones(length, keys, dtype=torch.bool, device=scores.device).triu_(1)
    else:
        hidden = ~seen[:, :, None]
    least = torch.finfo(scores.dtype).min  # not -inf: a padded query may see nothing
    return scores.mul_(scale).masked_fill_(hidden, least).softmax(-1)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention by the signature of transformers' interface.

    Args:
        module: the layer.
        query: [B, H, L, D].
        key, value: [B, G, S, D].
        attention_mask: [B, 1, L, S] bool, True where a query sees a key; None for causal attention, or for all.

    Returns:
        [B, L, H, D], and None for the weights.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    low = _low(query, value)
    learns = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    plain = (
        query.device.type == "cpu"
        and dropout == 0.0
        and more.get("position_bias") is None
        and more.get("softcap") is None
    )
    if plain and not learns and attention_mask is not None and key.shape[1] < query.shape[1]:
        found = scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling, enable_gqa=True)
        return found.transpose(1, 2).contiguous(), None
    fits = (
        plain
        and learns
        and low is not None
        and key.shape[2] <= LONGEST
        and _masked_plainly(query, key, attention_mask, causal)
    )
    if not fits:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **more
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast("cpu", enabled=False):
        found = _Attention.apply(query.to(low), key.to(low), value.to(low), attention_mask, scale)
    return found.transpose(1, 2).contiguous(), None


def _low(query: Tensor, value: Tensor) -> torch.dtype | None:
    """bfloat16 where the products run in it, by autocast or because the tensors are; else nothing."""
    if torch.is_autocast_enabled("cpu"):
        return torch.bfloat16 if torch.get_autocast_dtype("cpu") == torch.bfloat16 else None
    return torch.bfloat16 if query.dtype == value.dtype == torch.bfloat16 else None


def _masked_plainly(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> bool:
    """Whether the mask is one of booleans for all heads, or none and the attention causal from the first token on."""
    if mask is None:
        return causal and query.shape[2] == key.shape[2] > 1
    return mask.dtype == torch.bool and mask.dim() == 4 and mask.shape[1] == 1


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def quicken(model: Any) -> None:
    """Let a model of transformers that runs on stock attention use this one. Its configuration on disk is unchanged."""
    if model.config._attn_implementation == "sdpa" and model._can_set_attn_implementation():
        model.set_attn_implementation(NAME)
