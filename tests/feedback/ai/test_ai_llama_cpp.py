"""llama.cpp's OpenAI-compatible server with a tiny model of our own, on loopback: `make llama`.

HEEDFUL_LLAMA_PYTHON names an interpreter with llama-cpp-python[server] and gguf, which stay out of heedful's own
environment.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

import tiny_gguf
from heedful.cli.main import main
from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Reply, ask_of
from heedful.feedback.ai.endpoint import EndpointAsker, Pace
from heedful.feedback.ai.ledger import Ledger
from heedful.feedback.ai.preflight import preflight
from heedful.feedback.ai.reading import letter_logits
from heedful.feedback.ai.wires import Server

PYTHON = os.environ.get("HEEDFUL_LLAMA_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="HEEDFUL_LLAMA_PYTHON names no interpreter with llama_cpp: make llama"),
]
SECONDS = 120
MODEL = "judge-1"
FAST = ["--endpoint.backoff", "0.05", "--endpoint.attempts", "2", "--endpoint.concurrency", "1"]


@dataclass
class Running:
    """A server, and what it wrote."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def answered(self) -> int:
        """Chats that it answered."""
        return len(re.findall(r'"POST /v1/chat/completions HTTP/1.1" 200', self.log.read_text()))


@contextmanager
def llama(model: Path, port: int = 0, *, logits: bool = True) -> Iterator[Running]:
    """A server of its own process."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    log = model.with_name(f"{time.monotonic_ns()}.log")
    words = ["--model", str(model), "--host", "127.0.0.1", "--port", str(port), "--model_alias", MODEL]
    words += ["--n_ctx", str(tiny_gguf.CONTEXT), "--n_threads", "1", "--logits_all", str(logits).lower()]
    with open(log, "wb") as out:
        process = subprocess.Popen([PYTHON, "-m", "llama_cpp.server", *words], stdout=out, stderr=out)
        try:
            until = time.monotonic() + SECONDS
            while process.poll() is None and time.monotonic() < until:
                try:
                    if httpx2.get(f"http://127.0.0.1:{port}/v1/models", timeout=5).status_code == 200:
                        break
                except httpx2.HTTPError:
                    time.sleep(0.2)
            else:
                pytest.fail(log.read_text()[-2000:])
            yield Running(f"http://127.0.0.1:{port}/v1", process, log)
        finally:
            process.kill()
            process.wait(30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama") / "tiny.gguf"
    subprocess.run([PYTHON, tiny_gguf.__file__, str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Running]:
    with llama(model) as running:
        yield running


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"Where is parcel {n}?", "chosen": f"It left us {n} days ago.", "rejected": "x" * (n + 1)}
        for n in range(6)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asker(server: Running, path: Path, *, name: str = MODEL, stream: bool = False) -> EndpointAsker:
    path.mkdir(exist_ok=True)
    one = Server(server.url, name, "none", timeout=60, stream=stream)
    return EndpointAsker(one, Ledger(path / "ledger.sqlite"), pace=Pace(concurrency=2, attempts=2, backoff=0.01))


def judged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "judgments.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stream", [False, True])
def test_soft_labels_come_from_log_probabilities_on_the_wire(
    served: Running, pairs: Path, tmp_path: Path, stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "judged"
    more = ["--endpoint.stream"] if stream else []
    assert main(["judge", str(pairs), "--judge", f"{MODEL}@{served.url}", "--out", str(out), *FAST, *more]) == 0
    said = capsys.readouterr()
    assert ("does not tell the tokens of a streamed answer" in said.out + said.err) is stream
    rows = judged(out)
    assert len(rows) == 12  # both orders
    assert all(row["payload"] is not None for row in rows), rows[0]
    labels = [json.loads(line)["probability"] for line in (out / "preferences.jsonl").read_text().splitlines()]
    assert len(labels) == 6
    assert len({round(one, 6) for one in labels}) > 3
    assert all(0 < one < 1 for one in labels)


def test_streamed_letters_weigh_as_whole_ones(served: Running, tmp_path: Path) -> None:
    ask = ask_of([("user", "Which is better, red or blue? Reply with A, B or C.")], 8, top_logprobs=20)
    found = []
    for stream in (False, True):
        one = asker(served, tmp_path / str(stream), stream=stream)
        preflight(one, top_logprobs=20, schema=False)
        ((_, reply),) = one.ask([ask])
        assert isinstance(reply, Reply)
        found.append((reply.text, reply.finish, letter_logits(reply, 3)))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] == pytest.approx(found[1][2], abs=1e-5)


def test_a_schema_is_kept_to_in_the_form_that_the_server_takes(
    served: Running, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = asker(served, tmp_path / "look")
    assert preflight(one, top_logprobs=0, schema=True) == []
    assert one.server.schema_form == "json_object"
    out = tmp_path / "judged"
    way = ["--way", "verdict", "--asking.max-tokens", "64"]
    assert main(["judge", str(pairs), "--judge", f"{MODEL}@{served.url}", "--out", str(out), *FAST, *way]) == 0
    said = capsys.readouterr()
    assert "JSON schema" not in said.out + said.err
    rows = judged(out)
    assert len(rows) == 12
    assert {row["trouble"] for row in rows} == {""}
    assert all(len(row["replies"]) == 1 for row in rows)  # none had to be asked for again


def test_a_name_that_it_does_not_have_is_told_of(served: Running, tmp_path: Path) -> None:
    (note,) = preflight(asker(served, tmp_path / "w", name="gpt-9"), top_logprobs=0, schema=False)
    assert note.startswith(f"gpt-9 is not among the models that the server lists ({MODEL})")
    elsewhere = Running(served.url.replace("/v1", "/v7"), served.process, served.log)
    with pytest.raises(HeedfulError, match="no such model or address"):
        preflight(asker(elsewhere, tmp_path / "e"), top_logprobs=0, schema=False)


def test_what_is_too_long_is_a_failure_and_no_verdict(served: Running, tmp_path: Path) -> None:
    one = asker(served, tmp_path / "long")
    ((_, failure),) = one.ask([ask_of([("user", "x " * tiny_gguf.CONTEXT)], 8)])
    assert not isinstance(failure, Reply)
    assert (failure.reason, failure.attempts) == ("bad request", 1)
    assert "maximum context length" in failure.detail


def test_a_server_begun_without_logits_is_refused_before_anything_is_judged(
    model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with llama(model, logits=False) as running:
        assert (
            main(["judge", str(pairs), "--judge", f"{MODEL}@{running.url}", "--out", str(tmp_path / "o"), *FAST]) == 2
        )
    assert "logits_all=False" in capsys.readouterr().err


def test_killed_in_mid_run_nothing_is_lost_and_nothing_paid_twice(model: Path, pairs: Path, tmp_path: Path) -> None:
    """The server is killed while the command works; the same command, once it is back, asks for the rest alone."""
    out = tmp_path / "judged"
    with llama(model) as running:
        port = int(running.url.split(":")[2].split("/")[0])
        words = [sys.executable, "-m", "heedful.cli.main", "judge", str(pairs), "--judge", f"{MODEL}@{running.url}"]
        words += ["--out", str(out), "--way", "critique", "--asking.max-tokens", "64", *FAST]
        work = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until = time.monotonic() + SECONDS
        while running.answered < 4 and time.monotonic() < until and work.poll() is None:
            time.sleep(0.02)
        running.process.kill()
        assert running.process.wait(30)
        said = work.communicate(timeout=SECONDS)[1].decode()
        before = running.answered
    ledger = Ledger(out / "ledger.sqlite")
    kept = ledger.outcomes().get("paid", 0)
    ledger.close()
    assert 3 <= kept <= before <= kept + 1, said  # one may have been on its way
    assert kept < 24
    with llama(model, port) as again:
        assert subprocess.run(words, capture_output=True).returncode == 0
        after = again.answered
    ledger = Ledger(out / "ledger.sqlite")
    assert ledger.outcomes()["paid"] == kept + after
    ledger.close()
    rows = judged(out)
    assert {row["trouble"] for row in rows} == {""}
    replies = {json.dumps(reply, sort_keys=True) for row in rows for reply in row["replies"]}
    assert replies
    assert sum(len(row["replies"]) for row in rows) >= kept + after - 1  # the first look at the server is no look
