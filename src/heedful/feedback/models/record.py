"""The trail, what was exported, and who may ask for it by machine."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from heedful.feedback.models.content import Item, Purpose
from heedful.feedback.models.identity import Row
from heedful.feedback.models.people import Account, Programme
from heedful.feedback.models.work import Judgment


class AuditEvent(models.Model):
    """What happened: ids and hashes, no text, no personal data. Written in the transaction it tells of; immutable."""

    seq = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=40)
    programme = models.UUIDField(null=True)
    actor = models.UUIDField(null=True)
    """The account or rater that did it; empty: heedful itself."""
    ids = models.JSONField(default=dict)
    """What it concerns, by kind."""
    digest = models.CharField(max_length=64, blank=True)
    """sha256 of the content that was written."""

    class Meta:
        indexes = (models.Index(fields=("programme", "kind", "-seq"), name="events_of_a_programme"),)


class Tombstone(Row):
    """What was erased, by id: a replay, a restored backup and a moved database honour it."""

    kind = models.CharField(max_length=20)
    """account, rater, completion, prompt, rationale, skip, turn, contest, reason, replies: see `feedback.erasure`."""
    subject = models.UUIDField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("kind", "subject"), name="one_tombstone_a_subject"),)


class Snapshot(Row):
    """What a training run read: an immutable list of judgments, and the hash of it."""

    programme = models.ForeignKey(Programme, models.PROTECT, related_name="snapshots")
    name = models.CharField(max_length=200)
    training = models.BooleanField(default=True)
    filters = models.JSONField(default=dict)
    count = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    author = models.ForeignKey(Account, models.SET_NULL, null=True, related_name="+")


class SnapshotEntry(Row):
    """One judgment in a snapshot. The database itself refuses one for checking or gold in a training snapshot."""

    snapshot = models.ForeignKey(Snapshot, models.CASCADE, related_name="entries")
    judgment = models.ForeignKey(Judgment, models.PROTECT, related_name="+")
    item = models.ForeignKey(Item, models.PROTECT, related_name="+")
    training = models.BooleanField()
    purpose = models.CharField(max_length=16, choices=Purpose.choices)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("snapshot", "judgment"), name="a_judgment_once_a_snapshot"),
            models.CheckConstraint(
                condition=Q(training=False) | Q(purpose=Purpose.TRAIN), name="only_train_enters_training"
            ),
        )


class ApiToken(Row):
    """A machine's key, kept as a hash, with what it may do."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=120)
    token_hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    """prompts:write, judgments:read, judgments:write, status:read, feedback:write."""
    author = models.ForeignKey(Account, models.SET_NULL, null=True, related_name="+")
    expires = models.DateTimeField(null=True)
    revoked = models.DateTimeField(null=True)
    last_used = models.DateTimeField(null=True)


class Push(Row):
    """A machine's request that wrote something, and what it was answered: the same key again writes nothing more."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="pushes")
    key = models.CharField(max_length=120)
    request_sha256 = models.CharField(max_length=64)
    answer = models.JSONField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("programme", "key"), name="a_push_once"),)


class Webhook(Row):
    """An address that is told of events, signed."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="webhooks")
    url = models.URLField(max_length=400)
    secret = models.CharField(max_length=64)
    kinds = models.JSONField(default=list)
    """Kinds of audit events; empty: all."""
    stopped = models.DateTimeField(null=True)


class Delivery(Row):
    """The outbox: one event for one webhook, written with the event, retried until it is taken."""

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(AuditEvent, models.PROTECT, related_name="deliveries")
    attempts = models.PositiveIntegerField(default=0)
    next_attempt = models.DateTimeField(null=True, db_index=True)
    """Empty: done, or given up."""
    delivered = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("webhook", "event"), name="one_delivery_an_event"),)


class RateWindow(models.Model):
    """Requests counted in a window of time, for limits that hold across server processes."""

    key = models.CharField(max_length=120)
    window = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("key", "window"), name="one_count_a_window"),)


class QueueCursor(Row):
    """How far a rater has looked through a queue of free slots, so that the next look starts there."""

    rater = models.ForeignKey("feedback.Rater", models.CASCADE, related_name="cursors")
    batch = models.ForeignKey("feedback.Batch", models.CASCADE, related_name="cursors")
    route = models.CharField(max_length=80, blank=True)
    lane = models.PositiveSmallIntegerField()
    priority = models.SmallIntegerField()
    position = models.BigIntegerField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("rater", "batch", "route", "lane"), name="one_cursor_a_queue"),)


class Tally(Row):
    """A count that a largest share is reckoned by, kept from when it was first asked for: see `feedback.share`."""

    batch = models.ForeignKey("feedback.Batch", models.CASCADE, related_name="tallies")
    rater = models.ForeignKey("feedback.Rater", models.CASCADE, null=True, related_name="tallies")
    """Who has filled so many of the batch's slots; empty: how many slots the batch has."""
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("batch", "rater"), name="one_tally_a_rater"),
            models.UniqueConstraint(fields=("batch",), condition=Q(rater=None), name="one_tally_a_batch"),
        )
