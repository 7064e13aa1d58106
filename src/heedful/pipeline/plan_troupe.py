"""The models of a stage with their passes rehearsed, whatever devices they will run on.

A pass is rehearsed at two small depths and extended to the model's own: what it keeps, computes and starts grows by the
same amount with every layer of a kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from heedful.core.scaling import FULL, Weights
from heedful.errors import HeedfulError
from heedful.models.adapters import underlying
from heedful.models.rehearsal import NoRehearsal, Passes, Sketch, read, update
from heedful.models.storage import Precision
from heedful.pipeline.plan_models import Cast, Casting
from heedful.training.config.stage import StageConfig

ON = "cpu"
"""Where passes are rehearsed: a torch without CUDA has no rules of shapes for it. Attention keeps the same there."""


@dataclass(frozen=True)
class Actor:
    """A model of a stage at its own depth, and at two small depths that its passes are rehearsed at."""

    whole: Sketch
    small: Sketch
    less: Sketch
    layers: tuple[int, int, int]

    @cached_property
    def weights(self) -> Weights:
        """Its numbers."""
        layers = [sum(p.numel() for p in layer.parameters()) for layer in layers_of(self.whole)] or [0]
        total = sum(p.numel() for p in {id(p): p for p in self.whole.model.parameters()}.values())
        return Weights(total, self.whole.trained / FULL, max(layers), total - sum(layers))

    def passes(self, rehearse: Callable[[Sketch], Passes]) -> Passes:
        """A rehearsal, extended to the model's depth.

        Args:
            rehearse: of a sketch, the passes.
        """
        whole, more, less = self.layers
        if whole == more:
            return rehearse(self.whole)
        large, small = rehearse(self.small), rehearse(self.less)
        rise = (whole - more) / (more - less)
        grown = {
            name: getattr(large, name) + rise * (getattr(large, name) - getattr(small, name)) for name in vars(large)
        }
        return Passes(**{name: int(max(value, getattr(large, name))) for name, value in grown.items()})


def layers_of(model: Sketch) -> list[Any]:
    inner = underlying(model.model)
    kinds = set(getattr(inner, "_no_split_modules", None) or ())
    return [part for part in inner.modules() if type(part).__name__ in kinds]


def _period(model: Sketch) -> int | None:
    """After how many layers a model repeats itself; None where it does not."""
    layers = layers_of(model)
    types = getattr(underlying(model.model).config.get_text_config(), "layer_types", None) or [""] * len(layers)
    if len(types) != len(layers):
        return None
    kinds = [
        (kind, tuple((name, p.shape) for name, p in layer.named_parameters()))
        for kind, layer in zip(types, layers, strict=True)
    ]
    for length in range(1, len(kinds) // 3 + 1):
        if all(kind == kinds[place % length] for place, kind in enumerate(kinds)):
            return length
    return None


class Troupe:
    """The models of a stage's settings and their rehearsed passes, which no number of GPUs changes."""

    def __init__(self, config: StageConfig) -> None:
        self.config = config
        self.precision: Precision = "float32" if config.loading.precision == "float32" else "bfloat16"
        self._known: dict[Any, Passes] = {}

    @cached_property
    def cast(self) -> Cast:
        """The models at their own depth."""
        return Casting(self.config, self.precision).cast()

    @cached_property
    def actors(self) -> dict[str, Actor]:
        """The models that learn, and under "judge" the one that scores."""
        everyone = _everyone(self.cast)
        periods = {_period(model) for model in everyone.values()}
        if None in periods:
            return {name: Actor(model, model, model, (1, 1, 1)) for name, model in everyone.items()}
        period = max(length for length in periods if length)
        casts = {depth: _everyone(Casting(self.config, self.precision, depth).cast()) for depth in (2 * period, period)}
        return {
            name: Actor(
                model, casts[2 * period][name], casts[period][name], (len(layers_of(model)), 2 * period, period)
            )
            for name, model in everyone.items()
        }

    def update(self, name: str, rows: int, width: int, learnt: int) -> Passes:
        """Forward and backward of one micro-batch."""
        key = ("update", name, rows, width, learnt)
        return self._rehearsed(name, key, lambda sketch: update([sketch], ON, rows, width, learnt))

    def read(self, name: str, rows: int, width: int) -> Passes:
        """A forward pass without gradient."""
        return self._rehearsed(name, ("read", name, rows, width), lambda sketch: read(sketch, ON, rows, width))

    def _rehearsed(self, name: str, key: Any, rehearse: Callable[[Sketch], Passes]) -> Passes:
        if key not in self._known:
            try:
                self._known[key] = self.actors[name].passes(rehearse)
            except NoRehearsal as problem:
                raise HeedfulError(
                    f"a model's passes cannot be rehearsed: {problem}"[:200], mend="Such a model can be tried only."
                ) from problem
        return self._known[key]


def _everyone(cast: Cast) -> dict[str, Sketch]:
    return dict(cast.trained) | ({"judge": cast.judge} if cast.judge is not None else {})
