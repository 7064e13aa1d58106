"""A small server that speaks the OpenAI chat API: well, slowly, badly, or not at all."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint(ThreadingHTTPServer):
    """The server. Set `mode` and `delay` at any time; `asked` holds what it was sent.

    Modes: "normal"; "failing" (every request gets 500); "half" (every second one does); "refusing" (401);
    "odd" (200 and no completion in it); "empty" (an answer of white space); "hostile" (an answer of markup);
    "hanging" (no answer before `let_go`); "half hanging" (of every second one).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode = "normal"
        self.delay = 0.0
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.number = 0
        self.let_go = threading.Event()

    @property
    def url(self) -> str:
        """As an endpoint's base_url."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(given)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.server.number += 1
            number, mode, delay = self.server.number, self.server.mode, self.server.delay
        if delay:
            time.sleep(delay)
        if mode == "hanging" or (mode == "half hanging" and number % 2 == 0):
            self.server.let_go.wait()
        if mode == "refusing":
            return self._answer(401, {"error": {"message": "the key is secret-key"}})
        if mode == "failing" or (mode == "half" and number % 2 == 0):
            return self._answer(500, {"error": {"message": "secret trace"}})
        if mode == "odd":
            return self._answer(200, {"choices": []})
        said = given["messages"][-1]["content"]
        text = {"empty": "  \n", "hostile": "<script>alert(1)</script><img src=x onerror=alert(2)>"}.get(
            mode, f"Answer {number} to **{said}**."
        )
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = {"id": f"c{number}", "object": "chat.completion", "created": 1, "model": given["model"]}
        return self._answer(200, {**body, "choices": [choice]})

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Endpoint]:
    """A running endpoint."""
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()
