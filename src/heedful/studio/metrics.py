"""What Prometheus reads: requests as each worker counts them, and the store's figures as the database has them.

Several workers keep their counts in files of one folder, which whoever is asked adds up (prometheus-client's
multi-process mode); the folder is named in PROMETHEUS_MULTIPROC_DIR before this module is imported.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from django.db import Error
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from heedful.feedback import clock, migrating
from heedful.studio.config import is_loopback

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
TOKEN = "HEEDFUL_METRICS_TOKEN"
"""The variable that holds what a scraper has to send as its bearer token."""
TYPE = "text/plain; version=0.0.4; charset=utf-8"
KEPT_SECONDS = 5.0
"""How long a process answers with the same figures of the store, so that nobody makes it count all the time."""
disable_created_metrics()  # type: ignore[no-untyped-call]  # several processes do not tell them either
_own = CollectorRegistry()
REQUESTS = Counter(
    "heedful_requests", "Requests answered, by page (its name in the URLconf), method and status.",
    ("page", "method", "status"), registry=_own,
)  # fmt: skip
SECONDS = Histogram(
    "heedful_request_seconds", "Seconds until an answer begins, by part of the studio.",
    ("part",), registry=_own, buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30),
)  # fmt: skip
IN_FLIGHT = Gauge(
    "heedful_requests_in_flight", "Requests that are being answered.", registry=_own, multiprocess_mode="livesum"
)
OUTAGES = Counter(
    "heedful_database_outages", "Requests answered with 503 since the database did not serve them.", registry=_own
)
WORKERS = Gauge("heedful_workers", "Server processes.", registry=_own, multiprocess_mode="livemax")
RESTARTS = Counter("heedful_worker_restarts", "Workers that ended by themselves and were replaced.", registry=_own)
PARTS = {"rate": "rating", "dialogue": "dialogue", "api": "api", "login": "account", "logout": "account"}
"""Beginnings of pages' names, by the part of the studio that they are of; all others are leads' pages."""


class Store(Collector):
    """Figures of the store, the same whichever worker is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[float, list[Any]] = (-KEPT_SECONDS, [])

    def describe(self) -> Iterable[Any]:
        """Nothing ahead: registering does not ask the database."""
        return ()

    def collect(self) -> Iterable[Any]:
        """The figures, at most `KEPT_SECONDS` old; without a database, only that there is none."""
        with self._lock:
            at, found = self._kept
            if time.monotonic() - at >= KEPT_SECONDS:
                try:
                    found = [_gauge("heedful_database_up", "Whether the database answers.", 1), *_figures()]
                except Error:
                    found = [_gauge("heedful_database_up", "Whether the database answers.", 0)]
                self._kept = (time.monotonic(), found)
        return found


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=value)


def _figures() -> Iterable[Any]:
    from heedful.feedback.models import Delivery, DialogueTurn, Item, ItemState, Judgment, Slot, SlotState

    now = clock.now()
    judgments = CounterMetricFamily("heedful_judgments", "Judgments kept, corrections among them.")
    judgments.add_metric((), Judgment.objects.count())
    yield judgments
    leased = Slot.objects.filter(state=SlotState.LEASED)
    yield _gauge("heedful_leases", "Places that a rater holds.", leased.count())
    overdue = leased.filter(lease_until__lt=now - timedelta(minutes=1)).count()
    yield _gauge("heedful_leases_overdue", "Leases that ended over a minute ago, not yet taken back.", overdue)
    free = Slot.objects.filter(state=SlotState.FREE, item__batch__state="open").count()
    yield _gauge("heedful_queue_places", "Places of open batches that wait for a rater.", free)
    parked = Item.objects.filter(state=ItemState.PARKED).count()
    yield _gauge("heedful_queue_parked", "Items that raters could not judge and that wait for a lead.", parked)
    due = Delivery.objects.filter(next_attempt__lte=now)
    yield _gauge("heedful_queue_webhooks", "Messages to webhooks that are due.", due.count())
    oldest = due.order_by("next_attempt").values_list("next_attempt", flat=True).first()
    late = (now - oldest).total_seconds() if oldest else 0.0
    yield _gauge("heedful_webhooks_late_seconds", "Seconds that the oldest of them has been due.", late)
    asked = DialogueTurn.objects.filter(asked_until__gt=now).count()
    yield _gauge("heedful_dialogue_turns_asked", "Turns of dialogues that wait for a policy's answer.", asked)
    yield _gauge("heedful_migrations_pending", "Migrations of this version not applied.", len(migrating.pending()))


class _Build(Collector):
    def collect(self) -> Iterable[Any]:
        """The version, as a label."""
        made = GaugeMetricFamily("heedful_build_info", "1, with the version as its label.", labels=("version",))
        made.add_metric((version("heedful"),), 1)
        yield made


_store = Store()


def render() -> bytes:
    """All figures, in Prometheus's text format."""
    shown = CollectorRegistry()
    if os.environ.get(FOLDER):
        multiprocess.MultiProcessCollector(shown)
    else:
        shown.register(_own)  # type: ignore[arg-type]
    shown.register(_Build())
    shown.register(_store)
    return generate_latest(shown)


def dead(pid: int) -> None:
    """A worker is gone: what it counted stays, what it was just doing does not."""
    if os.environ.get(FOLDER):
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def part_of(page: str) -> str:
    """The part of the studio that a page is of, from its name in the URLconf."""
    if page in ("none", "static"):
        return page
    return PARTS.get(page.split("_")[0].split(":")[0], "lead")


def allowed(request: Any) -> bool:
    """Whether a scraper may read: it sends the token; or, where none is set, asks from this machine past the proxy."""
    token = os.environ.get(TOKEN, "")
    if token:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return secrets.compare_digest(given.encode(), token.encode())
    proxied = any(name in request.META for name in ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_FORWARDED"))
    host = request.META.get("HTTP_HOST", "").rpartition(":")[0] or request.META.get("HTTP_HOST", "")
    return not proxied and is_loopback(request.META.get("REMOTE_ADDR", "")) and is_loopback(host.strip("[]"))
