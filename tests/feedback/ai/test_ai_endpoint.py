"""The endpoint asker against a scripted server: what is paid for is kept, retried where it may help, and bounded."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, BudgetSpentError, Failure, Reply, ask_of
from heedful.feedback.ai.budget import Budget, Prices, Purse
from heedful.feedback.ai.endpoint import EndpointAsker, Pace
from heedful.feedback.ai.ledger import Charge, Ledger
from heedful.feedback.ai.preflight import preflight
from heedful.feedback.ai.reading import letter_logits
from heedful.feedback.ai.wires import Fault, Server, read_answer
from scripted_server import Act, Say, ScriptedServer, question, scripted

PACE = Pace(concurrency=4, attempts=4, backoff=0.001)


def asks(count: int, **settings: Any) -> list[Ask]:
    return [ask_of([("user", f"question {number}")], 5, **settings) for number in range(count)]


def echo(given: dict[str, Any], before: int) -> Say:
    return Say(given["messages"][-1]["content"].upper())


def asker(server: ScriptedServer, path: Path, *, budget: Budget | None = None, **more: Any) -> EndpointAsker:
    ledger = Ledger(path / "ledger.sqlite")
    purse = Purse(budget or Budget(), ledger.spent())
    settings = {"timeout": 5.0, "key": "k", **more.pop("reach", {})}
    return EndpointAsker(Server(server.url, "judge-1", **settings), ledger, purse=purse, **{"pace": PACE, **more})


def test_every_ask_is_answered_once_and_a_second_run_pays_nothing(tmp_path: Path) -> None:
    with scripted(echo) as server:
        first = asker(server, tmp_path)
        found = dict(first.ask(asks(20)))
        assert {n: r.text for n, r in found.items() if isinstance(r, Reply)} == {n: f"QUESTION {n}" for n in range(20)}
        assert not any(r.cached for r in found.values() if isinstance(r, Reply))
        assert server.most_at_once <= 4
        first.ledger.close()
        again = dict(asker(server, tmp_path).ask(asks(21)))
        assert sum(isinstance(r, Reply) and r.cached for r in again.values()) == 20
        assert len(server.asked) == 21
        assert max(server.paid.values()) == 1


def test_equal_asks_are_one_request(tmp_path: Path) -> None:
    with scripted(echo) as server:
        found = dict(asker(server, tmp_path).ask(asks(1) * 5 + asks(1, draw=1)))
        assert sorted(found) == [0, 1, 2, 3, 4, 5]
        assert len(server.asked) == 2  # another draw of the same question is another request


@pytest.mark.parametrize(
    "act",
    [
        Act(status=500),
        Act(status=503),
        Act(status=429),
        Act(cut=True),
        Act(body=b'{"choices": [{"message": {"content": "cut sh'),
        Act(body=b'{"choices": []}'),
        Act(body=b"<html>busy</html>"),
        Act(body=b'{"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}'),
    ],
)
def test_what_may_pass_is_tried_again(tmp_path: Path, act: Act) -> None:
    with scripted(lambda given, before: act if before < 2 else echo(given, before)) as server:
        found = dict(asker(server, tmp_path).ask(asks(3)))
        assert sorted(r.text for r in found.values() if isinstance(r, Reply)) == [f"QUESTION {n}" for n in range(3)]
        assert set(server.came.values()) == {3}
        assert set(server.paid.values()) == {1}


def test_what_never_passes_is_a_failure_that_a_later_run_asks_again(tmp_path: Path) -> None:
    with scripted(lambda given, before: Act(status=500) if before < 4 else echo(given, before)) as server:
        first = asker(server, tmp_path)
        (outcome,) = [r for _, r in first.ask(asks(1))]
        assert outcome == Failure("server error", "500: scripted", 4)
        first.ledger.close()
        (later,) = [r for _, r in asker(server, tmp_path).ask(asks(1))]
        assert isinstance(later, Reply)


def test_a_bad_request_is_not_repeated(tmp_path: Path) -> None:
    with scripted(lambda given, before: Act(status=400, error={"message": "too long"})) as server:
        (outcome,) = [r for _, r in asker(server, tmp_path).ask(asks(1))]
        assert outcome == Failure("bad request", "400: too long", 1)
        assert len(server.asked) == 1


def test_retry_after_is_kept_by_all_requests(tmp_path: Path) -> None:
    """The clock is the test's own: pauses pass at once, and are added up."""
    with scripted(
        lambda given, before: Act(status=429, headers={"Retry-After": "7"}) if not before else echo(given, 1)
    ) as server:
        one = asker(server, tmp_path, pace=Pace(concurrency=1, attempts=3, backoff=0.001))
        clock = [100.0]
        waits: list[float] = []
        one.server.now = lambda: clock[0]  # type: ignore[method-assign]

        class Event(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                waits.append(timeout)
                clock[0] += timeout
                return self.is_set()

        one._stopped = Event()
        found = dict(one.ask(asks(2)))
        assert all(isinstance(r, Reply) for r in found.values())
        assert len([w for w in waits if w == pytest.approx(7)]) == 2


def test_a_server_that_wants_an_hour_is_not_waited_for(tmp_path: Path) -> None:
    with scripted(lambda given, before: Act(status=429, headers={"Retry-After": "3600"})) as server:
        (outcome,) = [r for _, r in asker(server, tmp_path).ask(asks(1))]
        assert isinstance(outcome, Failure)
        assert (outcome.reason, outcome.attempts) == ("rate limit", 1)


@pytest.mark.parametrize("act", [Act(silent=True), Act(trickle=0.02)])
def test_silence_and_a_slow_trickle_are_timeouts(tmp_path: Path, act: Act) -> None:
    with scripted(lambda given, before: act if not before else echo(given, before)) as server:
        one = asker(server, tmp_path, reach={"timeout": 0.3})
        (outcome,) = [r for _, r in one.ask(asks(1))]
        assert isinstance(outcome, Reply)
        assert one.ledger.outcomes() == {"paid": 1, "timeout": 1}
        # The first may have been paid for: it counts at the most that it can have taken.
        assert one.purse.spent.requests == 2
        assert one.purse.spent.completion_tokens == 5 + 2


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (Act(status=401), "refused the key of MY_KEY"),
        (Act(status=403), "refused the key of MY_KEY"),
        (Act(status=429, error={"message": "no money", "code": "insufficient_quota"}), "no money left"),
    ],
)
def test_what_no_question_can_pass_stops_the_run(tmp_path: Path, act: Act, words: str) -> None:
    with scripted(lambda given, before: act) as server:
        one = asker(server, tmp_path, reach={"key_variable": "MY_KEY"}, pace=Pace(1, 4, 0.001))
        with pytest.raises(HeedfulError, match=words):
            list(one.ask(asks(50)))
        assert len(server.asked) == 1


