"""Django on a fixed set of threads, under an ASGI server.

Django's own ASGI handler begins a thread for each request, and with it a connection to the database: under load that
costs more than many a request. These threads last, and keep their connections.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from tempfile import SpooledTemporaryFile
from typing import Any, cast

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

THREADS = 32
"""Requests at the same time, in all processes: each thread keeps a connection, and PostgreSQL has a hundred of them."""
FEWEST = 8
"""Requests at the same time in one process, however many there are."""
SHORT = 2
"""Short requests at the same time. More would not be done sooner: they fight over the interpreter, and over SQLite's
one writer, and the last of them waits ten times as long. Two, so that one computes while the other waits for the disk.
"""
IN_MEMORY = 1 << 20
"""Bytes of a request that are kept in memory; the rest waits on disk."""
LARGEST = 9 * 2**20
"""Bytes of a request where nobody says otherwise: Django's own limit, `DATA_UPLOAD_MAX_MEMORY_SIZE`, and some more for
its form. It is counted as the bytes come, before anybody asks who sends them."""
FIELD, LARGEST_FIELD = re.compile(r"/api/programmes/[^/]+/feedback(/withdraw)?"), IN_MEMORY
"""What end users wrote, from which names are taken before it is written anywhere: it never waits on disk."""
UPLOAD, LARGEST_UPLOAD = re.compile(r"/p/[^/]+/wizard/file/"), 33 * 2**20
"""Where a file is dropped, and the bytes of a request there: the wizard's 32 MiB, and its form."""
REFUSED = [(b"content-type", b"application/json"), (b"connection", b"close")]
ALIVE, LIVE = "/healthz", b'{"status": "ok"}'
LIVE_HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
TOO_LARGE = b'{"error": "the request is too large.", "detail": "the request is too large."}'
PLAIN = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


def threads_each(workers: int) -> int:
    """How many threads, short requests' apart, each of so many processes has."""
    return max(FEWEST, THREADS // workers)


def largest(path: str) -> int:
    """How many bytes a request to a path may have."""
    if FIELD.fullmatch(path):
        return LARGEST_FIELD
    return LARGEST_UPLOAD if UPLOAD.fullmatch(path) else LARGEST


class Threaded:
    """An ASGI application that runs a WSGI one in its threads.

    Requests that are short have threads of their own, so that nobody's export makes a rater wait, and are answered in
    the order in which they come. An answer that is whole is sent when its thread is free again, so that nobody's slow
    line holds a thread. One that streams keeps its thread to its end.

    Args:
        wsgi: the application.
        short: whether the requests of a path are short.
        largest: how many bytes a request to a path may have; one with more is answered with 413, and the rest of it
            is not read.
        threads: that answer requests which are not short.
    """

    def __init__(
        self,
        wsgi: Wsgi,
        short: Callable[[str], object] = lambda path: False,
        largest: Callable[[str], int] = largest,
        threads: int = THREADS,
    ) -> None:
        self.wsgi = wsgi
        self.short = short
        self.largest = largest
        self.pools = (
            ThreadPoolExecutor(threads, thread_name_prefix="request"),
            ThreadPoolExecutor(SHORT, thread_name_prefix="short"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} connections are not served")
        if scope["path"] == ALIVE:  # of the process alone, so it waits for no thread
            await send({"type": "http.response.start", "status": 200, "headers": LIVE_HEADERS})
            await send({"type": "http.response.body", "body": LIVE})
            return
        most = self.largest(scope["path"])
        with SpooledTemporaryFile(max_size=IN_MEMORY) as body:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                piece = message.get("body", b"")
                if body.tell() + len(piece) > most:  # before it is written: what is too large is never kept on disk
                    await send({"type": "http.response.start", "status": 413, "headers": REFUSED})
                    await send({"type": "http.response.body", "body": TOO_LARGE})
                    return
                body.write(piece)
                if not message.get("more_body"):
                    break
            given = environ(scope, body, body.tell())
            body.seek(0)
            loop = asyncio.get_running_loop()

            def hand(message: Message) -> None:
                asyncio.run_coroutine_threadsafe(_send(send, message), loop).result()

            pool = self.pools[bool(self.short(scope["path"]))]
            whole = await loop.run_in_executor(pool, self._answer, given, hand)
        for message in whole:
            await send(message)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for pool in self.pools:
            pool.shutdown(wait=True)
        await send({"type": "lifespan.shutdown.complete"})

    def _answer(self, given: dict[str, Any], hand: Callable[[Message], None]) -> list[Message]:
        """Run in a thread: the messages of an answer that is whole; one that streams is handed on bit by bit."""
        start: Message = {}

        def begin(status: str, headers: list[tuple[str, str]], error: Any = None) -> None:
            lines = [(name.lower().encode("latin1"), value.strip().encode("latin1")) for name, value in headers]
            start.update(type="http.response.start", status=int(status.split(" ", 1)[0]), headers=lines)

        response = cast(Any, self.wsgi(given, begin))
        try:
            if not getattr(response, "streaming", False):
                content = b"".join(response)
                return [start, {"type": "http.response.body", "body": content}]
            hand(start)
            for piece in response:
                hand({"type": "http.response.body", "body": piece, "more_body": True})
            return [{"type": "http.response.body"}]
        finally:
            response.close()  # ends the request: Django's signals, files


async def _send(send: Send, message: Message) -> None:
    await send(message)


def environ(scope: Scope, body: Any, size: int) -> dict[str, Any]:
    """A request as WSGI has it (PEP 3333); the size is of the body that came, also in chunks.

    A header with an underscore in its name is left out: it could pass for another with a hyphen there.
    """
    server = scope.get("server") or ("localhost", 80)
    client = scope.get("client") or ("", 0)
    given = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin1"),
        "QUERY_STRING": scope["query_string"].decode("latin1"),
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1] or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": str(client[0]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        if b"_" in name:
            continue
        key = PLAIN.get(name) or "HTTP_" + name.decode("latin1").upper().replace("-", "_")
        text = value.decode("latin1")
        if key in given:
            text = given[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        given[key] = text
    if size:
        given["CONTENT_LENGTH"] = str(size)
    return given
