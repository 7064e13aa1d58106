"""What a plan of GPUs that are not at hand says: memory of each, time of a step, traffic, cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from heedful.pipeline.plan import PASSING, Need, When

SHARE = 0.9
"""Of a GPU that nobody else uses, how much a stage may take."""

MOMENTS: tuple[When, ...] = (*PASSING, "beginning")


@dataclass(frozen=True)
class Phase:
    """A part of a step on the device that has most to do.

    Attributes:
        arithmetic: seconds at the device, without wires.
        wires: seconds at the wires, which fetch while it computes where `overlapped`.
        traffic: bytes that it sends.
    """

    what: str
    arithmetic: float
    wires: float = 0.0
    traffic: float = 0.0
    overlapped: bool = True

    @property
    def seconds(self) -> float:
        """Time of the phase."""
        return max(self.arithmetic, self.wires) if self.overlapped else self.arithmetic + self.wires


@dataclass(frozen=True)
class ClusterPlan:
    """What a stage needs of each of many GPUs.

    Attributes:
        memory: bytes of a GPU.
        phases: of one step (a rollout batch, or an optimiser step offline); None where the GPU's figures are not known.
        judged: answers or pairs of a step that are judged or learnt from as judgments.
        mends: flags with which it would fit, where it does not.
    """

    stage: str
    gpus: str
    layout: str
    count: int
    micro_batch_tokens: int
    rows: int
    width: int
    parameters: dict[str, float]
    needs: tuple[Need, ...]
    memory: int
    phases: tuple[Phase, ...] | None
    items: int
    unit: str
    price: float | None = None
    mends: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())

    def at(self, when: When) -> int:
        """Bytes of one moment, beside what is always held."""
        return sum(need.bytes for need in self.needs if need.when == when)

    @property
    def worst(self) -> When:
        """The moment that takes the most beside what is always held."""
        return max(MOMENTS, key=self.at)

    @property
    def total(self) -> int:
        """Bytes of a GPU at the worst moment."""
        return self.at("always") + self.at(self.worst)

    @property
    def fits(self) -> bool:
        """Whether the stage keeps within its share of a GPU."""
        return self.total <= SHARE * self.memory

    @property
    def seconds(self) -> float | None:
        """Time of a step."""
        return None if self.phases is None else sum(phase.seconds for phase in self.phases)

    @property
    def traffic(self) -> float | None:
        """Bytes that each GPU sends in a step."""
        return None if self.phases is None else sum(phase.traffic for phase in self.phases)

    @property
    def per_day(self) -> float | None:
        """Items of `unit` in a day."""
        return None if not self.seconds else self.items * 86_400 / self.seconds

    @property
    def cost_per_1000(self) -> float | None:
        """What 1,000 items cost, in the currency of the price."""
        if self.price is None or not self.seconds:
            return None
        return 1000 * self.price * self.count * self.seconds / 3600 / self.items

    def describe(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        plain = ("stage", "gpus", "layout", "count", "micro_batch_tokens", "parameters", "memory")
        phases = None if self.phases is None else [vars(one) | {"seconds": one.seconds} for one in self.phases]
        told: dict[str, Any] = {name: getattr(self, name) for name in plain}
        return told | {
            "micro_batch": [self.rows, self.width],
            "needs": [vars(need) for need in self.needs],
            "total": self.total,
            "share": SHARE,
            "fits": self.fits,
            "phases": phases,
            "step_seconds": self.seconds,
            "step_traffic": self.traffic,
            "unit": self.unit,
            "a_day": self.per_day,
            "cost_of_1000": self.cost_per_1000,
            "mends": list(self.mends),
            "remarks": list(self.remarks),
        }
