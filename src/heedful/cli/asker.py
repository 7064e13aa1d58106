"""The models that a command asks, opened with their ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heedful.feedback.ai.asks import Asker
    from heedful.feedback.ai.budget import Purse
    from heedful.feedback.ai.ledger import Ledger
    from heedful.pipeline.judge_opening import Reach
    from heedful.training.progress import Display


def spending(spent: Mapping[str, Any]) -> dict[str, Any]:
    """Of what was spent, what a person wants to see: replies, how many of them cost nothing anew, and money."""
    return {name: spent[name] for name in ("replies", "cached", "cost") if spent[name] or name == "replies"}


@contextmanager
def opened_book(config: Reach, ledger: Path, display: Display) -> Iterator[tuple[Ledger, Purse]]:
    """The ledger that keeps replies, open, and what may still be spent of a command's budget."""
    from heedful.feedback.ai.budget import Budget, Purse
    from heedful.feedback.ai.ledger import Ledger

    limits = Budget(config.budget.requests, config.budget.tokens, config.budget.money)
    book = Ledger(ledger)
    try:
        if book.lost:
            display.say(f"{book.lost} requests of an earlier run may have been paid for; they are asked again.")
        yield book, Purse(limits, book.spent())
    finally:
        book.close()


@contextmanager
def opened_asker(model: str, config: Reach, ledger: Path, display: Display) -> Iterator[Asker]:
    """A model ready to be asked for texts, with its ledger open.

    Args:
        model: MODEL, MODEL@URL or hf:FOLDER, as `heedful judge` takes judges.
        ledger: the file that keeps replies.

    Raises:
        HeedfulError: no key, no such server, model or folder; before the first question that matters.
    """
    from heedful.pipeline.judge_opening import opened

    with opened_book(config, ledger, display) as (book, purse):
        yield opened(model, config, book, purse, display)
