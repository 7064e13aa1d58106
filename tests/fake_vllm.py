"""A loopback server that answers as vLLM 0.33 does, with a small policy of its own in place of an engine.

What it knows of vLLM was read in vLLM's request and response models and routes (`vllm/entrypoints/openai/completion`,
`vllm/entrypoints/rl/online`). Tests with it show that trainer and server keep to that protocol, that weights, samples
and steps stand in the right order, and what happens when one of them breaks. They show nothing of vLLM's engine, of its
kernels or of NCCL: `FakeSender` copies weights in memory where vLLM's own engines would broadcast them.
`tests/rollout/test_vllm_own.py` holds the same client against vLLM's own code.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import torch

from heedful.models.checkpoint_weights import checkpoint_weights, weight_shapes
from heedful.models.policy import Policy
from heedful.rollout.engine import NativeEngine
from heedful.rollout.types import DecodingParams
from heedful.rollout.vllm_server import Facts, VLLMServer

FIELDS = frozenset(
    "model prompt n max_tokens temperature top_p top_k min_p repetition_penalty presence_penalty frequency_penalty "
    "logit_bias stop include_stop_str_in_output skip_special_tokens ignore_eos stop_token_ids logprobs "
    "return_token_ids return_tokens_as_token_ids return_weight_versions seed".split()
)
"""The fields of vLLM's CompletionRequest that the client may use."""


class FakeVLLM(ThreadingHTTPServer):
    """The server. `calls` names what came in, in order: routes, and `sample VERSION` for completions.

    Attributes:
        policy: what it samples from.
        version: of its weights; vLLM calls those that it began with "default".
        settings: what `/server_info` tells.
        shift: added to every log-probability that it tells, as an engine with other arithmetic would.
        wrong: changes an answer before it is sent.
        gate: completions wait for it, once `free` were asked for.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, policy: Policy, window: int = 512, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.policy = policy
        self.version = "default"
        self.window = window
        self.settings: dict[str, Any] = {
            "model_config": {"logprobs_mode": "processed_logprobs"},
            "weight_transfer_config": {"backend": "nccl"},
        }
        self.calls: list[str] = []
        self.paused = False
        self.shift = 0.0
        self.wrong: Any = lambda answer: answer
        self.gate = threading.Event()
        self.free = 10**9
        self.missing: set[str] = set()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, how: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """What vLLM answers on a route."""
        if path in self.missing:
            return 404, {"detail": "Not Found"}
        if path == "/v1/completions":
            return self._complete(body)
        self.calls.append(path)
        if path == "/v1/models":
            return 200, {"data": [{"id": "served", "parent": None, "max_model_len": self.window}]}
        if path == "/server_info":
            return 200, {"vllm_config": self.settings}
        if path == "/get_world_size":
            return 200, {"world_size": 1}
        if path in ("/pause", "/resume"):
            self.paused = path == "/pause"
        elif path == "/finish_weight_update":
            self.version = body["weight_version"]
        elif path not in ("/start_weight_update", "/shutdown_weight_transfer_engine"):
            return 404, {"detail": "Not Found"}
        return 200, {"message": "done"}

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        assert body.keys() <= FIELDS, body.keys() - FIELDS
        if self.paused:
            return 503, {"error": {"message": "generation is paused"}}
        if body["model"] != "served":
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        assert (body["top_p"], body["top_k"], body["min_p"], body["ignore_eos"]) == (1.0, 0, 0.0, True)
        assert set(body["stop_token_ids"]) == set(self.policy.eos)
        assert {int(token) for token in body["logit_bias"]} == set(self.policy.banned)
        assert 0 <= body["seed"] < 2**63 - body["n"]
        self.calls.append(f"sample {self.version}")
        version = self.version
        if len([call for call in self.calls if call.startswith("sample")]) > self.free:
            self.gate.wait()
        with self._lock, torch.no_grad():
            params = DecodingParams(body["max_tokens"], body["temperature"], body["seed"], tuple(body["stop"]))
            rollout = NativeEngine(self.policy).generate([body["prompt"]], params, samples_per_prompt=body["n"])
        choices = []
        for row in range(len(rollout)):
            tokens = rollout.tokens[row][rollout.mask[row]].tolist()
            told = (rollout.logprobs[row][rollout.mask[row]] + self.shift).tolist()
            choices.append(
                {
                    "index": row,
                    "text": "",
                    "token_ids": tokens,
                    "logprobs": {"token_logprobs": told, "tokens": [f"token_id:{token}" for token in tokens]},
                    "finish_reason": "stop" if bool(rollout.finished[row]) else "length",
                    "weight_versions": [{"version": version, "start": 0, "end": len(tokens)}],
                }
            )
        return 200, self.wrong({"model": "served", "choices": choices})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeVLLM

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}") or {}
        status, answer = self.server.answer(self.command, urlsplit(self.path).path, body)
        told = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class FakeSender:
    """The way of the weights, in memory. It keeps to the order of calls of vLLM's trainer engines."""

    def __init__(self, fake: FakeVLLM, server: VLLMServer, policy: Policy) -> None:
        self.fake, self.server, self.policy = fake, server, policy

    def send(self, version: str) -> None:
        """As `Sender`."""
        assert self.fake.paused
        shapes = {name: (dtype, shape) for name, dtype, shape in weight_shapes(self.policy)}
        own = dict(self.fake.policy.model.named_parameters())
        self.server.call("POST", "/start_weight_update")
        with torch.no_grad():
            for name, weight in checkpoint_weights(self.policy):
                assert shapes.pop(name) == (weight.dtype, tuple(weight.shape))
                own.pop(name).copy_(weight)
        assert not shapes
        assert not own, own.keys()
        self.server.call("POST", "/finish_weight_update", json={"weight_version": version})

    def close(self) -> None:
        """As `Sender`."""
        self.server.call("POST", "/shutdown_weight_transfer_engine")


@contextmanager
def serving(policy: Policy, window: int = 512, port: int = 0) -> Iterator[FakeVLLM]:
    """A server while the block runs."""
    fake = FakeVLLM(policy, window, port)
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.gate.set()
        fake.shutdown()
        fake.server_close()
        thread.join()


def connecting(fake: FakeVLLM) -> Any:
    """What takes the place of `rollout.vllm_weights.connect`."""

    def connect(server: VLLMServer, facts: Facts, policy: Policy, address: str | None) -> FakeSender:
        return FakeSender(fake, server, policy)

    return connect
