"""Invitations: links that make somebody a member. A link is shown once, with its QR code."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import clock, events
from heedful.feedback.models import Invitation, Role
from heedful.feedback.programmes import invite
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, blame, own
from heedful.studio.lead.links import invitation_link, only_here
from heedful.studio.lead.qr import qr_path
from heedful.studio.security import limited

ROLES = (
    (Role.RATER, gettext_lazy("rater: judges")),
    (Role.ADJUDICATOR, gettext_lazy("adjudicator: decides where raters disagree")),
    (Role.MANAGER, gettext_lazy("manager: runs the programme")),
    (Role.ADMIN, gettext_lazy("admin: everything, members and settings too")),
)


class InvitationForm(forms.Form):
    """Who is invited, how many, for how long."""

    role = forms.ChoiceField(label=gettext_lazy("As"), choices=ROLES, initial=Role.RATER)
    uses = forms.IntegerField(
        label=gettext_lazy("How many people"),
        min_value=1,
        max_value=1000,
        initial=5,
        help_text=gettext_lazy("The link works for so many. 1 to 1000."),
    )
    days = forms.IntegerField(
        label=gettext_lazy("Days that it holds"),
        min_value=1,
        max_value=365,
        initial=14,
        help_text=gettext_lazy("1 to 365."),
    )

    def __init__(self, *given: object, admin: bool, **more: object) -> None:
        super().__init__(*given, **more)  # type: ignore[arg-type]
        field = self.fields["role"]
        assert isinstance(field, forms.ChoiceField)
        # Whoever runs a programme may call raters and adjudicators; who else runs it is for its admins to say.
        field.choices = [(role, words) for role, words in ROLES if admin or role in (Role.RATER, Role.ADJUDICATOR)]


@dataclass(frozen=True)
class Shown:
    """A link just made; nothing of it is kept but a hash."""

    invitation: Invitation
    link: str
    qr: str
    size: int
    only_here: bool
    """Nobody on another machine can open it."""


def make(request: Request, form: InvitationForm) -> Shown | None:
    """The link that a valid form asks for; None with the form's errors if that is refused."""
    given = form.cleaned_data
    try:
        made, token = invite(
            request.programme, given["role"], actor=request.user, uses=given["uses"], days=given["days"]
        )
    except HeedfulError as error:
        blame(form, error)
        return None
    link = invitation_link(request, token)
    path, size = qr_path(link)
    return Shown(made, link, path, size, only_here(link))


@limited("invite", 60, 300)
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def invitations(request: Request, slug: str) -> HttpResponse:
    """Links that hold, and those that no longer do; a new link is shown on the page that answers the form."""
    admin = Role.ADMIN in request.roles
    form = InvitationForm(request.POST or None, admin=admin)
    shown = make(request, form) if request.method == "POST" and form.is_valid() else None
    now = clock.now()
    rows = list(request.programme.invitations.order_by("-created"))
    held = [row for row in rows if row.revoked is None and row.uses_left and row.expires > now]
    context = {
        "form": form if shown is None else InvitationForm(admin=admin),
        "shown": shown,
        "held": held,
        "past": [row for row in rows if row not in held],
        "now": now,
    }
    response = render(request, "studio/lead/invitations.html", context, status=422 if form.errors else 200)
    if shown is not None:
        response["Cache-Control"] = "no-store"
    return response


@require_POST
@requires(Role.MANAGER)
def revoke(request: Request, slug: str, invitation: UUID) -> HttpResponse:
    """End a link now. Who came by it stays."""
    found = own(Invitation.objects.all(), request.programme, invitation)
    with transaction.atomic():
        if Invitation.objects.filter(pk=found.pk, revoked=None).update(revoked=clock.now()):
            events.record("invitation.revoked", programme=request.programme, actor=request.user, invitation=found)
    messages.success(request, _("The link no longer works. Who came by it stays."))
    return redirect("invitations", request.programme.slug)
