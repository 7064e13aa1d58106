"""What a model is asked and what it replies: the one contract between AI feedback and whatever runs the model.

An endpoint (`heedful.feedback.ai.endpoint`), a model in this process (`heedful.rollout.asking`) and a scripted double
in a test are all an `Asker`. Nothing here needs Django or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from heedful.errors import HeedfulError
from heedful.files import sha256_json

Finish = Literal["stop", "length", "refusal", "other"]


@dataclass(frozen=True)
class Message:
    """One turn of what is asked."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Ask:
    """One question to a model. Equal asks are one question: a ledger pays for them once.

    Args:
        messages: the conversation, the last from the user.
        max_tokens: the longest answer, in tokens.
        temperature: 0 for the likeliest answer.
        schema: a JSON schema that the answer must meet, where the server can hold the model to it; it is checked by
            whoever reads the reply, in every case.
        top_logprobs: how many alternatives of each answer token to report with their log-probability; 0: none.
        seed: sent to the server where not None.
        draw: tells several draws of the same question apart (temperature above 0); never sent.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0
    seed: int | None = None
    draw: int = 0

    def key(self, model: str) -> str:
        """Hex SHA-256 of the question and of who is asked: what a ledger files the reply under."""
        return sha256_json({"model": model, **asdict(self)})


def ask_of(messages: Iterable[tuple[str, str]], max_tokens: int, **settings: Any) -> Ask:
    """An ask from (role, content) pairs; `settings` are the other fields of `Ask`.

    Raises:
        ValueError: no message, or an unknown role.
    """
    made = []
    for role, content in messages:
        if role not in ("system", "user", "assistant"):
            raise ValueError(f"unknown role {role!r}")
        made.append(Message(role, content))  # type: ignore[arg-type]
    if not made:
        raise ValueError("an ask needs a message")
    return Ask(tuple(made), max_tokens, **settings)


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply, as the server counted them; 0 where it gave no count."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Reply:
    """What the model said.

    Args:
        text: the answer; empty where it refused through a field of its own.
        finish: why it ended. "refusal": the server or the model declined (its words, if any, are in `text`).
        logprobs: one mapping an answer token, in order: token -> natural-log probability of the alternatives that
            were reported, the token that was said among them. Empty where none were asked for or given.
        usage: tokens paid for.
        model: the name that the server gave itself.
        cost: money, at the prices that were stated; 0 where none were.
        cached: it was read from the ledger: nothing was paid for it now.
        tokens: the answer's tokens as they were said, one for each entry of `logprobs`.
    """

    text: str
    finish: Finish
    logprobs: tuple[Mapping[str, float], ...]
    usage: Usage
    model: str
    cost: float = 0.0
    cached: bool = False
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A question that got no reply after every attempt; asking again in another run tries anew.

    Args:
        reason: a word for tables: "timeout", "connection", "rate limit", "server error", "bad request", "bad reply",
            "broken stream".
        detail: for the person who reads it; names no secret.
        attempts: requests that were sent for it in this run.
    """

    reason: str
    detail: str
    attempts: int


class BudgetSpentError(HeedfulError):
    """The budget is spent. Every reply that was paid for has been yielded before this is raised.

    Whoever consumes an asker may catch it, keep what was yielded and stop; the same run with a larger budget goes on.
    """


class Asker(Protocol):
    """Whatever answers questions."""

    def ask(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """Answer questions, in any order: the number of the ask in `asks`, counted from 0, and its outcome.

        Each ask is yielded once at most; all of them, unless the budget ends (`BudgetSpentError`) or the consumer
        stops.

        Raises:
            BudgetSpentError: after the last reply that was paid for.
            HeedfulError: the server can answer no question at all (a wrong key, an unknown model).
        """
        ...
