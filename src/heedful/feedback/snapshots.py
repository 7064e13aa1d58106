"""What a training run read: a list of judgments that never changes, and the hash of it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet

from heedful.errors import HeedfulError, Sentence, nearest
from heedful.feedback import events
from heedful.feedback.export_select import Selection, selection
from heedful.feedback.models import Account, Judgment, Programme, Purpose, Snapshot, SnapshotEntry
from heedful.feedback.texts import clean
from heedful.files import sha256_json

FILTERS = ("batches", "rounds", "raters", "include_surplus", "purposes")
CHUNK = 1000
_FIELDS = ("pk", "item_id", "purpose", "kind", "payload", "order", "guideline_id", "judge_template", "judge_order")


def create_snapshot(
    programme: Programme,
    name: str,
    *,
    filters: Mapping[str, Any] | None = None,
    author: Account | None = None,
    training: bool = True,
) -> Snapshot:
    """Write down which judgments hold now.

    Args:
        programme: whose.
        name: for the lead.
        filters: of `FILTERS`, as `heedful.feedback.exports.export` takes them; `purposes` only where it is not for
            training.
        author: who asks.
        training: for a training run. The database itself refuses a judgment for checking or gold in it.

    Raises:
        HeedfulError: an unknown filter, a purpose that is not for training, or no judgments.
    """
    clean(name, "name", longest=200, empty=False)
    given = dict(filters or {})
    for key in given:
        if key not in FILTERS:
            hint = nearest(key, list(FILTERS))
            raise HeedfulError(
                "there is no filter {key!r}. {hint}", where="filters", mend=", ".join(FILTERS), key=key, hint=hint
            )
    purposes = tuple(given.get("purposes") or (Purpose.TRAIN,))
    if training and purposes != (Purpose.TRAIN,):
        raise HeedfulError(
            "a snapshot for training holds judgments for training alone.",
            where="filters.purposes",
            mend="Leave purposes away, or make a snapshot that is not for training.",
        )
    chosen = selection(programme, **{**given, "purposes": purposes})
    with transaction.atomic():
        rows = list(chosen.judgments().order_by("pk").values_list("pk", "item_id", "purpose"))
        if not rows:
            raise HeedfulError(
                "there are no judgments to list.", where="filters", mend="Choose more batches or rounds."
            )
        made = Snapshot.objects.create(
            programme=programme,
            name=name,
            training=training,
            filters=_plain(chosen),
            count=len(rows),
            sha256=_sha256(chosen.judgments()),
            author=author,
        )
        SnapshotEntry.objects.bulk_create(
            (
                SnapshotEntry(snapshot=made, judgment_id=key, item_id=item, training=training, purpose=purpose)
                for key, item, purpose in rows
            ),
            batch_size=CHUNK,
        )
        events.record(
            "snapshot.made", programme=programme, actor=author, digest=made.sha256, snapshot=made, count=made.count
        )
    return made


def snapshot_named(programme: Programme, given: str) -> Snapshot:
    """A programme's snapshot by its id or name; the newest of that name.

    Raises:
        HeedfulError: there is none.
    """
    known = Snapshot.objects.filter(programme=programme).order_by("-pk")
    try:
        found = known.filter(pk=uuid.UUID(given)).first()
    except ValueError:
        found = known.filter(name=given).first()
    if found is None:
        hint = nearest(given, list(known.values_list("name", flat=True)))
        raise HeedfulError("there is no snapshot {given!r}. {hint}", where="snapshot", given=given, hint=hint)
    return found


def _plain(chosen: Selection) -> dict[str, Any]:
    """The filters as JSON."""
    return {
        "batches": [str(key) for key in chosen.batches],
        "rounds": list(chosen.rounds),
        "raters": list(chosen.raters),
        "purposes": [str(purpose) for purpose in chosen.purposes],
        "include_surplus": chosen.include_surplus,
    }


def _lines(judgments: QuerySet[Judgment]) -> Iterator[str]:
    """One line for each judgment: what it is, and a hash of what it says."""
    for key, item, purpose, *rest in judgments.order_by("pk").values_list(*_FIELDS).iterator(chunk_size=CHUNK):
        yield f"{key} {item} {purpose} {sha256_json([str(v) if v and i == 3 else v for i, v in enumerate(rest)])}\n"


def _sha256(judgments: QuerySet[Judgment]) -> str:
    digest = hashlib.sha256()
    for line in _lines(judgments):
        digest.update(line.encode())
    return digest.hexdigest()


def verify(snapshot: Snapshot) -> list[str]:
    """What is wrong with a snapshot, as sentences; empty while it is as it was made."""
    entries = SnapshotEntry.objects.filter(snapshot=snapshot)
    wrong: list[str] = []
    count = entries.count()
    if count != snapshot.count:
        wrong.append(Sentence("it has {count} judgments; {listed} were listed.", count=count, listed=snapshot.count))
    if snapshot.training and entries.exclude(training=True, purpose=Purpose.TRAIN).exists():
        wrong.append(Sentence("a judgment in it is not for training."))
    true = Q(judgment__purpose=F("purpose"), judgment__item=F("item"), training=snapshot.training)
    if entries.exclude(true).exists():
        wrong.append(Sentence("an entry says something else than its judgment."))
    if _sha256(Judgment.objects.filter(pk__in=entries.values("judgment"))) != snapshot.sha256:
        wrong.append(Sentence("its judgments are not the ones that were listed."))
    return wrong


def salt_of(snapshot: Snapshot) -> bytes:
    """The key of the pseudonyms in a snapshot's exports: always the same, and made of what leaves the store nowhere
    but in a raw export: the keys under which its judgments were submitted."""
    digest = hashlib.sha256(snapshot.pk.bytes)
    keys = Judgment.objects.filter(pk__in=SnapshotEntry.objects.filter(snapshot=snapshot).values("judgment"))
    for key, request in keys.order_by("pk").values_list("idempotency_key", "request_sha256").iterator(chunk_size=CHUNK):
        digest.update(f"{key} {request}\n".encode())
    return digest.digest()
