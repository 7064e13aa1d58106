"""What a trainer mutates, what it yields, and the typed interventions that reach it from outside."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from heedful.training.optimiser import Optimiser


@dataclass(frozen=True)
class Step:
    """What a trainer tells after each step: its number (from 1), figures, and samples worth logging."""

    number: int
    metrics: dict[str, float]
    samples: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class SetKLCoefficient:
    """Set β from the next step on."""

    value: float


@dataclass(frozen=True)
class Stop:
    """End the run after this step, as if it had been the last one."""

    reason: str


Event: TypeAlias = SetKLCoefficient | Stop
EVENTS: dict[str, type[SetKLCoefficient] | type[Stop]] = {"SetKLCoefficient": SetKLCoefficient, "Stop": Stop}


def event_to_json(event: Event) -> dict[str, Any]:
    """An event as a JSON object; `event_from_json` reads it back."""
    return {"event": type(event).__name__, **asdict(event)}


def event_from_json(value: dict[str, Any]) -> Event:
    """The event that `event_to_json` wrote."""
    fields = {key: item for key, item in value.items() if key not in ("event", "step")}
    return EVENTS[value["event"]](**fields)


@dataclass
class TrainState:
    """All that a trainer changes. Whatever is not here follows from the config, the data and the step.

    `modules` holds the trained weights by name, `scalars` JSON values (KL coefficient, reward statistics).
    Order and samples are functions of (seed, step), so there is no generator to save; what draws on torch's
    global generator (adapter dropout) is seeded anew at every step by `begin_step`.
    """

    modules: dict[str, nn.Module]
    optimisers: dict[str, Optimiser]
    seed: int
    step: int = 0
    scalars: dict[str, Any] = field(default_factory=dict)

    def begin_step(self) -> None:
        """Seed the global generators from (seed, step)."""
        mixed = mix(self.seed, self.step)
        random.seed(mixed)
        np.random.seed(mixed % 2**32)
        torch.manual_seed(mixed)

    def apply(self, event: Event) -> None:
        """Carry out an intervention at a step boundary."""
        if isinstance(event, SetKLCoefficient):
            if "kl_coefficient" not in self.scalars:
                raise ValueError("this trainer has no KL coefficient to set")
            self.scalars["kl_coefficient"] = event.value
        else:
            self.scalars["stopped"] = event.reason


def mix(seed: int, *parts: int) -> int:
    """A 63-bit seed from a seed and some counters; neighbouring counters give unrelated seeds."""
    return int(np.random.SeedSequence([seed, *parts]).generate_state(2, np.uint64)[0] >> 1)


def due(step: int, every: int) -> bool:
    """Whether something that happens `every` so many steps happens now; 0 is never."""
    return every > 0 and step % every == 0
