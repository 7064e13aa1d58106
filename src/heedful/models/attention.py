"""Attention on a CPU: the stock function but where it is slow, and of rows that lie end to end.

- A sampled token, one query a row without gradients, takes batched matrix products in bfloat16, where PyTorch's scaled
  dot-product attention takes 2 to 19 times as long; and in float32 where several query heads share keys and values.
- transformers copies keys and values for each of the heads that share them wherever there is a mask. Without gradients
  they are read where they lie: the same function, which differs by the order of a sum at most. In float32, where heads
  share nothing, sampling is stock to the bit.
- In bfloat16 PyTorch's backward pass takes 5 to 8 times as long as batched matrix products do. They take over the
  forward pass too where rows are so short that its shares can be kept.
- Tokens that are laid end to end (`heedful.models.padding_free`) are parted into their rows, and joined again.

`benchmarks/quick_operations.py` measures them. The function is registered with transformers' attention interface, so
that every architecture that runs on that interface gains. Whatever it is not made for goes to the stock one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from heedful.models.padding_free import laid_rows

NAME = "heedful_short"
"""What transformers knows it by."""

KEYS = 32
"""Multiple that the keys of a sampled token are filled up to in bfloat16, so that few shapes occur."""

KEPT = 128
"""Keys up to which the shares of a forward pass are kept for the backward pass."""

LONGEST = 512
"""Keys above which the stock backward pass is as fast."""


class _Attention(torch.autograd.Function):
    """softmax(scale q k^T) v, with H query heads on G heads of keys and values; L queries, S keys, size D."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float) -> Tensor:
        # query [B, H, L, D], key and value [B, G, S, D], seen [B or 1, 1, L, S] bool, None for causal
        ctx.scale = scale
        if key.shape[2] <= KEPT:
            q, k, v = _stacked(query, key, value)
            share = _shares(q, k, query, key, seen, scale)
            ctx.save_for_backward(query, key, value, seen, share)
            return torch.bmm(share, v).view(*query.shape[:3], -1)
        ctx.save_for_backward(query, key, value, seen, None)
        shared = query.shape[1] != key.shape[1]
        return scaled_dot_product_attention(
            query, key, value, seen, is_causal=seen is None, scale=scale, enable_gqa=shared
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, seen, share = ctx.saved_tensors
        q, k, v = _stacked(query, key, value)
        if share is None:
            share = _shares(q, k, query, key, seen, ctx.scale)
        pull = gradient.reshape(*q.shape[:2], -1)
        for_value = torch.bmm(share.transpose(1, 2), pull)
        slope = torch._softmax_backward_data(torch.bmm(pull, v.transpose(1, 2)), share, -1, share.dtype)
        slope *= ctx.scale
        for_query, for_key = torch.bmm(slope, k), torch.bmm(slope.transpose(1, 2), q)
        return for_query.view_as(query), for_key.view_as(key), for_value.view_as(value), None, None


def _stacked(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B x G, H / G x L, D], [B x G, S, D] twice: heads of one group stand below each other."""
    batch, groups, _, size = key.shape
    return query.reshape(batch * groups, -1, size), key.flatten(0, 1), value.flatten(0, 1)


def _shares(q: Tensor, k: Tensor, query: Tensor, key: Tensor, seen: Tensor | None, scale: float) -> Tensor:
    """[B x G, H / G x L, S]: softmax over the keys that each query sees."""
    batch, groups, keys, _ = key.shape
    length = query.shape[2]
    scores = torch.bmm(q, k.transpose(1, 2)).view(batch, groups, -1, length, keys)
    if seen is None:
        hidden = torch.ones(length, keys, dtype=torch.bool, device=scores.device).triu_(1)
    else:
        hidden = ~seen[:, :, None]
    least = torch.finfo(scores.dtype).min  # not -inf: a padded query may see nothing
    return scores.mul_(scale).masked_fill_(hidden, least).softmax(-1).view(batch * groups, -1, keys)


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

    Raises:
        ValueError: a mask over tokens that are laid end to end: the architecture makes one by itself.
    """

    def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return _attend(module, query, key, value, mask, dropout, scaling, is_causal, more)

    rows = laid_rows()
    if rows is None:
        return attended(query, key, value, attention_mask), None
    if attention_mask is not None:
        raise ValueError("tokens that are laid end to end take no mask")
    return rows.attend(query, key, value, attended), None


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    is_causal: bool | None,
    more: dict[str, Any],
) -> Tensor:
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    low = _low(query, value)
    learns = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    plain = (
        query.device.type == "cpu"
        and dropout == 0.0
        and more.get("position_bias") is None
        and more.get("softcap") is None
    )
    shared = key.shape[1] < query.shape[1]
    one_token = query.shape[2] == 1 and (shared or low is not None)
    if plain and not learns and one_token and _for_all_heads(attention_mask):
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return _one_token(query, key, value, attention_mask, scale)
    if plain and not learns and attention_mask is not None and shared:
        found = scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling, enable_gqa=True)
        return found.transpose(1, 2).contiguous()
    fits = (
        plain
        and low is not None
        and key.shape[2] <= (LONGEST if learns else KEPT)  # scoring rounds as training does
        and _masked_plainly(query, key, attention_mask, causal)
    )
    if not fits:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **more
        )[0]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast("cpu", enabled=False):
        found = _Attention.apply(query.to(low), key.to(low), value.to(low), attention_mask, scale)
    return found.transpose(1, 2).contiguous()


