"""Answers that come in pieces: equal to whole ones, however they are cut; what breaks off is no reply."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from heedful.feedback.ai.asks import Failure, Reply, ask_of
from heedful.feedback.ai.budget import Budget, Prices, Purse
from heedful.feedback.ai.endpoint import EndpointAsker, Pace
from heedful.feedback.ai.ledger import Ledger
from heedful.feedback.ai.preflight import preflight
from heedful.feedback.ai.streaming import Assembly, BrokenStreamError
from heedful.feedback.ai.wires import Server, read_answer
from scripted_server import Act, Say, ScriptedServer, completion, scripted, stream_of

GIVEN: dict[str, Any] = {
    "model": "judge-1",
    "messages": [{"role": "user", "content": "which one"}],
    "stream_options": {"include_usage": True},
}
ASK = ask_of([("user", "which one")], 8)


def asker(server: ScriptedServer, path: Path, *, stream: bool = True, timeout: float = 5.0) -> EndpointAsker:
    ledger = Ledger(path / "ledger.sqlite")
    reach = Server(server.url, "judge-1", "k", timeout=timeout, stream=stream)
    pace = Pace(concurrency=2, attempts=2, backoff=0.001)
    return EndpointAsker(reach, ledger, purse=Purse(Budget(), ledger.spent()), prices=Prices(1.0, 2.0), pace=pace)


def one(asker: EndpointAsker) -> Reply | Failure:
    return dict(asker.ask([ASK]))[0]


@settings(max_examples=60, deadline=None)
@drawn(
    text=st.text(max_size=30),
    cuts=st.lists(st.integers(1, 40), max_size=60),
    logprobs=st.booleans(),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_a_stream_cut_anywhere_is_the_whole_answer(text: str, cuts: list[int], logprobs: bool, ends: str) -> None:
    given = GIVEN | ({"logprobs": True, "top_logprobs": 2} if logprobs else {})
    say = Say(text, {"A": math.log(0.75), "B": math.log(0.25)} if logprobs else None)
    stream = b": still here\n\n" + b"".join(stream_of(say, given))
    stream = stream.replace(b"\n", ends.encode())
    assembly = Assembly()
    for size in cuts:
        assembly.take(stream[:size])
        stream = stream[size:]
    assembly.take(stream)
    found = read_answer(assembly.whole(), "judge-1", Prices(1.0, 2.0))
    assert found == read_answer(json.dumps(completion(say, given)).encode(), "judge-1", Prices(1.0, 2.0))
    assert isinstance(found, Reply)
    assert found.text == text


def test_streamed_and_whole_replies_are_equal_and_cost_the_same(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    with scripted(lambda given, before: Say("B is better")) as server:
        streamed = asker(server, tmp_path)
        found = one(streamed)
        assert found == one(asker(server, tmp_path / "whole", stream=False))
        assert isinstance(found, Reply)
        assert (found.text, found.usage.prompt_tokens, found.usage.completion_tokens) == ("B is better", 2, 3)
        assert streamed.ledger.spent().cost == pytest.approx((2 * 1.0 + 3 * 2.0) / 1e6)
        assert [request.get("stream") for request in server.asked] == [True, None]


def test_a_refusal_is_a_reply_in_pieces_too(tmp_path: Path) -> None:
    with scripted(lambda given, before: Say("", refusal="I cannot.")) as server:
        found = one(asker(server, tmp_path))
        assert isinstance(found, Reply)
        assert (found.text, found.finish) == ("I cannot.", "refusal")


def test_a_slow_answer_is_waited_for_as_long_as_pieces_come(tmp_path: Path) -> None:
    """The pieces take longer than the longest silence that is allowed."""

    def slow(given: dict[str, Any], before: int) -> Act:
        return Act(events=stream_of(Say("x" * 26), given), trickle=0.08)

    with scripted(slow) as server:
        found = one(asker(server, tmp_path, timeout=2.0))
        assert isinstance(found, Reply)
        assert found.text == "x" * 26


@pytest.mark.parametrize(
    ("events", "silent", "pause", "reason"),
    [
        pytest.param([b'data: {"choices":[{"delta":{"content":"A"}}]}\n\n'], False, 0.0, "broken stream", id="cut off"),
        pytest.param([b'data: {"choices":[{"delta":{"content":"A"}}]}\n\n'], True, 0.0, "timeout", id="falls silent"),
        pytest.param([b": ping\n\n"] * 500, False, 0.02, "timeout", id="pings for ever"),
        pytest.param([b"data: {"] * 500, False, 0.02, "timeout", id="an event without an end"),
        pytest.param([b'data: {"error": {"message": "out of memory"}}\n\n'], False, 0.0, "broken stream", id="error"),
        pytest.param(
            [b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'], False, 0.0, "broken stream", id="no text"
        ),
        pytest.param([b"data: nonsense\n\n"], False, 0.0, "broken stream", id="nonsense"),
        pytest.param([b'data: {"choices": 5}\n\n'], False, 0.0, "broken stream", id="no list"),
    ],
)
def test_what_breaks_off_is_no_reply_and_is_tried_again(
    tmp_path: Path, events: list[bytes], silent: bool, pause: float, reason: str
) -> None:
    patience = 0.3 if reason == "timeout" else 20.0
    with scripted(lambda given, before: Act(events=events, silent=silent, trickle=pause)) as server:
        found = one(asker(server, tmp_path, timeout=patience))
        assert isinstance(found, Failure)
        assert (found.reason, found.attempts) == (reason, 2)
        assert len(server.asked) == 2


def test_a_broken_stream_may_be_mended_by_the_next_attempt(tmp_path: Path) -> None:
    def once(given: dict[str, Any], before: int) -> Say | Act:
        return Say("A") if before else Act(events=stream_of(Say("A"), given)[:2])

    with scripted(once) as server:
        found = one(asker(server, tmp_path))
        assert isinstance(found, Reply)
        assert found.text == "A"


def test_a_server_that_knows_no_streaming_answers_all_the_same(tmp_path: Path) -> None:
    body = json.dumps(completion(Say("A"), GIVEN)).encode()
    with scripted(lambda given, before: Act(body=body)) as server:
        found = one(asker(server, tmp_path))
        assert isinstance(found, Reply)
        assert found.text == "A"


def test_a_server_that_does_not_tell_tokens_of_streams_is_found_out_and_reckoned_at_the_most(tmp_path: Path) -> None:
    def picky(given: dict[str, Any], before: int) -> Say | Act:
        if "stream_options" in given:
            return Act(status=400, error={"message": "Unrecognized request argument: stream_options"})
        return Say("A")

    with scripted(picky) as server:
        reached = asker(server, tmp_path)
        (note,) = preflight(reached, top_logprobs=0, schema=False)
        assert "does not tell the tokens" in note
        spent = reached.ledger.spent().cost
        assert isinstance(one(reached), Reply)
        assert reached.ledger.spent().cost - spent >= 8 * 2.0 / 1e6  # all eight tokens that it might have taken


def test_an_end_without_a_finish_is_no_end() -> None:
    assembly = Assembly()
    assert assembly.take(b'data: {"choices":[{"delta":{"content":"A"}}]}\n\ndata: [DONE]\n\n')
    with pytest.raises(BrokenStreamError, match="ended before"):
        assembly.whole()
