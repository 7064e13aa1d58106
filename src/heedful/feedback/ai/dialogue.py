"""Many short conversations with a model at once. One conversation is a generator: it yields an ask, is sent the reply.

def greet() -> Dialogue[str]:
    reply = yield ask_of([("user", "Good morning")], 50)
    return reply.text

for number, said in converse(asker, [greet(), greet()]): ...
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TypeAlias, TypeVar

from heedful.feedback.ai.asks import Ask, Asker, BudgetSpentError, Failure, Reply

T = TypeVar("T")
Dialogue: TypeAlias = Generator[Ask, Reply, T]


class FailedError(Exception):
    """Thrown into a dialogue whose ask got no reply after every attempt; one that does not catch it ends with it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def converse(asker: Asker, dialogues: Iterable[Dialogue[T]]) -> Iterator[tuple[int, T | Failure]]:
    """Hold dialogues, all first asks at once, then all second ones, and so on.

    Yields:
        the dialogue's number and what it returned, as soon as it ended; a Failure where it let one through.

    Raises:
        BudgetSpentError: after everything that could still be ended on replies that were paid for.
    """
    waiting: list[tuple[int, Dialogue[T], Ask]] = []
    for number, dialogue in enumerate(dialogues):
        try:
            waiting.append((number, dialogue, next(dialogue)))
        except StopIteration as end:
            yield number, end.value
    spent: BudgetSpentError | None = None
    while waiting:
        following: list[tuple[int, Dialogue[T], Ask]] = []
        replies = asker.ask([ask for _, _, ask in waiting])
        try:
            for at, reply in replies:
                number, dialogue, _ = waiting[at]
                try:
                    after = dialogue.throw(FailedError(reply)) if isinstance(reply, Failure) else dialogue.send(reply)
                    following.append((number, dialogue, after))
                except StopIteration as end:
                    yield number, end.value
                except FailedError as error:
                    yield number, error.failure
        except BudgetSpentError as error:
            spent = error
        finally:  # a consumer that stops early ends what is under way, and not only when it is collected
            close = getattr(replies, "close", None)
            if close is not None:
                close()
        waiting = following
    if spent is not None:
        raise spent
