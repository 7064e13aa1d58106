"""A rater talks with a live policy. Each turn is kept before it is answered, each answer before it is shown.

A turn goes through four states, all of them in the database, so that a reload, a second server process or a dead
endpoint never loses one: "asking" (somebody waits for the endpoint), "failed" (answers are missing; those that came
stay), "choose" (all are there), "done" (one goes on, and the turn is an item that others can judge).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from heedful.data.records import Message, prompt_key
from heedful.errors import HeedfulError
from heedful.feedback import clock, endpoints, events, submission
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import (
    Assignment,
    AssignmentState,
    Completion,
    Dialogue,
    DialogueCandidate,
    DialogueTurn,
    Judgment,
    PolicyEndpoint,
    Programme,
    Prompt,
    TaskKind,
)
from heedful.feedback.rules import rules_of
from heedful.feedback.texts import clean
from heedful.feedback.transactions import writes

LONGEST = 20_000
MOST_TURNS = 100
ASKED = timedelta(seconds=endpoints.TOTAL_SECONDS + 20)
"""How long whoever asks the endpoint holds the turn: a little longer than one request can last."""
HAND_OVER = timedelta(seconds=10)
"""How long after it was said a turn counts as being asked though nobody holds it yet."""
_random = random.SystemRandom()
Ask = Callable[..., str]


@dataclass(frozen=True)
class TurnState:
    """A turn as its rater may know it: letters and texts, nothing else."""

    number: int
    text: str
    state: str
    """asking, failed, choose or done."""
    answers: tuple[str, ...] = ()
    """In the order shown, and only once all are there."""
    chosen: int | None = None
    """The place in the order shown of the one that went on."""
    failure: str = ""


@dataclass(frozen=True)
class State:
    """A dialogue as its rater may know it."""

    opening: tuple[dict[str, str], ...]
    """What was said before it began."""
    suggestion: str
    """What the rater might say first."""
    turns: tuple[TurnState, ...]
    ended: bool

    @property
    def waiting(self) -> bool:
        """Whether the rater waits for answers."""
        return bool(self.turns) and self.turns[-1].state == "asking"

    @property
    def may_speak(self) -> bool:
        """Whether it is the rater's turn to say something."""
        free = not self.turns or self.turns[-1].state == "done"
        return not self.ended and free and len(self.turns) < MOST_TURNS

    @property
    def may_end(self) -> bool:
        """Whether there is anything to hand in."""
        return not self.ended and any(turn.state == "done" for turn in self.turns)


@writes
def begin(assignment: Assignment) -> Dialogue:
    """The dialogue of an assignment, made on first need: from then on its policy stays the same.

    Raises:
        HeedfulError: the item asks for no dialogue, or the programme has no endpoint.
        Conflict: it was handed in or passed.
    """
    if assignment.item.kind != TaskKind.DIALOGUE:
        raise HeedfulError("this item asks for no dialogue.", where="item")
    fresh = Assignment.objects.select_for_update(no_key=True).get(pk=assignment.pk)
    found = Dialogue.objects.filter(assignment=fresh).first()
    if found is not None:
        if found.ended is not None and fresh.state == AssignmentState.LEASED:  # it was handed in, and taken back
            found.ended = None
            found.save(update_fields=["ended"])
        return found
    if fresh.state not in (AssignmentState.LEASED, AssignmentState.EXPIRED):
        raise Conflict("this dialogue is over.", where="assignment", mend="Ask for the next item.")
    ready = list(PolicyEndpoint.objects.filter(programme=assignment.item.programme_id, retired=None).order_by("pk"))
    if not ready:
        raise HeedfulError(
            "there is no policy to talk with.", where="endpoint", mend="A manager can name one on the settings page."
        )
    chosen = _random.choice(ready)
    made = Dialogue.objects.create(assignment=fresh, endpoint=chosen, pinned=endpoints.pinned(chosen))
    tell("dialogue.begun", made, endpoint=chosen)
    return made


@writes
def say(dialogue: Dialogue, text: str, *, key: str) -> DialogueTurn:
    """Keep what the rater says. The same key again is the same turn.

    Raises:
        Conflict: the last turn is not done, the dialogue is over, or the key came with another text.
        HeedfulError: nothing is said, or too much.
    """
    text = clean(text, "text", longest=LONGEST, empty=False).replace("\r\n", "\n").strip()
    clean(key, "key", longest=80, empty=False)
    own = Dialogue.objects.select_for_update(no_key=True).get(pk=dialogue.pk)
    again = DialogueTurn.objects.filter(dialogue=own, idempotency_key=key).first()
    if again is not None:
        if again.text != text:
            raise Conflict("this turn was said otherwise.", where="text", mend="Reload the page.")
        return again
    must_be_open(own)
    last = own.turns.order_by("-index").first()
    if last is not None and last.chosen is None:
        raise Conflict("the turn before is not done.", where="turn", mend="Choose the answer that goes on.")
    number = 0 if last is None else last.index + 1
    if number >= MOST_TURNS:
        raise Conflict(f"a dialogue has at most {MOST_TURNS} turns.", where="turn", mend="Hand it in.")
    order = _random.sample(range(own.pinned["candidates"]), own.pinned["candidates"])
    made = DialogueTurn.objects.create(dialogue=own, index=number, text=text, idempotency_key=key, order=order)
    tell("dialogue.said", own, turn=made)
    return made


