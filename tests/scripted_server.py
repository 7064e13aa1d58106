"""A loopback server that speaks the chat-completions format by a script, and counts the replies that were paid for."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Say:
    """A reply: its text, log-probabilities of the first token (else of the text itself), why it ended."""

    text: str
    logprobs: Mapping[str, float] | None = None
    finish: str = "stop"
    refusal: str | None = None


@dataclass
class Act:
    """Something else than a reply: a status with headers, raw bytes, silence, a trickle, or a cut connection.

    `events` are sent as a stream with `trickle` seconds between them; `silent` then ends it in silence.
    """

    status: int = 200
    error: Mapping[str, Any] = field(default_factory=lambda: {"message": "scripted"})
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    silent: bool = False
    trickle: float = 0.0
    cut: bool = False
    events: Sequence[bytes] | None = None


Script = Callable[[dict[str, Any], int], Say | Act]
"""(the request's JSON, how often this very question came before) -> what to do."""


def question(given: Mapping[str, Any]) -> str:
    """What makes two requests one question."""
    return hashlib.sha256(json.dumps(given["messages"], sort_keys=True).encode()).hexdigest()


class ScriptedServer(ThreadingHTTPServer):
    """The server. `asked` holds every request, `paid` counts whole replies by question."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Script, models: Sequence[str] = ("judge-1",), port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.script, self.models = script, list(models)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.came: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.let_go = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def judged(self) -> list[dict[str, Any]]:
        """The requests without those that only look whether the server is there."""
        return [one for one in self.asked if not is_probe(one)]


def is_probe(given: Mapping[str, Any]) -> bool:
    """Whether a request only looks whether the server is there."""
    return len(given["messages"]) == 1


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            return self._send(
                200, {"object": "list", "data": [{"id": m, "object": "model"} for m in self.server.models]}
            )
        return self._send(404, {"error": {"message": "no such page"}})

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            return self._send(404, {"error": {"message": "no such page"}})
        key = question(given)
        server = self.server
        with server.lock:
            server.asked.append(given)
            server.keys.append(self.headers.get("Authorization", ""))
            before = server.came[key]
            server.came[key] += 1
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            if given["model"] not in server.models:
                return self._send(404, {"error": {"message": "no such model", "code": "model_not_found"}})
            act = server.script(given, before)
            if isinstance(act, Act):
                return self._misbehave(act, given)
            return self._reply(act, given, key)
        finally:
            with server.lock:
                server.at_once -= 1

    def _reply(self, say: Say, given: dict[str, Any], key: str) -> None:
        with self.server.lock:
            self.server.paid[key] += 1
        if given.get("stream"):
            return self._events(stream_of(say, given), 0.0, silent=False)
        return self._send(200, completion(say, given))

    def _misbehave(self, act: Act, given: dict[str, Any]) -> None:
        if act.events is not None:
            self._events(act.events, act.trickle, silent=act.silent)
        elif act.silent or act.cut:
            if act.silent:
                self.server.let_go.wait()
            self.close_connection = True
            self.connection.close()
        elif act.trickle:
            self._trickle(json.dumps(completion(Say("A"), given)).encode(), act.trickle)
        elif act.body is not None:
            self._raw(act.status, act.body, act.headers)
        else:
            self._send(act.status, {"error": dict(act.error)}, act.headers)

    def _trickle(self, body: bytes, pause: float) -> None:
        with suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                self.wfile.flush()
                if self.server.let_go.wait(pause):
                    break

    def _events(self, events: Sequence[bytes], pause: float, *, silent: bool) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Connection", "close")
            self.end_headers()
            for event in events:
                self.wfile.write(event)
                self.wfile.flush()
                if self.server.let_go.wait(pause):
                    break
            if silent:
                self.server.let_go.wait()

    def _send(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._raw(status, json.dumps(value).encode(), headers or {})

    def _raw(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        with suppress(OSError):
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def completion(say: Say, given: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion's JSON."""
    message: dict[str, Any] = {"role": "assistant", "content": say.text}
    if say.refusal is not None:
        message |= {"content": None, "refusal": say.refusal}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": say.finish}
    if given.get("logprobs"):
        first = dict(say.logprobs or {say.text: 0.0})
        listed = sorted(first.items(), key=lambda one: -one[1])[: given["top_logprobs"]]
        entries = [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in listed]
        said = {"token": say.text, "logprob": first.get(say.text, math.log(0.5)), "bytes": None}
        choice["logprobs"] = {"content": [{**said, "top_logprobs": entries}]}
    words = sum(len(one["content"].split()) for one in given["messages"])
    usage = {"prompt_tokens": words, "completion_tokens": max(1, len(say.text.split())), "total_tokens": words + 1}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": given["model"]}
    return {**head, "choices": [choice], "usage": usage}


def stream_of(say: Say, given: Mapping[str, Any]) -> list[bytes]:
    """The same completion as server-sent events, a character each, ending with the tokens used if it was asked for."""
    whole = completion(say, given)
    choice, head = whole["choices"][0], {"id": "c", "object": "chat.completion.chunk", "model": given["model"]}
    name = "content" if choice["message"].get("content") else "refusal"
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{name: character} for character in choice["message"].get(name) or ""]
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if "logprobs" in choice:
        chunks[-1]["choices"][0]["logprobs"] = choice["logprobs"]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": say.finish}]})
    if (given.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


@contextmanager
def scripted(script: Script, models: Sequence[str] = ("judge-1",)) -> Iterator[ScriptedServer]:
    """A running server."""
    server = ScriptedServer(script, models)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()
