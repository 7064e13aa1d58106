"""What came from use: which events of an application were taken in, and what became of each."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from heedful.feedback.models.content import Batch
from heedful.feedback.models.identity import Row
from heedful.feedback.models.people import Programme, Rater
from heedful.feedback.models.work import Judgment


class FieldKind(models.TextChoices):
    """What an end user did."""

    THUMB = "thumb", _("thumb")
    REGENERATION = "regeneration", _("regeneration")
    EDIT = "edit", _("edit")


class FieldOutcome(models.TextChoices):
    """What became of an event to whose use its user had consented."""

    KEPT = "kept", _("kept")
    SAMPLED_OUT = "sampled_out", _("not in the sample")
    CAPPED = "capped", _("over the user's cap")
    NOT_KEPT = "not_kept", _("new answer not kept")
    REPLACED = "replaced", _("replaced by a later one")


class FieldIntake(Row):
    """A programme's intake: the batch that its items stand in, and which secret its users' keys are hashed with."""

    programme = models.OneToOneField(Programme, models.CASCADE, related_name="field_intake")
    batch = models.OneToOneField(Batch, models.PROTECT, related_name="field_intake")
    key_check = models.CharField(max_length=64)
    """Tells another secret: under it nobody's key would be found again, so nobody could withdraw."""


class FieldEvent(Row):
    """An event that came, so that it is taken in once. No text, and no id as the application sent it."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="field_events")
    event_hash = models.CharField(max_length=64)
    """Keyed hash of the application's own id of it."""
    request_hash = models.CharField(max_length=64)
    """Keyed hash of what came under that id: something else under it is refused."""
    kind = models.CharField(max_length=16, choices=FieldKind.choices)
    policy = models.CharField(max_length=300, blank=True)
    """The model that answered, as the application calls it."""
    outcome = models.CharField(max_length=16, choices=FieldOutcome.choices)
    up = models.BooleanField(null=True)
    """Of a thumb."""
    user = models.ForeignKey(Rater, models.CASCADE, null=True, related_name="field_events")
    """Who it was, of one that was kept."""
    judgment = models.OneToOneField(Judgment, models.PROTECT, null=True, related_name="field_event")
    found = models.JSONField(default=dict)
    """How often each pattern was found in its texts, and taken out."""

    class Meta:
        constraints = (models.UniqueConstraint(fields=("programme", "event_hash"), name="an_event_once"),)
        indexes = (
            models.Index(fields=("programme", "created"), name="field_events_by_time"),
            models.Index(fields=("user", "created"), name="field_events_of_a_user"),
        )


class FieldRefusal(Row):
    """How many events came in a day without consent. Of the events themselves nothing is stored."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="field_refusals")
    day = models.DateField()
    policy = models.CharField(max_length=300, blank=True)
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("programme", "day", "policy"), name="one_refusal_count_a_day"),)
