"""Who asks: tokens, their scopes, and how often they may ask."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja.errors import HttpError
from ninja.security import HttpBearer

from heedful.feedback import limits, tokens
from heedful.feedback.models import ApiToken, Programme
from heedful.feedback.wire import NotFoundError

ASKS, WRONG, SECONDS = 600, 20, 60
"""Requests that a token has, and wrong tokens that an address has, in so many seconds."""


class TooManyError(HttpError):
    """Too many requests; `wait` says for how many seconds."""

    def __init__(self, wait: int) -> None:
        super().__init__(429, f"too many requests; wait {wait} seconds.")
        self.wait = wait


class Token(HttpBearer):
    """A token with one of these scopes. It speaks to its own programme; any other does not exist for it."""

    def __init__(self, *scopes: str) -> None:
        self.scopes = scopes
        super().__init__()

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken:
        """The token's row.

        Raises:
            HttpError: 401, 403 or 429.
        """
        found = tokens.find_token(token)
        if found is None:
            wait = limits.wait(f"api-wrong:{request.META.get('REMOTE_ADDR', '')}", WRONG, SECONDS)
            if wait:
                raise TooManyError(wait)
            raise HttpError(401, "this token is unknown, expired or revoked.")
        wait = limits.wait(f"api:{found.pk}", ASKS, SECONDS)
        if wait:
            raise TooManyError(wait)
        if self.scopes and not set(self.scopes) & set(found.scopes):
            raise HttpError(403, f"this token lacks the scope {' or '.join(self.scopes)}.")
        return found


def programme_of(request: HttpRequest, slug: str) -> Programme:
    """The token's programme, if that is the one asked for.

    Raises:
        NotFoundError: it is not.
    """
    token: Any = request.auth  # type: ignore[attr-defined]
    if token.programme.slug != slug:
        raise NotFoundError(f"there is no programme {slug!r}.", where="programme")
    return token.programme
