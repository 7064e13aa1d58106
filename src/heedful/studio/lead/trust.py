"""How far the labels can be trusted: the page, the part of it that refreshes, and the pictures."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from heedful.feedback import trust as service
from heedful.feedback.models import Programme, Rater, Role
from heedful.studio.access import requires
from heedful.studio.lead.charts import drawn
from heedful.studio.lead.common import Request
from heedful.studio.lead.trust_data import Section, sections
from heedful.studio.lead.trust_words import WEIGHTS
from heedful.studio.lead.words import name_of

SECONDS = 60
"""Between two looks of the page."""
SHOWN = 20
"""Raters who need attention, on this page; the list of raters has all."""


def _context(programme: Programme) -> dict[str, Any]:
    told = service.look(programme)
    cards = told.cards()
    pointed = [key for key, card in cards.items() if card.weight in ("act", "look")]
    raters = Rater.objects.filter(programme=programme).select_related("account").in_bulk(pointed[:SHOWN])
    return {
        "found": told.found,
        "whole": told.whole,
        "newest": service.NEWEST,
        "main": told.found.kinds[0] if told.found.kinds else None,
        "sections": sections(told.found),
        "pointed": [(raters[key], name_of(raters[key]), cards[key]) for key in pointed[:SHOWN] if key in raters],
        "act": sum(card.weight == "act" for card in cards.values()),
        "look": sum(card.weight == "look" for card in cards.values()),
        "weights": WEIGHTS,
        "seconds": SECONDS,
    }


@requires(Role.MANAGER)
def trust(request: Request, slug: str) -> HttpResponse:
    """Agreement, the ceiling, groups, and who needs attention."""
    return render(request, "studio/lead/trust.html", _context(request.programme))


@requires(Role.MANAGER)
def trust_part(request: Request, slug: str) -> HttpResponse:
    """The same without the page around it, for the refresh."""
    return render(request, "studio/lead/_trust.html", _context(request.programme))


@requires(Role.MANAGER)
def picture(request: Request, slug: str, name: str) -> HttpResponse:
    """One picture."""

    def find() -> Section | None:
        return next((one for one in sections(service.look(request.programme).found) if one.name == name), None)

    return drawn(request, find)