def test_a_refusal_is_a_reply(tmp_path: Path) -> None:
    def script(given: dict[str, Any], before: int) -> Say:
        return (
            Say("", refusal="I would rather not.")
            if "0" in given["messages"][-1]["content"]
            else Say("", finish="content_filter")
        )

    with scripted(script) as server:
        found = dict(asker(server, tmp_path).ask(asks(2)))
        assert [(found[n].text, found[n].finish) for n in (0, 1)] == [
            ("I would rather not.", "refusal"),
            ("", "refusal"),
        ]  # type: ignore[union-attr]


def test_the_budget_of_requests_is_never_overdrawn_and_goes_on_when_raised(tmp_path: Path) -> None:
    with scripted(echo) as server:
        first = asker(server, tmp_path, budget=Budget(requests=7))
        got: list[tuple[int, Any]] = []
        with pytest.raises(BudgetSpentError, match="7 requests is spent"):
            got.extend(first.ask(asks(20)))
        assert len(got) == len(server.asked) == 7
        first.ledger.close()
        second = asker(server, tmp_path, budget=Budget(requests=20))
        assert len(dict(second.ask(asks(20)))) == 20
        assert len(server.asked) == 20
        assert max(server.paid.values()) == 1


def test_the_budget_of_tokens_and_money_counts_what_is_under_way_at_its_most(tmp_path: Path) -> None:
    with scripted(echo) as server:
        # "question 0" has 10 bytes; with 16 for its message and 5 of the answer it takes 31 tokens at most, 4 in fact.
        one = asker(server, tmp_path, budget=Budget(tokens=35))
        with pytest.raises(BudgetSpentError):
            list(one.ask(asks(20)))
        assert len(server.asked) == 2
        assert one.purse.spent == Charge(2, 4, 4)
    with scripted(echo) as server:
        prices = Prices(prompt=1e6, completion=2e6)
        money = asker(server, tmp_path / "money", budget=Budget(money=50.0), prices=prices)
        with pytest.raises(BudgetSpentError, match="money"):
            list(money.ask(asks(20)))
        # 36 at most and 6 in fact: a third would come to 12 + 36.
        assert money.purse.spent.cost == pytest.approx(18.0)


