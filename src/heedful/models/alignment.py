"""The one place where positions shift: the hidden state at t - 1 predicts token t.

Everywhere else index `t` describes token `t`: its log-probability, its value (V of the prefix before it), its
advantage, its mask. Sequences are padded on the right, so positions count from 0 in every row and causal
attention never sees padding; the trunk needs no attention mask, and a row's result does not depend on others.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from heedful.models.adapters import underlying
from heedful.models.attention import NAME
from heedful.models.compiling import is_compiled
from heedful.models.modes import evaluating
from heedful.models.padding_free import WORTH, Rows, Shared, laying

logging.getLogger("transformers.modeling_utils").addFilter(
    lambda record: "recommend passing in an `attention_mask`" not in str(record.msg)
)
# GPT-2 warns when it sees padding without a mask. Padding on the right, under causal attention, needs none.


ROWS, WIDTHS, LAID = 4, 8, 64
"""Multiples that batches are filled up to with padding where `compiles_by_shape`, so that few shapes occur; and those
of tokens that are laid end to end."""


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
    inner = underlying(model)
    rows, width = tokens.shape
    if tokens.device.type == "cpu" and attention.sum() <= WORTH * tokens.numel() and lays(inner):
        return _laid_states(inner, tokens, attention)
    return _padded_states(inner, tokens)[:rows, :width]


def _padded_states(inner: Any, tokens: Tensor) -> Tensor:
    if compiles_by_shape(inner):
        tokens = pad(tokens, (0, _fill(inner, tokens.shape[1]), 0, -len(tokens) % ROWS))
    return inner.base_model(input_ids=tokens, use_cache=False).last_hidden_state


def _laid_states(inner: Any, tokens: Tensor, attention: Tensor) -> Tensor:
    rows, width = tokens.shape
    multiple = 1
    if compiles_by_shape(inner):
        multiple, tokens, attention = LAID, _rounded(tokens), _rounded(attention)
    laid = Rows.of(attention, multiple)
    return laid.block.parted(_laid(inner, laid, *laid.laid(tokens)))[:rows, :width]


def _rounded(table: Tensor) -> Tensor:
    """A table [B, T], with zeros below and on the right."""
    return pad(table, (0, -table.shape[1] % WIDTHS, 0, -len(table) % ROWS))


def _laid(inner: Any, rows: Rows | Shared, tokens: Tensor, positions: Tensor) -> Tensor:
    """[1, count, H]: last hidden states of tokens that are laid end to end."""
    with laying(rows):
        return inner.base_model(input_ids=tokens, position_ids=positions, use_cache=False).last_hidden_state


def lays(inner: Any) -> bool:
    """Whether rows laid end to end (`heedful.models.padding_free`) give a model the states that padded ones give it.

    It runs on a CPU with our attention, neither compiled nor recomputing its activations, and all of its layers are
    plain attention; then it is tried, once, on a few tokens.
    """
    weight = inner.get_input_embeddings().weight
    ready = weight.device.type == "cpu" and not _is_sharded(inner) and not recomputes(inner)
    if not ready or inner.config._attn_implementation != NAME or is_compiled(inner):
        return False
    if inner not in _LAYS:
        _LAYS[inner] = _is_plain(inner) and _lays(inner)
    return _LAYS[inner]


_LAYS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _is_sharded(model: Any) -> bool:
    """Whether its layers are parted among workers: a trial by one of them would wait for the others."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(part, FSDPModule) for part in model.modules())


def _lays(inner: Any) -> bool:
    device = inner.get_input_embeddings().weight.device
    tokens = torch.tensor([[3, 1, 2, 1], [2, 3, 0, 0], [1, 3, 2, 0]], device=device)
    tokens = tokens % inner.get_input_embeddings().weight.shape[0]
    attention = torch.arange(4, device=device) < torch.tensor([[4], [2], [3]], device=device)
    with evaluating(inner):
        whole = _padded_states(inner, tokens)[:3, :4][attention]
        try:
            found = _laid_states(inner, tokens, attention)[attention]
        except FAILURES:
            return False
    return _alike(found, whole)


