"""What is judged, coming in: batches, items and the slots that raters take."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, cast

from django.db import connection, transaction
from django.db.models import Max, Model

from heedful.data.records import Message, prompt_key
from heedful.errors import HeedfulError
from heedful.feedback import clock, events, slots
from heedful.feedback.incoming import problem
from heedful.feedback.models import (
    Batch,
    BatchState,
    Completion,
    Guideline,
    Item,
    ItemCompletion,
    ItemState,
    Programme,
    Prompt,
    Purpose,
    Rater,
    Slot,
    SlotState,
)
from heedful.feedback.programmes import newest_guideline
from heedful.feedback.rows import inserts
from heedful.feedback.slots import QUEUED
from heedful.feedback.texts import clean
from heedful.feedback.wire import NewCompletion, NewItem

__all__ = [
    "NewCompletion",
    "NewItem",
    "add_items",
    "close_batch",
    "create_batch",
    "open_batch",
    "park_item",
    "pause_batch",
    "prioritise",
    "reopen_item",
    "unpark_item",
    "withdraw_item",
]
CHUNK = 500
"""Items in one transaction of a staged batch: between two of them raters go on."""


class Beside(Protocol):
    """What comes with the items of a new batch, whole or not at all."""

    def rows(self, items: Sequence[Item]) -> list[Sequence[Model]]:
        """Unsaved rows for unsaved items, those of a group of one table; a later group may point at an earlier one."""

    def tell(self, batch: Batch, actor: Any) -> None:
        """Write down that they came; called in the transaction."""


def create_batch(
    programme: Programme,
    name: str,
    *,
    purpose: str = "train",
    round: int = 1,
    quota: int = 1,
    quota_cap: int | None = None,
    guideline: Guideline | None = None,
    priority: int = 0,
    deadline: datetime | None = None,
    source_sha256: str = "",
    items: Iterable[NewItem] = (),
    beside: Beside | None = None,
    actor: Any = None,
) -> Batch:
    """A staged batch, with all of its items or not at all: raters see nothing of it until it is opened.

    Args:
        programme: that it belongs to.
        name: for the lead.
        purpose: a `Purpose`; only "train" ever enters a training export.
        round: of the loop.
        quota: counted judgments wanted for each item.
        quota_cap: the most, where raters disagree; by default the quota.
        guideline: that its judgments are given under; by default the newest.
        priority: higher comes first.
        deadline: for the forecast, and the order among batches of one priority.
        source_sha256: of the imported file.
        items: to begin with; `add_items` adds more.
        beside: what comes with the items, in the same transaction.
        actor: who asks, for the audit log.

    Raises:
        HeedfulError: a value out of range, or an item that is not as it should be, with the field.
    """
    clean(name, "name", longest=200, empty=False)
    if purpose not in Purpose.values:
        raise HeedfulError(
            "{purpose!r} is no purpose.",
            where="purpose",
            mend="Give {known}.",
            purpose=purpose,
            known=", ".join(Purpose.values),
        )
    cap = quota if quota_cap is None else quota_cap
    for field, value, low, high in (
        ("quota", quota, 1, 100),
        ("quota_cap", cap, quota, 100),
        ("round", round, 1, 1_000_000),
        ("priority", priority, -1000, 1000),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise HeedfulError(
                "{value!r} is no whole number from {low} to {high}.", where=field, value=value, low=low, high=high
            )
    chosen = guideline or newest_guideline(programme)
    if chosen.programme_id != programme.pk:
        raise HeedfulError("the guideline is another programme's.", where="guideline")
    made = Batch(
        programme=programme,
        name=name,
        purpose=purpose,
        round=round,
        quota=quota,
        quota_cap=cap,
        guideline=chosen,
        priority=priority,
        deadline=deadline,
        source_sha256=source_sha256,
    )
    rows = check_items(made, items)
    built: Sequence[Sequence[Any]] = build(made, rows)
    more = beside.rows(built[2]) if beside is not None else []
    statements = inserts(*built, *more)  # before the transaction: others write meanwhile
    with transaction.atomic():
        made.save(force_insert=True)
        events.record("batch.staged", programme=programme, actor=actor, digest=source_sha256, batch=made)
        with connection.cursor() as cursor:
            for statement, given in statements:
                cursor.execute(statement, given)
        if rows:
            events.record("items.added", programme=programme, actor=actor, batch=made, count=len(rows))
        if beside is not None:
            beside.tell(made, actor)
    return made


def add_items(batch: Batch, given: Iterable[NewItem]) -> int:
    """Add items: all of them or none. In a batch that is open already, their slots too.

    Items of a staged batch are written a few hundred at a time, so that raters of other batches do not wait.

    Returns:
        how many.

    Raises:
        HeedfulError: an item is not as it should be, with its number (from 1) and field.
    """
    rows = check_items(batch, given)
    state = Batch.objects.values_list("state", flat=True).get(pk=batch.pk)
    if state == BatchState.CLOSED:
        raise HeedfulError("the batch is closed.", where=batch.name, mend="Add the items to a new one.")
    if state != BatchState.STAGED:
        with transaction.atomic():
            Batch.objects.select_for_update(no_key=True).get(pk=batch.pk)
            slots.make(batch, _write(batch, rows))
        return len(rows)
    done: list[Any] = []
    try:
        for start in range(0, len(rows), CHUNK):
            with transaction.atomic():
                Batch.objects.select_for_update(no_key=True).get(pk=batch.pk)
                made = _write(batch, rows[start : start + CHUNK])
            done += [item.prompt_id for item in made]
    except BaseException:
        for start in range(0, len(done), CHUNK):
            _unwrite(done[start : start + CHUNK])
        raise
    return len(rows)


def check_items(batch: Batch, given: Iterable[NewItem]) -> list[NewItem]:
    """The items, if all are as they should be.

    Raises:
        HeedfulError: one is not, with its number (from 1) and field.
    """
    rows = list(given)
    raters = {str(key) for key in Rater.objects.filter(programme=batch.programme_id).values_list("pk", flat=True)}
    for number, new in enumerate(rows, 1):
        wrong = problem(new, batch, raters)
        if wrong is not None:
            raise HeedfulError(wrong.what, where=f"item {number}, {wrong.where}", mend=wrong.mend)
    return rows


Built = tuple[list[Prompt], list[Completion], list[Item], list[ItemCompletion]]


def build(batch: Batch, rows: Sequence[NewItem], first: int = 0) -> Built:
    """Prompts, completions, items and their places, unsaved, in the given order from a position on."""
    prompts, completions, items, entries = [], [], [], []
    for position, new in enumerate(rows, first):
        messages = [dict(message) for message in new.messages]
        key = prompt_key(tuple(Message(cast(Any, one["role"]), one["content"]) for one in messages))
        prompt = Prompt(
            programme_id=batch.programme_id,
            messages=messages,
            key=key,
            language=new.language,
            categories=list(new.categories),
            source=dict(new.source),
        )
        item = Item(
            programme_id=batch.programme_id,
            batch=batch,
            prompt=prompt,
            kind=new.kind,
            purpose=batch.purpose,
            language=new.language,
            expertise=new.expertise,
            named_raters=sorted({str(uuid.UUID(str(key))) for key in new.named_raters}),
            priority=new.priority,
            position=position,
        )
        prompts.append(prompt)
        items.append(item)
        for index, answer in enumerate(new.completions):
            completion = Completion(
                prompt=prompt,
                text=answer.text,
                policy=answer.policy,
                sampling=dict(answer.sampling),
                author=answer.author,
                source=dict(answer.source),
            )
            completions.append(completion)
            entries.append(ItemCompletion(item=item, completion=completion, index=index))
    return prompts, completions, items, entries


def _write(batch: Batch, rows: Sequence[NewItem]) -> list[Item]:
    """Write items in the given order. The caller holds the batch's row."""
    last = Item.objects.filter(batch=batch).aggregate(last=Max("position"))["last"]
    prompts, completions, items, entries = build(batch, rows, 0 if last is None else last + 1)
    Prompt.objects.bulk_create(prompts, batch_size=CHUNK)
    Completion.objects.bulk_create(completions, batch_size=CHUNK)
    Item.objects.bulk_create(items, batch_size=CHUNK)
    ItemCompletion.objects.bulk_create(entries, batch_size=CHUNK)
    if items:
        digest = events.digest_of([str(item.pk) for item in items])
        events.record("items.added", programme=batch.programme_id, batch=batch, count=len(items), digest=digest)
    return items


