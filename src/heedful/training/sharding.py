"""FSDP2: each worker keeps a part of every decoder layer's weights, gradients and moments, and lays the layer together
while it runs.

Embeddings, the last norm and heads stay whole at every worker: heads run outside of the model's own forward pass, on
the positions that are asked for (`core/logprob.py`). What is frozen (references, reward models) stays whole too.

A model that is going to be parted is opened with weights by rank 0 alone, in main memory, and handed out tensor by
tensor: no device ever holds more of it than its part and one tensor, neither then nor when it is collected at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from heedful.errors import HeedfulError
from heedful.files import sha256_json
from heedful.models.kernels import install
from heedful.models.low_precision import LOW, Computing, kept_high
from heedful.training.workers import current, is_parted, like

RoleT = TypeVar("RoleT")

PIECE = 2**28
"""Bytes of a tensor that are sent at once."""


def opened_by_leader(load: Callable[[str], RoleT], device: str) -> RoleT:
    """A model that is going to be parted: rank 0 opens it in main memory, the others only its shape.

    Where weights are not sharded, every worker opens it on its device.

    Args:
        load: device -> the model; "meta" is for no weights. It may not wait for other workers.
        device: where this worker computes.

    Raises:
        HeedfulError: what `load` raises at rank 0, at every worker.
    """
    team = current()
    if not team.shards:
        return load(device)
    found: list[RoleT] = []
    team.led(lambda: found.append(load("cpu")))
    role = found[0] if team.leads else load("meta")
    if isinstance(role, Computing):
        role.compute_on(device)
    return role


@torch.no_grad()
def held_by_all(role: Computing) -> None:
    """Let every worker have all weights of a frozen model on its device, of which rank 0 alone has some.

    Nothing is done where weights are not sharded: every worker has opened its own.
    """
    if not current().shards:
        return
    model, made = role.model, {}
    for name, weight in list(model.named_parameters(remove_duplicate=False)):
        if id(weight) not in made:
            whole = _handed_out(weight.detach(), role.device)
            made[id(weight)] = nn.Parameter(whole, requires_grad=weight.requires_grad)
        _put(model, name, made[id(weight)])
    _hand_out_buffers(model, model, role.device)
    if role.precision == "bfloat16":
        install(model)  # at rank 0 it was done as the weights were lowered


@contextmanager
def sharding(*roles: Computing) -> Iterator[None]:
    """Part the layers of models that train among the workers, where the run asks for it; whole again afterwards.

    Called before optimisers are made; of the weights, those at rank 0 count, wherever they are, and `role.device` says
    where their parts go. When the block has ended well, the state of the run, which holds the parts, is of no more use,
    and `role.model` is an ordinary model with all weights in float32: of rank 0, in main memory, to be saved; those of
    the others have no weights.

    Raises:
        HeedfulError: an architecture that does not name its layers; workers that have opened different models.
    """
    team = current()
    if not team.shards:
        yield
        return
    try:
        team.sharded += [Parted(role) for role in roles]
        yield
        for parted in team.sharded:
            parted.collect()
    finally:
        team.sharded.clear()


class Parted:
    """A model whose layers are parted, and an ordinary model beside it, which has weights only while it is open.

    Passes that sample run the ordinary one: how many of them a worker makes is then its own affair.

    Args:
        role: whose model is parted. What it had for a model loses its weights.
    """

    def __init__(self, role: Computing) -> None:
        source: Any = role.model
        layers = _layers(source)  # refuses an architecture before anything is sent
        _check_alike(source)
        self.role = role
        self.parted = _skeleton(source)
        self.whole = _skeleton(self.parted, settings=True)
        _shard(role, self.parted)
        for name in layers:
            self.parted.get_submodule(name).to_empty(device=role.device)
        _fill_parts(self.parted, source, role.device)
        _hand_out_buffers(self.parted, source, role.device)
        for name, buffer in self.parted.named_buffers(remove_duplicate=False):
            _put(self.whole, name, buffer)
        role.model, role.sharded = self.parted, True

    def open(self) -> None:
        """Let the role run the ordinary model, with the weights as they are, in the precision that is computed in."""
        low, kept = self.role.precision == "bfloat16", kept_high(self.whole)

        def put(name: str, weight: Tensor) -> Tensor:
            return weight.to(LOW) if low and weight.dtype == torch.float32 and not kept(name) else weight

        _fill(self.whole, self.parted, put)
        self.role.model, self.role.sharded = self.whole, False
        if low:
            install(self.whole)

    def close(self) -> None:
        """Let the role run the parted model, and the ordinary one's weights go."""
        self.role.model, self.role.sharded = self.parted, True
        for weight in self.whole.parameters():
            weight.data = torch.empty(0, device=weight.device)

    def collect(self) -> None:
        """Let the role have an ordinary model to save: of the leader, in main memory; the others' has no weights."""
        leads = current().leads
        _fill(self.whole, self.parted, lambda _, weight: weight.cpu() if leads else weight.to("meta"))
        self.role.model, self.role.sharded = self.whole, False


def _layers(model: nn.Module) -> list[str]:
    """The names of a model's decoder layers.

    Raises:
        HeedfulError: its architecture does not say which they are.
    """
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = [name for name, part in model.named_modules() if type(part).__name__ in kinds]
    if not layers:
        raise HeedfulError(
            f"{type(model).__name__} does not say which of its modules are layers.",
            where="launch.shard",
            mend="Leave it out for this architecture.",
        )
    return layers


