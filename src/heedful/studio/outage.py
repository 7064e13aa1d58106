"""When the database does not serve: a page that says so, and asks to try again. Nothing here reads the database."""

from __future__ import annotations

import logging
import random
import sys

from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _

from heedful.studio import logs, metrics
from heedful.studio.middleware import LANGUAGE

SOON = (3, 9)
"""Seconds after which to try again, drawn at random so that not everybody comes at once."""
ON_SQLITE = ("database is locked", "database or disk is full", "disk i/o error", "unable to open database file")
READ_ONLY = "25006"
"""PostgreSQL's, of a standby: it says so between the loss of one server and the next one's taking over."""
log = logging.getLogger(logs.SERVER)


def is_one(error: BaseException | None) -> bool:
    """Whether an error says that the database does not serve now: gone, starting, full, busy. Not that we are wrong."""
    if isinstance(error, InterfaceError):
        return True
    if isinstance(error, InternalError):
        return getattr(error.__cause__, "sqlstate", None) == READ_ONLY
    if not isinstance(error, OperationalError):
        return False
    if type(error.__cause__).__module__.startswith("sqlite3"):
        return str(error).lower().startswith(ON_SQLITE)
    return True


def page(request: HttpRequest) -> HttpResponse:
    """503, with the seconds to wait: a page that loads itself again, or JSON for a script or a program."""
    metrics.OUTAGES.inc()
    seconds = random.randint(*SOON)
    error = sys.exc_info()[1]
    code = getattr(getattr(error, "__cause__", None), "sqlstate", None) or "no connection"
    log.error("the database does not serve (%s, %s); answered 503", type(error).__name__, code)
    with translation.override(_language(request)):
        about = {
            "title": _("The studio is not there for a moment"),
            "message": _("Its database does not answer. Nothing that you sent before is lost. This page tries again."),
        }
        response: HttpResponse
        if _scripted(request):
            about = {"error": about["message"], "detail": "the database does not answer.", "mend": "Try again."}
            response = JsonResponse(about, status=503)
        else:
            again = seconds if request.method in ("GET", "HEAD") else None
            text = render_to_string("studio/unavailable.html", {**about, "again": again, "reference": own_id()})
            response = HttpResponse(text, status=503)
    response.headers["Retry-After"] = str(seconds)
    return response


def own_id() -> str:
    """The id of the request at hand, by which its lines in the log are found."""
    return logs.request_id.get()


def _scripted(request: HttpRequest) -> bool:
    kinds = request.headers.get("Accept", ""), request.headers.get("Content-Type", "")
    return request.path_info.startswith("/api/") or any("application/json" in kind for kind in kinds)


def _language(request: HttpRequest) -> str:
    """The account's language is in the database: the cookie's, else the browser's."""
    chosen = request.COOKIES.get(LANGUAGE, "")
    return chosen if chosen in dict(settings.LANGUAGES) else translation.get_language_from_request(request)