def test_a_consumer_that_stops_keeps_what_was_under_way(tmp_path: Path) -> None:
    with scripted(echo) as server:
        one = asker(server, tmp_path)
        running = one.ask(asks(50))
        next(running)
        running.close()  # type: ignore[attr-defined]
        sent = len(server.asked)
        assert sent < 50
        assert one.ledger.outcomes() == {"paid": sent}


def test_ledgers_are_for_one_run_at_a_time(tmp_path: Path) -> None:
    held = Ledger(tmp_path / "l")
    with pytest.raises(HeedfulError, match="another run"):
        Ledger(tmp_path / "l")
    held.close()
    Ledger(tmp_path / "l").close()
    (tmp_path / "no").write_text(
        "this is no database at all, but a text file that is long enough to look like one" * 20
    )
    with pytest.raises(HeedfulError, match="cannot be used"):
        Ledger(tmp_path / "no")


def test_a_request_that_a_dead_run_left_open_counts_as_lost(tmp_path: Path) -> None:
    held = Ledger(tmp_path / "l")
    held.sent("key", Charge(1, 10, 5, 0.5))
    held.close()
    again = Ledger(tmp_path / "l")
    assert again.lost == 1
    assert again.spent() == Charge(1, 10, 5, 0.5)
    again.close()
    assert Ledger(tmp_path / "l").lost == 0  # told once


def test_a_reply_comes_back_from_the_ledger_as_it_was(tmp_path: Path) -> None:
    logprobs = {"A": math.log(0.6), " A": math.log(0.1), "B": math.log(0.2)}
    with scripted(lambda given, before: Say("A", logprobs)) as server:
        first = asker(server, tmp_path)
        (made,) = [r for _, r in first.ask(asks(1, top_logprobs=5))]
        first.ledger.close()
        (kept,) = [r for _, r in asker(server, tmp_path).ask(asks(1, top_logprobs=5))]
        assert isinstance(made, Reply)
        assert isinstance(kept, Reply)
        assert made.tokens == kept.tokens == ("A",)
        assert dict(made.logprobs[0]) == dict(kept.logprobs[0]) == pytest.approx(logprobs)


# What is looked at before the first request that matters.


def needs(server: ScriptedServer, path: Path, *, logprobs: int = 0, schema: bool = False, **more: Any) -> list[str]:
    return preflight(asker(server, path, **more), top_logprobs=logprobs, schema=schema)


def test_an_unknown_model_is_named_with_its_likes(tmp_path: Path) -> None:
    with (
        scripted(echo, models=("judge-2", "other")) as server,
        pytest.raises(HeedfulError, match="Did you mean 'judge-2'"),
    ):
        needs(server, tmp_path)


def test_a_wrong_address_is_told(tmp_path: Path) -> None:
    with scripted(echo) as server:
        port = server.server_port
    ledger = Ledger(tmp_path / "l")
    for url, words in ((f"http://127.0.0.1:{port}/v1", "does not answer"), ("nonsense", "is no address")):
        with pytest.raises(HeedfulError, match=words):
            preflight(EndpointAsker(Server(url, "m", "k", timeout=2), ledger, pace=PACE), top_logprobs=0, schema=False)
    with scripted(echo) as server:
        wrong = Server(server.url.replace("/v1", "/v2"), "judge-1", "k")
        with pytest.raises(HeedfulError, match="no such model or address"):
            preflight(EndpointAsker(wrong, ledger, pace=PACE), top_logprobs=0, schema=False)


