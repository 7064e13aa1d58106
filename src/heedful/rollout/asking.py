"""A model in this process as an `Asker`: no server, no key, and the log-probabilities that it really has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from heedful.data.chat import answer_text, render_prompt
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Failure, Reply, Usage
from heedful.feedback.ai.ledger import Charge, Ledger
from heedful.models.modes import evaluating
from heedful.rollout.engine import NativeEngine
from heedful.rollout.types import DecodingParams, Rollout

if TYPE_CHECKING:
    from heedful.models.policy import Policy

BATCH = 16
"""Questions answered together."""


class PolicyAsker:
    """Asks a policy. A JSON schema is not enforced while it writes: whoever reads the reply checks it.

    Args:
        policy: who is asked; its chat template must know a system message if one is asked with.
        name: of the model, for ledgers and records. A ledger goes by it: give a name that changes with the weights.
        ledger: keeps replies, so that a run that goes on does not compute them again; None: keep nothing.
        batch: questions answered together.
    """

    def __init__(self, policy: Policy, name: str, *, ledger: Ledger | None = None, batch: int = BATCH) -> None:
        self.policy, self.model, self.ledger, self.batch = policy, name, ledger, batch
        self._engine = NativeEngine(policy)

    def ask(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Asker`. A prompt that the model's window does not hold is a Failure."""
        numbered = enumerate(asks)
        while chunk := list(islice(numbered, self.batch)):
            groups: dict[tuple[Any, ...], list[tuple[int, Ask]]] = {}
            for number, ask in chunk:
                known = self.ledger.find(ask.key(self.model)) if self.ledger is not None else None
                if known is not None:
                    yield number, known
                else:
                    alike = (ask.max_tokens, ask.temperature, ask.seed, ask.draw, ask.top_logprobs)
                    groups.setdefault(alike, []).append((number, ask))
            for group in groups.values():
                yield from self._group(group)

    def _group(self, group: Sequence[tuple[int, Ask]]) -> Iterator[tuple[int, Reply | Failure]]:
        """Asks that differ in their messages alone."""
        fit: list[tuple[int, Ask, list[int]]] = []
        window = self.policy.context_length
        for number, ask in group:
            try:
                tokens = self._render(ask)
            except HeedfulError as error:
                yield number, Failure("bad request", str(error), 0)
                continue
            if window is not None and len(tokens) + ask.max_tokens > window:
                detail = f"{len(tokens)} tokens and {ask.max_tokens} of the answer do not fit a window of {window}"
                yield number, Failure("bad request", detail, 0)
            else:
                fit.append((number, ask, tokens))
        if not fit:
            return
        first = fit[0][1]
        # Each draw of a question needs numbers of its own.
        seed = (first.seed or 0) + 1_000_003 * first.draw
        params = DecodingParams(max_new_tokens=first.max_tokens, temperature=first.temperature, seed=seed)
        rollout = self._engine.generate([tokens for _, _, tokens in fit], params)
        places = self._alternatives(rollout, first.top_logprobs)
        for row, (number, ask, tokens) in enumerate(fit):
            reply = self._reply(rollout, row, len(tokens), places[row])
            if self.ledger is not None:
                key = ask.key(self.model)
                charge = Charge(1, reply.usage.prompt_tokens, reply.usage.completion_tokens)
                self.ledger.paid(self.ledger.sent(key, charge), key, self.model, ask, reply, charge)
            yield number, reply

    def _render(self, ask: Ask) -> list[int]:
        turns = tuple(Message(one.role, one.content) for one in ask.messages)
        return render_prompt(self.policy.tokenizer, turns)

    def _alternatives(self, rollout: Rollout, count: int) -> list[tuple[list[str], list[dict[str, float]]]]:
        """Of each row: the tokens that were said, and the likeliest at each place with these among them."""
        if not count:
            return [([], []) for _ in range(len(rollout))]
        policy, tokenizer = self.policy, self.policy.tokenizer
        with evaluating(policy.model), torch.no_grad():
            values, ids = policy.alternatives(rollout.tokens, rollout.attention, rollout.mask, count)
            said, _ = policy.token_logprobs(rollout.tokens, rollout.attention, rollout.mask)
        names: dict[int, str] = {}

        def name(token: int) -> str:
            return names.setdefault(token, str(tokenizer.decode([token], clean_up_tokenization_spaces=False)))

        found = []
        at = 0
        for row in range(len(rollout)):
            tokens, rows = [], []
            own = rollout.mask[row]
            for token, value in zip(rollout.tokens[row][own].tolist(), said[row][own].tolist(), strict=True):
                place: dict[str, float] = {}
                for one, chance in zip(ids[at].tolist(), values[at].tolist(), strict=True):
                    if chance > -float("inf"):
                        place.setdefault(name(one), chance)  # of two tokens of one spelling, the likelier
                place.setdefault(name(token), value)
                at += 1
                if token not in policy.eos:
                    tokens.append(name(token))
                    rows.append(place)
            found.append((tokens, rows))
        return found

    def _reply(self, rollout: Rollout, row: int, prompt: int, place: tuple[list[str], list[dict[str, float]]]) -> Reply:
        ids = rollout.tokens[row][rollout.mask[row]].tolist()
        text = answer_text(self.policy.tokenizer, ids)
        tokens, logprobs = place
        finish: Any = "stop" if bool(rollout.finished[row]) else "length"
        return Reply(text, finish, tuple(logprobs), Usage(prompt, len(ids)), self.model, tokens=tuple(tokens))
