"""The page of charts, the part of it that refreshes, and the pictures."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.cache import get_conditional_response

from heedful.feedback.models import Role
from heedful.studio.access import requires
from heedful.studio.lead.charts_data import DAYS, NAMES, figure, figures
from heedful.studio.lead.charts_svg import SIZES, THEMES, draw
from heedful.studio.lead.common import Request

SECONDS = 30
"""Between two looks of the page."""


def days_of(request: Request) -> int:
    """How many days the address asks for; one of `DAYS`."""
    given = request.GET.get("days", "30")
    return int(given) if given in {str(days) for days in DAYS} else 30


def _context(request: Request) -> dict[str, Any]:
    days = days_of(request)
    return {"figures": figures(request.programme, days), "days": days, "choices": DAYS, "seconds": SECONDS}


@requires(Role.MANAGER)
def charts(request: Request, slug: str) -> HttpResponse:
    """All charts."""
    return render(request, "studio/lead/charts.html", _context(request))


@requires(Role.MANAGER)
def charts_part(request: Request, slug: str) -> HttpResponse:
    """The charts without the page around them, for the refresh."""
    return render(request, "studio/lead/_charts.html", _context(request))


@requires(Role.MANAGER)
def chart(request: Request, slug: str, name: str) -> HttpResponse:
    """One picture. The same figures give the same tag, so a browser that has it is told so."""
    theme, size = request.GET.get("theme", "light"), request.GET.get("size", "wide")
    if name not in NAMES or theme not in THEMES or size not in SIZES:
        raise Http404
    found = figure(request.programme, name, days_of(request))
    if found.chart is None:
        raise Http404
    tag = f'"{found.digest}-{theme}-{size}"'
    response = get_conditional_response(request, etag=tag)
    if response is None:
        response = HttpResponse(draw(found.chart, theme, size), content_type="image/svg+xml")
    response["ETag"] = tag
    response["Cache-Control"] = "private, max-age=60"
    return response
