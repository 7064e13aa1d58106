"""An asker that replies by a function, keeps a ledger as the real one does, and can end in the middle."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from heedful.feedback.ai.asks import Ask, BudgetSpentError, Failure, Reply, Usage


def reply(text: str, *, finish: str = "stop", model: str = "scripted", cost: float = 0.25) -> Reply:
    return Reply(text, finish, (), Usage(10, len(text.split())), model, cost)  # type: ignore[arg-type]


class Scripted:
    """Answers by `answer`; outcomes come in an order of chance, as from a server.

    `paid` holds every ask that was paid for, in order; after `budget` of them `BudgetSpentError` is raised. The ledger
    is kept between calls, so that a second run of the same work pays for nothing twice.
    """

    def __init__(self, answer: Callable[[Ask], Reply | Failure | str], *, budget: int | None = None, seed: int = 0):
        self.answer, self.budget = answer, budget
        self.chance = random.Random(seed)
        self.ledger: dict[str, Reply] = {}
        self.paid: list[Ask] = []

    def ask(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        waiting = list(enumerate(asks))
        self.chance.shuffle(waiting)
        for number, one in waiting:
            key = one.key("scripted")
            if key in self.ledger:
                yield number, replace(self.ledger[key], cached=True)
                continue
            if self.budget is not None and len(self.paid) >= self.budget:
                raise BudgetSpentError("the budget is spent.")
            self.paid.append(one)
            said = self.answer(one)
            outcome = reply(said) if isinstance(said, str) else said
            if isinstance(outcome, Reply):
                self.ledger[key] = outcome
            yield number, outcome
