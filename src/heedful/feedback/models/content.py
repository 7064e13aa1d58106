"""What is judged: guidelines, batches, prompts, completions, items."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from heedful.feedback.models.identity import Row
from heedful.feedback.models.people import Account, Programme, Rater


class TaskKind(models.TextChoices):
    """What a rater is asked to do."""

    PAIRWISE = "pairwise", _("compare two answers")
    RANKING = "ranking", _("rank answers")
    ATTRIBUTES = "attributes", _("score attributes")
    DEMONSTRATION = "demonstration", _("write the answer")
    EDIT = "edit", _("correct an answer")
    DIALOGUE = "dialogue", _("talk with a model")
    THUMB = "thumb", _("thumb up or down")
    """Of end users alone: no rater is asked for one."""


ASKED = [one for one in TaskKind.choices if one[0] != TaskKind.THUMB]
"""What raters can be asked to do, with its words."""


class Purpose(models.TextChoices):
    """What judgments are for. Only `train` may enter a training export."""

    TRAIN = "train", _("train")
    CHECK = "check", _("check")
    GOLD = "gold", _("gold")
    QUALIFICATION = "qualification", _("qualification")
    CALIBRATION = "calibration", _("calibration")


class Guideline(Row):
    """One version of a programme's rubric. Published versions never change; an edit makes the next."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="guidelines")
    version = models.PositiveIntegerField()
    markdown = models.TextField()
    translations = models.JSONField(default=dict)
    """Language tag to Markdown."""
    attributes = models.JSONField(default=list)
    """Of the attributes task: [{"name", "title", "question", "low", "high", "points"}]."""
    summary = models.CharField(max_length=200, blank=True)
    author = models.ForeignKey(Account, models.SET_NULL, null=True, related_name="+")

    class Meta:
        constraints = (models.UniqueConstraint(fields=("programme", "version"), name="one_guideline_a_version"),)


class BatchState(models.TextChoices):
    """Whether a batch is handed out."""

    STAGED = "staged", _("staged")
    OPEN = "open", _("open")
    PAUSED = "paused", _("paused")
    CLOSED = "closed", _("closed")


class Batch(Row):
    """Items that belong together: one import, one round's comparisons, one check."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="batches")
    name = models.CharField(max_length=200)
    round = models.PositiveIntegerField(default=1)
    purpose = models.CharField(max_length=16, choices=Purpose.choices, default=Purpose.TRAIN)
    state = models.CharField(max_length=8, choices=BatchState.choices, default=BatchState.STAGED)
    guideline = models.ForeignKey(Guideline, models.PROTECT, related_name="batches")
    quota = models.PositiveSmallIntegerField(default=1)
    """Counted judgments wanted for each item."""
    quota_cap = models.PositiveSmallIntegerField(default=1)
    """The most, where raters disagree."""
    priority = models.SmallIntegerField(default=0)
    """Higher comes first."""
    deadline = models.DateTimeField(null=True)
    opened_for_discussion = models.DateTimeField(null=True)
    """Of a calibration batch: when its answers were shown to all who judged it."""
    source_sha256 = models.CharField(max_length=64, blank=True)
    """Of the imported file."""

    class Meta:
        constraints = (
            models.CheckConstraint(condition=models.Q(quota__gte=1), name="a_quota_of_one_or_more"),
            models.CheckConstraint(condition=models.Q(quota_cap__gte=models.F("quota")), name="a_cap_over_the_quota"),
        )


class Prompt(Row):
    """A conversation that waits for an answer."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="prompts")
    messages = models.JSONField()
    """[{"role", "content"}], the last from the user."""
    key = models.CharField(max_length=16, db_index=True)
    """`heedful.data.records.prompt_key`: equal for prompts that differ only in case, spacing, punctuation."""
    language = models.CharField(max_length=12, blank=True)
    categories = models.JSONField(default=list)
    """Content categories that raters are warned of and can opt out of."""
    source = models.JSONField(default=dict)
    """Columns of the imported row that heedful does not read, and its file and line: kept for `--raw`."""


class Completion(Row):
    """An answer, and which policy or person it came from."""

    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="completions")
    text = models.TextField()
    policy = models.CharField(max_length=300, blank=True)
    """Checkpoint, model id or file that it came from. Never shown to a rater."""
    sampling = models.JSONField(default=dict)
    author = models.ForeignKey(Rater, models.SET_NULL, null=True, related_name="completions")
    """The person who wrote or edited it: they never judge it."""
    source = models.JSONField(default=dict)
    erased = models.DateTimeField(null=True)


class ItemState(models.TextChoices):
    """Where an item stands."""

    OPEN = "open", _("open")
    DONE = "done", _("done")
    PARKED = "parked", _("parked")
    WITHDRAWN = "withdrawn", _("withdrawn")


class Item(Row):
    """One question to raters: a prompt, its completions, and what to do with them."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="items")
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="items")
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="items")
    kind = models.CharField(max_length=16, choices=TaskKind.choices)
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    """As its batch's, until it is promoted to gold."""
    version = models.PositiveIntegerField(default=1)
    """Raised by any change that a rater would see; a submission for another version is refused."""
    state = models.CharField(max_length=10, choices=ItemState.choices, default=ItemState.OPEN)
    language = models.CharField(max_length=12, blank=True)
    expertise = models.CharField(max_length=60, blank=True)
    named_raters = models.JSONField(default=list)
    """Ids of the raters it is for; empty: anyone who may."""
    priority = models.SmallIntegerField(default=0)
    skips = models.PositiveSmallIntegerField(default=0)
    extra_slots = models.PositiveSmallIntegerField(default=0)
    """Opened because raters disagreed."""
    position = models.PositiveIntegerField(default=0)
    """Its line in the import: a prompt's page lists items so; raters never see it."""

    class Meta:
        indexes = (models.Index(fields=("batch", "state", "position"), name="items_of_a_batch"),)


class ItemCompletion(Row):
    """A completion's place in an item: 0 is a, 1 is b. What raters see is each assignment's own order."""

    item = models.ForeignKey(Item, models.CASCADE, related_name="entries")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="entries")
    index = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ("index",)
        constraints = (
            models.UniqueConstraint(fields=("item", "index"), name="one_completion_a_place"),
            models.CheckConstraint(condition=models.Q(index__lt=9), name="at_most_nine_completions"),
        )
