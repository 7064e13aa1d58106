"""What end users did, through the studio's API: a token of its own, results by event, limits; and the lead's page."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from lead_world import BACKEND

from coroutines import run
from feedback_factories import account, programme
from heedful.feedback import tokens
from heedful.feedback.models import FieldEvent, Judgment, Membership, Programme, Prompt, Role
from heedful.studio import threads
from heedful.studio.api import field as api
from heedful.studio.api.schemas import EventIn
from heedful.studio.setup import FIELD_KEY, field_key

EVENT: dict[str, Any] = {
    "id": "m-1",
    "kind": "thumb",
    "user": "u-1",
    "consent": True,
    "model": "shop-2",
    "messages": [{"role": "user", "content": "Where is my parcel? Write to jo@example.com."}],
    "answer": "It left us on Monday.",
    "up": True,
}


@pytest.fixture
def of(db: None) -> Programme:
    return programme()


def caller(of: Programme, *scopes: str) -> Client:
    _, text = tokens.create_token(of, "shop's server", scopes or ["feedback:write"], author=account())
    return Client(headers={"Authorization": f"Bearer {text}"})


def send(client: Client, of: Programme, *events: dict[str, Any], to: str = "feedback") -> Any:
    body = {"events": list(events)} if to == "feedback" else events[0]
    return client.post(f"/api/programmes/{of.slug}/{to}", json.dumps(body), content_type="application/json")


def test_each_event_has_a_result_of_its_own(of: Programme) -> None:
    client = caller(of)
    other = EVENT | {"id": "m-2", "up": None}
    answer = send(client, of, EVENT, other, EVENT | {"id": "m-3", "consent": False}, EVENT)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [(one["id"], one["status"]) for one in results] == [
        ("m-1", "kept"),
        ("m-2", "refused"),
        ("m-3", "no_consent"),
        ("m-1", "kept"),
    ]
    assert (results[1]["field"], results[1]["detail"]) == ("up", "a thumb needs it.")
    assert Judgment.objects.count() == 1
    assert Prompt.objects.get().messages[0]["content"] == "Where is my parcel? Write to [email]."


def test_a_malformed_request_is_refused_whole_with_its_place(of: Programme) -> None:
    answer = send(caller(of), of, EVENT, EVENT | {"kind": "wink"})
    assert answer.status_code == 422
    assert (answer.json()["line"], answer.json()["field"]) == (2, "kind")
    assert not FieldEvent.objects.exists()
    assert send(caller(of), of, *[EVENT] * 101).status_code == 422
    assert send(caller(of), of).status_code == 422


def test_the_token_may_send_and_nothing_else(of: Programme) -> None:
    client = caller(of)
    for path in ("", "/judgments", "/batches", "/export?format=unpaired", "/snapshots"):
        assert client.get(f"/api/programmes/{of.slug}{path}").status_code == 403, path
    for scope in set(tokens.SCOPES) - {"feedback:write"}:
        assert send(caller(of, scope), of, EVENT).status_code == 403
    assert send(caller(of), programme(), EVENT).status_code == 404
    assert not Judgment.objects.exists()


def test_a_user_withdraws_by_the_key_that_came_with_their_events(of: Programme) -> None:
    client = caller(of)
    send(client, of, EVENT, EVENT | {"id": "m-2", "user": "u-2"})
    answer = send(client, of, {"user": "u-1"}, to="feedback/withdraw")
    assert (answer.status_code, answer.json()["known"], answer.json()["erased"]["prompt"]) == (200, True, 1)
    assert sorted(one.messages[0]["content"][:5] for one in Prompt.objects.all()) == ["", "Where"]
    assert send(client, of, EVENT).json()["results"][0]["status"] == "withdrawn"
    again = send(client, of, {"user": "u-1"}, to="feedback/withdraw")
    assert again.json() == {"known": False, "erased": {}}


def test_events_are_counted_against_a_limit_of_their_own(of: Programme, monkeypatch: Any) -> None:
    monkeypatch.setattr(api, "EVENTS", 5)
    client = caller(of)
    refused = EVENT | {"consent": False}
    assert send(client, of, *[refused] * 3).status_code == 200
    answer = send(client, of, *[refused] * 3)
    assert (answer.status_code, 1 <= int(answer.headers["Retry-After"]) <= 60) == (429, True)


def test_the_schema_says_what_the_store_takes() -> None:
    from dataclasses import fields

    from heedful.feedback.wire import FieldFeedback

    assert {one.name for one in fields(FieldFeedback)} == set(EventIn.model_fields)


# --- on disk ---


def test_what_is_too_large_is_refused_before_any_of_it_is_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request body that is larger than memory takes would be spooled into a file, with the names still in it."""
    made: list[Any] = []

    class Spooled(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def rollover(self) -> None:
            made.append(self.tell())
            super().rollover()

    monkeypatch.setattr(threads, "SpooledTemporaryFile", Spooled)
    path, sent = "/api/programmes/shop/feedback", []

    class Answered(list[bytes]):
        def __init__(self, environ: dict[str, Any], start: Any) -> None:
            start("200 OK", [])
            super().__init__([b"ok"])

        def close(self) -> None:
            pass

    async def ask(path: str, pieces: Iterator[bytes]) -> list[dict[str, Any]]:
        async def receive() -> dict[str, Any]:
            piece = next(pieces, None)
            return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

        async def answer(message: dict[str, Any]) -> None:
            sent.append(message)

        app = threads.Threaded(Answered)
        scope = {
            "type": "http",
            "path": path,
            "method": "POST",
            "query_string": b"",
            "headers": [],
            "http_version": "1.1",
        }
        await app(scope, receive, answer)
        return sent

    chunk = b"x" * (threads.IN_MEMORY // 4)
    run(ask(path, iter([chunk] * 5)))
    assert (sent[0]["status"], made) == (413, [])
    sent.clear()
    run(ask(path, iter([chunk] * 4)))
    assert (sent[0]["status"], made) == (200, [])
    assert threads.largest(f"{path}/withdraw") == threads.IN_MEMORY
    sent.clear()
    run(ask("/api/programmes/shop/judgments", iter([chunk] * 5)))
    assert (sent[0]["status"], len(made)) == (200, 1)  # the watch sees what it is to see


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = field_key(tmp_path)
    assert len(first) >= 32
    assert field_key(tmp_path) == first
    assert stat.S_IMODE(os.stat(tmp_path / FIELD_KEY).st_mode) == 0o600
    (tmp_path / FIELD_KEY).chmod(0o644)
    with pytest.raises(Exception, match="others can read the key that end users' ids are hashed with"):
        field_key(tmp_path)


# --- the lead ---


def lead(of: Programme) -> Client:
    client = Client()
    client.force_login(Membership.objects.get(programme=of, role=Role.ADMIN).account, backend=BACKEND)
    return client


def test_the_lead_sees_what_came_and_reads_it(of: Programme) -> None:
    edit = EVENT | {"id": "m-9", "kind": "edit", "up": None, "edited": "It left on Monday."}
    send(caller(of), of, EVENT, EVENT | {"id": "m-2", "up": False, "model": "shop-3"}, edit)
    send(caller(of), of, EVENT | {"id": "m-4", "consent": False})
    client = lead(of)
    page = client.get(f"/p/{of.slug}/field/").content.decode()
    for words in ("shop-2", "shop-3", "thumb up", "thumb down", "corrected the answer", "[email]", "100%"):
        assert words in page
    assert page.count("/items/") >= 3
    only = client.get(f"/p/{of.slug}/field/?model=shop-3&kind=thumb").content.decode()
    assert "thumb down" in only
    assert "thumb up<" not in only
    said = Judgment.objects.get(kind="edit")
    page = client.get(f"/p/{of.slug}/items/{said.item_id}/").content.decode()
    for words in ("It left on Monday.", "It left us on Monday.", "end user", "corrected the answer"):
        assert words in page
    assert said.rater.name not in page  # the hash is nobody's business
    assert "Make it gold" not in page
    assert "Ask one more rater" not in page


def test_the_picture_of_a_model_is_drawn_once_there_are_two_days(of: Programme) -> None:
    send(caller(of), of, EVENT)
    client = lead(of)
    assert client.get(f"/p/{of.slug}/field/thumbs.svg?policy=shop-2").status_code == 404
    FieldEvent.objects.update(created="2020-01-01T00:00:00Z")
    assert client.get(f"/p/{of.slug}/field/thumbs.svg?policy=").status_code == 404
    send(caller(of), of, EVENT | {"id": "m-2", "user": "u-2"}, EVENT | {"id": "m-3", "user": "u-3"})
    from datetime import timedelta

    from heedful.feedback import clock

    FieldEvent.objects.filter(created__year=2020).update(created=clock.now() - timedelta(days=3))
    answer = client.get(f"/p/{of.slug}/field/thumbs.svg?policy=shop-2&days=7")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/svg+xml")


def test_how_an_ai_judge_came_to_a_judgment_is_told_where_it_is_shown(of: Programme) -> None:
    from feedback_factories import batch, item, rater
    from heedful.feedback import submission
    from heedful.feedback.wire import Provenance

    one = item(batch(of))
    told = Provenance("gpt-oss", 0.3, 0.0125, 400, 20, [{"text": "B <script>", "finish": "stop"}])
    submission.record(one, rater(of, kind="ai"), {"strength": 1}, key="k", judge_template="t-7", provenance=told)
    client = Client()
    manager = account()
    Membership.objects.create(programme=of, account=manager, role=Role.MANAGER)
    client.force_login(manager, backend=BACKEND)
    folded = client.get(f"/p/{of.slug}/items/{one.pk}/").content.decode()
    assert "gpt-oss" not in folded  # who may decide an item sees no vote before they have
    client.post(f"/p/{of.slug}/items/{one.pk}/votes/")
    page = client.get(f"/p/{of.slug}/items/{one.pk}/").content.decode()
    for words in ("gpt-oss", "t-7", "0.3", "400 + 20", "0.0125", "B &lt;script&gt;"):
        assert words in page
