"""What becomes of a dialogue's turn: one candidate goes on, and all of them are an item that others can judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback import content, submission
from heedful.feedback import dialogue as talk
from heedful.feedback.conflict import Conflict
from heedful.feedback.dialogue_asking import complete
from heedful.feedback.models import Batch, BatchState, Dialogue, DialogueTurn, Item, Purpose, Rater
from heedful.feedback.payloads import STRENGTH
from heedful.feedback.transactions import writes
from heedful.feedback.wire import NewCompletion, NewItem


@writes
def choose(
    turn: DialogueTurn,
    place: int,
    strength: int | None = None,
    *,
    both_bad: bool = False,
    both_good: bool = False,
) -> Item:
    """Let one candidate go on. The turn becomes an item that others can judge, and the choice the first judgment of it.

    Args:
        turn: whose candidates are all there.
        place: of the one that goes on, in the order shown.
        strength: of two candidates: for the second shown over the first, -3 to 3; it says who is better.
        both_bad: of a tie.
        both_good: of a tie.

    Returns:
        the item.

    Raises:
        Conflict: candidates are missing, the dialogue is over, or another went on.
        HeedfulError: there is no such place, or the strength says otherwise.
    """
    dialogue = Dialogue.objects.select_for_update(no_key=True).get(pk=turn.dialogue_id)
    fresh = DialogueTurn.objects.get(pk=turn.pk)
    if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(fresh.order):
        raise HeedfulError("there is no such answer.", where="chosen")
    payload = _payload(fresh.order, place, strength, both_bad, both_good)
    if fresh.chosen is not None:
        if fresh.chosen != fresh.order[place] or fresh.item is None:
            raise Conflict("another answer went on.", where="chosen", mend="Reload the page.")
        return fresh.item
    talk.must_be_open(dialogue)
    if not complete(fresh):
        raise Conflict("not every answer is there.", where="turn", mend="Wait, or try again.")
    item = _item(fresh, dialogue)
    rater = Rater.objects.get(pk=dialogue.assignment.rater_id)
    key = f"dialogue-turn:{fresh.pk}"
    submission.record(item, rater, payload, key=key, order=fresh.order)
    fresh.chosen, fresh.item = fresh.order[place], item
    fresh.save(update_fields=["chosen", "item"])
    talk.tell("dialogue.turned", dialogue, turn=fresh, item=item)
    turn.refresh_from_db()
    return item


def _payload(order: Sequence[int], place: int, strength: int | None, both_bad: bool, both_good: bool) -> dict[str, Any]:
    """What the choice says, in the candidates' own indices."""
    if len(order) > 2:
        if strength is not None or both_bad or both_good:
            raise HeedfulError("a strength goes with two answers.", where="strength")
        return {"ranks": [1 if index == order[place] else 2 for index in range(len(order))]}
    if not isinstance(strength, int) or isinstance(strength, bool) or abs(strength) > STRENGTH:
        raise HeedfulError("the strength is a whole number from -{most} to {most}.", where="strength", most=STRENGTH)
    if strength and (strength > 0) != (place == 1):
        raise HeedfulError("the better answer goes on.", where="chosen", mend="Choose the one that you prefer.")
    own = -strength if list(order) == [1, 0] else strength
    return {"strength": own, "both_bad": both_bad, "both_good": both_good}


def _item(turn: DialogueTurn, dialogue: Dialogue) -> Item:
    """The turn as an item; its completions take the candidates' places, so that each text is kept once."""
    candidates = list(turn.candidates.select_related("completion__prompt").order_by("index"))
    old = candidates[0].completion.prompt
    asked = dialogue.assignment.item
    pin = dialogue.pinned
    new = NewItem(
        messages=old.messages,
        completions=[
            NewCompletion(one.completion.text, pin["model"], pin["sampling"], source={"candidate": one.index})
            for one in candidates
        ],
        kind="pairwise" if len(candidates) == 2 else "ranking",
        language=asked.language,
        expertise=asked.expertise,
        categories=asked.prompt.categories,
        source={"dialogue": str(dialogue.pk), "turn": turn.index},
    )
    batch = _batch(asked.batch)
    content.add_items(batch, [new])
    made = Item.objects.filter(batch=batch).order_by("-position")[0]
    if batch.state == BatchState.STAGED:
        content.open_batch(batch)
    for candidate, entry in zip(candidates, made.entries.order_by("index"), strict=True):
        before = candidate.completion
        candidate.completion_id = entry.completion_id
        candidate.save(update_fields=["completion"])
        before.delete()
    old.delete()
    return made


def _batch(parent: Batch) -> Batch:
    """The batch that holds the turns of a batch of dialogues. One place more than its quota: the rater's own."""
    Batch.objects.select_for_update(no_key=True).get(pk=parent.pk)
    name = f"{parent.name[:180]} · turns"
    purpose = str(parent.purpose) if parent.purpose in (Purpose.TRAIN, Purpose.CHECK) else "check"
    found = Batch.objects.filter(
        programme=parent.programme_id, name=name, purpose=purpose, guideline=parent.guideline_id, round=parent.round
    ).exclude(state=BatchState.CLOSED)
    return found.order_by("pk").first() or content.create_batch(
        parent.programme,
        name,
        purpose=purpose,
        round=parent.round,
        quota=min(100, parent.quota + 1),
        quota_cap=min(100, parent.quota_cap + 1),
        guideline=parent.guideline,
        priority=parent.priority,
        deadline=parent.deadline,
    )
