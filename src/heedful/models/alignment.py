"""The one place where positions shift: the hidden state at t - 1 predicts token t.

Everywhere else index `t` describes token `t`: its log-probability, its value (V of the prefix before it), its
advantage, its mask. Sequences are padded on the right, so positions count from 0 in every row and causal
attention never sees padding; the trunk needs no attention mask, and a row's result does not depend on others.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from heedful.models.adapters import underlying

logging.getLogger("transformers.modeling_utils").addFilter(
    lambda record: "recommend passing in an `attention_mask`" not in str(record.msg)
)
# GPT-2 warns when it sees padding without a mask. Padding on the right, under causal attention, needs none.


def hidden_states(model: Any, tokens: Tensor, attention: Tensor) -> Tensor:
    """Last hidden states, after the final norm and before any head.

    Args:
        model: a causal language model or sequence classifier of transformers, or a PeftModel around one.
        tokens: [B, T] int64, padded on the right.
        attention: [B, T] bool, True at real tokens.

    Returns:
        [B, T, H]; meaningless at padding.

    Raises:
        ValueError: shapes differ, or a row has padding before a real token.
    """
    if tokens.shape != attention.shape or tokens.dim() != 2:
        raise ValueError(f"tokens and attention must both be [B, T], got {list(tokens.shape)}, {list(attention.shape)}")
    if tokens.shape[1] > 1 and bool((attention[:, 1:] > attention[:, :-1]).any()):
        raise ValueError("sequences must be padded on the right: a row has padding before a real token")
    return underlying(model).base_model(input_ids=tokens, use_cache=False).last_hidden_state


def branched_hidden_states(model: Any, tokens: Tensor, positions: Tensor, branch: Tensor) -> Tensor:
    """Last hidden states of rows in which several answers stand one behind another after the prompt that they share.

    A token attends to the prompt and to its own branch, and counts its position from the start of the prompt: its
    state is that of the prompt followed by its own answer alone. Exact for attention with absolute or rotary
    positions, sliding windows included; `heedful.training.shared_prompt` compares before it relies on it.

    Args:
        model: as for `hidden_states`.
        tokens: [B, T] int64, padded on the right.
        positions: [B, T] int64, where a token stands in its own sequence.
        branch: [B, T] int64, 0 for the prompt, then a number for each answer; padding has one of its own.

    Returns:
        [B, T, H]; meaningless at padding.
    """
    inner = underlying(model)
    before = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril()
    own = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    seen = (before & own)[:, None]  # [B, 1, T queries, T keys]
    config = inner.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    near = seen if window is None else seen & (positions[:, :, None] - positions[:, None, :] < window)[:, None]
    mask: Any = seen if window is None or kinds == {"full_attention"} else near
    if "sliding_attention" in kinds:
        mask = {kind: near if kind == "sliding_attention" else seen for kind in kinds}
    out = inner.base_model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False)
    return out.last_hidden_state


def masked_positions(mask: Tensor) -> Tensor:
    """[N] int64: flat positions (row * T + t) of the masked tokens, in reading order.

    Raises:
        ValueError: the first token of a row is masked; nothing comes before it to predict it from.
    """
    if bool(mask[:, 0].any()):
        raise ValueError("the first token of a row has nothing before it, so the mask must be False there")
    return mask.flatten().nonzero().squeeze(1)


def previous(hidden: Tensor, mask: Tensor, positions: Tensor | None = None) -> Tensor:
    """The states that predict the masked tokens: for a masked token t, the hidden state at t - 1.

    Args:
        hidden: [B, T, H].
        mask: [B, T] bool, False in the first column.
        positions: `masked_positions(mask)` where the caller has it already.

    Returns:
        [N, H], N masked tokens in reading order.
    """
    if positions is None:
        positions = masked_positions(mask)
    return hidden.flatten(0, 1).index_select(0, positions - 1)


def place(values: Tensor, mask: Tensor) -> Tensor:
    """[B, T]: a value per masked token [N] put at its token, zero elsewhere. Differentiable."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)
