"""bfloat16 compute over float32 weights: a working copy that the model runs through, kept in step with the weights.

Autocast rounds weights anew in every pass and carries float32 between layers; a copy in bfloat16 does neither. What
training changes are the float32 weights: gradients of the copy are added to theirs in float32 as soon as they are made,
micro-batch after micro-batch, and the copy is rounded from them again once they have changed.

A change is seen by a weight's version counter. In-place operations of PyTorch raise it, but for writing to `.data` and
for fused optimisers; who does that calls `torch.autograd.graph.increment_version`, as `training.optimiser` does.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from heedful.models.adapters import is_adapted, underlying
from heedful.models.alignment import continues, lays, recomputes
from heedful.models.compiling import compile_layers, is_compiled
from heedful.models.kernels import install
from heedful.models.storage import Precision

LOW = torch.bfloat16


class WorkingCopy:
    """The bfloat16 twin of a model whose weights are float32.

    Args:
        model: of transformers, without adapters.

    Attributes:
        model: the twin. Run it, and change nothing in it.
    """

    def __init__(self, model: Any) -> None:
        self._source = model
        self.model = _twin(model)
        self._pairs = _pairs(model, self.model)
        self._seen = [weight._version for weight, _ in self._pairs]
        install(self.model)
        for weight, twin in self._pairs:
            twin.requires_grad_(True).register_post_accumulate_grad_hook(_hand_over(weight))
            twin.requires_grad_(weight.requires_grad)

    def of(self, model: Any) -> bool:
        """Whether this is the twin of a model."""
        return model is self._source

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the twin in step: weights that have changed, what is trained, and whether it trains."""
        for place, (weight, twin) in enumerate(self._pairs):
            if weight._version != self._seen[place]:
                twin.copy_(weight)
                self._seen[place] = weight._version
            if twin.requires_grad != weight.requires_grad:
                twin.requires_grad_(weight.requires_grad)
        if self.model.training != self._source.training:
            self.model.train(self._source.training)


class Computing:
    """What runs a model in the precision asked for: the model itself, under autocast, or its working copy.

    bfloat16 over full float32 weights runs a working copy. With adapters it is autocast, so that the frozen base is
    held once; weights that are bfloat16 already run as they are.

    Attributes:
        shares: its weights are another's too, the base under adapters.
        sharded: its layers are parted among workers, and laid together in the precision that they run in.
        compiles: the layers of what runs are compiled (`heedful.models.compiling`).
    """

    model: Any
    precision: Precision
    device: torch.device
    shares: bool = False
    compiles: bool = False
    sharded: bool = False
    _copy: WorkingCopy | None = None
    _continues: bool | None = None

    def compute_on(self, device: torch.device | str) -> None:
        """Say where it computes, before its weights are there; they stay where they are."""
        self.device = torch.device(device)

    def running(self) -> Any:
        """The model as a forward pass is to run it, inside `autocast()`; its gradients reach `model`'s weights."""
        if self.precision == "float32" or self.sharded or self._on_a_base() or not is_high(self.model):
            return self._compiled(self.model)
        if self._copy is None or not self._copy.of(self.model):
            self._copy = WorkingCopy(self.model)
        self._copy.refresh()
        return self._compiled(self._copy.model)

    def _compiled(self, model: Any) -> Any:
        if self.compiles and not is_compiled(model):
            compile_layers(underlying(model))
        return model

    def autocast(self) -> AbstractContextManager[Any]:
        """What every forward pass of `running()` runs in: autocast for bfloat16 with adapters or parts."""
        return autocast(self.precision if self.sharded or self._on_a_base() else "float32", self.device)

    def _on_a_base(self) -> bool:
        return self.shares or is_adapted(self.model)

    def continues(self) -> bool:
        """Whether several answers can go on from a prompt that is read once.

        The architecture lets them, and nothing keeps the model from its cache, as parts or recomputed activations do.
        """
        if self.sharded or recomputes(underlying(self.model)):
            return False
        if self._continues is None:
            self._continues = continues(self.model)
        return self._continues

    def lays(self) -> bool:
        """Whether rows go through it without their padding (`heedful.models.padding_free`)."""
        return not self.compiles and lays(underlying(self.model))

    def freeze(self) -> None:
        """Nothing will train it from now on: of weights that are computed in bfloat16, no float32 ones are kept."""
        self.model.requires_grad_(False)
        if self.precision == "bfloat16" and not self._on_a_base():
            self._copy = None
            lower(self.model)
            install(self.model)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 on a device, or nothing for float32."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, dtype=LOW)


@torch.no_grad()
def lower(model: nn.Module) -> None:
    """Round a model's weights to bfloat16 for good, in place; those that its architecture keeps in float32 stay."""
    kept = kept_high(model)
    for name, weight in model.named_parameters():
        if weight.dtype == torch.float32 and not kept(name):
            weight.data = weight.data.to(LOW)


def is_high(model: Any) -> bool:
    """Whether a model's weights are float32, by its embedding."""
    return bool(model.get_input_embeddings().weight.dtype == torch.float32)


def _twin(model: Any) -> Any:
    """A copy whose weights are rounded; buffers are shared."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    kept = kept_high(model)
    for name, weight in model.named_parameters():
        dtype = weight.dtype if kept(name) else LOW
        memo[id(weight)] = nn.Parameter(weight.detach().to(dtype, copy=True), requires_grad=weight.requires_grad)
    return copy.deepcopy(model, memo)


def _pairs(model: nn.Module, twin: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    return list(zip(model.parameters(), twin.parameters(), strict=True))


def kept_high(model: nn.Module) -> Callable[[str], bool]:
    """Which weights, by name, stay float32: a scalar head, and what the architecture says of itself."""
    names = {"score"}
    for module in model.modules():
        for attribute in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"):
            names |= set(getattr(module, attribute, None) or ())
    pattern = re.compile("|".join(rf"(^|\.){re.escape(name)}($|\.)" for name in sorted(names)))
    return lambda name: bool(pattern.search(name))


def _hand_over(weight: nn.Parameter) -> Callable[[Tensor], None]:
    """Adds a twin's gradient to the weight's, in the weight's precision, and lets it go."""

    def add(twin: Tensor) -> None:
        gradient = twin.grad
        twin.grad = None
        if gradient is None:
            return
        if weight.grad is None:
            weight.grad = gradient.to(weight.dtype)
        else:
            weight.grad += gradient

    return add
