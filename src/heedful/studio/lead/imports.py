"""What came in: files and what became of them, and the way to the next."""

from __future__ import annotations

from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import render

from heedful.feedback.models import Role
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, page_of
from heedful.studio.lead.wizard_state import WizardState


@requires(Role.MANAGER)
def imported(request: Request, slug: str) -> HttpResponse:
    """Batches that came from files, and a wizard that waits to be finished."""
    rows = request.programme.batches.exclude(source_sha256="").annotate(count=Count("items"))
    state = WizardState(request, request.programme)
    page = page_of(request, rows.order_by("-created"))
    return render(request, "studio/lead/import.html", {"page": page, "unfinished": state.get("file_name", "")})
