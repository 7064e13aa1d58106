"""Fresh raters: those who gave no judgment for training. A policy is checked by them, where there are enough.

A rater who helped to make the reward is no judge of whether the reward is right. Items for checking therefore go to
fresh raters alone while a programme has as many as a check needs; with fewer they go to anybody, and whoever asks is
told so.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, QuerySet

from heedful.core.sequential import LEAST_RATERS
from heedful.feedback.models import (
    Account,
    Batch,
    CurrentJudgment,
    Membership,
    Programme,
    Purpose,
    Rater,
    Role,
)
from heedful.feedback.rules import Rules, rules_of


@dataclass(frozen=True)
class Freshness:
    """Who may judge what is checked in a programme."""

    fresh: int
    """Raters who may work and gave no judgment for training that holds."""
    raters: int
    """Raters who may work."""
    wanted: bool
    """Whether the programme's rules keep checks for fresh raters."""

    def only(self, quota: int) -> bool:
        """Whether items of a batch of this quota go to fresh raters alone."""
        return self.wanted and self.fresh >= needed(quota)


def able(programme: Programme) -> QuerySet[Account]:
    """Accounts that may judge in a programme: raters who are neither paused nor erased."""
    stopped = Rater.objects.filter(programme=programme, account=OuterRef("pk"))
    rating = Membership.objects.filter(programme=programme, account=OuterRef("pk"), role=Role.RATER, ended=None)
    found = Account.objects.filter(Exists(rating), erased=None, is_active=True)
    return found.exclude(Exists(stopped.exclude(paused=None))).exclude(Exists(stopped.exclude(erased=None)))


def fresh(programme: Programme) -> QuerySet[Account]:
    """Those of them who gave no judgment for training that holds."""
    trained = CurrentJudgment.objects.filter(
        rater__programme=programme, rater__account=OuterRef("pk"), purpose=Purpose.TRAIN
    )
    return able(programme).exclude(Exists(trained))


def needed(quota: int) -> int:
    """How many fresh raters are enough: as many as an item's judgments, and a verdict that tells raters apart, take."""
    return max(LEAST_RATERS, quota)


def look(programme: Programme) -> Freshness:
    """Who may judge what is checked in a programme."""
    wanted = rules_of(programme.settings).fresh_checks
    return Freshness(fresh(programme).count(), able(programme).count(), wanted)


def may_check(rater: Rater, batch: Batch, rules: Rules) -> bool:
    """Whether a rater may be given items of a batch: of one for checking, where there are fresh raters enough, only
    if they are one.
    """
    if batch.purpose != Purpose.CHECK or not rules.fresh_checks:
        return True
    if not CurrentJudgment.objects.filter(rater=rater, purpose=Purpose.TRAIN).exists():
        return True
    return fresh(rater.programme).count() < needed(batch.quota)
