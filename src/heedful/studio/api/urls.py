"""Addresses of the API, below /api/."""

from __future__ import annotations

from django.urls import URLPattern, path

from heedful.studio.api.app import api, docs, nothing

OPEN = ("health", "openapi-json", "api-root")
"""What needs no token."""


def _marked(patterns: list[URLPattern]) -> list[URLPattern]:
    """Say of each view who may ask, as the pages' views say it."""
    for one in patterns:
        one.callback.needs = "anyone" if one.name in OPEN else "token"  # type: ignore[attr-defined]
    return patterns


patterns, app, namespace = api.urls
urlpatterns = [
    path("docs", docs, name="api_docs"),
    path("", (_marked(patterns), app, namespace)),
    path("<path:rest>", nothing),
]
