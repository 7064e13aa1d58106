"""Errors as JSON: what was wrong, where, what to do."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from heedful.errors import HeedfulError
from heedful.studio.api.auth import TooManyError
from heedful.studio.api.schemas import Error

CODES = {400, 401, 403, 404, 409, 413, 422, 429}
MOST = 50
"""Problems told at once."""
_NUMBERED = re.compile(r"(?:item|judgment) (\d+), (.*)", re.DOTALL)

_LISTED = re.compile(r"(?:items|judgments|events)\[(\d+)\]\.?(.*)", re.DOTALL)


def answers(kind: Any, *more: int) -> dict[Any, Any]:
    """The responses of an operation: 200, and every error that it may answer with."""
    return {200: kind, **dict.fromkeys(sorted(CODES | set(more)), Error)}


def install(api: NinjaAPI) -> None:
    """Have the API answer every error in one shape."""

    def say(request: HttpRequest, status: int, error: dict[str, Any]) -> HttpResponse:
        return api.create_response(request, Error(**error).model_dump(), status=status)

    @api.exception_handler(HeedfulError)
    def mendable(request: HttpRequest, error: HeedfulError) -> HttpResponse:
        found = _NUMBERED.fullmatch(error.where)
        where = {"line": int(found[1]), "field": found[2]} if found else {"field": error.where}
        return say(request, getattr(error, "status", 422), {"detail": error.what, "mend": error.mend, **where})

    @api.exception_handler(ValidationError)
    def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
        problems = [
            {"detail": one["msg"].removeprefix("Value error, "), "field": path(one["loc"])}
            for one in error.errors[:MOST]
        ]
        first = dict(problems[0])
        line = _LISTED.fullmatch(first["field"])
        if line:
            first |= {"line": int(line[1]) + 1, "field": line[2]}
        return say(request, 422, {**first, "problems": problems if len(problems) > 1 else []})

    @api.exception_handler(HttpError)
    def plain(request: HttpRequest, error: HttpError) -> HttpResponse:
        response = say(request, error.status_code, {"detail": str(error)})
        if isinstance(error, TooManyError):
            response["Retry-After"] = str(error.wait)
        if error.status_code == 401:
            response["WWW-Authenticate"] = 'Bearer realm="heedful"'
        return response

    @api.exception_handler(AuthenticationError)
    def nobody(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
        mend = "Send the header Authorization: Bearer TOKEN."
        response = say(request, 401, {"detail": "no token.", "mend": mend})
        response["WWW-Authenticate"] = 'Bearer realm="heedful"'
        return response

    @api.exception_handler(Http404)
    def missing(request: HttpRequest, error: Http404) -> HttpResponse:
        return say(request, 404, {"detail": "there is nothing here."})

    @api.exception_handler(RequestDataTooBig)
    def large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
        return say(request, 413, {"detail": "the request is too large.", "mend": "Send fewer items at a time."})

    @api.exception_handler(SuspiciousOperation)
    @api.exception_handler(BadRequest)
    def odd(request: HttpRequest, error: Exception) -> HttpResponse:
        return say(request, 400, {"detail": "this is no request that heedful understands."})


def path(loc: Any) -> str:
    """A place in a request as people write it: items[3].completions[0].text."""
    parts = list(loc)
    if parts and parts[0] in ("body", "query", "path", "header", "form"):
        inside = parts[0] == "body"
        parts = parts[1:]
        if inside and len(parts) > 1:  # the name of the function's own parameter
            parts = parts[1:]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