def _fill(model: Any, width: int) -> int:
    """Columns to add to rows of so many tokens; none beyond the positions that a model was made for."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    extra = -width % WIDTHS
    return extra if limit is None else min(extra, max(limit - width, 0))


def compiles_by_shape(model: Any) -> bool:
    """Whether matrix products of a model are compiled anew for every shape: oneDNN's are, in bfloat16 on a CPU.

    One takes longer to compile than to run at a thousand tokens (benchmarks/quick_operations.py), and a thousand are
    kept.
    """
    weight = model.get_input_embeddings().weight
    return weight.device.type == "cpu" and (weight.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"))


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


def continued_hidden_states(
    model: Any, prompts: Tensor, real: Tensor, answers: Tensor, told: Tensor, parents: Tensor
) -> Tensor:
    """Last hidden states of answers that go on from prompts, each prompt read once for all of its answers.

    Prompts and answers are laid end to end where a model allows it (`lays`). Else the answers attend to the prompts'
    keys and values in a cache of transformers, through which gradients go back.

    Args:
        model: as for `hidden_states`; one for which `continues` holds.
        prompts: [P, L] int64, padded on the right.
        real: [P, L] bool, True at real tokens, the first column included.
        answers: [B, A] int64, padded on the right; A may be 0.
        told: [B, A] bool, True at real tokens.
        parents: [B] int64, which prompt each answer goes on from.

    Returns:
        [B, 1 + A, H]: at the last token of each answer's prompt, then at its own; meaningless at padding.
    """
    inner = underlying(model)
    if answers.shape[1] and lays(inner):
        return _shared_states(inner, prompts, real, answers, told, parents)
    cache: Any = DynamicCache(config=inner.config)
    rows, width = answers.shape
    prompts, real = _flushed(prompts, real)
    extra = 0
    if compiles_by_shape(inner):
        prompts, real = _filled(prompts), _filled(real)
        parents = pad(parents, (0, -rows % ROWS))
        extra = -width % WIDTHS
        answers = pad(answers, (0, extra, 0, -rows % ROWS))
    padded = not bool(real.all())
    states = _through(inner, cache, prompts, real if padded else None, (real.cumsum(1) - 1).clamp_(min=0))
    last = states[parents, -1:]
    if width == 0:
        return last[:rows]
    cache.layers = [_Continued(layer, parents) for layer in cache.layers]
    seen = torch.cat([real[parents], torch.ones_like(answers, dtype=torch.bool)], dim=1) if padded else None
    positions = real.sum(1)[parents, None] + torch.arange(width, device=answers.device)
    positions = pad(positions, (0, extra))  # a column that is filled up may have no position behind the others
    after = _through(inner, cache, answers, seen, positions)
    return torch.cat([last, after], dim=1)[:rows, : width + 1]


def _shared_states(inner: Any, prompts: Tensor, real: Tensor, answers: Tensor, told: Tensor, parents: Tensor) -> Tensor:
    rows, width = answers.shape
    multiple = 1
    if compiles_by_shape(inner):
        multiple = LAID
        prompts, real, answers, told = map(_rounded, (prompts, real, answers, told))
        parents = pad(parents, (0, -rows % ROWS))
    laid = Shared.of(real, told, parents, multiple)
    return laid.states(_laid(inner, laid, *laid.laid(prompts, answers)))[:rows, : width + 1]


def _flushed(prompts: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that are padded on the right, padded on the left."""
    width = prompts.shape[1]
    before = width - real.sum(1)
    from_column = torch.arange(width, device=prompts.device) - before[:, None]
    return prompts.gather(1, from_column.clamp(min=0)), from_column >= 0


