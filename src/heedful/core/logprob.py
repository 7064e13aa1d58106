"""The policy's distribution, and log-probabilities and entropies straight from hidden states.

`distribution` is the one place where logits become the policy's distribution: the sampler draws from it
and the trainer differentiates through it, so the two cannot drift apart.

`linear_logprob` applies the language-model head and reads off the log-probability of given tokens. The
head's output `[N, V]` is the largest tensor of training; above a stated size it is made a few rows at a
time, thrown away, and made again in the backward pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

KEEP_LOGITS = 2**23
"""Up to this many logits (N x V) they are kept for the backward pass; above it they are recomputed."""

CHUNK_LOGITS = 2**23
"""How many logits a chunk holds when the caller names no chunk, and `CHUNK_ROWS` allows."""

CHUNK_ROWS = 128
"""The fewest rows in such a chunk: every chunk reads and writes the whole gradient of the weight."""


def distribution(logits: Tensor, *, temperature: float, banned: Tensor | None) -> Tensor:
    """The logits of the policy's own distribution: what is sampled from, and what is trained.

    Banned tokens get no probability at all, and the rest are divided by the temperature. The result is
    float32 (float64 for float64 input) whatever the precision of the model, and a new tensor.

    Args:
        logits: [..., V], as the model's head gives them (after its own scale and soft-cap).
        temperature: above 0. Greedy decoding is the argmax at any temperature, so it has no value here.
        banned: [M] int64 token ids that the policy never says, or None.

    Returns:
        [..., V]; -inf at banned tokens.

    Raises:
        ValueError: the temperature is not a positive finite number, or nothing is left to say.
    """
    _check_distribution(logits.shape[-1], temperature, banned)
    own = logits.to(_exact_dtype(logits.dtype), copy=True)
    return _restrict_(own, temperature, banned)


def linear_logprob(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    banned: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target, and the entropy, under the head's distribution.

    The head's logits are `softcap * tanh(z / softcap)` with `z = scale * (hidden @ weight.T + bias)`; then
    `distribution` applies. The matrix products run in the precision of the inputs, or in autocast's; the
    softmax is float32 (float64 for float64 input). Both results are differentiable in `hidden`, `weight`
    and `bias`, once. The gradient of the weight is summed over chunks in float32.

    Args:
        hidden: [N, H] states that predict the targets (so already shifted).
        weight: [V, H] of the head.
        targets: [N] int64 token ids.
        bias: [V] of the head.
        scale: logits are multiplied by it (Cohere's `logit_scale`, one over Granite's `logits_scaling`).
        softcap: Gemma's `final_logit_softcapping`.
        temperature: of the distribution, above 0.
        banned: [M] int64 ids without probability.
        chunk: rows of logits held at once, recomputed in the backward pass. None chooses: everything is
            kept up to `KEEP_LOGITS` logits, where that is faster; above, chunks of about `CHUNK_LOGITS`.

    Returns:
        log-probabilities [N] and entropies [N], in nats, float32 (float64 for float64 input).

    Raises:
        ValueError: shapes do not fit, a target is out of range or banned (its log-probability would be
            minus infinity and its ratio undefined), the temperature is not positive.
    """
    _check_head(hidden, weight, targets, bias, softcap, chunk)
    _check_distribution(weight.shape[0], temperature, banned)
    _check_targets(targets, weight.shape[0], banned)
    return unchecked_logprob(
        hidden,
        weight,
        targets,
        bias=bias,
        scale=scale,
        softcap=softcap,
        temperature=temperature,
        banned=banned,
        chunk=chunk,
    )


