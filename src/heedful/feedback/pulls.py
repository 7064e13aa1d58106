"""What a program pulls: items and judgments, page by page."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime

from heedful.errors import HeedfulError
from heedful.feedback import models
from heedful.feedback.models import Batch, Item, ItemState, Judgment, Programme, Purpose, SnapshotEntry, TaskKind
from heedful.feedback.pseudonyms import Pseudonyms
from heedful.feedback.services import batch_of, in_utc, milliseconds, snapshot_of
from heedful.feedback.wire import Answer, ItemRow, JudgmentRow, Provenance
from heedful.feedback.withdrawal import standing


def items_page(batch: Batch, *, after: str, most: int, policies: bool) -> tuple[list[ItemRow], str]:
    """Items of a batch in their order, and the cursor of the next page (empty at the end).

    Args:
        after: the cursor that the page before gave, or empty.
        policies: tell which policy each completion came from.

    Raises:
        HeedfulError: the cursor is none of ours.
    """
    rows = Item.objects.filter(batch=batch).exclude(state=ItemState.WITHDRAWN)
    if after:
        if not after.isascii() or not after.isdigit() or len(after) > 9:
            raise HeedfulError("this is no cursor of ours.", where="cursor", mend="Begin without one.")
        rows = rows.filter(position__gt=int(after))
    found = list(rows.order_by("position").select_related("prompt").prefetch_related("entries__completion")[: most + 1])
    page = [
        ItemRow(
            id=str(item.pk),
            batch=str(batch.pk),
            kind=item.kind,
            purpose=item.purpose,
            version=item.version,
            state=item.state,
            messages=tuple(item.prompt.messages),
            completions=tuple(
                Answer(entry.index, entry.completion.text, entry.completion.policy if policies else "")
                for entry in item.entries.all()
            ),
            guideline=batch.guideline.version,
            language=item.language,
        )
        for item in found[:most]
    ]
    return page, str(found[most - 1].position) if len(found) > most else ""


@dataclass(frozen=True)
class Wanted:
    """Which judgments a program asks for."""

    batch: str = ""
    purpose: str = "train"
    kind: str = ""
    since: datetime | None = None
    history: bool = False
    """Rows that hold no longer, too, and withdrawals."""
    surplus: bool = False
    snapshot: str = ""
    """Those alone that a snapshot lists."""

    def __post_init__(self) -> None:
        for name, value, known in (("purpose", self.purpose, Purpose.values), ("kind", self.kind, TaskKind.values)):
            if value not in known and (name == "purpose" or value):
                raise HeedfulError(
                    "{value!r} is no {name}.",
                    where=name,
                    mend="Give one of {known}.",
                    value=value,
                    name=name,
                    known=", ".join(known),
                )


def judgments_page(
    programme: Programme, wanted: Wanted, *, after: str, most: int, names: Pseudonyms
) -> tuple[list[JudgmentRow], str]:
    """Judgments in the order in which they were made, and the cursor of the next page (empty at the end).

    Ids rise with time, so a page is one look through one index. A judgment that is being written while a pull runs
    may be missed by it: whoever follows asks again `since` a minute before the last pull, and tells rows by their id.

    For training come only judgments of items that are still for training: none, its history included, of one that has
    become gold. Of an item that was withdrawn only the history comes; of a rater who was erased, nothing.

    Raises:
        HeedfulError: the cursor is none of ours.
        NotFoundError: there is no such batch or snapshot.
    """
    rows = standing(Judgment.objects.filter(programme=programme, purpose=wanted.purpose))
    if wanted.purpose == Purpose.TRAIN:
        rows = rows.filter(item__purpose=Purpose.TRAIN)
    if wanted.snapshot:
        listed = SnapshotEntry.objects.filter(snapshot=snapshot_of(programme, wanted.snapshot))
        rows = rows.filter(pk__in=listed.values("judgment"))
    if wanted.batch:
        rows = rows.filter(batch=batch_of(programme, wanted.batch))
    if wanted.kind:
        rows = rows.filter(kind=wanted.kind)
    if not wanted.history:
        rows = rows.filter(current__isnull=False).exclude(item__state=ItemState.WITHDRAWN)
    if not wanted.surplus:
        rows = rows.filter(surplus=False)
    since = in_utc(wanted.since)
    if since is not None:
        first = max(0, min(int(since.timestamp() * 1000), (1 << 48) - 1))
        rows = rows.filter(pk__gte=uuid.UUID(int=first << 80))
    if after:
        try:
            rows = rows.filter(pk__gt=uuid.UUID(after))
        except ValueError as error:
            raise HeedfulError("this is no cursor of ours.", where="cursor", mend="Begin without one.") from error
    related = rows.order_by("pk").select_related("rater", "guideline", "rationale", "current", "provenance")
    found = list(related[: most + 1])
    following = str(found[most - 1].pk) if len(found) > most else ""
    return [_row(one, names) for one in found[:most]], following


def _row(judgment: Judgment, names: Pseudonyms) -> JudgmentRow:
    rationale = getattr(judgment, "rationale", None)
    return JudgmentRow(
        id=str(judgment.pk),
        created=milliseconds(judgment.created),
        item=str(judgment.item_id),
        batch=str(judgment.batch_id),
        rater=str(names.of(judgment.rater_id)),
        rater_kind=judgment.rater.kind,
        kind=judgment.kind,
        purpose=judgment.purpose,
        pass_number=judgment.pass_number,
        guideline=judgment.guideline.version,
        payload=judgment.payload,
        order=tuple(judgment.order),
        active_ms=judgment.active_ms,
        safety_flag=judgment.safety_flag,
        surplus=judgment.surplus,
        retracts=judgment.retracts,
        supersedes=str(judgment.supersedes_id or ""),
        live=getattr(judgment, "current", None) is not None,
        judge_template=judgment.judge_template,
        judge_order=judgment.judge_order,
        rationale="" if rationale is None or rationale.erased else rationale.text,
        provenance=_provenance(getattr(judgment, "provenance", None)),
    )


def _provenance(row: models.Provenance | None) -> Provenance | None:
    if row is None:
        return None
    tokens = (row.prompt_tokens, row.completion_tokens)
    return Provenance(row.model, row.temperature, row.cost, *tokens, tuple(row.replies))


def pseudonyms(secret: str) -> Pseudonyms:
    """Names of raters that stay the same for one token, or for one programme read at its database."""
    return Pseudonyms(hashlib.sha256(f"judgments:{secret}".encode()).digest())