def fill(turn: DialogueTurn, ask: Ask = endpoints.complete, *, taken: bool = False) -> bool:
    """Ask the endpoint for the candidates that are missing, all at the same time; each is kept as it comes.

    One worker at a time: the others find the turn taken and do nothing. Call it outside a transaction.

    Args:
        turn: of a dialogue.
        ask: as `endpoints.complete`.
        taken: the caller holds the turn already, by `take`.

    Returns:
        whether every candidate is there now.
    """
    if not taken and not take(turn):
        return complete(turn)
    failure = ""
    try:
        dialogue = Dialogue.objects.select_related("assignment__item__prompt").get(pk=turn.dialogue_id)
        messages = history(dialogue, turn)
        missing = _missing(turn, dialogue.pinned)
        programme = Programme.objects.get(pk=dialogue.assignment.item.programme_id)
        allow = rules_of(programme.settings).allow_private_addresses
        with ThreadPoolExecutor(max(1, len(missing))) as pool:
            runs = {pool.submit(ask, dialogue.pinned, messages, index, allow_private=allow): index for index in missing}
            for run in as_completed(runs):
                try:
                    _keep(turn, dialogue, messages, runs[run], run.result())
                except endpoints.EndpointError as error:
                    failure = str(error)
    except BaseException:
        failure = failure or "the studio stopped while it waited"
        raise
    finally:
        DialogueTurn.objects.filter(pk=turn.pk).update(asked_until=None, failure=failure)
        turn.refresh_from_db()
    return complete(turn)


def take(turn: DialogueTurn) -> bool:
    """Hold a turn while its endpoint is asked: one conditional update of one row."""
    now = clock.now()
    free = Q(asked_until=None) | Q(asked_until__lt=now)
    return DialogueTurn.objects.filter(free, pk=turn.pk, chosen=None).update(asked_until=now + ASKED, failure="") == 1


def _missing(turn: DialogueTurn, pin: Mapping[str, Any]) -> list[int]:
    there = set(turn.candidates.values_list("index", flat=True))
    return [index for index in range(pin["candidates"]) if index not in there]


def complete(turn: DialogueTurn) -> bool:
    """Whether every candidate is there."""
    return turn.candidates.count() == len(turn.order)


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


@writes
def _keep(turn: DialogueTurn, dialogue: Dialogue, messages: list[dict[str, str]], index: int, text: str) -> None:
    """One candidate, on disk before anybody sees it."""
    first = DialogueCandidate.objects.filter(turn=turn).select_related("completion").first()
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
    DialogueCandidate.objects.create(turn=turn, index=index, completion=made)


@writes
def end(
    dialogue: Dialogue,
    *,
    key: str,
    item_version: int,
    rationale: str = "",
    safety_flag: bool = False,
    active_ms: int = 0,
) -> Judgment:
    """Hand a dialogue in. A turn of which nothing went on is left out.

    Raises:
        Conflict: as for `submission.submit`.
        HeedfulError: no turn is done.
    """
    own = Dialogue.objects.select_for_update(no_key=True).get(pk=dialogue.pk)
    turns = own.turns.filter(chosen__isnull=False).count()
    if not turns:
        raise HeedfulError("nothing was said yet.", where="turn", mend="Finish a turn, or pass the item.")
    made = submission.submit(
        own.assignment,
        {"turns": turns},
        key=key,
        item_version=item_version,
        rationale=rationale,
        safety_flag=safety_flag,
        active_ms=active_ms,
    )
    if Dialogue.objects.filter(pk=own.pk, ended=None).update(ended=clock.now()):
        tell("dialogue.ended", own)
    return made


def must_be_open(dialogue: Dialogue) -> None:
    """Raises a Conflict where a dialogue is over: it was handed in, or passed."""
    state = Assignment.objects.values_list("state", flat=True).get(pk=dialogue.assignment_id)
    if dialogue.ended is not None or state not in (AssignmentState.LEASED, AssignmentState.EXPIRED):
        raise Conflict("this dialogue is over.", where="dialogue", mend="Ask for the next item.")


def state(dialogue: Dialogue) -> State:
    """What the rater's page may show."""
    messages = dialogue.assignment.item.prompt.messages
    turns = dialogue.turns.order_by("index").prefetch_related("candidates__completion")
    return State(
        opening=tuple(messages[:-1]),
        suggestion=messages[-1]["content"],
        turns=tuple(_turn_state(turn) for turn in turns),
        ended=dialogue.ended is not None,
    )


def _turn_state(turn: DialogueTurn) -> TurnState:
    texts = {one.index: one.completion.text for one in turn.candidates.all()}
    if len(texts) < len(turn.order):
        now = clock.now()
        new = turn.asked_until is None and not turn.failure and now - turn.created < HAND_OVER
        held = new or (turn.asked_until is not None and turn.asked_until > now)
        failure = "" if held else turn.failure or "the studio stopped while it waited"
        return TurnState(turn.index + 1, turn.text, "asking" if held else "failed", failure=failure)
    answers = tuple(texts[index] for index in turn.order)
    if turn.chosen is None:
        return TurnState(turn.index + 1, turn.text, "choose", answers)
    return TurnState(turn.index + 1, turn.text, "done", answers, list(turn.order).index(turn.chosen))


def tell(kind: str, dialogue: Dialogue, **ids: Any) -> None:
    """Write an event of a dialogue."""
    with transaction.atomic():
        rater = dialogue.assignment.rater_id
        programme = dialogue.assignment.item.programme_id
        events.record(kind, programme=programme, actor=rater, dialogue=dialogue, **ids)
