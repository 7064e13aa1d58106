"""A Python function as an `Asker`: any model that a program can call judges, revises or writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Failure, Reply, Usage
from heedful.feedback.ai.ledger import Charge, Ledger

BATCH = 16
"""Questions that the function is given at a time."""

Complete = Callable[[Sequence[list[dict[str, str]]]], Sequence[str]]
"""Conversations, each a list of `{"role", "content"}`, to one text each."""


class FunctionAsker:
    """Asks a function, which decides for itself on temperature and length. It tells no log-probabilities.

    Args:
        complete: the function.
        name: of whoever answers, for ledgers and records.
        ledger: keeps replies, so that a run that goes on does not ask again.
    """

    def __init__(self, complete: Complete, name: str, ledger: Ledger) -> None:
        self.complete, self.model, self.ledger = complete, name, ledger

    def ask(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Asker`.

        Raises:
            HeedfulError: it is to tell log-probabilities, or gave something else than one text a question.
        """
        numbered = enumerate(asks)
        while chunk := list(islice(numbered, BATCH)):
            new: list[tuple[int, Ask]] = []
            for number, ask in chunk:
                if ask.top_logprobs:
                    raise HeedfulError(
                        "a function tells no log-probabilities.", where=self.model, mend="Judge with way='verdict'."
                    )
                known = self.ledger.find(ask.key(self.model))
                if known is None:
                    new.append((number, ask))
                else:
                    yield number, known
            for (number, ask), text in zip(new, self._texts([ask for _, ask in new]), strict=True):
                reply = Reply(text, "stop", (), Usage(), self.model)
                key, nothing = ask.key(self.model), Charge(1, 0, 0)
                self.ledger.paid(self.ledger.sent(key, nothing), key, self.model, ask, reply, nothing)
                yield number, reply

    def _texts(self, asks: Sequence[Ask]) -> Sequence[str]:
        if not asks:
            return []
        given: Any = self.complete([[{"role": m.role, "content": m.content} for m in ask.messages] for ask in asks])
        texts = list(given) if isinstance(given, list | tuple) else [given]
        if len(texts) != len(asks) or not all(isinstance(text, str) for text in texts):
            shown = repr(given)[:60]
            raise HeedfulError(
                f"the judge gave {shown} for {len(asks)} questions.",
                where=self.model,
                mend="It takes a list of conversations and returns a list of as many texts.",
            )
        return texts
