"""Norms, rotations and packed products: as exact as those of transformers, and only where they belong."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama import modeling_llama as llama_module
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from heedful.models import kernels
from heedful.models.kernels import install, is_plain_norm, packed_weights
from heedful.models.low_precision import lower

OWN = getattr(llama_module.apply_rotary_pos_emb, "__wrapped__", llama_module.apply_rotary_pos_emb)
"""transformers' own rotation, whether or not it has been replaced in this process."""


def error(found: Tensor, exact: Tensor) -> float:
    """Relative, over all numbers together."""
    return float((found.detach().float() - exact).norm() / exact.norm())


def norm_and_input() -> tuple[LlamaRMSNorm, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    norm = LlamaRMSNorm(96, eps=1e-5)
    norm.weight.data = (torch.randn(96, generator=draw) + 1).bfloat16().float()
    states, gradient = (torch.randn(3, 20, 96, generator=draw).bfloat16() for _ in range(2))
    return norm, states, gradient


def passes(norm: nn.Module, states: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    given = states.clone().requires_grad_()
    out = norm(given)
    out.backward(gradient)
    return out.detach(), given.grad, norm.weight.grad  # type: ignore[return-value]


def test_a_quick_norm_is_as_exact_as_the_stock_one() -> None:
    norm, states, gradient = norm_and_input()
    exact = passes(copy.deepcopy(norm), states.float(), gradient.float())
    stock = passes(copy.deepcopy(norm).bfloat16(), states, gradient)
    quick_norm = copy.deepcopy(norm).bfloat16()
    install(quick_norm)
    assert isinstance(quick_norm, kernels._QuickNorm)
    quick = passes(quick_norm, states, gradient)
    for found, usual, true in zip(quick, stock, exact, strict=True):
        assert found.dtype == torch.bfloat16
        assert error(found, true) < max(2 * error(usual, true), 0.004)


def test_a_quick_norm_makes_no_row_longer_or_shorter_as_a_whole() -> None:
    """Numbers are rounded one by one; a factor rounded for all of a row would go into sharp attention squared."""
    norm, states, _ = norm_and_input()
    stock, quick = (copy.deepcopy(norm).bfloat16() for _ in range(2))
    install(quick)
    with torch.no_grad():
        exact = norm(states.float())
        off = [
            float(((one(states) * exact).sum(-1) / exact.square().sum(-1) - 1).abs().mean()) for one in (quick, stock)
        ]
    assert off[0] <= 1.2 * off[1]


@pytest.mark.parametrize("order", [(2, 0, 1, 3), (1, 0, 2, 3)])
def test_norms_and_rotations_take_gradients_in_any_layout(order: tuple[int, ...]) -> None:
    """As attention hands them back where it goes on from a cache: heads before tokens in memory, or tokens first."""
    draw = torch.Generator().manual_seed(2)
    states, gradient = (torch.randn(2, 5, 3, 16, generator=draw).bfloat16() for _ in range(2))
    weight = (torch.randn(16, generator=draw) + 1).bfloat16().requires_grad_()
    angles = torch.rand(1, 5, 8, generator=draw) * 6
    cos, sin = (torch.cat([one, one], -1).bfloat16() for one in (angles.cos(), angles.sin()))
    back = [order.index(place) for place in range(4)]
    laid_out = gradient.permute(order).contiguous().permute(back)
    assert not laid_out.is_contiguous()
    for kernel, more in ((kernels._Norm, (weight, 1e-6)), (kernels._Rotation, (cos, sin))):
        found = []
        for given in (gradient, laid_out):
            leaf = states.clone().requires_grad_()
            kernel.apply(leaf, *more).backward(given)
            found.append(leaf.grad)
        assert torch.equal(found[0], found[1])


def test_a_quick_norm_in_float32_is_the_stock_one() -> None:
    norm, states, gradient = norm_and_input()
    quick = copy.deepcopy(norm)
    install(quick)
    given = states.float(), gradient.float()
    for found, usual in zip(passes(quick, *given), passes(norm, *given), strict=True):
        assert torch.equal(found, usual)


def test_norms_of_another_kind_are_left_alone() -> None:
    norm = Gemma3RMSNorm(32)
    norm.weight.data.fill_(0.5)  # it multiplies by 1.5
    assert not is_plain_norm(norm.bfloat16())
    assert not is_plain_norm(nn.LayerNorm(32).bfloat16())
    assert is_plain_norm(LlamaRMSNorm(32).bfloat16())


@pytest.mark.parametrize("rows", [1, 4])
def test_a_quick_rotation_is_as_exact_as_the_stock_one(rows: int) -> None:
    draw = torch.Generator().manual_seed(1)
    angles = torch.rand(rows, 12, 8, generator=draw) * 6
    cos, sin = (torch.cat([one, one], -1).bfloat16() for one in (angles.cos(), angles.sin()))
    q, k, gradient = (torch.randn(4, 12, 3, 16, generator=draw).bfloat16().transpose(1, 2) for _ in range(3))
    found = {}
    for name, rotate, dtype in (
        ("exact", OWN, torch.float32),
        ("stock", OWN, torch.bfloat16),
        ("quick", kernels._quick_rotation(OWN), torch.bfloat16),
    ):
        given = [one.to(dtype).detach().requires_grad_() for one in (q, k)]
        out = rotate(*given, cos.to(dtype), sin.to(dtype))
        torch.autograd.backward(list(out), [gradient.to(dtype)] * 2)
        found[name] = [*out, *(one.grad for one in given)]
    for quick, stock, exact in zip(found["quick"], found["stock"], found["exact"], strict=True):
        assert quick.shape == exact.shape
        assert error(quick, exact.detach()) <= error(stock, exact.detach()) + 1e-4


def test_the_rotation_is_replaced_where_it_is_llama_s_and_once(made: Any) -> None:
    for name in ("llama", "qwen3"):
        install(made(name).model)
        module = __import__(type(made(name).model).__module__, fromlist=["x"])
        assert module.apply_rotary_pos_emb.__wrapped__.__code__ is not module.apply_rotary_pos_emb.__code__
        once = module.apply_rotary_pos_emb
        install(made(name).model)
        assert module.apply_rotary_pos_emb is once


def test_packed_weights_multiply_alike_and_are_let_go(made: Any, batch: Any) -> None:
    if not kernels.can_pack():
        pytest.skip("this build of PyTorch cannot pack")
    model = copy.deepcopy(made("qwen3").model)
    lower(model)
    with torch.no_grad():
        plain = model(input_ids=batch[0]).logits.float()
        with packed_weights(model):
            assert "forward" in vars(model.model.layers[0].mlp.up_proj)
            packed = model(input_ids=batch[0]).logits.float()
    assert "forward" not in vars(model.model.layers[0].mlp.up_proj)
    torch.testing.assert_close(packed, plain, atol=0.1, rtol=0.05)


def test_packing_is_undone_when_sampling_fails(made: Any) -> None:
    model = copy.deepcopy(made("llama").model)
    lower(model)
    with pytest.raises(KeyboardInterrupt), packed_weights(model):
        raise KeyboardInterrupt
    assert not any("forward" in vars(part) for part in model.modules() if isinstance(part, nn.Linear))


def test_a_layer_with_a_forward_of_its_own_keeps_it(made: Any) -> None:
    """Packing within packing, of a sampler that is asked while it samples, or a hook of another library."""
    if not kernels.can_pack():
        pytest.skip("this build of PyTorch cannot pack")
    model = copy.deepcopy(made("llama").model)
    lower(model)
    hooked, other = model.model.layers[0].mlp.up_proj, model.model.layers[1].mlp.up_proj
    hooked.forward = lambda states: states
    own = hooked.forward
    with packed_weights(model):
        outer = other.forward
        with packed_weights(model):
            assert other.forward is outer
        assert other.forward is outer
    assert hooked.forward is own
    assert "forward" not in vars(other)
