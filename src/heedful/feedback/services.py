"""What a program does with the store: the one set of services behind `LocalClient` and the studio's API."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count

from heedful.errors import HeedfulError
from heedful.feedback import content, freshness, pay, programmes, snapshots, submission, withdrawal
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import (
    Account,
    Batch,
    BatchState,
    CurrentJudgment,
    Item,
    ItemState,
    Programme,
    Purpose,
    Push,
    Rater,
    RaterKind,
    Slot,
    SlotState,
    Snapshot,
)
from heedful.feedback.texts import clean
from heedful.feedback.transactions import writes
from heedful.feedback.wire import (
    BatchSpec,
    BatchStatus,
    Judge,
    NewItem,
    NewJudgment,
    NotFoundError,
    SnapshotRow,
    Status,
    WorkRow,
    json_of,
)
from heedful.files import sha256_json


def programme_named(slug: str) -> Programme:
    """The programme of that slug.

    Raises:
        NotFoundError: there is none.
    """
    found = Programme.objects.filter(slug=slug, archived=None).first()
    if found is None:
        raise NotFoundError("there is no programme {slug!r}.", where="programme", slug=slug)
    return found


def batch_of(programme: Programme, key: Any) -> Batch:
    """A programme's batch by its id.

    Raises:
        NotFoundError: it has none of that id.
    """
    found = Batch.objects.filter(programme=programme, pk=_uuid(key)).select_related("guideline", "programme").first()
    if found is None:
        raise NotFoundError("the programme has no such batch.", where="batch")
    return found


def _uuid(given: Any) -> uuid.UUID:
    try:
        return uuid.UUID(str(given))
    except ValueError as error:
        raise NotFoundError("there is nothing of that id.", where="id") from error


def in_utc(at: datetime | None) -> datetime | None:
    """A time without a zone is meant in UTC."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def milliseconds(at: datetime) -> datetime:
    """A time as JSON carries it, so that both clients give the same."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


@writes
def once(programme: Programme, key: str, request: Any, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do something once: the same key again gets the first answer, whichever process asks.

    Raises:
        Conflict: the key came with something else.
    """
    clean(key, "key", longest=120, empty=False)
    digest = sha256_json(json_of(request))
    try:
        with transaction.atomic():  # a second one waits here until the first is done
            mine = Push.objects.create(programme=programme, key=key, request_sha256=digest, answer={})
    except IntegrityError:
        found = Push.objects.get(programme=programme, key=key)
        if found.request_sha256 != digest:
            raise Conflict("this key came with something else before.", where="key", mend="Choose a new one.") from None
        return dict(found.answer)
    mine.answer = act()
    mine.save(update_fields=["answer"])
    return dict(mine.answer)


def create_batch(programme: Programme, spec: BatchSpec, *, key: str) -> BatchStatus:
    """A staged batch, once for each key.

    Raises:
        HeedfulError: a value is out of range.
        Conflict: the key came with something else.
    """

    def act() -> dict[str, Any]:
        given = {name: getattr(spec, name) for name in ("purpose", "round", "quota", "quota_cap", "priority")}
        deadline = in_utc(spec.deadline)
        return {"batch": str(content.create_batch(programme, spec.name, deadline=deadline, **given).pk)}

    made = once(programme, f"batch:{key}", ["batch", spec], act)
    return batch_status(batch_of(programme, made["batch"]))


def push(batch: Batch, items: Sequence[NewItem], *, key: str) -> int:
    """Add items to a batch, all or none, once for each key.

    Returns:
        how many.

    Raises:
        HeedfulError: an item is not as it should be, with its number and field.
        Conflict: the key came with something else.
    """
    return int(
        once(
            batch.programme,
            f"items:{key}",
            ["items", str(batch.pk), list(items)],
            lambda: {"added": content.add_items(batch, items)},
        )["added"]
    )


def open_batch(batch: Batch, *, actor: Any = None) -> BatchStatus:
    """Hand a batch out; opening an open one changes nothing.

    Raises:
        HeedfulError: it has no items.
        Conflict: it is closed.
    """
    if batch.state == BatchState.CLOSED:
        raise Conflict("the batch is closed.", where="batch", mend="Make a new one.")
    content.open_batch(batch, actor=actor)
    return batch_status(batch)


def pause_batch(batch: Batch, *, actor: Any = None) -> BatchStatus:
    """Hand out no more of a batch for now.

    Raises:
        Conflict: it is not open.
    """
    if batch.state not in (BatchState.OPEN, BatchState.PAUSED):
        raise Conflict("the batch is {state}.", where="batch", mend="Only an open batch can pause.", state=batch.state)
    content.pause_batch(batch, actor=actor)
    return batch_status(batch)


def batch_status(batch: Batch) -> BatchStatus:
    """A batch, and how far it is."""
    return _statuses([batch])[0]


def batch_statuses(programme: Programme) -> tuple[BatchStatus, ...]:
    """Every batch of a programme that raters are asked to judge, the oldest first: not that of end users' judgments."""
    asked = Batch.objects.filter(programme=programme, field_intake=None)
    return tuple(_statuses(list(asked.select_related("programme").order_by("pk"))))


