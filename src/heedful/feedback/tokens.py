"""Keys for machines: made by a lead, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models import Q

from heedful.errors import HeedfulError, nearest
from heedful.feedback import clock, events
from heedful.feedback.models import Account, ApiToken, Programme

SCOPES = {
    "prompts:write": "make batches and push prompts with their completions",
    "judgments:read": "pull items and judgments, make snapshots, export",
    "judgments:write": "judge as an AI judge or a simulated rater",
    "status:read": "see how far a programme and its batches are",
    "feedback:write": "send what end users of an application did, and their withdrawals",
}
PREFIX = "heedful_"
LONGEST_DAYS = 730
TOUCH = timedelta(minutes=1)


def hash_of(token: str) -> str:
    """What is kept of a token. It has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def create_token(
    programme: Programme, name: str, scopes: Sequence[str], *, author: Account, days: int = 90
) -> tuple[ApiToken, str]:
    """A new token of a programme, and its text, which nobody sees again.

    Raises:
        HeedfulError: no name, no scope, an unknown scope, or a life of no days or of more than two years.
    """
    name = name.strip()
    if not name or len(name) > 120:
        raise HeedfulError("a token has a name of 1 to 120 characters.", where="name", mend="Say what it is for.")
    for scope in scopes:
        if scope not in SCOPES:
            raise HeedfulError(
                "unknown scope {scope!r}.", where="scopes", mend=nearest(scope, list(SCOPES)), scope=scope
            )
    if not scopes:
        raise HeedfulError(
            "a token may do something.", where="scopes", mend="Give some of {known}.", known=", ".join(SCOPES)
        )
    if not 1 <= days <= LONGEST_DAYS:
        raise HeedfulError("a token lives 1 to {most} days.", where="days", most=LONGEST_DAYS)
    text = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        made = ApiToken.objects.create(
            programme=programme,
            name=name,
            token_hash=hash_of(text),
            scopes=sorted(set(scopes)),
            author=author,
            expires=clock.now() + timedelta(days=days),
        )
        events.record("token.created", programme=programme, actor=author, token=made)
    return made, text


def revoke_token(token: ApiToken, *, actor: Account | None) -> None:
    """End a token now; a second time changes nothing."""
    with transaction.atomic():
        if ApiToken.objects.filter(pk=token.pk, revoked=None).update(revoked=clock.now()):
            events.record("token.revoked", programme=token.programme_id, actor=actor, token=token)
    token.refresh_from_db()


def revoke_tokens_of(author: Account, programme: Programme, *, actor: Account | None) -> None:
    """End the tokens that somebody made in a programme, who may make none there any more."""
    for token in ApiToken.objects.filter(author=author, programme=programme, revoked=None).order_by("pk"):
        revoke_token(token, actor=actor)


def find_token(text: str) -> ApiToken | None:
    """The token with this text that holds now. Notes its use, at most once a minute."""
    if not text.startswith(PREFIX):
        return None
    now = clock.now()
    holds = Q(expires=None) | Q(expires__gt=now)
    rows = ApiToken.objects.filter(holds, token_hash=hash_of(text), revoked=None, programme__archived=None)
    found = rows.select_related("programme").first()
    if found is not None and (found.last_used is None or found.last_used < now - TOUCH):
        old = Q(last_used=None) | Q(last_used__lt=now - TOUCH)
        ApiToken.objects.filter(old, pk=found.pk).update(last_used=now)
    return found
