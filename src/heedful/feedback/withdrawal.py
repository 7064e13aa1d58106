"""Judgments that nothing is to be learnt from any more: of raters who were erased, or who took them back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Q, QuerySet

from heedful.errors import Sentence
from heedful.feedback.models import Judgment, Programme, Tombstone

WITHDRAWN = Sentence("judgments erased or taken back")
"""Why judgments are left out."""


def withdrawn() -> Q:
    """Of judgments: those that were withdrawn. A tombstone names each; of one that came late, its rater's row."""
    buried = Tombstone.objects.filter(kind="judgment").values("subject")
    return Q(pk__in=buried) | Q(rater__erased__isnull=False)


def standing(judgments: QuerySet[Judgment]) -> QuerySet[Judgment]:
    """The judgments that were not withdrawn."""
    return judgments.exclude(withdrawn())


def withdrawn_ids(programme: Programme) -> Iterator[Any]:
    """Ids of a programme's withdrawn judgments, in their order."""
    rows = Judgment.objects.filter(withdrawn(), programme=programme).order_by("pk")
    yield from rows.values_list("pk", flat=True).iterator(chunk_size=1000)
