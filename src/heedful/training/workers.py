"""The processes that train together: who does which share of a batch, and how their parts become one again.

Every worker knows the whole batch: the records are read by all, and what is sampled is gathered. What costs time
(sampling, judging, forward and backward passes) each does on its share of the rows; sums run over the whole batch and
are divided by counts of the whole batch. So nothing that is learnt depends on how many workers there are, but for the
order in which numbers are added.

A process alone is the one worker of `Workers()`, for whom all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.models.low_precision import Computing

T = TypeVar("T")

BUCKET = 2**24
"""Numbers of a gradient that are sent at once: 64 MiB in float32."""


class Workers:
    """The workers of a run, seen from one of them.

    Args:
        rank: which of them this is; the one of rank 0 leads: it alone writes, prints and decides.
        count: how many there are.
        group: of torch.distributed, over which objects travel through main memory (gloo); None for one worker.
        shards: each keeps a share of what trains (`heedful.training.sharding`), so that all go through their forward
            and backward passes in step.

    Attributes:
        asked_to_stop: this process was interrupted, and ends with the step in which all do.
        sharded: the models whose weights are parted among the workers (`heedful.training.sharding.Parted`).
    """

    def __init__(self, rank: int = 0, count: int = 1, group: Any = None, *, shards: bool = False) -> None:
        self.rank, self.count, self.group = rank, count, group
        self.shards = shards and count > 1
        self.asked_to_stop = False
        self.sharded: list[Any] = []
        self._open = 0

    @property
    def leads(self) -> bool:
        """Whether this is the worker that writes, prints and decides."""
        return self.rank == 0

    def block(self, rows: int) -> range:
        """This worker's share of `rows` that stand in a row: as many as the others', or one more or less."""
        return range(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def dealt(self, sizes: Sequence[int]) -> list[int]:
        """The numbers of this worker's share of rows, in order: dealt out by size, so that all have as much to do.

        Args:
            sizes: tokens of each row.
        """
        if self.count == 1:
            return list(range(len(sizes)))
        order = sorted(range(len(sizes)), key=lambda row: (-sizes[row], row))
        there_and_back = [*range(self.count), *reversed(range(self.count))]
        return sorted(
            row for place, row in enumerate(order) if there_and_back[place % len(there_and_back)] == self.rank
        )

    def in_step(self, parts: Sequence[Sequence[int]], spare: Sequence[int]) -> Iterator[tuple[Sequence[int], float]]:
        """This worker's parts of a batch, each with what it counts: 1.

        Where weights are sharded, each pass is one of all workers: who has fewer parts than others reads `spare`
        beside them, which counts 0.
        """
        # Asked before the first pass: later, who has fewer parts would wait here, and the others in a pass.
        missing = int(self.most(len(parts))) - len(parts) if self.shards else 0
        yield from ((part, 1.0) for part in parts)
        yield from ((spare, 0.0) for _ in range(missing))

    def reading(
        self, role: Computing, parts: Sequence[Sequence[int]], spare: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], float]]:
        """`in_step` for passes without gradients, where a model runs in parts now; else this worker's parts alone.

        Where it runs in parts, all workers have to ask for it at the same place, whatever each has to read.
        """
        yield from self.in_step(parts, spare) if role.sharded else ((part, 1.0) for part in parts)

    def gathered(self, value: T) -> list[T]:
        """What each worker has, by rank. All must ask for it at the same place."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, value, group=self.group)
        return found

    def summed(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Figures that add up over the workers' shares."""
        if self.count == 1:
            return figures
        found = self.gathered(figures)
        return {name: sum(one[name] for one in found if name in one) for one in found for name in one}

    def most(self, value: float) -> float:
        """The largest of what each worker has."""
        return max(self.gathered(value))

    def told(self, value: T) -> T:
        """What the leader has, at every worker."""
        if self.count == 1:
            return value
        box = [value if self.leads else None]
        torch.distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]  # type: ignore[return-value]

    def led(self, work: Callable[[], T]) -> T:
        """What the leader alone does, its result at every worker.

        Raises:
            HeedfulError: what the leader met, at every worker.
        """
        if self.count == 1:
            return work()
        outcome: tuple[bool, Any] = (True, None)
        if self.leads:
            try:
                outcome = True, work()
            except HeedfulError as error:
                self.told((False, error))
                raise
        done, result = self.told(outcome)
        if not done:
            raise result
        return result

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Let every worker have the sum of all workers' gradients.

        A weight that some have no gradient of counts 0 there; one that none has a gradient of stays without. Weights
        that are sharded are left alone: their gradients were summed in the backward pass.
        """
        if self.count == 1:
            return
        own = [parameter for parameter in parameters if not is_parted(parameter)]
        known = torch.tensor([parameter.grad is not None for parameter in own], dtype=torch.int32)
        torch.distributed.all_reduce(known, group=self.group)  # tells at once whether all are there
        bucket: list[Tensor] = []
        for parameter, some in zip(own, known.tolist(), strict=True):
            if not some:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if bucket and (
                sum(one.numel() for one in bucket) + parameter.numel() > BUCKET
                or (bucket[0].dtype, bucket[0].device) != (parameter.grad.dtype, parameter.grad.device)
            ):
                _sum(bucket)
                bucket = []
            bucket.append(parameter.grad)
        if bucket:
            _sum(bucket)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, every worker holds all weights, so that passes without gradients need nobody else."""
        if not self.sharded:
            yield
            return
        self._open += 1
        try:
            if self._open == 1:
                for parted in self.sharded:
                    parted.open()
            yield
        finally:
            self._open -= 1
            if not self._open:
                for parted in self.sharded:
                    parted.close()


def by_place(parts: Sequence[tuple[Sequence[int], Tensor | None]], count: int) -> Tensor:
    """[..., count]: one tensor out of the workers' columns [..., n], each with its n places."""
    known = [(places, own) for places, own in parts if own is not None]
    whole = known[0][1].new_empty(*known[0][1].shape[:-1], count)
    for places, own in known:
        whole[..., list(places)] = own
    return whole


def is_parted(parameter: Tensor) -> bool:
    """Whether each worker has a part of a weight only."""
    return hasattr(parameter, "placements")


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """A value on a weight's device; where the weight is parted among workers, the part that is here."""
    if not is_parted(parameter) or is_parted(value):
        return value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    whole: Any = parameter
    return distribute_tensor(value.to(parameter.device), whole.device_mesh, whole.placements, src_data_rank=None)


def _sum(gradients: Sequence[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


_ALONE = Workers()
_now = _ALONE


def current() -> Workers:
    """The workers that this process belongs to: itself alone, unless `heedful.training.joining` has joined others."""
    return _now


@contextmanager
def working(workers: Workers) -> Iterator[Workers]:
    """Belong to some workers inside."""
    global _now
    before, _now = _now, workers
    try:
        yield workers
    finally:
        _now = before
