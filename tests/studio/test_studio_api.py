"""The API: tokens and scopes, errors that name the place, limits, its own documentation; driven from its schema."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core import signals
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from feedback_factories import account, item, open_batch, programme, rater
from heedful.feedback import clock, submission, tokens
from heedful.feedback.models import Item, Programme
from heedful.studio.api import auth
from heedful.studio.api.app import api

ITEM: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hi"}],
    "completions": [{"text": "a"}, {"text": "b"}],
    "kind": "pairwise",
}


@pytest.fixture
def of(db: None) -> Programme:
    return programme()


def caller(of: Programme, *scopes: str) -> Client:
    _, text = tokens.create_token(of, "test", scopes or list(tokens.SCOPES), author=account())
    return Client(headers={"Authorization": f"Bearer {text}"})


@pytest.fixture
def client(of: Programme) -> Client:
    return caller(of)


def send(client: Client, path: str, body: Any) -> Any:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post(path, content, content_type="application/json")


def at(of: Programme, *more: str) -> str:
    return "/".join(["/api/programmes", of.slug, *more])


# --- who may ask ---


def operations() -> list[tuple[str, str, list[str]]]:
    """(method, path, scopes that let in) of everything that needs a token."""
    return [
        (method, pattern, list(one.auth_callbacks[0].scopes))
        for _, router in api._routers
        for pattern, view in router.path_operations.items()
        for one in view.operations
        for method in one.methods
        if one.auth_callbacks
    ]


def filled(of: Programme, pattern: str) -> str:
    unknown = "00000000-0000-7000-8000-000000000000"
    return "/api" + re.sub(r"\{uuid\w*:\w+\}", unknown, pattern.replace("{slug:slug}", of.slug))


def test_the_table_of_operations_is_whole() -> None:
    schema = api.get_openapi_schema()
    listed = {(m.upper(), re.sub(r"\{\w+:(\w+)\}", r"{\1}", f"/api{p}")) for m, p, _ in operations()}
    told = {(m.upper(), p) for p, methods in schema["paths"].items() for m in methods if p != "/api/health"}
    assert listed == told
    assert len(listed) == 19


@pytest.mark.parametrize(("method", "pattern", "scopes"), operations())
def test_each_operation_asks_for_a_token_with_its_scope(
    of: Programme, method: str, pattern: str, scopes: list[str]
) -> None:
    path = filled(of, pattern)
    for client in (
        Client(),
        Client(headers={"Authorization": "Bearer heedful_x"}),
        Client(headers={"Authorization": "Basic x"}),
    ):
        answer = client.generic(method, path, "{}", content_type="application/json")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert set(answer.json()) == {"detail", "field", "line", "mend", "problems"}
    for scope in tokens.SCOPES:
        answer = caller(of, scope).generic(method, path, "{}", content_type="application/json")
        assert (answer.status_code == 403) == (bool(scopes) and scope not in scopes), (scope, answer.content)
    other = filled(programme(), pattern)
    if "{slug" in pattern:
        answer = caller(of).generic(method, other, "{}", content_type="application/json")
        assert answer.status_code in ((404,) if method == "GET" and "export" not in pattern else (404, 422))


def test_a_session_is_no_token(of: Programme) -> None:
    client = Client()
    client.force_login(account(is_superuser=True), backend="django.contrib.auth.backends.ModelBackend")
    assert client.get(at(of)).status_code == 401


def test_ids_of_other_programmes_are_not_there(of: Programme, client: Client) -> None:
    theirs = open_batch(programme(), 1)
    judged = submission.record(theirs.items.get(), rater(theirs.programme, kind="ai"), {"strength": 1}, key="1")
    said = {"item": str(judged.item_id), "payload": {"strength": 1}, "key": "k"}
    for path in (f"batches/{theirs.pk}", f"batches/{theirs.pk}/items", f"judgments?batch={theirs.pk}"):
        assert client.get(at(of, path)).status_code == 404
    for path, body in (
        (f"batches/{theirs.pk}/open", {}),
        (f"batches/{theirs.pk}/pause", {}),
        (f"batches/{theirs.pk}/items", {"key": "k", "items": [ITEM]}),
        ("judgments", {"judge": {"name": "m"}, "judgments": [said]}),
    ):
        assert send(client, at(of, path), body).status_code == 404
    assert client.get(at(of, f"export?format=heedful&batch={theirs.pk}")).status_code == 422
    assert Item.objects.count() == 1


def test_a_token_of_an_archived_programme_is_none(of: Programme, client: Client) -> None:
    Programme.objects.update(archived=clock.now())
    assert client.get(at(of)).status_code == 401


# --- limits ---


def test_too_many_requests_are_told_to_wait(of: Programme, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "ASKS", 3)
    monkeypatch.setattr(auth, "WRONG", 2)
    now = clock.now().replace(second=10)
    monkeypatch.setattr(clock, "now", lambda: now)
    assert [client.get(at(of)).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert client.get(at(of)).headers["Retry-After"] == "50"
    assert caller(of).get(at(of)).status_code == 200
    wrong = Client(headers={"Authorization": "Bearer heedful_x"})
    assert [wrong.get(at(of)).status_code for _ in range(4)] == [401, 401, 429, 429]
    assert [wrong.get(at(of), REMOTE_ADDR="10.9.9.9").status_code for _ in range(2)] == [401, 401]
    later = now + timedelta(minutes=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert client.get(at(of)).status_code == 200


# --- what is sent ---


@pytest.mark.parametrize(
    ("change", "field", "line"),
    [
        ({"kind": "poem"}, "kind", 2),
        ({"messages": []}, "messages", 2),
        ({"messages": [{"role": "user"}]}, "messages[0].content", 2),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", 2),
        ({"completions": [{"text": "a"}] * 10}, "completions", 2),
        ({"completions": [{"text": "a"}]}, "completions", 2),
        ({"completions": [{"text": "a\0"}, {"text": "b"}]}, "completions[0].text", 2),
        ({"completions": [{"text": "a\ud800"}, {"text": "b"}]}, "completions[0].text", 2),
        ({"completions": [{"text": "a" * 200_001}, {"text": "b"}]}, "completions[0].text", 2),
        ({"source": {"a": ["x\0"]}}, "source", 2),
        ({"named_raters": ["nobody"]}, "named_raters[0]", 2),
        ({"priority": 5000}, "priority", 2),
        ({"policy": "x"}, "policy", 2),
    ],
)
def test_a_wrong_item_is_named_and_nothing_is_written(
    of: Programme, client: Client, change: dict[str, Any], field: str, line: int
) -> None:
    made = send(client, at(of, "batches"), {"key": "b", "name": "B"}).json()
    answer = send(client, at(of, "batches", made["id"], "items"), {"key": "k", "items": [ITEM, {**ITEM, **change}]})
    assert answer.status_code == 422
    told = answer.json()
    assert (told["field"], told["line"]) == (field, line)
    assert told["detail"]
    assert not Item.objects.exists()
    good = send(client, at(of, "batches", made["id"], "items"), {"key": "k", "items": [ITEM]})
    assert good.json() == {"added": 1}


def test_every_problem_is_told_at_once(of: Programme, client: Client) -> None:
    answer = send(client, at(of, "batches"), {"name": "", "quota": 0, "purpose": "fun"}).json()
    assert {one["field"] for one in answer["problems"]} == {"key", "name", "quota", "purpose"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *(("{", 400), (b"\xff\xfe", 400), ("[" * 100_000, 400)),
        *(("", 422), ("[]", 422), ('"x"', 422), ("null", 422), ('{"key": NaN}', 422)),
    ],
)
def test_what_is_no_request_is_refused_in_the_same_shape(of: Programme, client: Client, body: Any, status: int) -> None:
    answer = send(client, at(of, "batches"), body)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_a_request_that_is_too_large_is_refused(of: Programme, client: Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = send(client, at(of, "batches"), {"key": "b", "name": "B" * 2000})
    assert (answer.status_code, answer.json()["detail"]) == (413, "the request is too large.")


def test_lookups_of_the_database_are_no_filters(of: Programme, client: Client) -> None:
    one = item(open_batch(of, 0))
    submission.record(one, rater(of, kind="ai"), {"strength": 1}, key="secret-key")
    plain = client.get(at(of, "judgments")).json()
    for query in ("rater__account__password__startswith=x", "idempotency_key=none", "item__isnull=true", "order_by=id"):
        assert client.get(at(of, f"judgments?{query}")).json()["judgments"] == plain["judgments"]
    assert "secret-key" not in json.dumps(plain)


def test_no_purpose_but_the_one_asked_for(of: Programme, client: Client) -> None:
    for number, purpose in enumerate(("train", "check", "gold")):
        one = item(open_batch(of, 0, purpose=purpose))
        submission.record(one, rater(of, kind="ai"), {"strength": 1}, key=str(number))
    for purpose in ("train", "check", "gold"):
        rows = client.get(at(of, f"judgments?purpose={purpose}")).json()["judgments"]
        assert [row["purpose"] for row in rows] == [purpose]


def test_an_export_streams_and_says_what_it_is(of: Programme, client: Client) -> None:
    batch = open_batch(of, 0, quota=2)
    for number, strength in enumerate((-1, 0)):
        submission.record(item(batch), rater(of, kind="ai"), {"strength": strength}, key=str(number))
    answer = client.get(at(of, "export?format=trl-preference&margin=strength"))
    assert answer.streaming
    body = b"".join(answer.streaming_content)
    [row] = [json.loads(line) for line in body.splitlines()]
    assert row["margin"] == 1
    assert (answer["Content-Type"], answer["Heedful-Rows"], answer["Heedful-Ties"]) == ("application/jsonl", "1", "1")
    assert answer["Content-Length"] == str(len(body))
    assert client.get(at(of, "export?format=raw")).status_code == 200
    wrong = client.get(at(of, "export?format=sft&margin=strength"))
    assert (wrong.status_code, wrong.json()["field"]) == (422, "margin")


def test_anything_else_below_the_api_is_json_too(of: Programme, client: Client) -> None:
    for path in ("/api/nothing", "/api/programmes/x/y/z", "/api/docs/more"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (404, "there is nothing here.")
    assert send(client, "/api/nothing", {}).status_code == 404
    odd = client.get(
        "/api/programmes/a%0Ab", headers={"accept": "application/json"}
    )  # no route takes a line break, not even the one for all else
    assert (odd.status_code, odd.json()["detail"]) == (404, odd.json()["error"])
    assert Client().get("/api/health").json()["status"] == "ok"


# --- driven from its own schema ---


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "ASKS", 10**9)
    monkeypatch.setattr(auth, "WRONG", 10**9)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Requests through WSGI leave the test's own connection open, as Django's test client has it."""
    ends = (signals.request_started, signals.request_finished)
    for end in ends:
        end.disconnect(close_old_connections)
    try:
        yield
    finally:
        for end in ends:
            end.connect(close_old_connections)


