"""The wizard's last steps: what raters will see, what it asks for, and the writing of it."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from heedful.feedback import clock, content, imports, pay, progress
from heedful.feedback.import_plan import Plan
from heedful.feedback.models import Batch, Guideline, Programme, TaskKind
from heedful.feedback.programmes import newest_guideline, publish_guideline
from heedful.feedback.rubric import attributes_of
from heedful.feedback.rules import rules_of
from heedful.feedback.texts import clean
from heedful.studio.lead.common import Request
from heedful.studio.lead.wizard_state import WizardState
from heedful.studio.task import shown as as_rater


def preview_of(found: Plan, number: int, state: WizardState, newest: Guideline) -> dict[str, Any]:
    """An item as a rater would see it, with the rubric as it was typed. Nothing of it is in the store."""
    draft = found.preview[number - 1]
    rubric = Guideline(markdown=state["markdown"], attributes=_attributes(state, newest), translations={})
    texts = [answer.text for answer in draft.answers]
    return as_rater(state["task"], draft.messages, texts, rubric)


def _attributes(state: WizardState, newest: Guideline) -> list[dict[str, Any]]:
    given = state.get("attributes")
    return list(newest.attributes) if given is None else given


def expected(programme: Programme, items: int, quota: int, quota_cap: int) -> dict[str, Any]:
    """Judgments, hours and cost of so many items."""
    rate = pay.Rates(programme).at(None, clock.now())
    rules = rules_of(programme.settings)
    estimate = progress.estimate(items, quota, rules, rate, quota_cap=quota_cap)
    return {"estimate": estimate, "items": items, "seconds": rules.seconds_per_judgment, "rate": rate}


def expected_of(programme: Programme, state: WizardState) -> dict[str, Any]:
    """The same, of what the wizard was told."""
    return expected(programme, state["items"], state["quota"], state["quota_cap"])


def rubric(request: Request, state: WizardState) -> Guideline:
    """The version that the batch is judged under: a new one where the wizard's text is another than the newest."""
    newest = newest_guideline(request.programme)
    attributes = _attributes(state, newest)
    if (state["markdown"], attributes) == (newest.markdown, newest.attributes):
        return newest
    kept = newest.translations if state["markdown"] == newest.markdown else None
    return publish_guideline(
        request.programme,
        state["markdown"],
        author=request.user,
        attributes=attributes,
        translations=kept,
        summary=state["batch_name"],
    )


def open_now(request: Request, state: WizardState, found: Plan) -> Batch:
    """Stage, publish the rubric, open. Raters of other batches go on meanwhile: no transaction spans it all.

    Raises:
        HeedfulError: something does not fit; then no batch is there, and no rubric.
    """
    found.require_clean()
    newest = newest_guideline(request.programme)
    clean(state["markdown"], "markdown", empty=False)
    attributes_of(_attributes(state, newest))
    first = state["task"] == TaskKind.ATTRIBUTES and not newest.attributes  # its items ask for some
    batch = imports.stage(
        request.programme,
        found,
        name=state["batch_name"],
        purpose=state["purpose"],
        quota=state["quota"],
        quota_cap=state["quota_cap"],
        guideline=rubric(request, state) if first else newest,
        again=bool(state.get("again")),
        actor=request.user,
    )
    with transaction.atomic():
        batch.guideline = rubric(request, state)
        batch.save(update_fields=["guideline"])
    content.open_batch(batch, actor=request.user)
    return batch
