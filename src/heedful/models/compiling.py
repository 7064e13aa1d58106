"""Decoder layers through `torch.compile`: what they do to each number is fused into few passes over memory.

A layer is compiled once for all layers of its kind, for any lengths, and once more for each way of running it (with and
without gradients, going on from a prompt or not). Sampling runs as it is: a step of a few dozen rows gains nothing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException
from torch._inductor.exc import InductorError

from heedful.errors import HeedfulError
from heedful.models.modes import random_devices

WAYS = 64
"""Ways of running a layer that may be compiled in a process; PyTorch's own limit of 8 would run the others eagerly."""


def compile_layers(model: Any) -> None:
    """Let the layers of a transformers model run compiled from now on. What is saved of it does not change.

    Raises:
        HeedfulError: no C++ compiler for a model on a CPU; an architecture that does not name its layers, or whose
            layers PyTorch cannot compile.
    """
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = [part for part in model.modules() if type(part).__name__ in kinds]
    if not layers:
        raise HeedfulError(
            f"{type(model).__name__} does not say which of its modules are layers.",
            where="loading.compile",
            mend="Leave it out for this architecture.",
        )
    if next(model.parameters()).device.type == "cpu":
        _require_compiler()
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, WAYS)
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        _rehearse(model)
    except (BackendCompilerFailed, InductorError, TorchDynamoException) as error:
        for layer in layers:
            layer._compiled_call_impl = None
        raise HeedfulError(
            f"torch.compile of PyTorch {torch.__version__} fails on the layers of {type(model).__name__}: "
            f"{' '.join(str(error).split())[:200]}",
            where="loading.compile",
            mend="Leave it out for this architecture and precision.",
        ) from error


def _rehearse(model: Any) -> None:
    """Run a few tokens forward and back, so that what cannot be compiled is found before a run begins.

    It may be called while nothing runs compiled, by a run that begins with sampling. No random number is used up.
    """
    width = model.get_input_embeddings().embedding_dim
    weight = model.get_input_embeddings().weight
    compiled = torch.compiler.set_stance("default")
    with compiled, torch.random.fork_rng(random_devices(weight.device)), torch.enable_grad():
        states = torch.zeros(2, 8, width, dtype=weight.dtype, device=weight.device, requires_grad=True)
        hidden = model.base_model(inputs_embeds=states, use_cache=False).last_hidden_state
        torch.autograd.grad(hidden.float().sum(), states)


def is_compiled(model: nn.Module) -> bool:
    """Whether some layer of a model runs compiled."""
    return any(part._compiled_call_impl is not None for part in model.modules())


def eagerly() -> AbstractContextManager[Any]:
    """Inside, nothing that is compiled runs compiled."""
    return torch.compiler.set_stance("force_eager")


def _require_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise HeedfulError(
            "torch.compile needs a C++ compiler, and none is found here.",
            where="loading.compile",
            mend="Install g++ or clang, name one in the environment variable CXX, or leave the setting out.",
        ) from error
