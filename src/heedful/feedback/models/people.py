"""Programmes, and who takes part in them: accounts, roles, raters, groups, consent, pay."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from heedful.feedback.models.identity import Row, new_id


class Programme(Row):
    """One RLHF effort: everything else belongs to one."""

    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=80, unique=True)
    settings = models.JSONField(default=dict)
    """How work is shared out and shown: see `heedful.feedback.rules.Rules`."""
    archived = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name


class Account(AbstractUser):
    """Somebody who can log in. Names and addresses are erasable; the id stays."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    display_name = models.CharField(max_length=120, blank=True)
    language = models.CharField(max_length=12, default="en")
    shortcuts = models.BooleanField(default=True)
    erased = models.DateTimeField(null=True)


class Role(models.TextChoices):
    """What somebody may do in a programme; each role includes none of the others but admin, which has all."""

    ADMIN = "admin", _("admin")
    MANAGER = "manager", _("manager")
    ADJUDICATOR = "adjudicator", _("adjudicator")
    RATER = "rater", _("rater")


class Membership(Row):
    """An account's role in a programme; somebody may have several."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="memberships")
    account = models.ForeignKey(Account, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)
    ended = models.DateTimeField(null=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("programme", "account", "role"), name="one_membership_a_role"),)


class Invitation(Row):
    """A link that makes somebody a member. Only a hash of its token is kept; opening the link consumes nothing."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.RATER)
    token_hash = models.CharField(max_length=64, unique=True)
    uses_left = models.PositiveIntegerField(default=1)
    expires = models.DateTimeField()
    revoked = models.DateTimeField(null=True)


class RaterKind(models.TextChoices):
    """Who judges."""

    PERSON = "person", _("person")
    AI = "ai", _("AI judge")
    SIMULATED = "simulated", _("simulated")
    END_USER = "end_user", _("end user")


class Rater(Row):
    """Whoever judges in a programme: a person with an account, an AI judge, a simulated rater, an end user."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="raters")
    account = models.ForeignKey(Account, models.SET_NULL, null=True, blank=True, related_name="raters")
    kind = models.CharField(max_length=12, choices=RaterKind.choices, default=RaterKind.PERSON)
    name = models.CharField(max_length=120, blank=True)
    """Of a rater without an account: an AI judge's model, a simulated rater's label, an end user's pseudonym."""
    languages = models.JSONField(default=list)
    """BCP 47 tags this rater reads; items in other languages are not shown. Empty: every language."""
    expertise = models.JSONField(default=list)
    """Tags of what this rater knows; an item that asks for one goes only to those who have it."""
    excluded_categories = models.JSONField(default=list)
    """Content categories this rater opted out of."""
    training_mode = models.BooleanField(default=False)
    """Gold answers are explained at once."""
    paused = models.DateTimeField(null=True)
    """Work is withheld, e.g. until a re-calibration."""
    pause_reason = models.CharField(max_length=200, blank=True)
    erased = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("programme", "account"), condition=Q(account__isnull=False), name="one_rater_an_account"
            ),
            models.UniqueConstraint(
                fields=("programme", "kind", "name"), condition=Q(account__isnull=True), name="one_rater_a_name"
            ),
        )


class GroupAnswer(Row):
    """A rater's own, optional answer to who they are; shown only in aggregate, cells under five hidden. Erasable."""

    rater = models.ForeignKey(Rater, models.CASCADE, related_name="groups")
    question = models.CharField(max_length=60)
    answer = models.CharField(max_length=60, blank=True)
    """Empty: prefers not to say."""

    class Meta:
        constraints = (models.UniqueConstraint(fields=("rater", "question"), name="one_answer_a_question"),)


class Consent(Row):
    """A rater agreed to a stated version of the consent text."""

    rater = models.ForeignKey(Rater, models.CASCADE, related_name="consents")
    text_sha256 = models.CharField(max_length=64)
    withdrawn = models.DateTimeField(null=True)


class PayRate(Row):
    """What an hour or a judgment pays, from a day on; the newest that has begun holds."""

    programme = models.ForeignKey(Programme, models.CASCADE, related_name="pay_rates")
    rater = models.ForeignKey(Rater, models.CASCADE, null=True, related_name="pay_rates")
    """Empty: everybody in the programme."""
    currency = models.CharField(max_length=3, default="USD")
    per_hour = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    per_judgment = models.DecimalField(max_digits=10, decimal_places=4, default=0)
    begins = models.DateTimeField()


class RaterQuestion(Row):
    """A rater's question to the manager, and the answer. Erasable."""

    rater = models.ForeignKey(Rater, models.CASCADE, related_name="questions")
    item = models.ForeignKey("feedback.Item", models.SET_NULL, null=True, related_name="questions")
    text = models.TextField()
    answer = models.TextField(blank=True)
    answered = models.DateTimeField(null=True)
    answered_by = models.ForeignKey(Account, models.SET_NULL, null=True, related_name="+")
