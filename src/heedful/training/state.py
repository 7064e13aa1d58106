"""What a trainer mutates, what it yields, and the typed interventions that reach it from outside."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import nn

from heedful.core.seeds import mix as mix
from heedful.models.memory import offloaded, within_memory
from heedful.training.config.common import MemoryConfig
from heedful.training.optimiser import Optimiser
from heedful.training.workers import current

T = TypeVar("T")
MOST_TOKENS = "most_tokens"
"""The scalar that bounds micro-batches once the device has run out of memory."""


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


@dataclass(frozen=True)
class LimitMicroBatch:
    """Read at most so many tokens at a time from the next step on: the device had no memory for more."""

    tokens: int


@dataclass(frozen=True)
class FreezePolicy:
    """Let the policy's weights rest for so many steps; a separate critic learns on."""

    steps: int


@dataclass(frozen=True)
class Keep:
    """Keep the weights as they are now, as those of the best policy so far; the ones kept before may go."""

    reason: str


@dataclass(frozen=True)
class SetAside:
    """Keep the weights as they are now until it is known whether they are better than the best so far."""

    reason: str


@dataclass(frozen=True)
class Settle:
    """Of all weights that were kept or set aside, only those of one step (and of step 0) are wanted any longer."""

    best_step: int
    reason: str


@dataclass(frozen=True)
class RollBack:
    """Put back the weights that were kept after a step (0: those that the run began with), and end the run."""

    to_step: int
    reason: str


Event: TypeAlias = SetKLCoefficient | Stop | LimitMicroBatch | FreezePolicy | Keep | SetAside | Settle | RollBack
EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (SetKLCoefficient, Stop, LimitMicroBatch, FreezePolicy, Keep, SetAside, Settle, RollBack)
}


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
    told: Callable[[Event], None] = field(default=lambda event: None, repr=False, compare=False)
    """Is told what the trainer had to do by itself in the middle of a step, so that it can be journalled."""

    def begin_step(self) -> None:
        """Seed the global generators from (seed, step), apart for each worker: their dropout is not the same."""
        rank = current().rank
        mixed = mix(self.seed, self.step, *([rank] if rank else []))
        random.seed(mixed)
        np.random.seed(mixed % 2**32)
        torch.manual_seed(mixed)

    def apply(self, event: Event) -> None:
        """Carry out an intervention at a step boundary. Weights that are kept or put back lie on disk: `run` sees to
        them."""
        if isinstance(event, SetKLCoefficient):
            if "kl_coefficient" not in self.scalars:
                raise ValueError("this trainer has no KL coefficient to set")
            self.scalars["kl_coefficient"] = event.value
        elif isinstance(event, LimitMicroBatch):
            self.scalars[MOST_TOKENS] = min(event.tokens, self.scalars.get(MOST_TOKENS, event.tokens))
        elif isinstance(event, FreezePolicy):
            self.scalars["frozen_until"] = self.step + event.steps
        elif isinstance(event, Stop | RollBack):
            self.scalars["stopped"] = event.reason
            if isinstance(event, RollBack):
                self.scalars["rolled_back_to"] = event.to_step

    @property
    def frozen(self) -> bool:
        """Whether the policy's weights rest in the step that goes on."""
        return self.step < self.scalars.get("frozen_until", 0)

    def tokens(self, memory: MemoryConfig) -> int:
        """Most tokens in one pass: what the settings say, or less since the device had no memory for it."""
        return min(memory.tokens, self.scalars.get(MOST_TOKENS, memory.tokens))

    def within_memory(self, memory: MemoryConfig, longest: int, work: Callable[[int], T]) -> T:
        """Do work that reads some tokens at a time, and all of it again at half as many where memory runs out.

        It may add to gradients that were empty before; it may change nothing else that a second try would meet, such
        as weights.

        Args:
            longest: tokens of the longest row, or of the rows that cannot be parted.
            work: is given the most tokens to read at a time.

        Raises:
            HeedfulError: the longest row alone does not fit.
        """

        def limit(tokens: int) -> None:
            event = LimitMicroBatch(tokens)
            self.apply(event)
            self.told(event)

        with ExitStack() as stack:
            if memory.offload_activations:
                stack.enter_context(offloaded(p for module in self.modules.values() for p in module.parameters()))
            if current().shards:  # a pass is one of all workers: none can try again by itself
                return within_memory(self.tokens(memory), self.tokens(memory), work)
            return within_memory(self.tokens(memory), longest, work, undo=self._clear, told=limit)

    def _clear(self) -> None:
        for optimiser in self.optimisers.values():
            for parameter in optimiser.parameters.values():
                parameter.grad = None


def due(step: int, every: int) -> bool:
    """Whether something that happens `every` so many steps happens now; 0 is never."""
    return every > 0 and step % every == 0
