"""What end users of an application did, sent by the application's server; and their withdrawals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja import Router

from heedful.feedback import field, limits, wire
from heedful.studio.api.auth import Token, TooManyError, programme_of
from heedful.studio.api.errors import answers
from heedful.studio.api.schemas import FeedbackIn, FeedbackOut, WithdrawalIn, WithdrawalOut
from heedful.studio.setup import field_key

router = Router()
SEND = Token("feedback:write")
EVENTS, SECONDS = 3000, 60
"""Events that a token may send in so many seconds."""


@router.post("/programmes/{slug:slug}/feedback", response=answers(FeedbackOut), auth=SEND, tags=["in the field"])
def feedback(request: HttpRequest, slug: str, body: FeedbackIn) -> dict[str, Any]:
    """Take in thumbs, regenerations and edits of an application's end users, each whole or not at all.

    Each event has a result of its own, in the order sent: a problem of one is no hindrance to the others. The same
    event again gives the same result, and is kept once. Of one without consent nothing is stored. A request has 1 MiB
    and 100 events at most.
    """
    programme = programme_of(request, slug)
    wait = limits.wait(f"field:{request.auth.pk}", EVENTS, SECONDS, len(body.events))  # type: ignore[attr-defined]
    if wait:
        raise TooManyError(wait)
    found = field.take_in(programme, [one.plain() for one in body.events], key=_key())
    return {"results": wire.json_of(found)}


@router.post(
    "/programmes/{slug:slug}/feedback/withdraw", response=answers(WithdrawalOut), auth=SEND, tags=["in the field"]
)
def withdraw(request: HttpRequest, slug: str, body: WithdrawalIn) -> dict[str, Any]:
    """An end user takes their consent back: their conversations, the answers in them and their key are erased.

    `known` is false where nothing of theirs was kept. Their verdicts stay, under an id that leads to nobody.
    """
    programme = programme_of(request, slug)
    found = field.withdraw(programme, body.user, key=_key(), actor=request.auth.author_id)  # type: ignore[attr-defined]
    return {"known": found.known, "erased": dict(found.erased)}


def _key() -> bytes:
    """The server's secret that users' keys are hashed with."""
    return field_key(Path(getattr(settings, "HEEDFUL_FOLDER", None) or "."))
