"""What every page knows: where one is, and where one may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from heedful.feedback.models import Membership, Programme, Role
from heedful.studio.lead.sections import SECTIONS

LEAD: frozenset[Any] = frozenset({Role.ADMIN, Role.MANAGER})
PAGES: tuple[tuple[str, Any, frozenset[Any]], ...] = (
    ("rate", gettext_lazy("Judge"), frozenset({Role.RATER})),
    ("overview", gettext_lazy("Overview"), LEAD),
    ("items", gettext_lazy("Items"), LEAD),
    ("adjudication", gettext_lazy("Adjudication"), frozenset({Role.ADMIN, Role.ADJUDICATOR})),
    ("raters", gettext_lazy("Raters"), LEAD),
    ("guidelines", gettext_lazy("Guidelines"), LEAD),
    ("gold", gettext_lazy("Gold"), LEAD),
    ("import", gettext_lazy("Import"), LEAD),
    ("export", gettext_lazy("Export"), LEAD),
    ("trust", gettext_lazy("Trust"), LEAD),
    ("charts", gettext_lazy("Charts"), LEAD),
    ("field", gettext_lazy("In the field"), LEAD),
    ("runs", gettext_lazy("Runs"), LEAD),
    ("audit", gettext_lazy("Audit"), LEAD),
    ("settings", gettext_lazy("Settings"), LEAD),
    ("me", gettext_lazy("My work"), frozenset({Role.RATER})),
)


@dataclass(frozen=True)
class Link:
    """One entry of the navigation."""

    name: str
    title: str
    url: str
    here: bool


def navigation(request: HttpRequest) -> dict[str, Any]:
    """`programme`, `roles`, `links` of the programme one is in, `own_programmes`, `languages`."""
    programme: Programme | None = getattr(request, "programme", None)
    roles: frozenset[Role] = getattr(request, "roles", frozenset())
    found: dict[str, Any] = {
        "programme": programme,
        "roles": roles,
        "languages": settings.LANGUAGES,
        "brand": _("heedful"),
    }
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return found
    rater = getattr(request, "rater", None)
    if programme is not None:
        match = getattr(request.resolver_match, "url_name", "") if request.resolver_match else ""
        match = SECTIONS.get(match, match)
        if match == "gold" and not roles & LEAD:  # raters read a calibration session among their own pages
            match = "me"
        found["links"] = [
            Link(name, str(title), reverse(name, args=[programme.slug]), name == match)
            for name, title, who in PAGES
            if roles & who and (name not in ("rate", "me") or rater is not None)
        ]
    found["own_programmes"] = programmes_of(user)
    return found


def programmes_of(account: Any) -> list[Programme]:
    """Programmes that an account takes part in, by name."""
    if account.is_superuser:
        return list(Programme.objects.order_by("name"))
    mine = Membership.objects.filter(account=account, ended=None).values("programme")
    return list(Programme.objects.filter(pk__in=mine).order_by("name"))
