"""What a rater is sent: the task of an assignment, or why there is none. Letters and texts, nothing of the source."""

from __future__ import annotations

import json
import secrets
import uuid
from typing import Any, cast

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from heedful.feedback import assignment as work
from heedful.feedback import gold, programmes, qualification, statements
from heedful.feedback.models import Assignment, Draft, Item, Judgment, Programme, Rater, Rationale, Slot, TaskKind
from heedful.feedback.payloads import to_shown
from heedful.feedback.rules import rules_of
from heedful.studio import answers
from heedful.studio.lead import words
from heedful.studio.task import shown

OWN = """
SELECT {a}, {i}, {s} FROM feedback_assignment a JOIN feedback_item i ON i.id = a.item_id
JOIN feedback_slot s ON s.id = a.slot_id WHERE a.id = %s AND a.rater_id = %s
"""
TEXTS = """
SELECT -1, CAST(p.messages AS text) FROM feedback_item i JOIN feedback_prompt p ON p.id = i.prompt_id WHERE i.id = %s
UNION ALL
SELECT e."index", c.text FROM feedback_itemcompletion e JOIN feedback_completion c ON c.id = e.completion_id
WHERE e.item_id = %s
"""
BEGUN = """
SELECT CASE WHEN EXISTS (SELECT 1 FROM feedback_draft d WHERE d.assignment_id = %s)
  OR EXISTS (SELECT 1 FROM feedback_judgment j WHERE j.assignment_id = %s AND j.retracts) THEN 1 ELSE 0 END
"""
TALLY = """
SELECT (
  SELECT j.assignment_id FROM feedback_judgment j
  WHERE j.rater_id = %s AND j.assignment_id IS NOT NULL AND j.kind <> 'dialogue'
    AND EXISTS (SELECT 1 FROM feedback_currentjudgment c WHERE c.judgment_id = j.id)
  ORDER BY j.created DESC LIMIT 1
), (
  SELECT count(*) FROM feedback_judgment j WHERE j.rater_id = %s AND j.created >= %s AND NOT j.retracts
    AND NOT EXISTS (SELECT 1 FROM feedback_judgment k WHERE k.supersedes_id = j.id)
)
"""


def assignment_of(rater: Rater, key: Any) -> Assignment | None:
    """A rater's own assignment, with its item and its slot."""
    found = statements.rows(OWN, [key, rater.pk], a=Assignment, i=Item, s=Slot)
    if not found:
        return None
    [(own, item, slot)] = found
    own.rater, own.item, own.slot, slot.guideline = rater, item, slot, programmes.guideline_of(slot.guideline_id)
    return cast(Assignment, own)


def texts_of(assignment: Assignment) -> tuple[list[dict[str, str]], list[str]]:
    """The conversation, and the completions' texts in the order shown."""
    by_index = dict(statements.ask(TEXTS, [assignment.item_id] * 2))
    messages = json.loads(by_index.pop(-1))
    return messages, [by_index[index] for index in assignment.order or sorted(by_index)]


def context(assignment: Assignment, programme: Programme) -> dict[str, Any]:
    """What `studio/rating/_task.html` shows of an assignment."""
    item = assignment.item
    rules = rules_of(programme.settings)
    messages, texts = texts_of(assignment)
    task = shown(
        item.kind,
        messages,
        texts,
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


def feedback(assignment: Assignment, judgment: Judgment) -> dict[str, Any] | None:
    """What `studio/rating/_feedback.html` shows of gold just judged: the key, what was said, the item as it was seen.

    None where gold is silent.
    """
    told = gold.feedback_for(judgment)
    if told is None:
        return None
    messages, texts = texts_of(assignment)
    kind = assignment.item.kind
    item = shown(kind, messages, texts, assignment.slot.guideline, language=assignment.item.language)
    return told | {"said": words.said(kind, to_shown(kind, judgment.payload, judgment.order)), "item": item}


def standing(assignment: Assignment) -> dict[str, Any]:
    """How far the work on an assignment is: its draft, and the time it took so far."""
    if assignment.fresh or statements.ask(BEGUN, [assignment.pk, assignment.pk]) == [(0,)]:
        return {"fields": {}, "revision": 0, "active_ms": assignment.active_ms}
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


def tally(rater: Rater) -> dict[str, Any]:
    """Of a rater's judgments that hold: "last", the assignment whose judgment an undo takes back, the newest; "today",
    how many were given since midnight.
    """
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    [(last, today)] = statements.ask(TALLY, [rater.pk, rater.pk, midnight])
    return {"last": str(uuid.UUID(str(last))) if last else None, "today": today}


def none(rater: Rater, programme: Programme) -> dict[str, Any]:
    """What `studio/rating/_none.html` shows: why there is no work, and what one can do."""
    why = work.why_none(rater)
    found: dict[str, Any] = {"why": why, "rater": rater, "programme": programme, "key": secrets.token_urlsafe(18)}
    found |= tally(rater)
    if why == "qualification":
        found["tests"] = [one for one in qualification.standing(rater) if one.qualification.required and not one.passed]
    return found