class _Continued(DynamicLayer):
    """The keys and values of prompts, copied for the answers behind them when their layer asks, and not kept."""

    def __init__(self, layer: DynamicLayer, parents: Tensor) -> None:
        super().__init__()
        self.__dict__.update(vars(layer))
        self.parents = parents

    def update(self, key_states: Tensor, value_states: Tensor, *more: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """The prompts' and the answers' [B, G, S, D]."""
        assert self.keys is not None
        assert self.values is not None
        keys, values = (states.index_select(0, self.parents) for states in (self.keys, self.values))
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def _filled(table: Tensor) -> Tensor:
    """[P, L] filled up on the left with zeros, and below with copies of the first row."""
    count, width = table.shape
    table = pad(table, (-width % WIDTHS, 0))
    return torch.cat([table, table[:1].expand(-count % ROWS, -1)])


def _through(inner: Any, cache: Any, tokens: Tensor, seen: Tensor | None, positions: Tensor) -> Tensor:
    """Last hidden states of tokens behind those of a cache, which takes them up."""
    base = inner.base_model
    known = inspect.signature(base.forward).parameters
    name = "cache" if "cache" in known else "past_key_values"  # newer transformers, and older
    given = {"attention_mask": seen, "position_ids": positions, name: cache}
    given = {key: value for key, value in given.items() if key in known}
    return base(input_ids=tokens, use_cache=True, **given).last_hidden_state


def continues(model: Any) -> bool:
    """Whether `continued_hidden_states` gives a model the states that whole rows give it, tried on three tokens.

    A model whose layers are not all plain attention is told so without a trial, as is one that recomputes its
    activations: that goes with no cache.
    """
    inner = underlying(model)
    if recomputes(inner) or not _is_plain(inner):
        return False
    device = inner.get_input_embeddings().weight.device
    row = torch.tensor([[3, 1, 2, 1]], device=device) % inner.get_input_embeddings().weight.shape[0]
    with evaluating(model):
        whole = hidden_states(model, row, torch.ones_like(row, dtype=torch.bool))
        prompts = torch.cat([row[:, :2], row[:, -1:]], dim=1).repeat(2, 1)  # the last column is padding
        real = torch.tensor([[True, True, False]] * 2, device=device)
        answers, told = row[:, 2:], torch.ones_like(row[:, 2:], dtype=torch.bool)
        try:
            parents = torch.tensor([1], device=device)
            found = continued_hidden_states(model, prompts, real, answers, told, parents)
        except FAILURES:
            return False
    return _alike(found, whole[:, 1:])


def _is_plain(inner: Any) -> bool:
    """Whether all layers are plain attention, whose positions do not depend on the length of the whole."""
    config = inner.config.get_text_config()
    if _turns_by_length(config) or getattr(
        config, "attn_temperature_tuning", False
    ):  # Llama 4's, by place in the input
        return False
    try:
        layers = DynamicCache(config=inner.config).layers
    except FAILURES:
        return False
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _alike(found: Tensor, expected: Tensor) -> bool:
    if found.dtype == torch.float32:
        return torch.allclose(found, expected.float(), atol=1e-3, rtol=1e-3)
    apart = (found.float() - expected.float()).norm()  # single numbers of a deep model's states stray further
    return bool(apart <= 0.1 * expected.float().norm())


FAILURES = (
    TypeError,
    ValueError,
    RuntimeError,
    KeyError,
    AttributeError,
    NotImplementedError,
    IndexError,
    AssertionError,
)
"""How an architecture may say that it cannot be run in another way than its own."""


def _turns_by_length(config: Any) -> bool:
    """Whether rotary positions depend on how long the whole input is, so a prompt's on the answers behind it."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]  # one for each type of layer, or one
    return any(kind.get("rope_type", kind.get("type")) in ("dynamic", "longrope") for kind in kinds)


def recomputes(model: Any) -> bool:
    """Whether activations are recomputed in the backward pass (gradient checkpointing), which goes with no cache."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


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
