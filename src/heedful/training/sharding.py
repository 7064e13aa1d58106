"""FSDP2: each worker keeps a part of every decoder layer's weights, gradients and moments, and lays the layer together
while it runs.

Embeddings, the last norm and heads stay whole at every worker: heads run outside of the model's own forward pass, on
the positions that are asked for (`core/logprob.py`). What is frozen (references, reward models) stays whole too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from heedful.errors import HeedfulError
from heedful.models.kernels import install
from heedful.models.low_precision import LOW, Computing, kept_high
from heedful.training.workers import current


@contextmanager
def sharding(*roles: Computing, used: bool = False) -> Iterator[None]:
    """Part the layers of models that train among the workers, where the run asks for it; whole again afterwards.

    Called before optimisers are made. When the block has ended well, the state of the run, which holds the parts, is of
    no more use, and `role.model` is an ordinary model with all weights in float32.

    Args:
        used: every worker is to have that model on its device. Else it is there to be saved: rank 0 alone has weights,
            in main memory, and no device ever holds more of them than its part and one tensor.

    Raises:
        HeedfulError: an architecture that does not name its layers.
    """
    team = current()
    if not team.shards:
        yield
        return
    try:
        team.sharded += [Parted(role) for role in roles]
        yield
        for parted in team.sharded:
            parted.lay_together() if used else parted.collect()
    finally:
        team.sharded.clear()


class Parted:
    """A model whose layers are parted, and an ordinary model beside it, which has weights only while it is open.

    Passes without gradients run the ordinary one: how many of them a worker makes is then its own affair.

    Args:
        role: whose model is parted.
    """

    def __init__(self, role: Computing) -> None:
        self.role = role
        self.whole = _skeleton(role.model)
        _shard(role)
        self.parted = role.model
        role.sharded = True

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

    def lay_together(self) -> None:
        """Let the role have an ordinary model from now on, its weights in float32."""
        _fill(self.whole, self.parted)
        self.role.model, self.role.sharded = self.whole, False

    def collect(self) -> None:
        """Let the role have an ordinary model to save: of the leader, in main memory; the others' has no weights."""
        leads = current().leads
        _fill(self.whole, self.parted, lambda _, weight: weight.cpu() if leads else weight.to("meta"))
        self.role.model, self.role.sharded = self.whole, False


def _shard(role: Computing) -> None:
    """Part a model's layers."""
    model, team = role.model, current()
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = [part for part in model.base_model.modules() if type(part).__name__ in kinds]
    if not layers:
        raise HeedfulError(
            f"{type(model).__name__} does not say which of its modules are layers.",
            where="launch.shard",
            mend="Leave it out for this architecture.",
        )
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


def _skeleton(model: nn.Module) -> nn.Module:
    """A copy without weights; buffers are shared."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for weight in model.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach().to("meta"), requires_grad=weight.requires_grad)
    return copy.deepcopy(model, memo)


def _fill(model: nn.Module, parted: nn.Module, put: Callable[[str, Tensor], Tensor] = lambda _, weight: weight) -> None:
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
            whole = whole.full_tensor() if hasattr(whole, "full_tensor") else whole
            made[id(weight)] = nn.Parameter(put(name, whole), requires_grad=weight.requires_grad)
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, made[id(weight)])
    model.train(parted.training)