def unchecked_logprob(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    banned: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`linear_logprob` without a look at the values of its arguments: for tensors that have none, as of a plan."""
    rows, vocabulary = targets.shape[0], weight.shape[0]
    needs_grad = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (hidden, weight, bias))
    keep = chunk is None and needs_grad and rows * vocabulary <= KEEP_LOGITS
    if chunk is None:
        chunk = max(CHUNK_ROWS, CHUNK_LOGITS // vocabulary)
    head = _Head(scale, softcap, temperature, banned, _matmul_dtype(hidden), chunk, keep)
    logprobs, entropy = _LinearLogprob.apply(hidden, weight, bias, targets, head)
    return logprobs, entropy


@torch.no_grad()
def linear_collision(
    hidden: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    banned: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """log sum_v pi(v)^2 of the head's distribution at every state, without gradient, a few rows at a time.

    It is the log of the chance that two draws agree, and so the log of the mean probability of a draw. Arguments as
    those of `linear_logprob`.

    Returns:
        [N] in nats, float32 (float64 for float64 input), from minus log V to 0.

    Raises:
        ValueError: shapes do not fit, or the temperature is not positive.
    """
    rows, vocabulary = hidden.shape[0], weight.shape[0]
    _check_head(hidden, weight, torch.zeros(rows, dtype=torch.int64), bias, softcap, chunk)
    _check_distribution(vocabulary, temperature, banned)
    if chunk is None:
        chunk = max(CHUNK_ROWS, CHUNK_LOGITS // vocabulary)
    head = _Head(scale, softcap, temperature, banned, _matmul_dtype(hidden), chunk, keep=False)
    collision = hidden.new_empty(rows, dtype=_exact_dtype(head.dtype))
    with torch.autocast(hidden.device.type, enabled=False):
        matrix, offset = weight.to(head.dtype), None if bias is None else bias.to(head.dtype)
        scratch = _Scratch(hidden, min(chunk, rows), vocabulary, head.dtype)
        for part in head.slices(rows):
            states = hidden[part].to(head.dtype)
            out = scratch.first[: states.shape[0]]
            logits = head.logits_(states, matrix, offset, out, scratch.product(states.shape[0], out))
            top = logits.amax(-1, keepdim=True)
            share = torch.exp(torch.sub(logits, top, out=out), out=out)
            collision[part] = -2 * share.sum(-1).log()
            collision[part] += share.square_().sum(-1).log()
    return collision


@dataclass(frozen=True)
class _Head:
    """What the head does besides its matrix, and how many rows at a time it does it for."""

    scale: float
    softcap: float | None
    temperature: float
    banned: Tensor | None
    dtype: torch.dtype  # of the matrix products
    chunk: int
    keep: bool  # the logits, until the backward pass

    def logits_(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, raw: Tensor) -> Tensor:
        """[n, V] logits of the distribution, into `out`; `raw` takes the product in `self.dtype`."""
        if bias is None:
            torch.mm(hidden, weight.t(), out=raw)
        else:
            torch.addmm(bias, hidden, weight.t(), out=raw)
        if raw.dtype != out.dtype:
            out.copy_(raw)
        if self.scale != 1.0:
            out.mul_(self.scale)
        if self.softcap is not None:
            out.div_(self.softcap).tanh_().mul_(self.softcap)
        return _restrict_(out, self.temperature, self.banned)

    def slope(self, logits: Tensor) -> Tensor | float:
        """Derivative of the distribution's logits by the matrix product."""
        constant = self.scale / self.temperature
        if self.softcap is None:
            return constant
        slope = logits.mul(self.temperature / self.softcap).square_().neg_().add_(1.0).mul_(constant)
        return slope if self.banned is None else slope.index_fill_(-1, self.banned, 0.0)

    def slices(self, rows: int) -> list[slice]:
        return [slice(start, min(start + self.chunk, rows)) for start in range(0, rows, self.chunk)]


class _Scratch:
    """Work space for one chunk of logits, taken once: fresh pages for every chunk cost more than the sums."""

    def __init__(self, like: Tensor, rows: int, vocabulary: int, dtype: torch.dtype) -> None:
        exact = _exact_dtype(dtype)
        self.first = like.new_empty(rows, vocabulary, dtype=exact)
        self.second = like.new_empty(rows, vocabulary, dtype=exact)
        self.low = None if dtype == exact else like.new_empty(rows, vocabulary, dtype=dtype)

    def product(self, rows: int, out: Tensor) -> Tensor:
        """Where the matrix product of `rows` rows goes: `out` itself when the precisions agree."""
        return out if self.low is None else self.low[:rows]

    def lower(self, gradient: Tensor) -> Tensor:
        """`gradient` in the precision of the matrix products."""
        return gradient if self.low is None else self.low[: gradient.shape[0]].copy_(gradient)


class _LinearLogprob(torch.autograd.Function):
    """Log-probabilities and entropies by rows; the backward pass makes again what was not kept."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: _Head
    ) -> tuple[Tensor, Tensor]:
        rows, vocabulary = targets.shape[0], weight.shape[0]
        logprobs, entropy, log_total = (hidden.new_empty(rows, dtype=_exact_dtype(head.dtype)) for _ in range(3))
        kept: list[Tensor] = []
        with torch.autocast(hidden.device.type, enabled=False):
            matrix, offset = weight.to(head.dtype), None if bias is None else bias.to(head.dtype)
            scratch = _Scratch(hidden, min(head.chunk, rows), vocabulary, head.dtype)
            for part in head.slices(rows):
                states = hidden[part].to(head.dtype)
                size = states.shape[0]
                out = torch.empty_like(scratch.first[:size]) if head.keep else scratch.first[:size]
                logits = head.logits_(states, matrix, offset, out, scratch.product(size, out))
                chosen = logits.gather(-1, targets[part, None]).squeeze(-1)
                log_total[part], entropy[part] = _summary(
                    logits, head.banned, scratch.first[:size], scratch.second[:size]
                )
                logprobs[part] = chosen - log_total[part]
                if head.keep:
                    kept.append(logits)
        ctx.head = head
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden, weight, bias, targets, log_total, entropy, *kept)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, logprob_gradient: Tensor | None, entropy_gradient: Tensor | None) -> tuple:
        hidden, weight, bias, targets, log_total, entropy, *kept = ctx.saved_tensors
        head: _Head = ctx.head
        if logprob_gradient is None and entropy_gradient is None:
            return None, None, None, None, None
        rows, vocabulary = targets.shape[0], weight.shape[0]
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        out_hidden = torch.zeros_like(hidden) if for_hidden else None
        out_weight, out_bias = _Sum(weight), _Sum(bias)
        with torch.autocast(hidden.device.type, enabled=False):
            matrix, offset = weight.to(head.dtype), None if bias is None else bias.to(head.dtype)
            scratch = _Scratch(hidden, min(head.chunk, rows), vocabulary, head.dtype)
            for number, part in enumerate(head.slices(rows)):
                states = hidden[part].to(head.dtype)
                first, second = scratch.first[: states.shape[0]], scratch.second[: states.shape[0]]
                if kept:
                    logits = kept[number]
                else:
                    raw = scratch.product(states.shape[0], first)
                    logits = head.logits_(states, matrix, offset, first, raw)
                slope = head.slope(logits)
                log_p = torch.sub(logits, log_total[part, None], out=first)
                by_logprob = None if logprob_gradient is None else logprob_gradient[part, None]
                by_entropy = None if entropy_gradient is None else entropy_gradient[part, None]
                gradient = _distribution_gradient_(
                    log_p,
                    targets[part, None],
                    entropy[part, None],
                    by_logprob,
                    by_entropy,
                    head.banned,
                    second,
                ).mul_(slope)
                if for_bias:
                    out_bias.add(gradient.sum(0))
                gradient = scratch.lower(gradient)
                if out_hidden is not None:
                    out_hidden[part] = gradient @ matrix
                if for_weight:
                    out_weight.add_product(gradient.t(), states)
        return (
            out_hidden,
            out_weight.value() if for_weight else None,
            out_bias.value() if for_bias else None,
            None,
            None,
        )


class _Sum:
    """A gradient added up over chunks, in float32 at least as soon as there are two of them."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.total: Tensor | None = None

    def add(self, gradient: Tensor) -> None:
        if self.total is None:
            self.total = gradient
        else:
            self.total = self.total.to(_exact_dtype(self.total.dtype)).add_(gradient)

    def add_product(self, left: Tensor, right: Tensor) -> None:
        if self.total is not None and left.dtype == _exact_dtype(left.dtype):
            self.total.addmm_(left, right)
        else:
            self.add(left @ right)

    def value(self) -> Tensor:
        return torch.zeros_like(self.like) if self.total is None else self.total.to(self.like.dtype)


def _summary(logits: Tensor, banned: Tensor | None, below: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Log-partition and entropy of each row. Both terms of the entropy are positive: nothing cancels.

    `below` (may be `logits` itself) and `share` are work space.
    """
    top = logits.amax(-1, keepdim=True)
    torch.sub(logits, top, out=below)
    torch.exp(below, out=share)
    total = share.sum(-1)
    if banned is not None:
        below.index_fill_(-1, banned, 0.0)
    log_total = total.log()
    return top.squeeze(-1) + log_total, log_total - share.mul_(below).sum(-1).div_(total)


def _distribution_gradient_(
    log_p: Tensor,
    targets: Tensor,
    entropy: Tensor,
    by_logprob: Tensor | None,
    by_entropy: Tensor | None,
    banned: Tensor | None,
    out: Tensor,
) -> Tensor:
    """[n, V] gradient by the distribution's logits, in `out`; uses up `log_p`. The rest is [n, 1].

    By the log-probability of y it is g (1[v = y] - p_v); by the entropy H it is -g p_v (log p_v + H).
    """
    gradient = torch.exp(log_p, out=out)
    if by_entropy is not None:
        if banned is not None:
            log_p.index_fill_(-1, banned, 0.0)
        factor = log_p.add_(entropy).mul_(-by_entropy)
        gradient.mul_(factor if by_logprob is None else factor.sub_(by_logprob))
    elif by_logprob is not None:
        gradient.mul_(-by_logprob)
    if by_logprob is not None:
        gradient.scatter_add_(-1, targets, by_logprob)
    return gradient


def _restrict_(logits: Tensor, temperature: float, banned: Tensor | None) -> Tensor:
    """`distribution` in place, for logits that nobody else holds."""
    if temperature != 1.0:
        logits.div_(temperature)
    if banned is not None:
        logits.index_fill_(-1, banned, -torch.inf)
    return logits


def _exact_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _matmul_dtype(hidden: Tensor) -> torch.dtype:
    """The precision of the head's matrix products: autocast's where autocast would act, else the inputs'."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return hidden.dtype


def _check_distribution(vocabulary: int, temperature: float, banned: Tensor | None) -> None:
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
    if banned is None:
        return
    if banned.dtype != torch.int64 or banned.dim() != 1:
        raise ValueError(f"banned must be [M] int64, got {list(banned.shape)} {banned.dtype}")
    if banned.numel() and not 0 <= int(banned.min()) <= int(banned.max()) < vocabulary:
        raise ValueError(f"banned holds a token outside 0..{vocabulary - 1}")
    if banned.numel() >= vocabulary and banned.unique().numel() == vocabulary:
        raise ValueError("every token is banned: the distribution is empty")


def _check_head(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    softcap: float | None,
    chunk: int | None,
) -> None:
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden [N, H] and weight [V, H] do not fit: {list(hidden.shape)}, {list(weight.shape)}")
    if targets.shape != hidden.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(f"targets must be [{hidden.shape[0]}] int64, got {list(targets.shape)} {targets.dtype}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be [{weight.shape[0]}], got {list(bias.shape)}")
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap must be above 0, got {softcap}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 row, got {chunk}")


def _check_targets(targets: Tensor, vocabulary: int, banned: Tensor | None) -> None:
    if targets.numel() == 0:
        return
    if not 0 <= int(targets.min()) <= int(targets.max()) < vocabulary:
        raise ValueError(f"targets hold a token outside 0..{vocabulary - 1}")
    if banned is not None:
        forbidden = torch.isin(targets, banned)
        if bool(forbidden.any()):
            place = int(forbidden.nonzero()[0, 0])
            raise ValueError(
                f"target {int(targets[place])} at position {place} is banned: the policy never says it, "
                "so its log-probability is minus infinity"
            )
