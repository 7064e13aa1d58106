"""Talking with a live policy: every candidate is stored before it is shown."""

from __future__ import annotations

from django.db import models

from heedful.feedback.models.content import Completion, Item
from heedful.feedback.models.identity import Row
from heedful.feedback.models.people import Programme
from heedful.feedback.models.work import Assignment


class PolicyEndpoint(Row):
    """An OpenAI-compatible endpoint that answers as a policy. Keys are read from the environment, never stored."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="endpoints")
    name = models.CharField(max_length=120)
    base_url = models.URLField(max_length=400)
    model = models.CharField(max_length=300)
    key_variable = models.CharField(max_length=80, blank=True)
    """Name of the environment variable that holds the key."""
    sampling = models.JSONField(default=dict)
    candidates = models.PositiveSmallIntegerField(default=2)
    retired = models.DateTimeField(null=True)


class Dialogue(Row):
    """One conversation of one rater; its policy stays the same to the end."""

    assignment = models.OneToOneField(Assignment, models.PROTECT, related_name="dialogue")
    endpoint = models.ForeignKey(PolicyEndpoint, models.PROTECT, related_name="+")
    pinned = models.JSONField()
    """Address, model and sampling settings as they were at the start."""
    ended = models.DateTimeField(null=True)


class DialogueTurn(Row):
    """What the rater said, the candidates that answered, and the one that goes on."""

    dialogue = models.ForeignKey(Dialogue, models.CASCADE, related_name="turns")
    index = models.PositiveSmallIntegerField()
    text = models.TextField()
    idempotency_key = models.CharField(max_length=80)
    order = models.JSONField(default=list)
    chosen = models.PositiveSmallIntegerField(null=True)
    item = models.OneToOneField(Item, models.SET_NULL, null=True, related_name="dialogue_turn")
    """The pairwise item that the turn became."""
    failure = models.TextField(blank=True)
    """Why candidates are missing; empty when all came."""
    asked_until = models.DateTimeField(null=True)
    """While a worker waits for the endpoint: when its lease ends."""

    class Meta:
        ordering = ("index",)
        constraints = (
            models.UniqueConstraint(fields=("dialogue", "index"), name="one_turn_a_place"),
            models.UniqueConstraint(fields=("dialogue", "idempotency_key"), name="a_turn_once"),
        )


class DialogueCandidate(Row):
    """One candidate answer, complete."""

    turn = models.ForeignKey(DialogueTurn, models.CASCADE, related_name="candidates")
    index = models.PositiveSmallIntegerField()
    completion = models.OneToOneField(Completion, models.PROTECT, related_name="candidate")

    class Meta:
        ordering = ("index",)
        constraints = (models.UniqueConstraint(fields=("turn", "index"), name="one_candidate_a_place"),)