def test_a_model_without_logprobs_is_refused_before_anything_is_judged(tmp_path: Path) -> None:
    def none(given: dict[str, Any], before: int) -> Say:
        given.pop("logprobs", None)
        return Say("A")

    with scripted(none) as server, pytest.raises(HeedfulError, match="no log-probabilities"):
        needs(server, tmp_path, logprobs=20)

    def five(given: dict[str, Any], before: int) -> Say | Act:
        return (
            Act(status=400, error={"message": "top_logprobs must be at most 5"})
            if given["top_logprobs"] > 5
            else Say("A")
        )

    def loose(given: dict[str, Any], before: int) -> Say:
        return Say('{"letter": 5}')

    with scripted(loose, models=("judge-1",)) as server:
        (note,) = needs(server, tmp_path / "loose", schema=True)
        assert "does not keep to it" in note
    with scripted(five) as server:
        with pytest.raises(HeedfulError, match="at most 5"):
            needs(server, tmp_path / "20", logprobs=20)
        assert needs(server, tmp_path / "5", logprobs=5) == []


def test_what_a_server_does_not_take_is_found_out_once_and_left_away(tmp_path: Path) -> None:
    def picky(given: dict[str, Any], before: int) -> Say | Act:
        for name in ("max_tokens", "temperature", "response_format"):
            if name in given:
                hint = " Use max_completion_tokens." if name == "max_tokens" else ""
                return Act(status=400, error={"message": f"unsupported: {name}.{hint}"})
        return Say("A")

    with scripted(picky) as server:
        one = asker(server, tmp_path)
        notes = preflight(one, top_logprobs=0, schema=True)
        assert [note.split(" takes no ")[1][:11] for note in notes] == ["JSON schema", "temperature"]
        before = len(server.asked)
        assert isinstance(dict(one.ask(asks(1)))[0], Reply)
        assert server.asked[-1]["max_completion_tokens"] == 5
        one.ledger.close()
        again = asker(server, tmp_path)
        assert preflight(again, top_logprobs=0, schema=True) == notes
        assert len(server.asked) == before + 1


LLAMA_CPP = {
    "lettered": b'{"id":"c","object":"chat.completion","created":1,"model":"judge-1","choices":[{"index":0,"message":'
    b'{"content":"B","role":"assistant"},"logprobs":{"content":[{"token":"B","logprob":-0.984845,"bytes":null,'
    b'"top_logprobs":[{"token":"B","logprob":-0.984845,"bytes":null},{"token":"A","logprob":-1.535822,"bytes":null},'
    b'{"token":"C","logprob":-2.455574,"bytes":null},{"token":"","logprob":-6.320127,"bytes":null}]}],"refusal":null},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":52,"completion_tokens":1,"total_tokens":53}}',
    "no form": {
        "message": "1 validation error:\n {'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': "
        "\"Input should be 'text' or 'json_object'\", 'input': 'json_schema'}",
        "type": "internal_server_error", "param": None, "code": None,
    },
    "no logprobs": {
        "message": "logprobs is not supported for models created with logits_all=False",
        "type": "internal_server_error", "param": None, "code": None,
    },
}  # fmt: skip
"""What llama-cpp-python 0.3.36 answered, tests/feedback/ai/test_ai_llama_cpp.py."""