@pytest.fixture
def world(of: Programme, wide: None) -> dict[str, Any]:
    """A programme with something in it, and a token for all of it."""
    batch = open_batch(of, 2)
    submission.record(batch.items.all()[0], rater(of, kind="ai"), {"strength": 1}, key="1")
    _, text = tokens.create_token(of, "fuzz", list(tokens.SCOPES), author=account())
    made = caller(of)
    snapshot = send(made, at(of, "snapshots"), {"key": "s", "name": "S"}).json()["id"]
    return {"slug": of.slug, "batch": str(batch.pk), "snapshot": snapshot, "token": text}


OPERATIONS = [
    found.ok()
    for found in schemathesis.openapi.from_wsgi("/api/openapi.json", get_wsgi_application()).get_all_operations()
]
each = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)
EXAMPLES = int(os.environ.get("HEEDFUL_API_EXAMPLES", "6"))
few = hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 6,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
CHECKS = (
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
)


def told(case: Any, headers: dict[str, str]) -> Any:
    with undisturbed():
        answer = case.call(headers=headers)
    case.validate_response(answer, checks=CHECKS)
    return answer


@each
@few
@hypothesis.given(data=st.data())
def test_the_api_is_as_its_schema_says(operation: Any, data: Any, world: dict[str, Any]) -> None:
    """Whatever is sent to a real programme, allowed or not, is no server error and is answered as the schema says."""
    mode = data.draw(st.sampled_from(GenerationMode))
    case = data.draw(operation.as_strategy(generation_mode=mode))
    for name in ("slug", "batch", "snapshot"):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = world[name]
    told(case, {"Authorization": f"Bearer {world['token']}"})


