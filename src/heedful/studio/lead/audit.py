"""The trail of what happened: ids and hashes, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from heedful.feedback.models import Account, AuditEvent, Rater, Role
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, page_of
from heedful.studio.lead.words import account_name, name_of, short


@dataclass(frozen=True)
class Line:
    """An event, and the name of who did it."""

    event: AuditEvent
    actor: str


@requires(Role.MANAGER)
def audit(request: Request, slug: str) -> HttpResponse:
    """Events of the programme, of one kind if the address says so."""
    rows = AuditEvent.objects.filter(programme=request.programme.pk)
    kinds = list(rows.order_by("kind").values_list("kind", flat=True).distinct())
    kind = request.GET.get("kind", "")
    if kind in kinds:
        rows = rows.filter(kind=kind)
    page = page_of(request, rows.order_by("-seq"), 100)
    events = list(page.object_list)
    names = actors({event.actor for event in events if event.actor})
    context = {
        "page": page,
        "lines": [Line(event, names.get(event.actor, _("heedful"))) for event in events],
        "kinds": kinds,
        "kind": kind,
        "kept": f"kind={kind}" if kind in kinds else "",
    }
    return render(request, "studio/lead/audit.html", context)


def actors(keys: set[UUID]) -> dict[UUID | None, str]:
    """Names of accounts and raters by id; one that is in no table has its id's end."""
    found: dict[UUID | None, str] = {key: short(key) for key in keys}
    for rater in Rater.objects.filter(pk__in=keys).select_related("account"):
        found[rater.pk] = name_of(rater)
    for account in Account.objects.filter(pk__in=keys):
        found[account.pk] = account_name(account)
    return found