@transaction.atomic
def _unwrite(prompts: Sequence[Any]) -> None:
    """Take back what `_write` wrote of a batch that nobody has seen."""
    ItemCompletion.objects.filter(item__prompt_id__in=prompts).delete()
    Completion.objects.filter(prompt_id__in=prompts).delete()
    Prompt.objects.filter(pk__in=prompts).delete()


def open_batch(batch: Batch, *, actor: Any = None) -> None:
    """Hand a batch out: slots are made for its items, then its state flips, once.

    Batches for gold, qualification and calibration get no slots here: theirs are made for one rater at a time.

    Raises:
        HeedfulError: the batch has no items.
    """
    if not Item.objects.filter(batch=batch).exists():
        raise HeedfulError("the batch has no items.", where=batch.name, mend="Add some, then open it.")
    if batch.purpose in QUEUED:
        # While the batch is not open nobody sees these; a run that was cut off goes on where it stopped.
        waiting = Item.objects.filter(batch=batch, state=ItemState.OPEN, slots=None).order_by("position")
        while some := list(waiting[:CHUNK]):
            with transaction.atomic():
                slots.make(batch, some)
    _flip(batch, "open", actor)


def pause_batch(batch: Batch, *, actor: Any = None) -> None:
    """Hand out no more of a batch for now; what is being worked on may be finished."""
    _flip(batch, "paused", actor)