@each
@hypothesis.settings(few, max_examples=3)
@hypothesis.given(data=st.data())
def test_the_schema_lets_nobody_in_without_a_token(operation: Any, data: Any, world: dict[str, Any]) -> None:
    """Wherever it points: 401, or for health 200; an address that the routes do not know is 404."""
    case = data.draw(operation.as_strategy())
    case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() != "authorization"}
    answer = told(case, {})
    assert answer.status_code in ((200,) if case.path.endswith("/health") else (401, 404, 405))


# --- its page ---


def test_its_page_shows_every_operation_and_every_object_of_the_document() -> None:
    document = Client().get("/api/openapi.json").json()
    page = Client().get("/api/docs").content.decode()
    calls = re.findall(r'<span class="badge[^"]*">([A-Z]+)</span> <code>([^<]+)</code>', page)
    assert sorted(calls) == sorted(
        (method.upper(), path) for path, ways in document["paths"].items() for method in ways
    )
    shown = set(re.findall(r'id="shape-(\w+)"', page))
    assert shown == set(document["components"]["schemas"]) - {"JsonValue"}
    assert set(re.findall(r'href="#shape-(\w+)"', page)) <= shown
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    limit = re.search(r"<code>limit</code></th><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>", page)
    assert limit is not None
    assert limit.groups() == ("integer", "1 to 500", "<code>500</code>")


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("phone", [False, True])
def test_its_page_is_accessible_and_asks_nobody_else(
    visit: Callable[..., Any], axe: Callable[..., None], phone: bool
) -> None:
    page = visit(None, "/api/docs", phone=phone)
    page.click(".contents >> text=Push Items")
    assert page.url.endswith("-items")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    axe(page)
