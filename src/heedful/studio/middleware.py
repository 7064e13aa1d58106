"""Headers of every answer, and the language of the account."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.cache import patch_vary_headers

Answer = Callable[[HttpRequest], HttpResponse]
LANGUAGE = "heedful-language"
"""Cookie of somebody who has no account yet."""


def headers(answer: Answer) -> Answer:
    """Pages are of one person: nothing between keeps them, and a browser lets none of its devices be used."""

    def add(request: HttpRequest) -> HttpResponse:
        response = answer(request)
        if not request.path.startswith(settings.STATIC_URL):
            response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()")
        return response

    return add


def language(answer: Answer) -> Answer:
    """The account's language; before there is one, the cookie's, then the browser's."""

    def choose(request: HttpRequest) -> HttpResponse:
        known = dict(settings.LANGUAGES)
        own = request.user.language if request.user.is_authenticated else request.COOKIES.get(LANGUAGE, "")
        code = own if own in known else translation.get_language_from_request(request)
        with translation.override(code):
            request.LANGUAGE_CODE = code
            response = answer(request)
        response.headers.setdefault("Content-Language", code)
        patch_vary_headers(response, ("Accept-Language", "Cookie"))
        return response

    return choose
