"""Limits on how often an address may try."""

from __future__ import annotations

import ipaddress
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
    """The address that asks, empty if it is none; behind a proxy, the one that the server took from its headers.

    Of IPv6 it is the network of 64 bits: within it, whoever has one address has them all.
    """
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return ""
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False).network_address)


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
        response = JsonResponse({"error": message, "detail": message}, status=429)
    else:
        response = render(request, "studio/error.html", {"title": _("One moment"), "message": message}, status=429)
    response.headers["Retry-After"] = str(seconds)
    return response
