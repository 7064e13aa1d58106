"""What a rater is sent: the task of an assignment, or why there is none. Letters and texts, nothing of the source."""

from __future__ import annotations

import secrets
from typing import Any

from django.db.models import Exists, OuterRef
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from heedful.feedback import assignment as work
from heedful.feedback import qualification
from heedful.feedback.models import (
    Assignment,
    CurrentJudgment,
    Draft,
    ItemCompletion,
    Judgment,
    Programme,
    Rater,
    Rationale,
    TaskKind,
)
from heedful.feedback.payloads import to_shown
from heedful.feedback.rules import rules_of
from heedful.studio import answers
from heedful.studio.task import shown


def assignment_of(rater: Rater, key: Any) -> Assignment | None:
    """A rater's own assignment."""
    rows = Assignment.objects.select_related("item__prompt", "slot__guideline", "rater")
    return rows.filter(pk=key, rater=rater).first()


def texts_of(assignment: Assignment) -> list[str]:
    """The completions' texts in the order shown."""
    entries = ItemCompletion.objects.filter(item=assignment.item_id)
    by_index = dict(entries.values_list("index", "completion__text"))
    return [by_index[index] for index in assignment.order or sorted(by_index)]


def context(assignment: Assignment, programme: Programme) -> dict[str, Any]:
    """What `studio/rating/_task.html` shows of an assignment."""
    item = assignment.item
    rules = rules_of(programme.settings)
    task = shown(
        item.kind,
        item.prompt.messages,
        texts_of(assignment),
        assignment.slot.guideline,
        language=item.language,
        rationale_needed=rules.require_rationale,
    )
    base = [programme.slug, assignment.pk]
    return task | {
        "assignment": assignment.pk,
        "version": item.version,
        "submit_url": reverse("rate_submit", args=base),
        "skip_url": reverse("rate_skip", args=base),
    }


def standing(assignment: Assignment) -> dict[str, Any]:
    """How far the work on an assignment is: its draft, and the time it took so far."""
    draft = Draft.objects.filter(assignment=assignment).first()
    fields = draft.payload.get("fields", {}) if draft else taken_back(assignment)
    return {"fields": fields, "revision": draft.revision if draft else 0, "active_ms": assignment.active_ms}


def taken_back(assignment: Assignment) -> dict[str, str]:
    """The fields of an answer that its rater took back, to go on from; none where nothing was."""
    undone = Judgment.objects.filter(assignment=assignment, retracts=True).order_by("-created").first()
    said = undone.supersedes if undone else None
    if said is None:
        return {}
    written = getattr(said, "demonstration", None) or getattr(said, "edit", None)
    rationale = Rationale.objects.filter(judgment=said).values_list("text", flat=True).first() or ""
    payload = said.payload if written else to_shown(said.kind, said.payload, said.order)
    return answers.filled(
        said.kind,
        payload,
        text=written.completion.text if written else "",
        rationale=rationale,
        safety=said.safety_flag,
    )


def identity(assignment: Assignment) -> dict[str, Any]:
    """What tells a task from others to the page's script."""
    return {"assignment": str(assignment.pk), "version": assignment.item.version, "kind": assignment.item.kind}


def task_json(assignment: Assignment, programme: Programme) -> dict[str, Any]:
    """The task as the page's script takes it. A dialogue has a page of its own: its address is in "go"."""
    told = identity(assignment)
    if assignment.item.kind == TaskKind.DIALOGUE:
        return told | {"go": reverse("dialogue", args=[programme.slug, assignment.pk])}
    task = context(assignment, programme)
    html = render_to_string("studio/rating/_task.html", task)
    return told | standing(assignment) | {"html": html}


def last_of(rater: Rater) -> str | None:
    """The assignment whose judgment an undo takes back: the newest that holds."""
    holds = Exists(CurrentJudgment.objects.filter(judgment=OuterRef("pk")))
    own = Judgment.objects.filter(holds, rater=rater, assignment__isnull=False).exclude(kind=TaskKind.DIALOGUE)
    newest = own.order_by("-created").values_list("assignment_id", flat=True).first()
    return str(newest) if newest else None


def today(rater: Rater) -> int:
    """Judgments given since midnight, that hold."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    rows = Judgment.objects.filter(rater=rater, created__gte=midnight, retracts=False)
    return rows.filter(superseded_by__isnull=True).count()


def none(rater: Rater, programme: Programme) -> dict[str, Any]:
    """What `studio/rating/_none.html` shows: why there is no work, and what one can do."""
    why = work.why_none(rater)
    found: dict[str, Any] = {"why": why, "rater": rater, "programme": programme, "today": today(rater)}
    found |= {"last": last_of(rater), "key": secrets.token_urlsafe(18)}
    if why == "qualification":
        found["tests"] = [one for one in qualification.standing(rater) if one.qualification.required and not one.passed]
    return found
