"""A real OpenAI-compatible server with a small local model: `transformers serve`, the real client, its real errors."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Failure, Reply, ask_of
from heedful.feedback.ai.endpoint import EndpointAsker, Pace
from heedful.feedback.ai.judging import judge
from heedful.feedback.ai.ledger import Ledger
from heedful.feedback.ai.material import Case
from heedful.feedback.ai.preflight import preflight
from heedful.feedback.ai.ways import Manner, VerdictWay
from heedful.feedback.ai.wires import Server
from stage_runs import write_model

pytestmark = pytest.mark.slow
SECONDS = 240


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, model) of a server on loopback."""
    pytest.importorskip("fastapi")
    folder = tmp_path_factory.mktemp("served") / "model"
    write_model(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
    environment = dict(os.environ, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    words = [
        "serve",
        str(folder),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--device",
        "cpu",
        "--log-level",
        "error",
    ]
    with open(folder.parent / "log", "w") as log:
        child = subprocess.Popen([sys.executable, "-c", command, *words], env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + SECONDS
            while child.poll() is None and time.monotonic() < until:
                try:
                    if httpx2.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                        break
                except httpx2.HTTPError:
                    time.sleep(0.3)
            else:
                pytest.fail((folder.parent / "log").read_text()[-2000:])
            yield f"http://127.0.0.1:{port}/v1", str(folder)
        finally:
            child.terminate()
            child.wait(30)


def asker(served: tuple[str, str], path: Path, *, stream: bool = False) -> EndpointAsker:
    url, model = served
    server = Server(url, model, "none", timeout=120, stream=stream)
    return EndpointAsker(server, Ledger(path / "ledger.sqlite"), pace=Pace(concurrency=2, attempts=2, backoff=0.01))


def test_replies_come_from_the_model_and_are_kept(served: tuple[str, str], tmp_path: Path) -> None:
    one = asker(served, tmp_path)
    assert preflight(one, top_logprobs=0, schema=False) == []
    asks = [ask_of([("user", words)], 6) for words in ("what", "red please what")]
    found = dict(one.ask(asks))
    assert all(isinstance(reply, Reply) and reply.usage.prompt_tokens > 0 for reply in found.values())
    again = dict(one.ask(asks))
    assert [reply.text for reply in again.values()] == [found[n].text for n in again]  # type: ignore[union-attr]
    assert one.ledger.outcomes() == {"paid": 3}


def test_streamed_replies_are_the_whole_ones(served: tuple[str, str], tmp_path: Path) -> None:
    asks = [ask_of([("user", words)], 6) for words in ("what", "red please what")]
    found = []
    for stream in (False, True):
        (tmp_path / str(stream)).mkdir()
        one = asker(served, tmp_path / str(stream), stream=stream)
        assert preflight(one, top_logprobs=0, schema=False) == []
        found.append({n: (r.text, r.finish, r.usage) for n, r in one.ask(asks) if isinstance(r, Reply)})
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_what_this_server_lacks_is_told_before_anything_is_judged(served: tuple[str, str], tmp_path: Path) -> None:
    one = asker(served, tmp_path)
    with pytest.raises(HeedfulError, match="no log-probabilities"):
        preflight(one, top_logprobs=20, schema=False)
    (note,) = preflight(one, top_logprobs=0, schema=True)
    assert "does not keep to it" in note  # it is taken, and left aside
    wrong = EndpointAsker(Server(served[0].replace("/v1", "/v7"), "m", "none"), one.ledger, pace=Pace(1, 1, 0.0))
    with pytest.raises(HeedfulError, match="no such model or address"):
        preflight(wrong, top_logprobs=0, schema=False)


def test_a_model_that_talks_nonsense_judges_nothing(served: tuple[str, str], tmp_path: Path) -> None:
    one = asker(served, tmp_path)
    preflight(one, top_logprobs=0, schema=True)
    case = Case((Message("user", "what"),), ("red", "blue"))
    ((_, opinion),) = judge(one, VerdictWay(Manner(rubric="red", max_tokens=16)), [case])
    assert not isinstance(opinion, Failure)
    assert len(opinion.troubles) == 2
    assert set(opinion.troubles) <= {"unreadable", "cut short"}
    assert [len(look.replies) for look in opinion.looks] == [2, 2]
    assert opinion.probability is None