def _statuses(batches: Sequence[Batch]) -> list[BatchStatus]:
    """How far some batches of one programme are."""
    keys = [batch.pk for batch in batches]
    states = Item.objects.filter(batch__in=keys).values("batch", "state").annotate(n=Count("pk"))
    items = {(row["batch"], row["state"]): row["n"] for row in states}
    open_places = Slot.objects.filter(batch__in=keys, reserved_for=None).exclude(state=SlotState.CLOSED)
    places = {
        (row["batch"], row["state"]): row["n"] for row in open_places.values("batch", "state").annotate(n=Count("pk"))
    }
    checked = next((batch for batch in batches if batch.purpose == Purpose.CHECK), None)
    who = None if checked is None else freshness.look(checked.programme)
    return [
        BatchStatus(
            id=str(batch.pk),
            name=batch.name,
            state=batch.state,
            purpose=batch.purpose,
            round=batch.round,
            quota=batch.quota,
            quota_cap=batch.quota_cap,
            items=sum(items.get((batch.pk, state), 0) for state in ItemState.values),
            done=items.get((batch.pk, ItemState.DONE), 0),
            parked=items.get((batch.pk, ItemState.PARKED), 0),
            places=sum(places.get((batch.pk, state), 0) for state in SlotState.values),
            filled=places.get((batch.pk, SlotState.DONE), 0),
            held=places.get((batch.pk, SlotState.LEASED), 0),
            fresh_raters=who.fresh if who is not None and batch.purpose == Purpose.CHECK else None,
            fresh_only=who is not None and batch.purpose == Purpose.CHECK and who.only(batch.quota),
        )
        for batch in batches
    ]


def withdrawn(programme: Programme) -> frozenset[str]:
    """Ids of the judgments that nothing is to be learnt from any more."""
    return frozenset(str(key) for key in withdrawal.withdrawn_ids(programme))


def work(batch: Batch) -> WorkRow:
    """What people did on a batch, and what it is worth."""
    found = pay.work(batch.programme_id, ["batch"]).get((batch.pk,), pay.Work())
    money = {currency: float(value) for currency, value in found.cost.items()}
    return WorkRow(found.hours, found.judgments, money)


def status(programme: Programme) -> Status:
    """A programme, and how far it is."""
    live = CurrentJudgment.objects.filter(item__programme=programme).values("purpose").annotate(n=Count("pk"))
    return Status(
        programme=programme.slug,
        name=programme.name,
        raters=Rater.objects.filter(programme=programme, kind=RaterKind.PERSON, erased=None).count(),
        judgments={row["purpose"]: row["n"] for row in live.order_by("purpose")},
        batches=batch_statuses(programme),
    )


@writes
def record(programme: Programme, judge: Judge, given: Sequence[NewJudgment]) -> list[str]:
    """Keep an agent's judgments, all or none; those that are there already under their keys stay as they are.

    Returns:
        their ids.

    Raises:
        HeedfulError: one is not as it should be, with its number and field.
        NotFoundError: there is no such item.
        Conflict: a key came with something else, or this judge's judgment of the item is there.
    """
    rater = programmes.agent(programme, judge.kind, judge.name)
    keys = [_uuid(one.item) for one in given]
    items = {item.pk: item for item in Item.objects.filter(programme=programme, pk__in=keys).select_related("batch")}
    made = []
    for number, (key, one) in enumerate(zip(keys, given, strict=True), 1):
        try:
            if key not in items:
                raise NotFoundError("the programme has no such item.", where="item")
            _check_order(one)
            judgment = submission.record(
                items[key],
                rater,
                one.payload,
                key=one.key,
                order=one.order,
                judge_template=one.judge_template,
                judge_order=one.judge_order,
                rationale=one.rationale,
                provenance=one.provenance,
            )
        except HeedfulError as error:
            raise type(error)(error.what, where=f"judgment {number}, {error.where}", mend=error.mend) from error
        made.append(str(judgment.pk))
    return made


def _check_order(one: NewJudgment) -> None:
    if not isinstance(one.payload, Mapping):
        raise HeedfulError("a payload is a JSON object.", where="payload")
    if any(not isinstance(index, int) or isinstance(index, bool) for index in one.order):
        raise HeedfulError("an order is a list of indices.", where="order")


def snapshot_row(snapshot: Snapshot) -> SnapshotRow:
    """A snapshot as a program reads it."""
    return SnapshotRow(
        str(snapshot.pk),
        snapshot.name,
        milliseconds(snapshot.created),
        snapshot.training,
        snapshot.count,
        snapshot.sha256,
    )


def snapshot(
    programme: Programme,
    name: str,
    *,
    key: str,
    batches: Sequence[str] = (),
    rounds: Sequence[int] = (),
    raters: Sequence[str] = (),
    author: Account | None = None,
) -> SnapshotRow:
    """A snapshot for training, once for each key.

    Raises:
        HeedfulError: an unknown batch or kind of rater, or no judgments.
        Conflict: the key came with something else.
    """
    filters = {"batches": list(batches), "rounds": list(rounds), "raters": list(raters)}
    given = {what: value for what, value in filters.items() if value}

    def act() -> dict[str, Any]:
        return {"snapshot": str(snapshots.create_snapshot(programme, name, filters=given, author=author).pk)}

    return snapshot_row(snapshot_of(programme, once(programme, f"snapshot:{key}", [name, given], act)["snapshot"]))


def snapshot_of(programme: Programme, given: Any) -> Snapshot:
    """A programme's snapshot by its id, or the newest of that name.

    Raises:
        NotFoundError: it has none.
    """
    own = Snapshot.objects.filter(programme=programme)
    try:
        found = own.filter(pk=uuid.UUID(str(given))).first()
    except ValueError:
        found = own.filter(name=str(given)).order_by("-created").first()
    if found is None:
        raise NotFoundError("the programme has no such snapshot.", where="snapshot")
    return found
