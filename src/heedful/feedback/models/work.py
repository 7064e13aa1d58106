"""Who judges what, and what they said: slots, assignments, judgments, skips, demonstrations, edits."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from heedful.feedback.models.content import Batch, Completion, Guideline, Item, Purpose, TaskKind
from heedful.feedback.models.identity import Row
from heedful.feedback.models.people import Programme, Rater


class SlotState(models.TextChoices):
    """Whether a slot waits for a rater."""

    FREE = "free", _("free")
    LEASED = "leased", _("leased")
    DONE = "done", _("done")
    CLOSED = "closed", _("closed")


class Slot(Row):
    """A place for one counted judgment of one item. A place that is done holds exactly one.

    Free slots of a batch form a queue for each route, in the order (lane, -priority, position).
    """

    item = models.ForeignKey(Item, models.CASCADE, related_name="slots")
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="slots")
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    pass_number = models.PositiveSmallIntegerField(default=1)
    """2 and up: the same rater judges the item again, to see how consistent they are."""
    guideline = models.ForeignKey(Guideline, models.PROTECT, related_name="+")
    state = models.CharField(max_length=8, choices=SlotState.choices, default=SlotState.FREE)
    reserved_for = models.ForeignKey(Rater, models.CASCADE, null=True, related_name="reserved_slots")
    """Of gold, qualification, calibration and repeats: made for one rater."""
    route = models.CharField(max_length=80, blank=True)
    """What a rater must have to be given it: "language|expertise"."""
    lane = models.PositiveSmallIntegerField(default=1)
    """0: given back, or opened because raters disagreed; taken before lane 1."""
    priority = models.SmallIntegerField(default=0)
    position = models.BigIntegerField(default=0)
    """Rises within a lane; a slot that comes back goes to the end of lane 0."""
    holder = models.UUIDField(null=True)
    """The assignment that holds the lease or did the work."""
    lease_until = models.DateTimeField(null=True)

    class Meta:
        indexes = (
            models.Index(
                fields=("batch", "route", "lane", "-priority", "position"),
                condition=Q(state="free", reserved_for__isnull=True),
                name="free_slots_in_order",
            ),
            models.Index(
                fields=("reserved_for", "batch"),
                condition=Q(state="free", reserved_for__isnull=False),
                name="own_slots",
            ),
            models.Index(fields=("lease_until",), condition=Q(state="leased"), name="leases_by_end"),
        )


class AssignmentState(models.TextChoices):
    """How an assignment ended, if it did."""

    LEASED = "leased", _("leased")
    SUBMITTED = "submitted", _("submitted")
    SURPLUS = "surplus", _("submitted after the slot was gone")
    SKIPPED = "skipped", _("skipped")
    RELEASED = "released", _("given back unseen")
    EXPIRED = "expired", _("expired")


HELD = ("leased", "submitted", "surplus", "skipped")
"""States in which the rater has had the item and is not given it again in the same pass."""


class Assignment(Row):
    """One rater at one slot, with a lease."""

    slot = models.ForeignKey(Slot, models.CASCADE, related_name="assignments")
    item = models.ForeignKey(Item, models.CASCADE, related_name="assignments")
    rater = models.ForeignKey(Rater, models.CASCADE, related_name="assignments")
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    pass_number = models.PositiveSmallIntegerField(default=1)
    item_version = models.PositiveIntegerField()
    order = models.JSONField(default=list)
    """Presentation order: the item's indices in the order in which they are shown as A, B, C."""
    state = models.CharField(max_length=10, choices=AssignmentState.choices, default=AssignmentState.LEASED)
    lease_until = models.DateTimeField()
    prefetched = models.BooleanField(default=False)
    """Leased ahead of time, not yet shown."""
    shown = models.DateTimeField(null=True)
    ended = models.DateTimeField(null=True)
    active_ms = models.PositiveBigIntegerField(default=0)
    fresh = False
    """Leased just now, so nothing was done on it yet. No column."""

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("slot",), condition=Q(state="leased"), name="one_lease_a_slot"),
            models.UniqueConstraint(
                fields=("item", "rater", "purpose", "pass_number"),
                condition=Q(state__in=HELD),
                name="an_item_once_a_rater_and_pass",
            ),
        )
        indexes = (models.Index(fields=("rater", "state", "-created"), name="assignments_of_a_rater"),)


class Draft(Row):
    """Unfinished work, saved as it is done. Erasable; deleted on submission."""

    assignment = models.OneToOneField(Assignment, models.CASCADE, related_name="draft")
    payload = models.JSONField(default=dict)
    revision = models.PositiveIntegerField(default=0)
    saved = models.DateTimeField(auto_now=True)


