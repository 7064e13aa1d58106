"""How much an asker may spend, and what a question may cost at most before it is sent."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Usage
from heedful.feedback.ai.ledger import Charge
from heedful.files import sha256_json

PER_MESSAGE = 16
"""Tokens that a chat template may put around a message, reckoned generously."""


@dataclass(frozen=True)
class Prices:
    """Money for a million tokens. 0 where it is free, or not known."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, usage: Usage) -> float:
        """What a reply cost."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class Budget:
    """The most that may be spent, over all runs with one ledger; None: no limit.

    Raises:
        HeedfulError: a limit that is not above 0.
    """

    requests: int | None = None
    tokens: int | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        for name in ("requests", "tokens", "money"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise HeedfulError(f"a budget of {limit} allows nothing.", where=name, mend="Give more than 0.")

    def exceeded_by(self, charge: Charge) -> str:
        """The limit that a charge is over; empty where it is within all."""
        limits = {"requests": charge.requests, "tokens": charge.tokens, "money": charge.cost}
        for name, value in limits.items():
            limit = getattr(self, name)
            if limit is not None and value > limit + 1e-12:
                return name
        return ""


def most(ask: Ask, prices: Prices) -> Charge:
    """The most that one request can take: byte-level tokenizers make no more tokens than a text has bytes."""
    prompt = sum(len(message.content.encode("utf-8", "surrogatepass")) + PER_MESSAGE for message in ask.messages)
    if ask.schema is not None:
        prompt += len(str(dict(ask.schema)))
    usage = Usage(prompt, ask.max_tokens)
    return Charge(1, usage.prompt_tokens, usage.completion_tokens, prices.of(usage))


class Purse:
    """A budget that many threads spend from. What is under way counts at its most, so it is never overdrawn.

    Args:
        budget: the limits.
        spent: what was spent before.
    """

    def __init__(self, budget: Budget, spent: Charge) -> None:
        self.budget = budget
        self._spent, self._reserved = spent, Charge()
        self._lock = threading.Lock()

    @property
    def spent(self) -> Charge:
        """What was spent so far, this run's and before; not what is under way."""
        with self._lock:
            return self._spent

    def reserve(self, charge: Charge) -> str:
        """Set something aside; gives the limit that forbids it, or an empty string."""
        with self._lock:
            over = self.budget.exceeded_by(self._spent + self._reserved + charge)
            if not over:
                self._reserved += charge
            return over

    def settle(self, reserved: Charge, actual: Charge) -> None:
        """What was set aside has become this."""
        with self._lock:
            self._reserved -= reserved
            self._spent += actual

    def hopeless(self, charge: Charge) -> bool:
        """Whether it would be too much even if all that is under way came back unspent."""
        with self._lock:
            return bool(self.budget.exceeded_by(self._spent + charge))


def fingerprint(url: str, model: str) -> str:
    """A short name for a model at a server, for the ledger's facts."""
    return sha256_json([url, model])[:16]