def close_batch(batch: Batch, *, actor: Any = None) -> None:
    """Hand out no more of a batch; what is being worked on may be finished."""
    _flip(batch, "closed", actor)


def _flip(batch: Batch, state: str, actor: Any) -> None:
    with transaction.atomic():
        if Batch.objects.filter(pk=batch.pk).exclude(state=state).update(state=state):
            kind = {"open": "batch.opened", "paused": "batch.paused", "closed": "batch.closed"}[state]
            events.record(kind, programme=batch.programme_id, actor=actor, batch=batch)
    batch.state = state


def _held(item: Item) -> Item:
    """The item as it stands, its row held until the transaction ends: items are held before their slots."""
    return Item.objects.select_for_update(no_key=True).get(pk=item.pk)


def park_item(item: Item, *, actor: Any = None) -> None:
    """Hand an item to nobody until a manager has looked at it; what is being worked on may be finished."""
    with transaction.atomic():
        if _held(item).state in (ItemState.OPEN, ItemState.DONE):
            slots.park(item, actor)
    item.refresh_from_db()


def unpark_item(item: Item, *, actor: Any = None) -> None:
    """Hand a parked item out again; raters who passed it still do not get it.

    Raises:
        HeedfulError: the item is not parked.
    """
    with transaction.atomic():
        held = _held(item)
        if held.state != ItemState.PARKED:
            raise HeedfulError("the item is not parked.", where="item")
        Item.objects.filter(pk=item.pk).update(state=ItemState.OPEN, skips=0)
        held.state = ItemState.OPEN
        closed = Slot.objects.filter(item=item, state=SlotState.CLOSED, reserved_for=None, purpose=held.purpose)
        keys = list(closed.order_by("pk").values_list("pk", flat=True))
        for key in keys:
            Slot.objects.filter(pk=key).update(state=SlotState.FREE, lane=0, priority=0, position=clock.rising())
        events.record("item.unparked", programme=item.programme_id, actor=actor, item=item, slots=keys)
        slots.settle(held)
    item.refresh_from_db()


def reopen_item(item: Item, *, actor: Any = None) -> None:
    """Ask for one more judgment of an item that is done, also above its batch's cap: a manager wants it.

    Raises:
        HeedfulError: the item is not done, it is gold, or its batch is not handed out.
    """
    with transaction.atomic():
        held = _held(item)
        if held.state != ItemState.DONE or held.purpose not in QUEUED:
            raise HeedfulError("an item that is {state} cannot be opened again.", where="item", state=held.state)
        batch = Batch.objects.get(pk=item.batch_id)
        if batch.state not in (BatchState.OPEN, BatchState.PAUSED):
            raise HeedfulError("its batch is {state}.", where="item", mend="Open the batch first.", state=batch.state)
        slots.further(held, batch, actor)
        slots.settle(held)
    item.refresh_from_db()


def withdraw_item(item: Item, *, actor: Any = None) -> None:
    """Take an item out for good. Its judgments stay; work on it that still comes in is kept as surplus."""
    with transaction.atomic():
        if _held(item).state != ItemState.WITHDRAWN:
            slots.withdraw(item, actor)
    item.refresh_from_db()


def prioritise(batch: Batch, scores: Mapping[Any, int], *, actor: Any = None) -> int:
    """Set items' priorities, by any reckoning: higher comes first among slots that were never handed out.

    Args:
        batch: whose items.
        scores: item id to priority, -1000 to 1000.
        actor: who asks.

    Returns:
        how many items changed.
    """
    for value in scores.values():
        if not isinstance(value, int) or isinstance(value, bool) or not -1000 <= value <= 1000:
            raise HeedfulError("{value!r} is no whole number from -1000 to 1000.", where="priority", value=value)
    changed = 0
    with transaction.atomic():
        for key, value in sorted(scores.items(), key=lambda pair: str(pair[0])):
            changed += Item.objects.filter(pk=key, batch=batch).exclude(priority=value).update(priority=value)
            Slot.objects.filter(item=key, batch=batch, state=SlotState.FREE, lane=1).update(priority=value)
        slots.rewind(batch)
        events.record("batch.prioritised", programme=batch.programme_id, actor=actor, batch=batch, count=changed)
    return changed
