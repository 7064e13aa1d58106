"""How much memory a pass through a model takes, counted on tensors that have a shape and no data.

A model is built from its configuration alone, on torch's meta device, and then runs through its own forward and
backward pass under `FakeTensorMode`: every operation is dispatched as it would be on the real device, allocates
nothing, and tells what it would have allocated. `Ledger` adds up the storages that are alive. So attention kernels,
checkpointed activations, adapters and autocast are counted as they are, for every architecture, and no formula has
to know them.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from heedful.core.logprob import unchecked_logprob
from heedful.models.adapters import LoRA, attach, is_adapted, underlying
from heedful.models.attention import quicken
from heedful.models.low_precision import LOW, autocast
from heedful.models.modes import checkpoint_activations
from heedful.models.storage import Precision, switch_off_dropout

MOST_OPERATIONS = 400_000
"""A rehearsal gives up after so many operations, about a minute: a recurrent model may take some for every token."""


class NoRehearsal(Exception):  # noqa: N818  (an outcome, not a mistake in the program)
    """The model does not run without data: its shapes depend on values, or a kernel has no rule for shapes alone."""


class Ledger(TorchDispatchMode):
    """Bytes of the storages that are alive, now and at most, among those that it was shown or saw made; and what the
    operations would cost: `flops`, and how many of them do more than look at a tensor another way."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.flops = self.kernels = 0
        self._sizes: dict[int, int] = {}
        self._operations = 0

    def note(self, tensor: Tensor) -> bool:
        """Count a tensor's storage, once, until it is let go. Whether it is a new one."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return False
        self._sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, key)
        return True

    def begin(self) -> None:
        """From here on the figures are of what follows."""
        self.peak, self.flops, self.kernels = self.live, 0, 0

    def _gone(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._operations += 1
        if self._operations > MOST_OPERATIONS:
            raise NoRehearsal(f"more than {MOST_OPERATIONS} operations")
        out = function(*args, **(kwargs or {}))
        made = [self.note(leaf) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.kernels += any(made) or function._schema.is_mutable
        self.flops += _flops(function, args, kwargs or {}, out)
        return out


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (0, 4),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (1, 10),
}
"""Where the queries stand among the arguments of the CPU's attention, and how often a query meets a key's numbers: two
products forward, five backward (Dao et al. 2022), each multiplying and adding. No causal half is taken off."""


def _flops(function: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Floating-point operations of matrix products, convolutions and attention, as torch counts them; 0 of others."""
    packet = function._overloadpacket
    if packet in ATTENTION:
        place, each = ATTENTION[packet]
        query, key = args[place], args[place + 1]
        return each * query.numel() * key.shape[-2]
    formula = flop_registry.get(packet)
    return int(formula(*args, **kwargs, out_val=out)) if formula is not None else 0


@dataclass(frozen=True)
class Sketch:
    """A model without data: on the meta device, its weights float32, with its adapters if it has any."""

    model: Any
    precision: Precision = "float32"
    checkpointed: bool = False

    @property
    def low(self) -> bool:
        """Whether it is computed by weights in bfloat16: a working copy, or its own where nothing trains them."""
        return self.precision == "bfloat16" and not is_adapted(self.model)

    def autocast(self, device: str) -> AbstractContextManager[Any]:
        """What its passes run in, as `heedful.models.low_precision.Computing` has it."""
        return autocast("float32" if self.low else self.precision, torch.device(device))

    @property
    def weights(self) -> int:
        """Bytes of all weights and buffers, tied ones once."""
        held = {id(t): t for t in (*self.model.parameters(), *self.model.buffers())}
        return sum(tensor.nbytes for tensor in held.values())

    @property
    def trained(self) -> int:
        """Bytes of the weights that training changes."""
        return sum(p.nbytes for p in self.model.parameters() if p.requires_grad)


def sketch(
    auto_class: Any,
    config: Any,
    *,
    precision: Precision = "float32",
    lora: LoRA | None = None,
    checkpoint: bool = False,
) -> Sketch:
    """A model of a configuration, without data.

    Args:
        auto_class: of transformers, such as `AutoModelForCausalLM`.
        lora: with these adapters.
        checkpoint: with its activations recomputed in the backward pass.
    """
    switch_off_dropout(config)
    with torch.device("meta"):
        model = auto_class.from_config(config, dtype=torch.float32)
        quicken(model)
        if lora is not None:
            model = attach(model, lora, seed=0)
    if checkpoint:
        checkpoint_activations(model)
    return Sketch(model.train(), precision, checkpoint)