class Judgment(Row):
    """One rater's verdict. Rows never change (the database refuses it); a correction or an undo adds one.

    The payload speaks of the item's own indices, never of the order shown: see `heedful.feedback.payloads`.
    """

    programme = models.ForeignKey(Programme, models.PROTECT, related_name="judgments")
    batch = models.ForeignKey(Batch, models.PROTECT, related_name="judgments")
    item = models.ForeignKey(Item, models.PROTECT, related_name="judgments")
    rater = models.ForeignKey(Rater, models.PROTECT, related_name="judgments")
    assignment = models.ForeignKey(Assignment, models.PROTECT, null=True, related_name="judgments")
    """Empty where an import or an AI judge brought it."""
    kind = models.CharField(max_length=16, choices=TaskKind.choices)
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    pass_number = models.PositiveSmallIntegerField(default=1)
    guideline = models.ForeignKey(Guideline, models.PROTECT, related_name="judgments")
    judge_template = models.CharField(max_length=80, blank=True)
    """Of an AI judge: version of its prompt template."""
    judge_order = models.CharField(max_length=20, blank=True)
    """Of an AI judge: the order it saw, as "0,1"."""
    item_version = models.PositiveIntegerField(default=1)
    payload = models.JSONField()
    order = models.JSONField(default=list)
    """Presentation order, as the assignment's."""
    safety_flag = models.BooleanField(default=False)
    active_ms = models.PositiveBigIntegerField(default=0)
    shown = models.DateTimeField(null=True)
    surplus = models.BooleanField(default=False)
    """It came when its slot was gone: kept, not counted towards the quota, not exported unless asked for."""
    retracts = models.BooleanField(default=False)
    """An undo: the superseded row holds no longer, and nothing takes its place."""
    supersedes = models.OneToOneField("self", models.PROTECT, null=True, related_name="superseded_by")
    idempotency_key = models.CharField(max_length=80)
    """Chosen by whoever submits; the same key again is the same submission."""
    request_sha256 = models.CharField(max_length=64)
    """Of what was submitted under that key: another content under it is refused."""

    class Meta:
        constraints = (models.UniqueConstraint(fields=("rater", "idempotency_key"), name="a_submission_once"),)
        indexes = (
            models.Index(fields=("item", "created"), name="judgments_of_an_item"),
            models.Index(fields=("rater", "created"), name="judgments_of_a_rater"),
            models.Index(fields=("programme", "id"), name="judgments_in_order"),
        )


class CurrentJudgment(Row):
    """Which judgments hold: at most one for each item, rater, purpose, pass and guideline (and AI template, order)."""

    judgment = models.OneToOneField(Judgment, models.PROTECT, related_name="current")
    slot = models.OneToOneField(Slot, models.PROTECT, null=True, related_name="current")
    """The place that it fills; empty for surplus and imported judgments. One judgment a place."""
    item = models.ForeignKey(Item, models.PROTECT, related_name="current")
    rater = models.ForeignKey(Rater, models.PROTECT, related_name="current")
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    pass_number = models.PositiveSmallIntegerField(default=1)
    guideline = models.ForeignKey(Guideline, models.PROTECT, related_name="+")
    judge_template = models.CharField(max_length=80, blank=True)
    judge_order = models.CharField(max_length=20, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("item", "rater", "purpose", "pass_number", "guideline", "judge_template", "judge_order"),
                name="one_live_judgment",
            ),
        )


class Rationale(Row):
    """Free text beside a judgment. Erasable."""

    judgment = models.OneToOneField(Judgment, models.CASCADE, related_name="rationale")
    text = models.TextField()
    erased = models.DateTimeField(null=True)


class Demonstration(Row):
    """An answer that a person wrote; its text is a completion with an author."""

    judgment = models.OneToOneField(Judgment, models.PROTECT, related_name="demonstration")
    completion = models.OneToOneField(Completion, models.PROTECT, related_name="demonstration")


class Edit(Row):
    """An answer that a person corrected: SFT data, and a preference of the corrected over the original."""

    judgment = models.OneToOneField(Judgment, models.PROTECT, related_name="edit")
    original = models.ForeignKey(Completion, models.PROTECT, related_name="edits")
    completion = models.OneToOneField(Completion, models.PROTECT, related_name="edit")


class Skip(Row):
    """A rater passed an item: an outcome, not a judgment. The item never comes back to them."""

    assignment = models.OneToOneField(Assignment, models.PROTECT, related_name="skip")
    reason = models.CharField(max_length=30)
    """unclear, unsafe, language, expertise, broken, other."""
    note = models.TextField(blank=True)


class Provenance(Row):
    """How an AI judge came to a judgment. Rows never change, but that the words it said can be erased."""

    judgment = models.OneToOneField(Judgment, models.PROTECT, related_name="provenance")
    model = models.CharField(max_length=300)
    """As the server named itself."""
    temperature = models.FloatField(null=True)
    cost = models.FloatField(default=0.0)
    """Money, at the prices that were stated; 0 where none were."""
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    replies = models.JSONField(default=list)
    """All that it said, as it said it: [{"text", "finish"}], those that had to be asked for again among them."""
