"""The first page: how far everything is, when it will be done, and what waits for the lead."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import ngettext

from heedful.feedback import adjudication, clock, gold, progress
from heedful.feedback.models import (
    Assignment,
    AssignmentState,
    BatchState,
    Delivery,
    ItemState,
    Judgment,
    Rater,
    RaterKind,
    Role,
)
from heedful.studio.access import requires
from heedful.studio.lead import questions
from heedful.studio.lead.common import Request
from heedful.studio.lead.words import name_of

LATELY = timedelta(minutes=15)
MOST = 100


@dataclass(frozen=True)
class Waiting:
    """Something that wants the lead's attention."""

    count: int
    words: str
    url: str


def waiting(request: Request) -> list[Waiting]:
    """What needs attention, each with the page where it is dealt with; what is none is left out."""
    programme, slug = request.programme, request.programme.slug

    def at(name: str) -> str:
        return reverse(name, args=[slug])

    parked = programme.items.filter(state=ItemState.PARKED).count()
    cases = len(adjudication.queue(programme, limit=MOST))
    contests = gold.open_contests(programme).count()
    asked = questions.waiting(request)
    paused = programme.raters.filter(paused__isnull=False, erased=None).count()
    staged = programme.batches.filter(state=BatchState.STAGED).count()
    failed = _failed(request)
    disputed = at("adjudication") if Role.ADJUDICATOR in request.roles else at("items") + "?disagreement=on"
    found = [
        Waiting(contests, ngettext("gold answer is contested", "gold answers are contested", contests), at("contests")),
        Waiting(asked, ngettext("question has no answer", "questions have no answer", asked), at("questions")),
        Waiting(cases, ngettext("item waits for a verdict", "items wait for a verdict", cases), disputed),
        Waiting(
            parked,
            ngettext("item is parked: too many passed it", "items are parked: too many passed them", parked),
            at("items") + "?state=parked",
        ),
        Waiting(paused, ngettext("rater is paused", "raters are paused", paused), at("raters")),
        Waiting(staged, ngettext("batch is staged, not open", "batches are staged, not open", staged), at("batches")),
        Waiting(failed, ngettext("webhook delivery fails", "webhook deliveries fail", failed), at("webhooks")),
    ]
    return [one for one in found if one.count]


def _failed(request: Request) -> int:
    """Deliveries that went wrong and are not through; webhooks are for admins."""
    if Role.ADMIN not in request.roles:
        return 0
    rows = Delivery.objects.filter(webhook__programme=request.programme, webhook__stopped=None, delivered=None)
    return int(rows.exclude(last_error="").count())


def active(request: Request) -> list[str]:
    """Names of people who are at work now: with an item before them, or a judgment in the last quarter of an hour."""
    now = clock.now()
    people = Rater.objects.filter(programme=request.programme, kind=RaterKind.PERSON)
    holding = Assignment.objects.filter(
        state=AssignmentState.LEASED, shown__isnull=False, lease_until__gt=now, rater__programme=request.programme
    )
    judged = Judgment.objects.filter(programme=request.programme, created__gt=now - LATELY)
    found = people.filter(pk__in=holding.values("rater")) | people.filter(pk__in=judged.values("rater"))
    return sorted(name_of(rater) for rater in found.select_related("account").distinct())


@requires(Role.MANAGER)
def overview(request: Request, slug: str) -> HttpResponse:
    """Progress, forecast, agreement, cost, who is at work, what waits."""
    figures = progress.overview(request.programme)
    context = {
        "figures": figures,
        "share": 100 * figures.counted / figures.wanted if figures.wanted else 0,
        "cost": money(figures.cost),
        "cost_to_go": money(figures.cost_to_go),
        "waiting": waiting(request),
        "active": active(request),
        "raters": request.programme.raters.filter(kind=RaterKind.PERSON, erased=None).count(),
    }
    return render(request, "studio/lead/overview.html", context)


def money(amounts: object) -> str:
    """Money by currency, in words."""
    assert hasattr(amounts, "items")
    found = [f"{value:,.2f} {currency}" for currency, value in amounts.items() if isinstance(value, Decimal)]
    return " + ".join(found) or "—"
