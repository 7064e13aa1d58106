"""The programmes that somebody takes part in, and the making of a new one."""

from __future__ import annotations

from dataclasses import dataclass, field

from django import forms
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from heedful.errors import HeedfulError
from heedful.feedback.models import Account, BatchState, Membership, Programme, Role
from heedful.feedback.programmes import create_programme
from heedful.studio.access import signed_in
from heedful.studio.lead.common import Request, blame

LEADING = {Role.ADMIN, Role.MANAGER}


@dataclass
class Card:
    """A programme, and what the reader is in it."""

    programme: Programme
    roles: list[Role] = field(default_factory=list)
    open_batches: int = 0

    @property
    def leads(self) -> bool:
        """Whether the lead's pages are the reader's."""
        return bool(LEADING & set(self.roles))

    @property
    def judges(self) -> bool:
        """Whether the reader may be given items."""
        return bool({Role.ADMIN, Role.RATER} & set(self.roles))

    @property
    def adjudicates(self) -> bool:
        """Whether disputes are the reader's."""
        return bool({Role.ADMIN, Role.ADJUDICATOR} & set(self.roles))


class ProgrammeForm(forms.Form):
    """A new programme needs a name."""

    name = forms.CharField(
        label=_("Name"), max_length=200, help_text=_("Raters see it. For example: Support answers, spring.")
    )


def may_create(account: Account) -> bool:
    """Whether an account may begin a programme: whoever set up the studio, and admins of another programme."""
    admin = Membership.objects.filter(account=account, role=Role.ADMIN, ended=None)
    return account.is_superuser or admin.exists()


def cards(account: Account) -> list[Card]:
    """The account's programmes, the newest first, archived ones left out."""
    found: dict[object, Card] = {}
    rows = Membership.objects.filter(account=account, ended=None, programme__archived=None)
    for row in rows.select_related("programme").order_by("-programme__created", "role"):
        card = found.setdefault(row.programme_id, Card(row.programme))
        card.roles.append(Role(row.role))
    if account.is_superuser:
        for programme in Programme.objects.filter(archived=None).order_by("-created"):
            found.setdefault(programme.pk, Card(programme, [Role("admin")]))
    for card in found.values():
        card.open_batches = card.programme.batches.filter(state=BatchState.OPEN).count()
    return list(found.values())


@signed_in
def programmes(request: Request) -> HttpResponse:
    """All that the reader takes part in."""
    context = {"cards": cards(request.user), "may_create": may_create(request.user)}
    return render(request, "studio/lead/programmes.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def programme_new(request: Request) -> HttpResponse:
    """Begin a programme; its maker is its admin, and goes on to the wizard."""
    if not may_create(request.user):
        return render(request, "studio/lead/no_programme.html", status=403)
    form = ProgrammeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = create_programme(form.cleaned_data["name"], account=request.user)
            return redirect("wizard", made.slug)
        except HeedfulError as error:
            blame(form, error)
    status = 422 if form.errors else 200
    return render(request, "studio/lead/programme_new.html", {"form": form}, status=status)
