"""The page of charts, the part of it that refreshes, and the pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.cache import get_conditional_response

from heedful.feedback.models import Role
from heedful.studio.access import requires
from heedful.studio.lead.charts_data import DAYS, NAMES, figure, figures
from heedful.studio.lead.charts_svg import SIZES, THEMES, Pictured, draw
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
    """One picture."""
    if name not in NAMES:
        raise Http404
    return drawn(request, lambda: figure(request.programme, name, days_of(request)))


def drawn(request: Request, find: Callable[[], Pictured | None]) -> HttpResponse:
    """The chart of a figure, as the address asks for it. The same figures give the same tag, so a browser that has it
    is told so.

    Raises:
        Http404: no such theme or size, or there is no chart.
    """
    theme, size = request.GET.get("theme", "light"), request.GET.get("size", "wide")
    found = find() if theme in THEMES and size in SIZES else None
    if found is None or found.chart is None:
        raise Http404
    tag = f'"{found.digest}-{theme}-{size}"'
    response = get_conditional_response(request, etag=tag)
    if response is None:
        response = HttpResponse(draw(found.chart, theme, size), content_type="image/svg+xml")
    response["ETag"] = tag
    response["Cache-Control"] = "private, max-age=60"
    return response
