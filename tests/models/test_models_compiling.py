"""Compiled layers compute what layers compute, in every architecture; sampling and what is saved know nothing of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from heedful.errors import HeedfulError
from heedful.models import compiling
from heedful.models.adapters import LoRA, attach
from heedful.models.compiling import compile_layers, is_compiled
from heedful.models.policy import Policy
from heedful.rollout.engine import NativeEngine
from heedful.rollout.types import RolloutParams

UNCOMPILABLE = {("gpt_neox", "bfloat16"), ("phi", "bfloat16")}
"""PyTorch 2.13 writes C++ for these that does not compile."""


@pytest.fixture(autouse=True)
def _afresh() -> Any:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Layers are traced and run without a C++ compiler; the list names each traced one."""
    seen: list[str] = []

    def compile(layer: nn.Module, **how: Any) -> None:
        seen.append(type(layer).__name__)
        layer._compiled_call_impl = torch.compile(layer._call_impl, backend="eager", **how)

    monkeypatch.setattr(nn.Module, "compile", compile)
    return seen


def learnt(policy: Policy, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    logprobs, _ = policy.token_logprobs(*batch)
    logprobs.sum().backward()
    gradients = [p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]
    return logprobs.detach(), torch.cat(gradients)


def own(policy: Policy, precision: Any = "float32", *, compiles: bool = False) -> Policy:
    made = Policy(copy.deepcopy(policy.model), policy.tokenizer, precision=precision)
    made.compiles = compiles
    return made


def test_compiled_layers_learn_the_same(llama: Policy, batch: Any, plainly: list[str]) -> None:
    plain, compiled = learnt(own(llama), batch), learnt(own(llama, compiles=True), batch)
    assert plainly == ["LlamaDecoderLayer"] * 2
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute of the C++ compiler on a core of its own, several on a busy machine
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_architecture_learns_the_same_through_the_compiler(policy: Policy, batch: Any, precision: Any) -> None:
    exact = learnt(own(policy), batch)
    compiled = own(policy, precision, compiles=True)
    if (policy.model.config.model_type, precision) in UNCOMPILABLE:
        with pytest.raises(HeedfulError, match="fails on the layers"):
            learnt(compiled, batch)
        return
    found = learnt(compiled, batch)
    if precision == "float32":
        torch.testing.assert_close(exact[0], found[0], rtol=1e-4, atol=1e-4)
    cosine = torch.cosine_similarity(exact[1], found[1], dim=0)
    assert cosine > (0.999 if precision == "float32" else 0.9)


def test_sampling_takes_no_notice(llama: Policy, plainly: list[str]) -> None:
    prompts, params = [[7, 8, 9], [10, 11]], RolloutParams(6, seed=3)
    plain = NativeEngine(llama).generate(prompts, params)
    llama.compiles = True
    compile_layers(llama.model)

    def traced(*_: Any, **__: Any) -> None:
        raise AssertionError("sampling ran compiled")

    for layer in llama.model.model.layers:
        inner = layer._compiled_call_impl
        layer._compiled_call_impl = torch.compile(layer._call_impl, backend=traced)
        assert inner is not None
    again = NativeEngine(llama).generate(prompts, params)
    assert torch.equal(plain.tokens, again.tokens)
    assert torch.equal(plain.logprobs, again.logprobs)
    assert list(NativeEngine(llama).stream(prompts[0], params))


def test_copies_are_not_compiled_and_names_stay(llama: Policy, plainly: list[str]) -> None:
    names = list(llama.model.state_dict())
    compile_layers(llama.model)
    assert is_compiled(llama.model)
    assert list(llama.model.state_dict()) == names
    assert not is_compiled(copy.deepcopy(llama.model))


def test_one_model_is_compiled_once(llama: Policy, batch: Any, plainly: list[str]) -> None:
    llama.compiles = True
    for _ in range(3):
        llama.token_logprobs(*batch)
    assert len(plainly) == 2


def test_no_compiler_is_said_before_anything_runs(llama: Policy, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def none() -> str:
        raise InvalidCxxCompiler()

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    llama.compiles = True
    with pytest.raises(HeedfulError, match=r"C\+\+ compiler"):
        llama.token_logprobs(*batch)
    assert not is_compiled(llama.model)


def test_layers_that_cannot_be_compiled_are_refused_and_run_as_they_did(
    llama: Policy, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no such instruction")

    def compile(layer: nn.Module, **how: Any) -> None:
        layer._compiled_call_impl = torch.compile(layer._call_impl, backend=fails, **how)

    monkeypatch.setattr(nn.Module, "compile", compile)
    plain, _ = llama.token_logprobs(*batch)
    llama.compiles = True
    with pytest.raises(HeedfulError, match=r"fails on the layers of LlamaForCausalLM.*no such instruction"):
        llama.token_logprobs(*batch)
    assert not is_compiled(llama.model)
    assert all(p.grad is None for p in llama.model.parameters())
    llama.compiles = False
    assert torch.equal(llama.token_logprobs(*batch)[0], plain)


def test_an_architecture_without_named_layers_is_refused() -> None:
    with pytest.raises(HeedfulError, match="which of its modules are layers"):
        compile_layers(nn.Linear(2, 2))


def test_the_limit_of_ways_is_raised_and_never_lowered(llama: Policy, plainly: list[str]) -> None:
    for given, left in ((8, compiling.WAYS), (2 * compiling.WAYS, 2 * compiling.WAYS)):
        with torch._dynamo.config.patch(recompile_limit=given):
            compile_layers(llama.model)
            assert torch._dynamo.config.recompile_limit == left


def test_a_run_that_begins_with_sampling_is_told_so_too(llama: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no such instruction")

    def compile(layer: nn.Module, **how: Any) -> None:
        layer._compiled_call_impl = torch.compile(layer._call_impl, backend=fails, **how)

    monkeypatch.setattr(nn.Module, "compile", compile)
    llama.compiles = True
    with pytest.raises(HeedfulError, match="no such instruction"):
        NativeEngine(llama).generate([[7, 8, 9]], RolloutParams(2))


def test_compiling_uses_up_no_random_number(llama: Policy, plainly: list[str]) -> None:
    """A run that goes on compiles anew in the middle of what its dropout draws."""
    adapted = Policy(attach(llama.model, LoRA(2, 4.0, 0.5), seed=0), llama.tokenizer)
    adapted.model.train()
    adapted.compiles = True
    before = torch.get_rng_state()
    adapted.running()
    assert plainly
    assert torch.equal(torch.get_rng_state(), before)
