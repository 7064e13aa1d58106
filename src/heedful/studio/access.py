"""Who may open a page: by programme and role."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _

from heedful.feedback.models import Account, Programme, Rater, Role
from heedful.feedback.programmes import RATING, place_of, rater_of, roles_of

View = Callable[..., HttpResponse]
SAFE = ("GET", "HEAD", "OPTIONS")


def held_roles(account: Account, programme: Programme) -> frozenset[Role]:
    """Roles of an account in a programme; the studio's first admin has all of them everywhere."""
    return frozenset(Role) if account.is_superuser else roles_of(account, programme)


def wants_json(request: HttpRequest) -> bool:
    """Whether a script asks, which wants words as JSON and no page to log in on."""
    return "application/json" in request.headers.get("Accept", "") or request.content_type == "application/json"


def requires(*roles: Any) -> Callable[[View], View]:
    """Let members with one of the roles in; `slug` names the programme.

    Sets `request.programme`, `request.roles` and `request.rater` (None for who judges nothing). Somebody who is not
    logged in is sent to the login (a script gets 401); a programme that one is no member of is not there (404); a
    member without the role is refused (403).
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def check(request: Any, slug: str, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                if wants_json(request):
                    return JsonResponse({"error": _("Please log in again."), "login": True}, status=401)
                return redirect_to_login(request.get_full_path())
            programme, held, rater = place_of(request.user, slug)
            if request.user.is_superuser:
                held = frozenset(Role)
            if programme is None or not held:
                raise Http404
            if not held & frozenset(roles):
                raise PermissionDenied
            request.programme, request.roles = programme, held
            request.rater = _rater(request, programme, rater)
            return view(request, slug, *args, **kwargs)

        check.needs = roles  # type: ignore[attr-defined]
        return check

    return decorate


def _rater(request: Any, programme: Programme, known: Rater | None) -> Rater | None:
    """The account's rater record; looking at a page never makes one, sending something does."""
    if request.method in SAFE:
        return known
    if known is not None and request.roles & RATING and not request.user.is_superuser:
        return known
    return rater_of(request.user, programme)


def signed_in(view: View) -> View:
    """Let everybody with an account in."""

    @wraps(view)
    def check(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        return view(request, *args, **kwargs)

    check.needs = "account"  # type: ignore[attr-defined]
    return check


def anyone(view: View) -> View:
    """Mark a page that needs no account."""
    view.needs = "anyone"  # type: ignore[attr-defined]
    return view
