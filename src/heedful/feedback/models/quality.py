"""Gold, qualification, calibration, adjudication."""

from __future__ import annotations

from django.db import models

from heedful.feedback.models.content import Batch, Item
from heedful.feedback.models.identity import Row
from heedful.feedback.models.people import Account, Programme, Rater
from heedful.feedback.models.work import Judgment


class Adjudication(Row):
    """A verdict over raters who disagree: a record of its own, given before the votes were shown."""

    item = models.ForeignKey(Item, models.PROTECT, related_name="adjudications")
    judgment = models.OneToOneField(Judgment, models.PROTECT, related_name="adjudication")
    """What the adjudicator said before seeing the votes."""
    adjudicator = models.ForeignKey(Account, models.SET_NULL, null=True, related_name="+")
    verdict = models.JSONField(null=True)
    """The payload that stands, decided after seeing the votes; may differ from the first judgment."""
    reason = models.TextField(blank=True)
    votes_shown = models.DateTimeField(null=True)
    decided = models.DateTimeField(null=True)
    superseded = models.DateTimeField(null=True)


class OpenedVotes(Row):
    """An account that opened what raters said of an item instead of deciding it: it judges that item no more."""

    item = models.ForeignKey(Item, models.PROTECT, related_name="opened_votes")
    account = models.ForeignKey(Account, models.SET_NULL, null=True, related_name="+")

    class Meta:
        constraints = (models.UniqueConstraint(fields=("item", "account"), name="votes_are_opened_once"),)


class GoldKey(Row):
    """An item whose right answers are known. It looks like any other item and is shown once to a rater."""

    item = models.OneToOneField(Item, models.PROTECT, related_name="gold_key")
    acceptable = models.JSONField()
    """A list of patterns of payloads: see `heedful.feedback.payloads.matches`."""
    reason = models.TextField()
    """Shown as feedback, and when contested."""
    adjudication = models.ForeignKey(Adjudication, models.SET_NULL, null=True, related_name="gold_keys")
    active_from = models.DateTimeField(null=True)
    retired = models.DateTimeField(null=True)


class GoldOutcome(Row):
    """How one rater did on one gold item; a contest that is upheld takes it out of their accuracy."""

    gold_key = models.ForeignKey(GoldKey, models.PROTECT, related_name="outcomes")
    judgment = models.OneToOneField(Judgment, models.PROTECT, related_name="gold_outcome")
    rater = models.ForeignKey(Rater, models.PROTECT, related_name="gold_outcomes")
    passed = models.BooleanField()
    contest = models.TextField(blank=True)
    contested = models.DateTimeField(null=True)
    contest_answer = models.TextField(blank=True)
    upheld = models.BooleanField(null=True)
    """The rater was right."""

    class Meta:
        constraints = (models.UniqueConstraint(fields=("gold_key", "rater"), name="a_gold_item_once_a_rater"),)


class Qualification(Row):
    """A test that raters pass before they are given work in its scope. Its items stand in a batch of gold."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="qualifications")
    batch = models.OneToOneField(Batch, models.PROTECT, related_name="qualification")
    name = models.CharField(max_length=120)
    pass_mark = models.FloatField(default=0.8)
    attempts_allowed = models.PositiveSmallIntegerField(default=2)
    task = models.CharField(max_length=16, blank=True)
    """Scope: a task kind, or any."""
    language = models.CharField(max_length=12, blank=True)
    guideline_version = models.PositiveIntegerField(null=True)
    required = models.BooleanField(default=True)
    """Without a pass no work in the scope is given."""


class QualificationAttempt(Row):
    """One rater's try."""

    qualification = models.ForeignKey(Qualification, models.CASCADE, related_name="attempts")
    rater = models.ForeignKey(Rater, models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    """Also the pass number of its judgments."""
    finished = models.DateTimeField(null=True)
    score = models.FloatField(null=True)
    passed = models.BooleanField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("qualification", "rater", "number"), name="one_attempt_a_number"),
        )
