"""Answers of a model to prompts, through an asker: what a stage begins with when it is given no answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Asker, Failure, Reply, ask_of
from heedful.feedback.ai.dialogue import Dialogue, FailedError
from heedful.feedback.ai.quoting import said
from heedful.feedback.ai.spending import Spent


@dataclass(frozen=True)
class Sampling:
    """How a model's answers are drawn.

    Args:
        max_tokens: the longest answer.
        temperature: 0 for the likeliest answer.
        seed: fixes what is sent as a seed; a server decides for itself whether it heeds it.
    """

    max_tokens: int = 512
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise HeedfulError(f"{self.max_tokens} tokens are no answer.", where="max_tokens", mend="Give 1 or more.")
        if not 0 <= self.temperature <= 2:
            raise HeedfulError(
                f"the temperature is {self.temperature}.", where="temperature", mend="It lies between 0 and 2."
            )

    def ask(self, messages: Sequence[tuple[str, str]], draw: int = 0) -> Ask:
        """A question to the model. Draws of one question get replies of their own, where replies are drawn at all.

        The seed is the same for all questions of a draw, so that a model in this process can answer them together.
        """
        if self.temperature == 0:
            return ask_of(messages, self.max_tokens)
        seed = int.from_bytes(hashlib.sha256(f"{self.seed} {draw}".encode()).digest()[:4], "big") >> 1
        return ask_of(messages, self.max_tokens, temperature=self.temperature, seed=seed, draw=draw)


def spoken(prompt: Conversation, instruction: str = "") -> list[tuple[str, str]]:
    """A conversation as a model is asked it, with an instruction in its system message where one is given.

    Raises:
        HeedfulError: a turn of a tool, which a plain question cannot say.
    """
    found: list[tuple[str, str]] = [(message.role, message.content) for message in prompt]
    if any(role == "tool" for role, _ in found):
        raise HeedfulError(
            "a prompt holds a turn of a tool, which cannot be asked here.",
            where=repr(prompt[-1].content[:60]),
            mend="Leave such prompts out, or give their answers in the file.",
        )
    if not instruction:
        return found
    if found[0][0] == "system":
        return [("system", f"{found[0][1]}\n\n{instruction}"), *found[1:]]
    return [("system", instruction), *found]


def outcomes(
    asker: Asker, asks: Sequence[Ask], told: Callable[[int], None] = lambda done: None
) -> list[Reply | Failure]:
    """Every outcome in the order of its ask; `told` hears how many have come.

    Raises:
        RuntimeError: the asker left one out, or gave one twice: a bug of ours.
        BudgetSpentError: see `Asker.ask`.
    """
    found: list[Reply | Failure | None] = [None] * len(asks)
    for done, (number, outcome) in enumerate(asker.ask(asks), 1):
        if found[number] is not None:
            raise RuntimeError(f"ask {number} has two outcomes")
        found[number] = outcome
        told(done)
    missing = [number for number, outcome in enumerate(found) if outcome is None]
    if missing:
        raise RuntimeError(f"asks without an outcome: {missing[:5]}")
    return [outcome for outcome in found if outcome is not None]


def whole(ask: Ask, what: str, spent: Spent) -> Dialogue[str | Failure]:
    """Within a dialogue: the text of a whole reply, or why there is none. See `heedful.feedback.ai.quoting.said`."""
    try:
        reply = yield ask
    except FailedError as error:
        return error.failure
    spent.add(reply)
    return said(reply, what)


def answers(
    prompts: Sequence[Conversation],
    asker: Asker,
    sampling: Sampling,
    spent: Spent,
    *,
    samples: int,
    told: Callable[[int], None] = lambda done: None,
) -> list[list[str | Failure]]:
    """`samples` answers to each prompt, or why there is none.

    Raises:
        BudgetSpentError: see `Asker.ask`; a ledger keeps what was paid for.
        HeedfulError: see `spoken` and `Asker.ask`.
    """
    asks = [sampling.ask(spoken(prompt), draw) for prompt in prompts for draw in range(samples)]
    found: list[str | Failure] = []
    for outcome in outcomes(asker, asks, told):
        spent.add(outcome)
        found.append(said(outcome, "answer"))
    return [found[start : start + samples] for start in range(0, len(found), samples)]
