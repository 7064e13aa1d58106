"""Addresses that others can open."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from heedful.studio.config import is_loopback


def invitation_link(request: HttpRequest, token: str) -> str:
    """The whole address of an invitation, under the name by which others reach this studio."""
    return base(request) + reverse("invitation", args=[token])


def base(request: HttpRequest) -> str:
    """Scheme, host and port: the public address, else the one on the local network, else the one just used."""
    if settings.CSRF_TRUSTED_ORIGINS:
        return str(settings.CSRF_TRUSTED_ORIGINS[0]).rstrip("/")
    here = urlsplit(request.build_absolute_uri("/"))
    others = [host for host in settings.ALLOWED_HOSTS if not is_loopback(host) and host not in ("*", "[::1]")]
    if is_loopback(here.hostname or "") and others:
        port = f":{here.port}" if here.port else ""
        return f"{here.scheme}://{others[0]}{port}"
    return f"{here.scheme}://{here.netloc}"


def only_here(link: str) -> bool:
    """Whether a link opens on this machine alone."""
    return is_loopback(urlsplit(link).hostname or "")