@dataclass(frozen=True)
class Passes:
    """Bytes that come and go with a pass.

    Args:
        saved: activations that wait for the backward pass.
        work: what is alive beside them when the most is: chunks of logits, gradients of activations.
        flops: floating-point operations of its matrix products and attention, what is recomputed included.
        kernels: operations that make or change a tensor.
    """

    saved: int
    work: int
    flops: int = 0
    kernels: int = 0


def update(models: Sequence[Sketch], device: str, rows: int, width: int, learnt: int) -> Passes:
    """Forward passes of models whose losses are one, and their backward pass.

    Args:
        models: the first with its language-model head if it has one, at `learnt` tokens of each row; of the others,
            as of a model without such a head, the last hidden states.
        device: where they would run.
        rows, width: of the micro-batch, [B, T].

    Raises:
        NoRehearsal: a model cannot run without data.
    """
    with _staged(models, device) as ledger:
        for one in models:
            for parameter in one.model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.empty_like(parameter)
                    ledger.note(parameter.grad)
        start = ledger.live
        tokens = torch.zeros(rows, width, dtype=torch.int64, device=device)
        losses = []
        for place, one in enumerate(models):
            with one.autocast(device):
                hidden = _trunk(one, tokens)
                losses.append(_loss(one, hidden[:, width - learnt :]) if place == 0 else hidden.float().sum())
        saved = ledger.live - start
        torch.stack(losses).sum().backward()
        return Passes(saved, ledger.peak - start - saved, ledger.flops, ledger.kernels)


def reading(model: Sketch, device: str, rows: int, width: int) -> int:
    """Bytes that a forward pass of the trunk takes beside the weights, without gradient.

    Raises:
        NoRehearsal: the model cannot run without data.
    """
    return read(model, device, rows, width).work


def read(model: Sketch, device: str, rows: int, width: int) -> Passes:
    """A forward pass of the trunk without gradient: nothing of it is saved.

    Raises:
        NoRehearsal: the model cannot run without data.
    """
    with _staged([model], device) as ledger, torch.no_grad(), model.autocast(device):
        model.model.eval()
        start = ledger.live
        _trunk(model, torch.zeros(rows, width, dtype=torch.int64, device=device))
        return Passes(0, ledger.peak - start, ledger.flops, ledger.kernels)


def _trunk(model: Sketch, tokens: Tensor) -> Tensor:
    inner = underlying(model.model).base_model
    extra = {"use_cache": False} if hasattr(inner.config.get_text_config(), "use_cache") else {}
    return inner(input_ids=tokens, **extra).last_hidden_state


def _loss(model: Sketch, hidden: Tensor) -> Tensor:
    head = underlying(model.model).get_output_embeddings()
    if head is None:
        return hidden.float().sum()
    states = hidden.flatten(0, 1)
    targets = torch.zeros(len(states), dtype=torch.int64, device=states.device)
    return unchecked_logprob(states, head.weight, targets, bias=head.bias)[0].sum()


@contextmanager
def _staged(models: Sequence[Sketch], device: str) -> Iterator[Ledger]:
    """Inside, the models' tensors are fake ones on the device, and a ledger counts them; outside they are as before."""
    ledger = Ledger()
    noise = logging.getLogger("torch._subclasses.fake_tensor")
    level, before = noise.level, [_tensors(one.model) for one in models]
    noise.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode():
            for one in models:
                _replace(one.model, device, LOW if one.low else torch.float32)
                for tensor in (*one.model.parameters(), *one.model.buffers()):
                    ledger.note(tensor)
            ledger.begin()
            with ledger:
                yield ledger
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise NoRehearsal(f"{type(error).__name__}: {error}") from error
    finally:
        noise.setLevel(level)
        for one, tensors in zip(models, before, strict=True):
            for store, name, tensor in tensors:
                store[name] = tensor
            one.model.train()


def _tensors(model: nn.Module) -> list[tuple[dict[str, Any], str, Tensor]]:
    stores: list[dict[str, Any]] = [s for module in model.modules() for s in (module._parameters, module._buffers)]
    return [(store, name, tensor) for store in stores for name, tensor in store.items() if tensor is not None]


def _replace(model: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Put fake tensors of the same shapes on the device in place of the meta ones; what was tied stays tied.

    Args:
        dtype: of the parameters.
    """
    made: dict[int, Tensor] = {}
    for store, name, tensor in _tensors(model):
        if id(tensor) not in made:
            parameter = isinstance(tensor, nn.Parameter)
            fake = torch.empty(tensor.shape, dtype=dtype if parameter else tensor.dtype, device=device)
            made[id(tensor)] = nn.Parameter(fake, requires_grad=tensor.requires_grad) if parameter else fake
        store[name] = made[id(tensor)]
