"""The model that a command asks: its flags, and how it is opened with its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from heedful.cli.judge import BudgetOptions, EndpointOptions
from heedful.cli.opening import LoadingOptions

if TYPE_CHECKING:
    from heedful.feedback.ai.asks import Asker
    from heedful.training.progress import Display


class Asking(Protocol):
    """What settings say of a model that is asked."""

    @property
    def endpoint(self) -> EndpointOptions:
        """How a server is reached."""
        ...

    @property
    def budget(self) -> BudgetOptions:
        """What may be spent."""
        ...

    @property
    def loading(self) -> LoadingOptions:
        """How a model in this process is opened."""
        ...


@contextmanager
def opened_asker(model: str, config: Asking, ledger: Path, display: Display) -> Iterator[Asker]:
    """A model ready to be asked for texts, with its ledger open.

    Args:
        model: MODEL, MODEL@URL or hf:FOLDER, as `heedful judge` takes judges.
        ledger: the file that keeps replies.

    Raises:
        HeedfulError: no key, no such server, model or folder; before the first question that matters.
    """
    from heedful.cli.judge_opening import opened
    from heedful.feedback.ai.budget import Budget, Purse
    from heedful.feedback.ai.ledger import Ledger

    limits = Budget(config.budget.requests, config.budget.tokens, config.budget.money)
    book = Ledger(ledger)
    try:
        if book.lost:
            display.say(f"{book.lost} requests of an earlier run may have been paid for; they are asked again.")
        yield opened(model, config, 0, False, book, Purse(limits, book.spent()), display)
    finally:
        book.close()
