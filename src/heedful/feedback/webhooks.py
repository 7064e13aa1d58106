"""The outbox: events for others, written with what they tell of, sent by a worker, signed, until they are taken.

`events.record` writes the deliveries in its own transaction; nothing here is ever called by a judgment.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import random
import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx2
from django.db import connection, transaction
from django.db.models import F

from heedful.errors import HeedfulError
from heedful.feedback import addresses, clock, events
from heedful.feedback.background import attempt
from heedful.feedback.models import Account, Delivery, Programme, Webhook
from heedful.feedback.rules import rules_of

log = logging.getLogger(__name__)
SIGNATURE, TIMESTAMP, DELIVERY, EVENT = "Heedful-Signature", "Heedful-Timestamp", "Heedful-Delivery", "Heedful-Event"
PEOPLE = frozenset({"account", "accounts", "consent", "invitation", "member", "membership", "rater", "raters", "token"})
"""What of an event's ids is not told: who did it."""
LEASE = timedelta(minutes=2)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=6)
GIVE_UP = timedelta(days=3)
SECONDS, TOTAL_SECONDS = 5.0, 20.0
EACH, EACH_SECONDS = 50, 30.0
"""What one webhook may take of one round, in deliveries and in time: a slow one does not hold up the others."""
PAUSE = 2.0


def create_webhook(programme: Programme, url: str, kinds: Sequence[str], *, actor: Account) -> Webhook:
    """Tell an address of a programme's events.

    Args:
        url: that is asked with POST.
        kinds: of audit events, as "judgment.submitted"; empty: all.

    Returns:
        the webhook; show its `secret` to the lead once.

    Raises:
        HeedfulError: the address must not be asked, or a kind is none.
    """
    if len(url) > 400:
        raise HeedfulError("an address has at most 400 characters.", where="url")
    addresses.check(url, allow_private=rules_of(programme.settings).allow_private_addresses)
    for kind in kinds:
        if not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", kind) or len(kind) > 40:
            raise HeedfulError(
                "{kind!r} is no kind of event.", where="kinds", mend="Write as in judgment.submitted.", kind=kind
            )
    with transaction.atomic():
        made = Webhook.objects.create(
            programme=programme, url=url, kinds=sorted(set(kinds)), secret=secrets.token_hex(32)
        )
        events.record("webhook.created", programme=programme, actor=actor, webhook=made)
    return made


def stop_webhook(webhook: Webhook, *, actor: Account | None = None) -> None:
    """Tell it nothing more, not even what waits; a second time changes nothing."""
    with transaction.atomic():
        if Webhook.objects.filter(pk=webhook.pk, stopped=None).update(stopped=clock.now()):
            waiting = Delivery.objects.filter(webhook=webhook, next_attempt__isnull=False)
            waiting.update(next_attempt=None, last_error="the webhook was stopped")
            events.record("webhook.stopped", programme=webhook.programme_id, actor=actor, webhook=webhook)
    webhook.refresh_from_db()


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The signature of a body at a time: hex HMAC-SHA256 of "timestamp.body" under the webhook's secret."""
    message = str(timestamp).encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def body_of(delivery: Delivery) -> bytes:
    """What is sent: ids and hashes, no text, and nobody's name or id."""
    event = delivery.event
    told = {
        "id": str(delivery.pk),
        "kind": event.kind,
        "at": event.at.isoformat(),
        "programme": delivery.webhook.programme.slug,
        "ids": {name: value for name, value in event.ids.items() if name not in PEOPLE},
        "digest": event.digest,
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def deliver_due(now: datetime | None = None) -> int:
    """Send what is due, the oldest first, webhook by webhook.

    Several workers may do this at once: each delivery is taken by one conditional update, which sets its next
    attempt to the end of a lease. A worker that dies leaves it to whoever comes after that; so a receiver may be
    told twice, and knows it by the delivery's id.

    Args:
        now: by default the time.

    Returns:
        how many were taken by their receivers.
    """
    begun, base = time.monotonic(), now or clock.now()
    due = Delivery.objects.filter(next_attempt__lte=base, webhook__stopped=None)
    sent = 0
    for key in due.order_by("webhook").values_list("webhook", flat=True).distinct():
        webhook = Webhook.objects.select_related("programme").get(pk=key)
        started = time.monotonic()
        for delivery in _of(webhook, due):
            at = base + timedelta(seconds=time.monotonic() - begun)
            if not _take(delivery, at):
                continue
            error = _send(delivery, at)
            if error:
                _failed(delivery, at, error)
                break
            Delivery.objects.filter(pk=delivery.pk).update(delivered=at, next_attempt=None, last_error="")
            sent += 1
            if time.monotonic() - started > EACH_SECONDS:
                break
    return sent


def _of(webhook: Webhook, due: Any) -> Iterator[Delivery]:
    rows = due.filter(webhook=webhook).select_related("event").order_by("event")[:EACH]
    for delivery in list(rows):
        delivery.webhook = webhook
        yield delivery


def _take(delivery: Delivery, at: datetime) -> bool:
    """One conditional update: false where another worker was first.

    It asks of the row's own columns only: a condition over a join becomes a subquery, which PostgreSQL does not look
    at again after it waited for the row.
    """
    mine = Delivery.objects.filter(pk=delivery.pk, next_attempt=delivery.next_attempt)
    taken = mine.update(next_attempt=at + LEASE, attempts=F("attempts") + 1) == 1
    delivery.attempts += taken
    return taken


def _send(delivery: Delivery, at: datetime) -> str:
    """Why it was not taken; empty if it was."""
    body, stamp = body_of(delivery), int(at.timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "heedful",
        DELIVERY: str(delivery.pk),
        EVENT: delivery.event.kind,
        TIMESTAMP: str(stamp),
        SIGNATURE: sign(delivery.webhook.secret, stamp, body),
    }
    try:
        allow = rules_of(delivery.webhook.programme.settings).allow_private_addresses
        with addresses.client(allow, timeout=SECONDS, total_seconds=TOTAL_SECONDS) as client:
            request = client.build_request("POST", delivery.webhook.url, content=body, headers=headers)
            answer = client.send(request, stream=True)
            answer.close()  # what the receiver says is of no interest, only how it begins
    except HeedfulError as error:
        return error.what
    except httpx2.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    if answer.history and answer.request.method != "POST":
        return f"it answered {answer.history[0].status_code}, which turns a POST into a GET: give the final address"
    return "" if answer.is_success else f"it answered {answer.status_code}"


def _failed(delivery: Delivery, at: datetime, error: str) -> None:
    """Later, together with what else waits for the same webhook; or never."""
    if at - delivery.created > GIVE_UP:
        later = None
        error = f"given up after {GIVE_UP.days} days: {error}"
    else:
        later = at + wait(delivery.attempts)
        others = Delivery.objects.filter(webhook=delivery.webhook_id, next_attempt__lt=later, attempts__gt=0)
        others.exclude(pk=delivery.pk).update(next_attempt=later)
    Delivery.objects.filter(pk=delivery.pk).update(next_attempt=later, last_error=error[:300])


def wait(attempts: int) -> timedelta:
    """The wait after so many attempts: twice as long each time, up to hours, half of it by chance."""
    full = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempts - 1, 20))
    return full * random.uniform(0.5, 1.0)


def run_forever(stop: threading.Event) -> None:
    """The server's worker: sends what is due until told to stop. A failure is logged, and it goes on."""
    while not stop.is_set():
        attempt("webhooks", deliver_due, log)
        stop.wait(PAUSE)
    connection.close()
