"""The API: one NinjaAPI, its documentation, its health."""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import Any

from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET
from ninja import NinjaAPI

from heedful.studio.access import anyone
from heedful.studio.api import batches, errors, field, judgments
from heedful.studio.api.reference import operations, shapes
from heedful.studio.api.schemas import Health

DESCRIPTION = (
    "Push prompts and completions, pull judgments, follow progress. Every request but health carries a token of one "
    "programme in the header `Authorization: Bearer TOKEN`; a lead makes tokens on the programme's settings page."
)
api = NinjaAPI(
    title="heedful studio",
    version=version("heedful"),
    description=DESCRIPTION,
    urls_namespace="api",
    docs_url=None,
    openapi_url="/openapi.json",
)
errors.install(api)
api.add_router("", batches.router)
api.add_router("", judgments.router)
api.add_router("", field.router)


@api.get("/health", response=Health, auth=None, tags=["health"], summary="Is the studio well?")
def health(request: HttpRequest) -> dict[str, str]:
    """Answers once the database does. Needs no token."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {"status": "ok", "version": api.version}


@functools.cache
def _reference() -> dict[str, Any]:
    document = api.get_openapi_schema()
    return {"info": document["info"], "tags": list(operations(document).items()), "shapes": shapes(document)}


@anyone
@require_GET
def docs(request: HttpRequest) -> HttpResponse:
    """The API's page: the OpenAPI document as plain HTML."""
    return render(request, "studio/api_docs.html", {**_reference(), "example": request.build_absolute_uri("/api")})


@anyone
@csrf_exempt
def nothing(request: HttpRequest, rest: str) -> HttpResponse:
    """Any other address below /api/: no page for people, but what a program reads."""
    return api.on_exception(request, Http404())