def _check_alike(model: nn.Module) -> None:
    """Refuse to hand out weights to a worker whose model is another.

    Raises:
        HeedfulError: at every worker.
    """
    own = [(name, tuple(weight.shape), weight.dtype) for name, weight in model.named_parameters()]
    own += [(name, tuple(buffer.shape), buffer.dtype) for name, buffer in model.named_buffers()]
    if len(set(current().gathered(sha256_json([str(one) for one in own])))) > 1:
        raise HeedfulError(
            "the workers have opened models of different shapes.",
            where="model",
            mend="Give a folder that is the same on all hosts.",
        )


def _shard(role: Computing, model: Any) -> None:
    """Part a model's layers."""
    team = current()
    layers: list[Any] = [model.get_submodule(name) for name in _layers(model)]
    mesh = init_device_mesh(role.device.type, (team.count,))
    low = role.precision == "bfloat16"
    policy = MixedPrecisionPolicy(param_dtype=LOW if low else None, reduce_dtype=torch.float32 if low else None)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    parted = {id(weight) for layer in layers for weight in layer.parameters()}
    whole = {weight for weight in model.base_model.parameters() if id(weight) not in parted}
    fully_shard(model.base_model, mesh=mesh, ignored_params=whole)  # the root, which fetches layers ahead
    for layer in layers:
        layer.set_force_sum_reduction_for_comms(True)  # gloo has no other
        layer.set_gradient_divide_factor(1.0)  # gradients are summed: losses are divided by counts of the whole batch


def _skeleton(model: Any, *, settings: bool = False) -> Any:
    """A copy without weights; buffers are shared.

    Args:
        settings: the configurations are shared too.
    """
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for weight in model.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach().to("meta"), requires_grad=weight.requires_grad)
    if settings:
        for part in model.modules():
            for name in ("config", "generation_config"):
                if name in vars(part):
                    memo[id(vars(part)[name])] = vars(part)[name]
    return copy.deepcopy(model, memo)


@torch.no_grad()
def _fill_parts(parted: nn.Module, source: nn.Module, device: torch.device) -> None:
    """Give a parted model the weights that rank 0's `source` has, one by one; `source` loses them."""
    weights = dict(source.named_parameters(remove_duplicate=False))
    made: dict[int, nn.Parameter] = {}
    largest = max(weight.nbytes for weight in parted.parameters() if is_parted(weight))  # of the whole tensor
    stage = torch.empty(largest, dtype=torch.uint8, device=device)
    for name, weight in list(parted.named_parameters(remove_duplicate=False)):
        if id(weight) not in made:
            whole = _handed_out(weights[name].detach(), device, stage if is_parted(weight) else None)
            weights[name].data = weights[name].data.new_empty(0)
            if is_parted(weight):
                weight.detach().copy_(like(weight, whole))
                made[id(weight)] = weight
            else:
                made[id(weight)] = nn.Parameter(whole, requires_grad=weight.requires_grad)
        if made[id(weight)] is not weight:
            _put(parted, name, made[id(weight)])


@torch.no_grad()
def _hand_out_buffers(model: nn.Module, source: nn.Module, device: torch.device) -> None:
    """Give a model the buffers that rank 0's `source` has, those that no file holds included."""
    found = dict(source.named_buffers(remove_duplicate=False))
    for name in list(found):
        _put(model, name, _handed_out(found[name], device))


def _handed_out(value: Tensor, device: torch.device, stage: Tensor | None = None) -> Tensor:
    """Rank 0's tensor on this worker's device, where the others' has a shape and a type alone.

    Args:
        stage: bytes on the device that the tensor is laid in, enough for it; None: in memory of its own.
    """
    team = current()
    if stage is not None:
        whole = stage[: value.nbytes].view(value.dtype).view(value.shape)
        if team.leads:
            whole.copy_(value)
    elif team.leads:
        whole = value.to(device).contiguous()
    else:
        whole = torch.empty(value.shape, dtype=value.dtype, device=device)
    for piece in whole.reshape(-1).view(torch.uint8).split(PIECE) if whole.numel() else ():
        torch.distributed.broadcast(piece, src=0)
    return whole


def _put(model: nn.Module, name: str, value: Tensor) -> None:
    """Let a weight or buffer of a model be another tensor."""
    owner, _, last = name.rpartition(".")
    part = model.get_submodule(owner)
    if isinstance(value, nn.Parameter):
        setattr(part, last, value)
    else:
        part._buffers[last] = value


def _fill(model: nn.Module, parted: nn.Module, put: Callable[[str, Tensor], Tensor]) -> None:
    """Give a skeleton the weights of the model that it was made from; all workers lay them together, one by one.

    Args:
        put: name and whole weight -> what the skeleton has of it.
    """
    weights: dict[str, Any] = dict(parted.named_parameters(remove_duplicate=False))
    made: dict[int, nn.Parameter] = {}
    for name, _ in list(model.named_parameters(remove_duplicate=False)):
        weight = weights[name]
        if id(weight) not in made:
            whole = weight.detach()
            whole = whole.full_tensor() if is_parted(weight) else whole
            made[id(weight)] = nn.Parameter(put(name, whole), requires_grad=weight.requires_grad)
        _put(model, name, made[id(weight)])
    model.train(parted.training)
