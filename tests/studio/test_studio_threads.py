"""Django's requests on lasting threads: what goes in, what comes out, who waits for whom."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import reverse

from coroutines import run
from heedful.studio.lead.wizard_forms import MAX_UPLOAD
from heedful.studio.threads import LARGEST, Threaded, largest

Headers = list[tuple[bytes, bytes]]


def ask(
    app: Threaded, path: str = "/", headers: Headers | None = None, pieces: Iterable[bytes] = (b"",)
) -> tuple[int, Headers, bytes]:
    return run(request(app, path, headers or [], pieces))


async def request(app: Threaded, path: str, headers: Headers, pieces: Iterable[bytes]) -> tuple[int, Headers, bytes]:
    """One request: (status, headers, body)."""
    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": b"a=1", "http_version": "1.1",
        "headers": headers, "client": ("10.0.0.7", 1), "server": ("127.0.0.1", 8400), "scheme": "http",
    }  # fmt: skip
    left, end = iter(pieces), object()
    following = next(left, end)
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal following
        one, following = following, next(left, end)
        return {"type": "http.request", "body": one, "more_body": following is not end}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    await app(scope, receive, send)
    assert not told[-1].get("more_body")
    return told[0]["status"], told[0]["headers"], b"".join(one.get("body", b"") for one in told[1:])


def answering(make: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    """A WSGI application as Django's handler is one."""

    def run(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        response = make(environ)
        cookies = [("Set-Cookie", one.output(header="")) for one in response.cookies.values()]
        start(f"{response.status_code} word", [*response.items(), *cookies])
        return response

    return run


def test_a_request_arrives_whole() -> None:
    seen: dict[str, Any] = {}

    def look(environ: dict[str, Any]) -> HttpResponse:
        seen.update(environ, body=environ["wsgi.input"].read())
        return HttpResponse("ok")

    headers = [(b"content-type", b"text/plain"), (b"x-forwarded_proto", b"https"), (b"x-one", b"a"), (b"x-one", b"b")]
    ask(Threaded(answering(look)), "/ä", headers, (b"first ", b"second"))
    assert seen["body"] == b"first second"
    assert seen["CONTENT_LENGTH"] == "12", "of a body in chunks too"
    assert (seen["PATH_INFO"], seen["QUERY_STRING"]) == ("/ä".encode().decode("latin1"), "a=1")
    assert (seen["REMOTE_ADDR"], seen["HTTP_X_ONE"]) == ("10.0.0.7", "a,b")
    assert "HTTP_X_FORWARDED_PROTO" not in seen, "an underscore must not pass for a hyphen"


def test_what_is_too_large_is_refused_and_the_rest_of_it_is_not_read() -> None:
    asked: list[str] = []
    taken = 0

    def make(environ: dict[str, Any]) -> HttpResponse:
        asked.append(environ["PATH_INFO"])
        return HttpResponse("ok")

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield b"x" * 100

    app = Threaded(answering(make), largest=lambda path: 1000 if path == "/file" else 250)
    for path, pulled in (("/file", 12), ("/", 4)):  # the last too many, and one that is looked ahead
        taken = 0
        status, headers, body = ask(app, path, [], pieces())
        assert (status, json.loads(body)["detail"]) == (413, "the request is too large.")
        assert (b"connection", b"close") in headers
        assert taken == pulled
    assert asked == []
    assert ask(app, "/file", [], (b"x" * 500, b"x" * 500))[0] == 200
    assert asked == ["/file"]


def test_by_default_a_request_may_have_what_django_and_the_wizard_allow(settings: Any) -> None:
    assert largest(reverse("wizard_step", args=["shop", "file"])) > MAX_UPLOAD
    assert largest(reverse("wizard_step", args=["shop", "task"])) == largest("/api/programmes") == LARGEST
    assert settings.DATA_UPLOAD_MAX_MEMORY_SIZE < LARGEST < 10 * 2**20
    assert ask(Threaded(answering(lambda _: HttpResponse("ok"))), "/", [], (b"x" * LARGEST, b"x"))[0] == 413


def test_an_answer_leaves_whole_and_is_closed() -> None:
    closed = threading.Event()

    def make(_: dict[str, Any]) -> HttpResponse:
        response = HttpResponse("text", status=201)
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        response.close = closed.set  # type: ignore[method-assign]
        return response

    status, headers, body = ask(Threaded(answering(make)))
    assert (status, body) == (201, b"text")
    cookies = [value for name, value in headers if name == b"set-cookie"]
    assert [one.split(b";")[0] for one in cookies] == [b"one=1", b"two=2"]
    assert all(value == value.strip() for _, value in headers)
    assert closed.is_set()


def test_a_stream_runs_in_one_thread() -> None:
    threads = []

    def pieces() -> Iterator[bytes]:
        for number in range(3):
            threads.append(threading.get_ident())
            yield b"%d" % number

    body = ask(Threaded(answering(lambda _: StreamingHttpResponse(pieces()))))[2]
    assert body == b"012"
    assert len(set(threads)) == 1


def test_an_error_is_the_servers_to_answer() -> None:
    def fail(_: dict[str, Any]) -> HttpResponse:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(Threaded(answering(fail)))


def test_short_requests_do_not_wait_for_long_ones() -> None:
    go_on = threading.Event()

    def make(environ: dict[str, Any]) -> HttpResponse:
        if environ["PATH_INFO"] == "/long":
            assert go_on.wait(20)
        return HttpResponse(environ["PATH_INFO"])

    app = Threaded(answering(make), lambda path: path == "/short")

    async def all_of_them() -> list[Any]:
        long = [asyncio.create_task(request(app, "/long", [], (b"",))) for _ in range(40)]
        await asyncio.sleep(0.05)
        short = await asyncio.wait_for(request(app, "/short", [], (b"",)), 10)
        go_on.set()
        return [short, *await asyncio.gather(*long)]

    found = run(all_of_them())
    assert [one[2] for one in found] == [b"/short"] + [b"/long"] * 40


def test_threads_end_with_the_server() -> None:
    app = Threaded(answering(lambda _: HttpResponse("")))
    ask(app)
    told: list[str] = []

    async def live() -> None:
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: dict[str, Any]) -> None:
            told.append(message["type"])

        await app({"type": "lifespan"}, receive, send)

    run(live())
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(RuntimeError):
        app.pools[0].submit(print)
