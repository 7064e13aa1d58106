"""The outbox: told once each, signed, again after a failure, never by two workers at a time."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import connection, transaction

from feedback_factories import account, programme
from heedful.errors import HeedfulError
from heedful.feedback import clock, events, webhooks
from heedful.feedback.models import AuditEvent, Delivery, Programme, Webhook

pytestmark = pytest.mark.django_db
threads = pytest.mark.django_db(transaction=True)  # what other threads read must be committed


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.got.append((self.path, dict(self.headers), body))
        status = server.answers.pop(0) if server.answers else 204
        server.gate.wait(5)
        with suppress(OSError):
            self.send_response(status)
            if status in (302, 307):
                self.send_header("Location", "/moved")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads, server.got, server.answers, server.gate = True, [], [], threading.Event()
    server.gate.set()
    server.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def of() -> Programme:
    return programme(allow_private_addresses=True)


def hook(of: Programme, receiver: Any, *kinds: str) -> Webhook:
    """A webhook whose own creation is not waiting to be told."""
    made = webhooks.create_webhook(of, receiver.url, kinds, actor=account())
    Delivery.objects.all().delete()
    return made


def happen(of: Programme, kind: str = "judgment.submitted", **ids: Any) -> AuditEvent:
    with transaction.atomic():
        return events.record(kind, programme=of, actor=account(), digest="d" * 64, **ids)


def test_an_event_is_told_once_signed_and_without_people(of: Programme, receiver: Any) -> None:
    made = hook(of, receiver, "judgment.submitted")
    event = happen(of, item=made.pk, rater=made.pk, count=3)
    happen(of, "batch.opened")
    assert webhooks.deliver_due() == 1
    assert webhooks.deliver_due() == 0
    [(path, headers, body)] = receiver.got
    assert path == "/hook"
    stamp = headers["Heedful-Timestamp"]
    expected = hmac.new(made.secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["Heedful-Signature"] == f"sha256={expected}"
    assert abs(int(stamp) - clock.now().timestamp()) < 60
    delivery = Delivery.objects.get()
    assert headers["Heedful-Delivery"] == str(delivery.pk)
    told = json.loads(body)
    assert told == {
        "id": str(delivery.pk),
        "kind": "judgment.submitted",
        "at": event.at.isoformat(),
        "programme": of.slug,
        "ids": {"item": str(made.pk), "count": 3},
        "digest": "d" * 64,
    }
    assert str(event.actor) not in body.decode()
    assert (delivery.attempts, delivery.next_attempt, delivery.last_error) == (1, None, "")
    assert delivery.delivered is not None


def test_what_is_rolled_back_is_never_told(of: Programme, receiver: Any) -> None:
    hook(of, receiver)
    with suppress(RuntimeError), transaction.atomic():
        events.record("judgment.submitted", programme=of)
        raise RuntimeError
    assert webhooks.deliver_due() == 0
    assert not receiver.got


def test_a_failure_is_tried_again_ever_later_and_at_last_given_up(of: Programme, receiver: Any) -> None:
    hook(of, receiver)
    happen(of)
    receiver.answers += [500] * 100
    now, waits = clock.now(), []
    while (found := Delivery.objects.get()).next_attempt is not None:
        now = max(now, found.next_attempt)
        assert webhooks.deliver_due(now) == 0
        after = Delivery.objects.get()
        if after.next_attempt is not None:
            waits.append((after.next_attempt - now).total_seconds())
            assert webhooks.deliver_due(after.next_attempt - timedelta(seconds=1)) == 0
    for number, wait in enumerate(waits):
        full = min(30 * 2**number, 6 * 3600)
        assert full / 2 - 2 <= wait <= full + 2
    assert now - found.created > timedelta(days=3)
    assert found.delivered is None
    assert found.last_error == "given up after 3 days: it answered 500"
    assert len(receiver.got) == found.attempts == len(waits) + 1
    assert len({headers["Heedful-Delivery"] for _, headers, _ in receiver.got}) == 1
    assert len({body for _, _, body in receiver.got}) == 1


def test_after_a_failure_it_is_taken(of: Programme, receiver: Any) -> None:
    hook(of, receiver)
    happen(of)
    receiver.answers.append(503)
    now = clock.now()
    assert [webhooks.deliver_due(now + timedelta(minutes=n)) for n in range(3)] == [0, 1, 0]
    assert Delivery.objects.get().last_error == ""


def test_one_that_fails_does_not_hold_up_another_and_is_asked_once_a_round(of: Programme, receiver: Any) -> None:
    bad, good = hook(of, receiver), hook(of, receiver)
    Webhook.objects.filter(pk=bad.pk).update(url=receiver.url.replace("hook", "bad").replace("127.0.0.1", "127.0.0.2"))
    for _ in range(3):
        happen(of)
    assert webhooks.deliver_due() == 3
    assert good.deliveries.filter(delivered=None).count() == 0
    assert sorted(bad.deliveries.values_list("attempts", flat=True)) == [0, 0, 1]
    assert "ConnectError" in bad.deliveries.get(attempts=1).last_error


@threads
def test_two_workers_never_send_the_same_at_the_same_time(of: Programme, receiver: Any) -> None:
    hook(of, receiver)
    for _ in range(5):
        happen(of)
    receiver.gate.clear()
    barrier = threading.Barrier(3)

    def work() -> int:
        barrier.wait()
        try:
            return webhooks.deliver_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(work) for _ in range(3)]
        receiver.gate.set()
        assert sum(run.result() for run in runs) == 5
    ids = [headers["Heedful-Delivery"] for _, headers, _ in receiver.got]
    assert len(ids) == len(set(ids)) == 5


def test_a_worker_that_died_leaves_its_delivery_to_the_next_after_the_lease(of: Programme, receiver: Any) -> None:
    hook(of, receiver)
    happen(of)
    now = clock.now()
    dead, late = Delivery.objects.get(), Delivery.objects.get()
    assert webhooks._take(dead, now)
    assert not webhooks._take(late, now)
    assert webhooks.deliver_due(now + timedelta(seconds=60)) == 0
    assert webhooks.deliver_due(now + timedelta(minutes=5)) == 1


def test_redirects_keep_the_post_or_count_as_a_failure(of: Programme, receiver: Any) -> None:
    hook(of, receiver)
    happen(of)
    receiver.answers += [307]
    assert webhooks.deliver_due() == 1
    assert [path for path, _, _ in receiver.got] == ["/hook", "/moved"]
    assert receiver.got[0][2] == receiver.got[1][2]
    happen(of)
    receiver.answers += [302]
    assert webhooks.deliver_due() == 0
    assert "final address" in Delivery.objects.get(delivered=None).last_error


def test_private_addresses_need_permission_when_made_and_when_sent(of: Programme, receiver: Any) -> None:
    closed = programme()
    with pytest.raises(HeedfulError, match="does not connect to"):
        hook(closed, receiver)
    assert not Webhook.objects.exists()
    hook(of, receiver)
    happen(of)
    Programme.objects.filter(pk=of.pk).update(settings={})
    assert webhooks.deliver_due() == 0
    assert not receiver.got
    assert "does not connect to" in Delivery.objects.get().last_error


@pytest.mark.parametrize("kinds", [["judgment submitted"], ["x" * 41], [""], ["Judgment.submitted"]])
def test_kinds_are_checked(of: Programme, receiver: Any, kinds: list[str]) -> None:
    with pytest.raises(HeedfulError) as caught:
        webhooks.create_webhook(of, receiver.url, kinds, actor=account())
    assert caught.value.where == "kinds"


def test_a_stopped_webhook_is_told_nothing(of: Programme, receiver: Any) -> None:
    made = hook(of, receiver)
    happen(of)
    webhooks.stop_webhook(made, actor=account())
    happen(of)
    assert webhooks.deliver_due() == 0
    assert not receiver.got
    assert not Delivery.objects.exclude(next_attempt=None).exists()


@threads
def test_the_worker_sends_goes_on_after_a_failure_and_stops(
    of: Programme, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(of, receiver)
    happen(of)
    monkeypatch.setattr(webhooks, "PAUSE", 0.02)
    real, calls, stop = webhooks.deliver_due, [0], threading.Event()

    def sometimes() -> int:
        calls[0] += 1
        if calls[0] == 1:
            raise RuntimeError("the database is away")
        return real()

    monkeypatch.setattr(webhooks, "deliver_due", sometimes)
    worker = threading.Thread(target=webhooks.run_forever, args=(stop,))
    worker.start()
    deadline = threading.Event()
    for _ in range(250):
        if receiver.got and calls[0] > 2:
            break
        deadline.wait(0.02)
    stop.set()
    worker.join(5)
    assert not worker.is_alive()
    assert len(receiver.got) == 1