def test_llama_cpps_own_ways_are_found_out(tmp_path: Path) -> None:
    """It refuses with a 500, takes a schema in another form, and answers to any name."""

    def llama(given: dict[str, Any], before: int) -> Say | Act:
        form = given.get("response_format")
        if form is not None and form["type"] == "json_schema":
            return Act(status=500, error=LLAMA_CPP["no form"])
        if form is not None:
            assert set(form["schema"]["properties"]) == {"letter"}
            return Say('{"letter": "A"}')
        return Act(body=LLAMA_CPP["lettered"], headers={"Content-Type": "application/json"})

    with scripted(llama, models=("judge-1", "another")) as server:
        one = asker(server, tmp_path)
        assert preflight(one, top_logprobs=0, schema=True) == []
        assert len(server.asked) == 2  # what another attempt cannot mend is not tried again
        assert preflight(one, top_logprobs=20, schema=False) == []
        (reply,) = [r for _, r in one.ask(asks(1, top_logprobs=20))]
        assert isinstance(reply, Reply)
        found = letter_logits(reply, 3)
        assert found["B"] - found["A"] == pytest.approx(1.535822 - 0.984845)
    stream = [
        b'data: {"id":"c","model":"judge-1","choices":[{"index":0,"delta":{"content":"B"},"finish_reason":null}]}\n\n',
        b'data: {"id":"c","model":"judge-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ]
    with scripted(lambda given, before: Act(events=stream)) as server:
        (note,) = preflight(asker(server, tmp_path / "s", reach={"stream": True}), top_logprobs=0, schema=False)
        assert "does not tell the tokens of a streamed answer" in note
    refused = Act(status=500, error=LLAMA_CPP["no logprobs"])
    with scripted(lambda given, before: refused) as server:
        with pytest.raises(HeedfulError, match=r"no log-probabilities.*logits_all=False"):
            needs(server, tmp_path / "none", logprobs=20)
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("listed", "told"),
    [("llama3.1:latest", False), ("models/llama3.1", False), ("llama3.1", False), ("qwen3", True), ("", False)],
)
def test_a_server_that_answers_to_any_name_is_told_of(tmp_path: Path, listed: str, told: bool) -> None:
    class Lists(Server):
        def models(self) -> list[str]:
            return [listed] if listed else []

    with scripted(lambda given, before: Say("A"), models=("llama3.1",)) as server:
        one = EndpointAsker(Lists(server.url, "llama3.1", "k"), Ledger(tmp_path / "l.sqlite"), pace=PACE)
        notes = preflight(one, top_logprobs=0, schema=False)
        assert [("may be another model" in note, listed in note) for note in notes] == [(True, True)] * told
        assert preflight(one, top_logprobs=0, schema=False) == notes  # and again, of the ledger
        one.ledger.close()


def test_the_key_goes_only_into_the_header(tmp_path: Path) -> None:
    with scripted(lambda given, before: Act(status=401, error={"message": "bad"})) as server:
        with pytest.raises(HeedfulError) as error:
            needs(server, tmp_path, reach={"key": "very-secret"})
        assert "very-secret" not in str(error.value)
        assert server.keys == ["Bearer very-secret"]
    assert b"very-secret" not in (tmp_path / "ledger.sqlite").read_bytes()


def completion_with(choice: Any) -> bytes:
    return json.dumps({"choices": [choice]}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'"text"', b"\xff\xfe", b"[" * 5000,
        completion_with(None), completion_with({"message": None}),
        completion_with({"message": {"content": "A"}, "logprobs": {"content": [{"token": "A"}]}}),
        completion_with({"message": {"content": "A"}, "logprobs": {"content": ["A"]}}),
    ],
)  # fmt: skip
def test_nonsense_is_a_fault(body: bytes) -> None:
    found = read_answer(body, "m", Prices())
    assert isinstance(found, Fault)
    assert found.reason == "bad reply"


def test_a_pair_of_equal_alternatives_counts_once() -> None:
    entry = {"token": "A", "logprob": -0.1}
    odd = {"token": "B", "logprob": float("-inf")}
    body = completion_with(
        {
            "message": {"content": "A"},
            "finish_reason": "stop",
            "logprobs": {"content": [{**entry, "top_logprobs": [entry, odd]}]},
        }
    )
    found = read_answer(body, "m", Prices())
    assert isinstance(found, Reply)
    assert found.logprobs == ({"A": -0.1, "B": -1e4},)
    assert question({"messages": []}) != question({"messages": [1]})


@pytest.fixture(autouse=True)
def _no_client_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
