"""GPUs that are not at hand, to plan for: which, how many, and how they are wired. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from heedful.errors import HeedfulError, nearest
from heedful.training.config.checks import at_least, require

GB, GIB = 10**9, 2**30


@dataclass(frozen=True)
class Gpu:
    """A GPU as its maker's data sheet has it.

    Attributes:
        memory: GiB that the driver shows.
        tflops: dense bfloat16, without sparsity.
        bandwidth: GB/s of its memory.
        link: GB/s one way to its neighbours in the host: half of NVLink's total, or PCIe's.
    """

    memory: float
    tflops: float | None = None
    bandwidth: float | None = None
    link: float | None = None


GPUS: dict[str, Gpu] = {
    "A100-40GB": Gpu(39.4, 312, 1555, 300),
    "A100-80GB": Gpu(79.2, 312, 2039, 300),
    "H100": Gpu(79.2, 989, 3350, 450),
    "H200": Gpu(139.8, 989, 4800, 450),
    "B200": Gpu(178.0, 2250, 8000, 900),
    "L40S": Gpu(44.4, 362, 864, 32),
    "RTX4090": Gpu(23.5, 165, 1008, 32),
}
"""By name: SXM modules where there are several. Memory is what torch reports, a little less than the sheet's."""


@dataclass(frozen=True)
class ClusterConfig:
    """GPUs that are not at hand, to plan for (docs/scale.md)."""

    gpus: str | None = None
    """How many of which: 8xH200, 64xH100, or by their memory alone, 8x80GB. None: this machine."""
    layout: Literal["auto", "replicas", "sharded"] = "auto"
    """replicas: each GPU holds the whole models; sharded: a share of the layers that train (--launch.shard). auto:
    replicas where they fit."""
    tflops: float | None = None
    """Dense bfloat16 TFLOPS of a GPU, where its name does not say or says otherwise."""
    bandwidth: float | None = None
    """GB/s of a GPU's memory."""
    link: float | None = None
    """GB/s, one way, from a GPU to its neighbours in the host."""
    network: float = 50.0
    """GB/s, one way, from a GPU to other hosts: 50 is a 400 Gbit/s card for each."""
    per_host: int = 8
    """GPUs of a host."""
    efficiency: float = 0.4
    """Share of the TFLOPS that training's matrix products reach. An assumption: 0.3 to 0.5 are reported."""
    launch: float = 8.0
    """Microseconds that an operation takes at least, as PyTorch starts them one by one. An assumption."""
    price: float | None = None
    """What a GPU costs an hour, in any currency."""

    def __post_init__(self) -> None:
        where = "cluster."
        at_least(1, where, per_host=self.per_host)
        at_least(0, where, launch=self.launch, price=self.price or 0.0)
        require(0 < self.efficiency <= 1, f"efficiency is {self.efficiency}; it must lie in 0 to 1.", where[:-1])
        for name in ("tflops", "bandwidth", "link", "network"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} is {value}; it must be above 0.", f"{where}{name}")
        if self.gpus is not None:
            self._named  # noqa: B018  (an error in the name comes now)

    @property
    def count(self) -> int:
        """How many GPUs."""
        return self._named[0]

    @property
    def gpu(self) -> Gpu:
        """One of them, with what is set apart from its data sheet."""
        known = self._named[1]
        return Gpu(
            known.memory,
            self.tflops or known.tflops,
            self.bandwidth or known.bandwidth,
            self.link or known.link,
        )

    @property
    def _named(self) -> tuple[int, Gpu]:
        """The number and the GPU that `gpus` names."""
        spec = self.gpus or ""
        found = re.fullmatch(r"(\d+)\s*[x×]\s*(\S+)", spec.strip())
        if found is None or int(found[1]) < 1:
            raise HeedfulError(
                f"{spec!r} does not say how many of which.", where="cluster.gpus", mend="Write 8xH200, or 8x80GB."
            )
        name = found[2]
        memory = re.fullmatch(r"(\d+(?:\.\d+)?)(GB|GiB)", name, re.IGNORECASE)
        if memory is not None:
            unit = GIB if memory[2].lower() == "gib" else GB
            return int(found[1]), Gpu(float(memory[1]) * unit / GIB)
        known = {known.lower(): gpu for known, gpu in GPUS.items()}
        if name.lower() not in known:
            raise HeedfulError(
                f"there are no figures of a GPU {name!r}; known are {', '.join(GPUS)}.",
                where="cluster.gpus",
                mend=nearest(name, list(GPUS))
                or "Write its memory instead, 8x80GB, and --tflops, --bandwidth and --link.",
            )
        return int(found[1]), known[name.lower()]
