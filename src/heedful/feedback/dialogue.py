"""A rater talks with a live policy. Each turn is kept before it is answered, each answer before it is shown.

A turn goes through five states, all of them in the database, so that a reload, a second server process or a dead
endpoint never loses one: "asking" (somebody waits for the endpoint), "failed" (answers are missing; those that came
stay), "lapsed" (likewise, because whoever waited is gone: a page asks again by itself), "choose" (all are there),
"done" (one goes on, and the turn is an item that others can judge). `dialogue_asking` brings it through the first.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction

from heedful.errors import HeedfulError
from heedful.feedback import clock, endpoints, events, submission
from heedful.feedback.conflict import Conflict
from heedful.feedback.leases import hold_rater, require_consent
from heedful.feedback.models import (
    Assignment,
    AssignmentState,
    Dialogue,
    DialogueTurn,
    Judgment,
    PolicyEndpoint,
    TaskKind,
)
from heedful.feedback.texts import clean
from heedful.feedback.transactions import writes

LONGEST = 20_000
MOST_TURNS = 100
HAND_OVER = timedelta(seconds=10)
"""How long after it was said a turn counts as being asked though nobody holds it yet."""
_random = random.SystemRandom()


@dataclass(frozen=True)
class TurnState:
    """A turn as its rater may know it: letters and texts, nothing else."""

    number: int
    text: str
    state: str
    """asking, failed, lapsed, choose or done."""
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
        raise Conflict("a dialogue has at most {most} turns.", where="turn", mend="Hand it in.", most=MOST_TURNS)
    order = _random.sample(range(own.pinned["candidates"]), own.pinned["candidates"])
    made = DialogueTurn.objects.create(dialogue=own, index=number, text=text, idempotency_key=key, order=order)
    tell("dialogue.said", own, turn=made)
    return made


@writes
def last_turn(dialogue: Dialogue) -> DialogueTurn:
    """The turn to ask the endpoint for again.

    Raises:
        Conflict: the dialogue is over, or nothing was said.
    """
    own = Dialogue.objects.select_for_update(no_key=True).get(pk=dialogue.pk)
    must_be_open(own)
    last = own.turns.order_by("-index").first()
    if last is None:
        raise Conflict("this turn is not there.", where="turn", mend="Reload the page.")
    return last


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
    """Raises a Conflict where a dialogue is over: it was handed in or passed, or its rater withdrew their consent."""
    own = dialogue.assignment
    hold_rater(own.rater_id)
    require_consent(own.item, own.rater_id)
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
        if turn.failure:
            return TurnState(turn.index + 1, turn.text, "failed", failure=turn.failure)
        until = turn.asked_until or turn.created + HAND_OVER
        return TurnState(turn.index + 1, turn.text, "asking" if until > clock.now() else "lapsed")
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
