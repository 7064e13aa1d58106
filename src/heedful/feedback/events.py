"""The trail: what happened, by ids and hashes, written in the transaction that it tells of."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import connection, models

from heedful.errors import HeedfulError
from heedful.feedback import clock, statements
from heedful.feedback.models import AuditEvent, Delivery, Webhook
from heedful.files import sha256_json

HOOKED = (
    "seq, EXISTS (SELECT 1 FROM feedback_webhook w"
    " WHERE w.programme_id = feedback_auditevent.programme AND w.stopped IS NULL)"
)
"""An event's number, and whether its programme has a webhook: asked for by the statement that writes it."""


def digest_of(value: Any) -> str:
    """Hex SHA-256 of a JSON value; independent of key order."""
    return sha256_json(value)


def record(kind: str, *, programme: Any = None, actor: Any = None, digest: str = "", **ids: Any) -> AuditEvent:
    """Write an event, and a delivery for each webhook of the programme that asks for its kind.

    Args:
        kind: what happened, as in "judgment.submitted".
        programme: it concerns; a row or an id.
        actor: the account or rater that did it; empty: heedful itself.
        digest: `digest_of` the content that was written.
        ids: what it concerns, by name: rows, ids, whole numbers, or lists of them. No text: names, notes and
            answers stay in rows that can be erased.

    Raises:
        HeedfulError: it is called outside a transaction, or an id is a text that is no id.
    """
    if not connection.in_atomic_block:
        raise HeedfulError("an event is written in the transaction that it tells of.", where=kind)
    event = AuditEvent(
        kind=kind,
        programme=_uuid(programme),
        actor=_uuid(actor),
        digest=digest,
        ids={name: _plain(name, value) for name, value in ids.items()},
    )
    event.seq, hooked = statements.insert(event, HOOKED)
    if hooked:
        hooks = Webhook.objects.filter(programme_id=event.programme, stopped=None).values_list("pk", "kinds")
        wanted = [key for key, kinds in hooks if not kinds or kind in kinds]
        if wanted:
            at = clock.now()
            Delivery.objects.bulk_create(Delivery(webhook_id=key, event=event, next_attempt=at) for key in wanted)
    return event


def _uuid(value: Any) -> uuid.UUID | None:
    if isinstance(value, models.Model):
        value = value.pk
    if value is None or isinstance(value, uuid.UUID):
        return value
    return uuid.UUID(str(value))


def _plain(name: str, value: Any) -> Any:
    """What an event keeps of an id: text of a UUID, a whole number, a choice of a few words, or a list of these."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, models.Model):
        return str(value.pk)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, models.TextChoices):
        return str(value.value)
    if isinstance(value, str):
        try:
            return str(uuid.UUID(value))
        except ValueError:
            if value.isascii() and len(value) <= 64 and value.replace("-", "").replace("_", "").isalnum():
                return value  # a word of heedful's own: a role, a state, a digest
            raise HeedfulError("an event keeps ids and words of heedful's own, no text.", where=name) from None
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(name, one) for one in value]
    raise HeedfulError(f"{type(value).__name__} is no id.", where=name)
