"""Norms and rotary positions of bfloat16 models on a CPU, in a third of the passes over memory.

There elementwise work takes longer than the matrix products. transformers' own modules and functions stay in place
where they compute something else than RMSNorm as Llama has it and the usual rotation by halves, which is found out by
trying and by comparing code; and whenever an input is not bfloat16 on a CPU.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Rotate = Callable[..., tuple[Tensor, Tensor]]


def _applies(states: Tensor) -> bool:
    # torch.compile fuses what transformers' own code does, better than this
    return states.dtype == torch.bfloat16 and states.device.type == "cpu" and not torch.compiler.is_compiling()


class _Norm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + epsilon) * weight over the last dimension, H long."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        length = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=torch.float32)
        exact = length.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states, weight, exact.to(states.dtype))
        # by a factor that is rounded itself, a row as a whole would become too long or too short
        return (states * exact).to(states.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        states, weight, inverse = ctx.saved_tensors
        width = states.shape[-1]
        product = (gradient * states).reshape(-1, width)  # neither need lie in the order of its dimensions
        scale = inverse.reshape(-1)
        for_weight = None
        if ctx.needs_input_grad[1]:
            for_weight = torch.mv(product.t(), scale)
        share = torch.mv(product, weight).float().mul_(scale.float().square_()).div_(-width)
        for_states = gradient * weight
        for_states.addcmul_(states, share.to(states.dtype).reshape(inverse.shape)).mul_(inverse)
        return for_states, for_weight, None


class _QuickNorm:
    """Comes before a norm's own class, whose forward pass it takes over where it applies."""

    weight: Tensor

    def forward(self, states: Tensor) -> Tensor:
        if not (_applies(states) and self.weight.dtype == states.dtype):
            return super().forward(states)  # type: ignore[misc]
        return _Norm.apply(states, self.weight, epsilon_of(self))


def epsilon_of(norm: Any) -> float | None:
    """What a norm adds to the mean square, by the names that transformers' classes have for it."""
    found = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    return float(found) if isinstance(found, float) else None


@torch.no_grad()
def is_plain_norm(norm: nn.Module) -> bool:
    """Whether a module is RMSNorm with a weight, tried on one row of numbers."""
    weight, epsilon = getattr(norm, "weight", None), epsilon_of(norm)
    if not type(norm).__name__.endswith("RMSNorm") or weight is None or weight.dim() != 1 or epsilon is None:
        return False
    states = torch.linspace(-2, 3, len(weight), dtype=torch.bfloat16)[None]
    try:
        expected = norm(states).float()
    except (TypeError, ValueError, RuntimeError):
        return False
    exact = states.float() * torch.rsqrt(states.float().square().mean() + epsilon) * weight.float()
    return expected.shape == exact.shape and torch.allclose(expected, exact, rtol=2**-6, atol=2**-8)


class _Rotation(torch.autograd.Function):
    """x cos + rotate_half(x) sin over the last dimension of x [B, T, H, D], with cos and sin [1, T, D].

    Heads are short, so cos and sin are laid out for all H of them at once, and halves change places by a matrix
    product.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        heads, size = states.shape[-2:]
        wide_cos, wide_sin = (table.repeat(1, 1, heads) for table in (cos, sin))
        ctx.save_for_backward(wide_cos, wide_sin)
        turned = states.view(-1, size) @ _half_turn(size, states.dtype)
        out = states.flatten(2) * wide_cos
        return out.addcmul_(turned.view(out.shape), wide_sin).view(states.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        wide_cos, wide_sin = ctx.saved_tensors
        size = gradient.shape[-1]
        flat = gradient.contiguous().flatten(2)
        out = flat * wide_cos
        turned = (flat * wide_sin).view(-1, size)
        out.view(-1, size).addmm_(turned, _half_turn(size, gradient.dtype).t())
        return out.view(gradient.shape), None, None


def _half_turn(size: int, dtype: torch.dtype) -> Tensor:
    """[D, D]: x @ it is rotate_half(x). Made anew for each pass: one kept from a rehearsal would have no data."""
    turn = torch.zeros(size, size, dtype=dtype)
    turn.diagonal(size // 2).fill_(1.0)
    turn.diagonal(-(size // 2)).fill_(-1.0)
    return turn


def _quick_rotation(own: Rotate) -> Rotate:
    @functools.wraps(own)
    def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
        alike = cos.dtype == sin.dtype == q.dtype and cos.shape[0] == 1 and cos.shape[-1] == q.shape[-1]
        if not (alike and unsqueeze_dim == 1 and q.shape[2] > 1 and _applies(q) and _applies(k)):
            return own(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
        wide = [states.transpose(1, 2).contiguous() for states in (q, k)]
        turned_q, turned_k = (_Rotation.apply(states, cos, sin).transpose(1, 2) for states in wide)
        return turned_q, turned_k

    return rotate


def _is_usual(module: Any) -> bool:
    """Whether a modelling module's rotation is Llama's, instruction for instruction."""
    from transformers.models.llama import modeling_llama as llama

    def same(name: str) -> bool:
        found, usual = getattr(getattr(module, name, None), "__code__", None), getattr(llama, name)
        usual = getattr(usual, "__wrapped__", usual).__code__
        return found is not None and (found.co_code, found.co_names) == (usual.co_code, usual.co_names)

    return same("apply_rotary_pos_emb") and same("rotate_half")


def install(model: nn.Module) -> None:
    """Quicken a model of transformers that will run in bfloat16 on a CPU.

    Its norms take another class each. The rotation is a function of the architecture's module, which is replaced there,
    for all models of the architecture in this process; in other precisions and on other devices it does what it did.
    """
    for part in model.modules():
        module = sys.modules[type(part).__module__]
        if _is_usual(module):
            module.apply_rotary_pos_emb = _quick_rotation(module.apply_rotary_pos_emb)  # type: ignore[attr-defined]
        if not isinstance(part, _QuickNorm) and is_plain_norm(part):
            part.__class__ = type(type(part).__name__, (_QuickNorm, type(part)), {"__module__": type(part).__module__})


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Inside, linear layers of a bfloat16 model on a CPU multiply by weights in oneDNN's own layout. No gradients.

    Stock layers lay a weight out anew for every product, which at a few dozen rows takes as long as the product. The
    layouts take as much memory as the weights, until the block ends.
    """
    quick: list[nn.Linear] = []
    try:
        for part in model.modules():
            own = "forward" not in vars(part)  # else it was replaced: packed already, or hooked by another library
            if type(part) is nn.Linear and own and _applies(part.weight) and can_pack():
                weight = torch.ops.mkldnn._reorder_linear_weight(part.weight.detach(), None)
                part.forward = functools.partial(_multiply, weight, part.bias)  # type: ignore[method-assign]
                quick.append(part)
        yield
    finally:
        for part in quick:
            del part.forward


def _multiply(weight: Tensor, bias: Tensor | None, states: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(states.to(torch.bfloat16), weight, bias, "none", [], "")


@functools.lru_cache(maxsize=1)
def can_pack() -> bool:
    """Whether this build of PyTorch has the operations, which Inductor uses too, and they give what they should."""
    states, weight = (torch.linspace(-2, 3, rows * 16).view(rows, 16).bfloat16() for rows in (3, 8))
    with torch.autocast("cpu", enabled=False):
        try:
            found = _multiply(torch.ops.mkldnn._reorder_linear_weight(weight, None), None, states)
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.allclose(found.float(), states.float() @ weight.float().t(), atol=0.1, rtol=0.1)
