"""Limits on how often an address may try."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from heedful.feedback.limits import wait
from heedful.studio.access import wants_json

View = Callable[..., HttpResponse]


def client_of(request: HttpRequest) -> str:
    """The address that asks; behind a proxy, the one that the server took from its headers."""
    return str(request.META.get("REMOTE_ADDR", ""))


def limited(name: str, most: int, seconds: int) -> Callable[[View], View]:
    """Answer 429 to an address, or an account, that sends more than `most` changes in so many seconds."""

    def decorate(view: View) -> View:
        @wraps(view)
        def check(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method not in ("GET", "HEAD", "OPTIONS"):
                who = str(request.user.pk) if request.user.is_authenticated else client_of(request)
                left = wait(f"{name}:{who}", most, seconds)
                if left:
                    return too_many(request, left)
            return view(request, *args, **kwargs)

        return check

    return decorate


def too_many(request: HttpRequest, seconds: int) -> HttpResponse:
    """429, with the seconds to wait."""
    message = _("Too many tries. Please wait %(seconds)s seconds.") % {"seconds": seconds}
    response: HttpResponse
    if wants_json(request):
        response = JsonResponse({"error": message}, status=429)
    else:
        response = render(request, "studio/error.html", {"title": _("One moment"), "message": message}, status=429)
    response.headers["Retry-After"] = str(seconds)
    return response
