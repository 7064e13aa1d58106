"""What replies took: tokens and money. Needs no Django and no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from heedful.feedback.ai.asks import Failure, Reply


@dataclass
class Spent:
    """What the replies took: tokens and money of all of them, and of those that this run paid for."""

    replies: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    paid: float = 0.0
    models: Counter[str] = field(default_factory=Counter)
    heard: Callable[[], None] = lambda: None
    """Called after every reply that was counted: for a progress bar."""

    def add(self, outcome: Reply | Failure) -> None:
        """Count one outcome; a failure has no figures."""
        if isinstance(outcome, Failure):
            return
        self.replies += 1
        self.cached += outcome.cached
        self.prompt_tokens += outcome.usage.prompt_tokens
        self.completion_tokens += outcome.usage.completion_tokens
        self.cost += outcome.cost
        self.paid += 0.0 if outcome.cached else outcome.cost
        self.models[outcome.model] += 1
        self.heard()

    def describe(self) -> dict[str, Any]:
        """For a manifest."""
        names = ("replies", "cached", "prompt_tokens", "completion_tokens", "cost", "paid")
        return {name: getattr(self, name) for name in names} | {"models": dict(self.models)}