def _one_token(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float) -> Tensor:
    """[B, 1, H, D]: what one query [B, H, 1, D] of each row finds in all the keys that it sees; softmax in float32."""
    batch, heads, _, size = query.shape
    groups, keys = key.shape[1:3]
    extra = -keys % KEYS if key.dtype == torch.bfloat16 else 0
    if key.dtype == torch.bfloat16:  # oneDNN is slow with what lies in a larger buffer, and compiles for each shape
        key, value = (pad(states, (0, 0, 0, extra)) for states in (key, value))
    q, k, v = query.reshape(batch * groups, -1, size), key.flatten(0, 1), value.flatten(0, 1)
    scores = torch.bmm(q, k.transpose(1, 2)).view(batch, groups, -1, keys + extra)[..., :keys].float().mul_(scale)
    if seen is not None:
        scores.masked_fill_(~seen, torch.finfo(scores.dtype).min)  # not -inf: a row may see nothing
    share = pad(scores.softmax(-1).to(value.dtype), (0, extra)).view(batch * groups, -1, keys + extra)
    return torch.bmm(share, v).view(batch, 1, heads, -1)


def _low(query: Tensor, value: Tensor) -> torch.dtype | None:
    """bfloat16 where the products run in it, by autocast or because the tensors are; else nothing."""
    if torch.is_autocast_enabled("cpu"):
        return torch.bfloat16 if torch.get_autocast_dtype("cpu") == torch.bfloat16 else None
    return torch.bfloat16 if query.dtype == value.dtype == torch.bfloat16 else None


def _masked_plainly(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> bool:
    """Whether the mask is one of booleans for all heads, or none and the attention causal from the first token on."""
    if mask is None:
        return causal and query.shape[2] == key.shape[2] > 1
    return _for_all_heads(mask)


def _for_all_heads(mask: Tensor | None) -> bool:
    return mask is None or (mask.dtype == torch.bool and mask.dim() == 4 and mask.shape[1] == 1)


def mask(*arguments: Any, **named: Any) -> Tensor | None:
    """The stock mask; none of tokens that are laid end to end."""
    return None if laid_rows() is not None else sdpa_mask(*arguments, **named)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask)


def quicken(model: Any) -> None:
    """Let a model of transformers that runs on stock attention use this one. Its configuration on disk is unchanged."""
    if model.config._attn_implementation == "sdpa" and model._can_set_attn_implementation():
        model.set_attn_implementation(NAME)
