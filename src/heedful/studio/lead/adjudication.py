"""Adjudication: judge first, then see the votes, then decide."""

from __future__ import annotations

import secrets
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from heedful.errors import HeedfulError
from heedful.feedback import adjudication as service
from heedful.feedback.models import Adjudication, Item, Role
from heedful.feedback.payloads import to_shown
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, blame, own
from heedful.studio.lead.items import excerpt
from heedful.studio.lead.judge_form import DecisionForm, JudgeForm, ReasonForm
from heedful.studio.lead.shown import Shown, shown
from heedful.studio.lead.words import said

REASONS = {
    "unsafe": gettext_lazy("flagged as unsafe"),
    "disagreement": gettext_lazy("raters disagree"),
    "skips": gettext_lazy("passed by many"),
}


@requires(Role.ADJUDICATOR)
def adjudication(request: Request, slug: str) -> HttpResponse:
    """What waits for a verdict from this adjudicator, and what they decided last."""
    cases = service.queue_for(request.user, request.programme)
    begun = Adjudication.objects.filter(item__programme=request.programme, adjudicator=request.user)
    context = {
        "cases": [(case, excerpt(case.item.prompt.messages), [REASONS[r] for r in case.reasons]) for case in cases],
        "begun": {row.item_id for row in begun.filter(decided=None)},
        "decided": [
            (row, excerpt(row.item.prompt.messages), said(row.item.kind, row.verdict))
            for row in begun.filter(decided__isnull=False).select_related("item__prompt").order_by("-decided")[:20]
        ],
    }
    return render(request, "studio/lead/adjudication.html", context)


def find(request: Request, key: UUID) -> Item:
    """An item of the programme that this account may adjudicate; 404 for others."""
    rows = Item.objects.select_related("prompt", "batch__guideline", "programme")
    return own(rows, request.programme, key)


def begun(request: Request, item: Item) -> Adjudication | None:
    """What this account judged and has not decided yet."""
    rows = Adjudication.objects.filter(item=item, adjudicator=request.user, decided=None)
    return rows.select_related("judgment").first()


@requires(Role.ADJUDICATOR)
def adjudicate(request: Request, slug: str, item: UUID) -> HttpResponse:
    """One item: to be judged, or, once it is judged, with the votes. Reading changes nothing."""
    found = find(request, item)
    if not service.may_adjudicate(found, request.user):
        return render(request, "studio/lead/adjudicate_not.html", {"item": found}, status=403)
    open_one = begun(request, found)
    if open_one is None:
        order = service.order_for(found, request.user)
        look = shown(found, order)
        return _first(request, found, look, JudgeForm(found.kind, len(order), look["attributes"]), ReasonForm())
    order = open_one.judgment.order
    look = shown(found, order)
    own_words = to_shown(found.kind, open_one.judgment.payload, order)
    initial = JudgeForm.start(found.kind, own_words, look["attributes"])
    form = JudgeForm(found.kind, len(order), look["attributes"], initial=initial)
    return _second(request, found, open_one, look, form, DecisionForm())


def _first(
    request: Request, item: Item, look: Shown, form: JudgeForm, reason: ReasonForm, status: int = 200
) -> HttpResponse:
    key = request.POST.get("key") or secrets.token_urlsafe(16)
    context = {"item": item, "look": look, "form": form, "reason": reason, "key": key}
    return render(request, "studio/lead/adjudicate_first.html", context, status=status)


def _second(
    request: Request,
    item: Item,
    open_one: Adjudication,
    look: Shown,
    form: JudgeForm,
    decision: DecisionForm,
    status: int = 200,
) -> HttpResponse:
    votes = service.votes(open_one) if open_one.votes_shown is not None else []
    own_words = said(item.kind, to_shown(item.kind, open_one.judgment.payload, open_one.judgment.order))
    context = {
        "item": item,
        "look": look,
        "form": form,
        "decision": decision,
        "own": own_words,
        "votes": [(vote, said(item.kind, vote.shown)) for vote in votes],
        "skips": list(service.skips_of(item)) if open_one.votes_shown is not None else [],
        "seen": open_one.votes_shown is not None,
    }
    return render(request, "studio/lead/adjudicate_second.html", context, status=status)


@require_POST
@requires(Role.ADJUDICATOR)
def adjudicate_judge(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Keep what the adjudicator says; only then are the votes shown."""
    found = find(request, item)
    if not service.may_adjudicate(found, request.user):
        return render(request, "studio/lead/adjudicate_not.html", {"item": found}, status=403)
    order = service.order_for(found, request.user)
    look = shown(found, order)
    form = JudgeForm(found.kind, len(order), look["attributes"], request.POST)
    reason = ReasonForm(request.POST)
    key = request.POST.get("key", "")[:80] or secrets.token_urlsafe(16)
    if form.is_valid() and reason.is_valid():
        try:
            made = service.judge_first(found, request.user, form.payload(), key, **reason.cleaned_data)
            service.votes(made)
            return redirect("adjudicate", request.programme.slug, found.pk)
        except HeedfulError as error:
            blame(reason, error)
    return _first(request, found, look, form, reason, status=422)


@require_POST
@requires(Role.ADJUDICATOR)
def adjudicate_votes(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Show the votes to an adjudicator who has judged; it is written down that they were shown."""
    found = find(request, item)
    open_one = begun(request, found)
    if open_one is not None:
        service.votes(open_one)
    return redirect("adjudicate", request.programme.slug, found.pk)


@require_POST
@requires(Role.ADJUDICATOR)
def adjudicate_decide(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Give the verdict; the votes stay as they are."""
    found = find(request, item)
    open_one = begun(request, found)
    if open_one is None:
        messages.error(request, _("Judge the item first."))
        return redirect("adjudicate", request.programme.slug, found.pk)
    look = shown(found, open_one.judgment.order)
    form = JudgeForm(found.kind, len(look["answers"]), look["attributes"], request.POST)
    decision = DecisionForm(request.POST)
    if form.is_valid() and decision.is_valid():
        try:
            service.decide(open_one, form.payload(), decision.cleaned_data["reason"])
            messages.success(request, _("The verdict stands. The votes stay as they are."))
            return redirect("adjudication", request.programme.slug)
        except HeedfulError as error:
            blame(decision, error)
    return _second(request, found, open_one, look, form, decision, status=422)
