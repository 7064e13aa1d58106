"""Asks a dialogue's endpoint for the candidates of a turn, under a short lease that is renewed while somebody waits.

The lease is the turn's `asked_until`. Whoever holds it knows the very time that they wrote there, and each of their
writes (a renewal, a candidate, the end) is made only where that time still stands. A server that is killed renews no
more: seconds later another may take the turn, and asks for what is missing. A worker that was merely slow then finds
another's time there and writes nothing: its late answers are dropped, so no place has two candidates.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any

from django.db.models import Q

from heedful.data.records import Message, prompt_key
from heedful.feedback import clock, endpoints
from heedful.feedback.models import Completion, Dialogue, DialogueCandidate, DialogueTurn, Programme, Prompt
from heedful.feedback.rules import rules_of
from heedful.feedback.transactions import writes

LEASE = timedelta(seconds=12)
"""How long a turn stays taken after a worker's last sign of life."""
BEAT = 3.0
"""Seconds between two signs of life."""
LONGEST_WAIT = endpoints.TOTAL_SECONDS + 20
"""Seconds after which nobody waits for the endpoint any more: a little longer than one request can last."""
Ask = Callable[..., str]


def fill(turn: DialogueTurn, ask: Ask = endpoints.complete, *, lease: datetime | None = None) -> bool:
    """Ask the endpoint for the candidates that are missing, all at the same time; each is kept as it comes.

    One worker at a time: the others find the turn taken and do nothing. Call it outside a transaction.

    Args:
        turn: of a dialogue.
        ask: as `endpoints.complete`; it is called in threads of its own and must not touch the database.
        lease: what `take` gave, where the caller holds the turn already.

    Returns:
        whether every candidate is there now.
    """
    lease = lease or take(turn)
    if lease is not None:
        held = _Held(turn, lease)
        failure = "the studio failed while it waited"
        try:
            failure = _collect(held, ask)
        finally:
            held.release(failure)
            turn.refresh_from_db()
    return complete(turn)


def take(turn: DialogueTurn) -> datetime | None:
    """Hold a turn while its endpoint is asked: one conditional update of one row.

    Returns:
        until when it is held, by which its holder is known; None where somebody else holds it, or it is done.
    """
    now = clock.now()
    free = Q(asked_until=None) | Q(asked_until__lt=now)
    rows = DialogueTurn.objects.filter(free, pk=turn.pk, chosen=None)
    return now + LEASE if rows.update(asked_until=now + LEASE, failure="") else None


def complete(turn: DialogueTurn) -> bool:
    """Whether every candidate is there."""
    return turn.candidates.count() == len(turn.order)


class _Held:
    """A turn as its holder writes to it: nothing, once another has taken it."""

    def __init__(self, turn: DialogueTurn, until: datetime) -> None:
        self.turn, self.until = turn, until

    def _own(self) -> Any:
        return DialogueTurn.objects.filter(pk=self.turn.pk, asked_until=self.until)

    def renew(self) -> bool:
        """Say that somebody is still at work; whether the turn is still theirs."""
        until = clock.now() + LEASE
        mine = self._own().update(asked_until=until) == 1
        if mine:
            self.until = until
        return mine

    @writes
    def keep(self, dialogue: Dialogue, messages: list[dict[str, str]], index: int, text: str) -> bool:
        """One candidate, on disk before anybody sees it; False: dropped, it is another's turn, or was erased."""
        if not self._own().filter(text=self.turn.text).select_for_update(no_key=True).values_list("pk", flat=True):
            return False
        first = DialogueCandidate.objects.filter(turn=self.turn).select_related("completion").first()
        if first is not None:
            prompt = first.completion.prompt
        else:
            key = prompt_key(tuple(Message(one["role"], one["content"]) for one in messages))  # type: ignore[arg-type]
            item = dialogue.assignment.item
            prompt = Prompt.objects.create(
                programme_id=item.programme_id, messages=messages, key=key, language=item.language
            )
        pin = dialogue.pinned
        made = Completion.objects.create(prompt=prompt, text=text, policy=pin["model"], sampling=pin["sampling"])
        DialogueCandidate.objects.create(turn=self.turn, index=index, completion=made)
        return True

    def release(self, failure: str) -> None:
        """Hold it no more, and say why candidates are missing."""
        self._own().update(asked_until=None, failure=failure)


def _collect(held: _Held, ask: Ask) -> str:
    """Ask for what is missing and keep each as it comes; why some did not come, or nothing."""
    turn = held.turn
    dialogue = Dialogue.objects.select_related("assignment__item__prompt").get(pk=turn.dialogue_id)
    messages = history(dialogue, turn)
    programme = Programme.objects.get(pk=dialogue.assignment.item.programme_id)
    allow = rules_of(programme.settings).allow_private_addresses
    missing = _missing(turn, dialogue.pinned)
    came: SimpleQueue[tuple[int, str | Exception]] = SimpleQueue()

    def one(index: int) -> None:
        try:
            came.put((index, ask(dialogue.pinned, messages, index, allow_private=allow)))
        except Exception as error:
            came.put((index, error))

    for index in missing:  # no pool: its threads would hold up a server that stops until the endpoint answers
        threading.Thread(target=one, args=(index,), name="dialogue-candidate", daemon=True).start()
    failure = ""
    left, end = len(missing), time.monotonic() + LONGEST_WAIT
    while left and held.renew():
        try:
            index, told = came.get(timeout=BEAT)
        except Empty:
            if time.monotonic() > end:
                return "the endpoint did not answer in time"
            continue
        left -= 1
        if isinstance(told, endpoints.EndpointError):
            failure = str(told)
        elif isinstance(told, Exception):
            raise told
        elif not held.keep(dialogue, messages, index, told):
            break
    return failure


def _missing(turn: DialogueTurn, pin: Mapping[str, Any]) -> list[int]:
    there = set(turn.candidates.values_list("index", flat=True))
    return [index for index in range(pin["candidates"]) if index not in there]


def history(dialogue: Dialogue, turn: DialogueTurn) -> list[dict[str, str]]:
    """The conversation that a turn's candidates answer: what was before, each turn with the answer that went on."""
    item = dialogue.assignment.item
    told = [dict(message) for message in item.prompt.messages[:-1]]
    before = DialogueTurn.objects.filter(dialogue=dialogue, index__lt=turn.index).order_by("index")
    for one in before.prefetch_related("candidates__completion"):
        chosen = next(candidate for candidate in one.candidates.all() if candidate.index == one.chosen)
        told.append({"role": "user", "content": one.text})
        told.append({"role": "assistant", "content": chosen.completion.text})
    return [*told, {"role": "user", "content": turn.text}]
