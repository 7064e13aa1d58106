"""Who may do what: roles, given and taken by admins."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from heedful.errors import HeedfulError
from heedful.feedback.models import Account, Membership, Role
from heedful.feedback.programmes import add_member, end_membership
from heedful.studio.access import requires
from heedful.studio.lead.common import Request
from heedful.studio.lead.words import account_name
from heedful.studio.said import tell


@dataclass(frozen=True)
class Person:
    """An account and its roles; `held` says of each role whether they have it."""

    account: Account
    name: str
    held: list[tuple[Role, bool]]
    since: object


def people(request: Request) -> list[Person]:
    """Everybody who has a role, or had one, by name."""
    roles: dict[UUID, tuple[Account, set[Role]]] = {}
    first: dict[UUID, object] = {}
    rows = Membership.objects.filter(programme=request.programme).select_related("account").order_by("created")
    for row in rows:
        _account, held = roles.setdefault(row.account_id, (row.account, set()))
        first.setdefault(row.account_id, row.created)
        if row.ended is None:
            held.add(Role(row.role))
    found = [
        Person(account, account_name(account), [(role, role in held) for role in map(Role, Role.values)], first[key])
        for key, (account, held) in roles.items()
    ]
    return sorted(found, key=lambda one: (not any(has for _role, has in one.held), one.name.casefold()))


@requires(Role.ADMIN)
def members(request: Request, slug: str) -> HttpResponse:
    """The table of people and roles."""
    return render(request, "studio/lead/members.html", {"people": people(request)})


@require_POST
@requires(Role.ADMIN)
def member_role(request: Request, slug: str, account: UUID) -> HttpResponse:
    """Give a role (`on`), or take it (`off`). Only to who is, or was, a member: others are invited."""
    found = Account.objects.filter(pk=account, memberships__programme=request.programme, erased=None).first()
    role = request.POST.get("role", "")
    if found is None or role not in Role.values:
        raise Http404
    names = {"name": account_name(found), "role": _(Role(role).label)}
    try:
        if request.POST.get("set") == "on":
            add_member(request.programme, found, role, actor=request.user)
            messages.success(request, _("%(name)s is %(role)s now.") % names)
        else:
            end_membership(request.programme, found, role, actor=request.user)
            messages.success(request, _("%(name)s is no longer %(role)s.") % names)
    except HeedfulError as error:
        messages.error(request, tell(error))
    if found == request.user and role == Role.ADMIN and request.POST.get("set") != "on":
        return redirect("programmes")
    return redirect("members", request.programme.slug)
