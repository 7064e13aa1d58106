"""heedful judge: files in and out, a kill in mid-run, a budget, a panel, and what is refused before it is paid for."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.main import main
from heedful.data.load import DataSpec, load_preferences, load_rankings
from heedful.errors import HeedfulError
from heedful.pipeline.judge_opening import key_for
from scripted_server import Act, Say, ScriptedServer, is_probe, question, scripted

COUNT = 30


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def write_pairs(path: Path, count: int = COUNT, probability: float = 1.0, votes: int = 1) -> Path:
    """Pairs whose answer a is the good one."""
    said = {"probability": probability, "votes": votes}
    rows = [{"prompt": f"question {i}", "a": f"good {i}", "b": f"bad {i}, padded", **said} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fair(given: dict[str, Any], before: int) -> Say:
    """Prefers what is good, and whatever stands first a little."""
    text = given["messages"][-1]["content"]
    logit = (2.0 if text.find("\ngood") < text.find("\nbad") else -2.0) + 0.5
    return Say("A" if logit > 0 else "B", {"A": -math.log1p(math.exp(-logit)), "B": -math.log1p(math.exp(logit)), "C": -30.0})  # fmt: skip  # noqa: E501


def run(*words: Any) -> int:
    return main(["judge", *map(str, words)])


def judged(server: ScriptedServer, folder: Path, data: Path, *words: Any) -> int:
    return run(data, "--judge", f"judge-1@{server.url}", "--out", folder / "out", "--endpoint.backoff", "0.001", *words)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "judgments.jsonl").read_text().splitlines()]


def test_pairs_become_soft_labels_that_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(fair) as server:
        assert judged(server, tmp_path, write_pairs(tmp_path / "pairs.jsonl"), "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["cases"], said["labels"], said["left_out"]) == (COUNT, COUNT, 0)
        (one,) = said["judges"]
        assert one["card"]["consistency"]["mean"] == 1.0
        assert one["card"]["position"]["mean"] == pytest.approx(0.5)
        records = load_preferences(DataSpec(str(tmp_path / "out" / "preferences.jsonl"))).records
        assert [record.probability for record in records] == pytest.approx([1 / (1 + math.exp(-2))] * COUNT, abs=1e-4)
        row = rows_of(tmp_path)[0]
        assert row["rater"] == {"kind": "ai", "name": f"judge-1@{server.url}"}
        assert row["template"] == one["template"]
        assert (row["temperature"], row["replies"][0]["text"], row["replies"][0]["model"]) == (0.0, "A", "judge-1")
        assert len(server.judged()) == 2 * COUNT
        assert {key for key in server.keys if key != "Bearer none"} == set()
        before = (tmp_path / "out" / "preferences.jsonl").read_bytes()
        assert judged(server, tmp_path, tmp_path / "pairs.jsonl") == 0  # again: all from the ledger
        assert len(server.judged()) == 2 * COUNT
        assert (tmp_path / "out" / "preferences.jsonl").read_bytes() == before


def test_a_run_that_is_killed_goes_on_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    def slowly(given: dict[str, Any], before: int) -> Say:
        time.sleep(0.01)
        return fair(given, before)

    data = write_pairs(tmp_path / "pairs.jsonl", 60)
    with scripted(slowly) as server:
        words = ["judge", str(data), "--judge", f"judge-1@{server.url}", "--out", str(tmp_path / "out"), "--concurrency", "4"]  # fmt: skip  # noqa: E501
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS="1")
        child = subprocess.Popen([sys.executable, "-m", "heedful.cli.main", *words], env=environment, stderr=subprocess.DEVNULL)  # fmt: skip  # noqa: E501
        while len(server.judged()) < 40 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert not (tmp_path / "out" / "judgments.jsonl").exists()
        known, open_ = in_ledger(tmp_path / "out" / "ledger.sqlite")
        assert len(known) >= 30
        assert len(open_) <= 4
        assert main(words) == 0
        judgments = [key for key, given in zip(map(question, server.asked), server.asked, strict=True) if not is_probe(given)]  # fmt: skip  # noqa: E501
        assert len(set(judgments)) == 120
        assert all(server.paid[key] == 1 for key in known)
        # What was under way when it was killed is all that can have been paid for twice.
        assert sum(server.paid[key] - 1 for key in set(judgments)) <= len(open_)
    assert len(load_preferences(DataSpec(str(tmp_path / "out" / "preferences.jsonl"))).records) == 60


def in_ledger(path: Path) -> tuple[set[str], list[str]]:
    """The questions that have their reply, and the requests that have no end."""
    with sqlite3.connect(path) as db:
        asks = [json.loads(ask) for (ask,) in db.execute("SELECT ask FROM replies")]
        open_ = [key for (key,) in db.execute("SELECT key FROM requests WHERE outcome = 'sent'")]
    db.close()
    return {question(ask) for ask in asks if not is_probe(ask)}, open_


def test_a_spent_budget_keeps_what_was_paid_for_and_a_larger_one_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pairs(tmp_path / "pairs.jsonl")
    with scripted(fair) as server:
        assert judged(server, tmp_path, data, "--budget.requests", "21", "--json") == 1
        said = json.loads(capsys.readouterr().out)
        assert not said["finished"]
        assert "budget of 21 requests is spent" in said["stopped"]
        assert len(server.asked) == 21  # one looked whether the server is there
        assert (
            said["labels"] == len(load_preferences(DataSpec(str(tmp_path / "out" / "preferences.jsonl"))).records) > 0
        )
        assert judged(server, tmp_path, data, "--budget.requests", "100", "--json") == 0
        assert len(server.asked) == 61
        assert json.loads(capsys.readouterr().out)["labels"] == COUNT


def test_people_correct_the_labels_and_tell_their_worth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs.jsonl", 60)
    people = write_pairs(tmp_path / "people.jsonl", 40, probability=0.75, votes=4)
    gold = write_pairs(tmp_path / "gold.jsonl", 10)
    with scripted(fair) as server:
        assert judged(server, tmp_path, data, "--people", people, "--gold", gold, "--json") == 0
    (judge,) = json.loads(capsys.readouterr().out)["judges"]
    card = judge["card"]
    assert (card["with_people"], card["gold_pairs"], card["gold"]["mean"]) == (40, 10, 1.0)
    assert card["agreement"]["mean"] == pytest.approx(0.75)
    assert card["people"]["mean"] == pytest.approx(1 - 2 * (3 * 0.0625 + 0.5625) / 3)
    assert card["worth"]["noise"] == pytest.approx(0.25)
    records = load_preferences(DataSpec(str(tmp_path / "out" / "preferences.jsonl"))).records
    # The judge says 0.88 of every pair; people say 3 of 4.
    assert [record.probability for record in records] == pytest.approx([0.75] * 60, abs=0.03)
    assert records[0].consensus.endswith("corrected, with people")


def test_win_rates_of_named_models_are_peoples_with_the_judges_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Model x is good on two prompts of three; people judged every other pair, each twice, and say so themselves."""
    data, people = tmp_path / "battles.jsonl", tmp_path / "people.jsonl"
    rows = []
    for i in range(90):
        good = i % 3 < 2
        a, b = (f"good {i}", f"bad {i}") if good else (f"bad {i}", f"good {i}")
        rows.append({"prompt": f"question {i}", "a": a, "b": b, "model_a": "x", "model_b": "y", "probability": 0.5})
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = [{k: v for k, v in row.items() if not k.startswith("model")} for row in rows[::2]]
    for row in kept:
        row |= {"probability": float(row["a"].startswith("good")), "votes": 2}
    people.write_text("".join(json.dumps(row) + "\n" for row in kept))
    with scripted(fair) as server:
        assert judged(server, tmp_path, data, "--people", people, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["judges"][0]["win_rates"]
    assert (row["a"], row["b"], row["with_people"], row["alone"]) == ("x", "y", 45, 45)
    assert row["people"]["mean"] == pytest.approx(2 / 3)
    assert row["mean"]["mean"] == pytest.approx(2 / 3, abs=0.01)
    assert row["labels"] > 1.7  # a judge without error halves the variance: as many pairs again
    assert row["mean"]["high"] - row["mean"]["low"] < row["people"]["high"] - row["people"]["low"]


def test_a_panel_weighs_its_judges_by_how_reliable_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def script(given: dict[str, Any], before: int) -> Say:
        if given["model"] == "coin":
            even = sum(map(ord, given["messages"][-1]["content"])) % 2
            return Say("A", {"A": math.log(0.9 if even else 0.1), "B": math.log(0.1 if even else 0.9)})
        return fair(given, before)

    data = write_pairs(tmp_path / "pairs.jsonl", 40)
    with scripted(script, models=("good", "better", "coin")) as server:
        words = [f"{name}@{server.url}" for name in ("good", "better", "coin")]
        assert run(data, "--judge", *words, "--out", tmp_path / "out", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    good, better, coin = (judge["reliability"] for judge in said["judges"])
    assert good["accuracy"] == pytest.approx(better["accuracy"], abs=0.02)
    assert coin["accuracy"] < good["accuracy"] - 0.2
    records = load_preferences(DataSpec(str(tmp_path / "out" / "preferences.jsonl"))).records
    assert min(record.probability for record in records) > 0.6
    assert {record.consensus for record in records} == {"rater-aware panel of judges"}


def test_rankings_of_sampled_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "answers.jsonl"
    rows = [{"prompt": f"question {i}", "completion": f"answer {c} {i}"} for i in range(6) for c in "xyz"]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def script(given: dict[str, Any], before: int) -> Say:
        text = given["messages"][-1]["content"]
        places = sorted((text.index(f"\nanswer {c}"), c) for c in "xyz")
        letters = {c: letter for letter, (_, c) in zip("ABC", places, strict=True)}
        return Say(json.dumps({"rationale": "", "ranking": [[letters["y"]], [letters["x"], letters["z"]]]}))

    with scripted(lambda given, before: Say("{}") if is_probe(given) else script(given, before)) as server:
        assert judged(server, tmp_path, data, "--way", "ranking") == 0
        assert server.judged()[0]["response_format"]["json_schema"]["strict"] is True
    records = load_rankings(DataSpec(str(tmp_path / "out" / "rankings.jsonl"))).records
    assert [record.ranks for record in records] == [(2.0, 1.0, 2.0)] * 6
    assert "6 labels" in capsys.readouterr().out


def test_troubles_are_counted_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def script(given: dict[str, Any], before: int) -> Say | Act:
        text = given["messages"][1]["content"] if len(given["messages"]) > 1 else ""
        if "question 3\n" in text:
            return Say("", refusal="I would rather not.")
        if "question 4\n" in text:
            return Act(status=400, error={"message": "too long"})
        return fair(given, before)

    with scripted(script) as server:
        assert judged(server, tmp_path, write_pairs(tmp_path / "pairs.jsonl"), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["judges"][0]["troubles"] == {"bad request": 2, "refused": 2}
    assert (said["labels"], said["left_out"]) == (COUNT - 2, 2)
    (row, _) = [row for row in rows_of(tmp_path) if row["trouble"] == "refused"]
    assert [reply["text"] for reply in row["replies"]] == ["I would rather not."] * 2
    assert row["payload"] is None
    assert {row["detail"] for row in rows_of(tmp_path) if row["trouble"] == "bad request"} == {"400: too long"}


# What is refused before the first request that matters.


def test_wrong_input_is_refused_before_anything_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs.jsonl")

    def without(given: dict[str, Any], before: int) -> Say:
        given.pop("logprobs", None)
        return Say("A")

    with scripted(without, models=("judge-1", "judge-2")) as server:
        port = server.server_port
        for words, message in (
            ((data, "--judge", f"judge-1@{server.url}"), "no log-probabilities"),
            ((data, "--judge", f"jugde-2@{server.url}"), "Did you mean 'judge-2'"),
            ((data, "--judge", "judge-1@https://judges.example/v1"), "no key is named for this server"),
            ((data, "--judge", "judge-1"), "OPENAI_API_KEY holds no key"),
            (
                (data, "--judge", f"judge-1@{server.url}", "--endpoint.key-variable", "NOT_SET_AT_ALL"),
                "NOT_SET_AT_ALL holds no key",
            ),
            ((data,), "nobody is to judge"),
            ((tmp_path / "none.jsonl", "--judge", f"judge-1@{server.url}"), "none.jsonl"),
            ((data, "--judge", f"judge-1@{server.url}", "--budget.money", "1"), "needs prices"),
        ):
            assert run(*words, "--out", tmp_path / "out") == 2
            assert message in " ".join(capsys.readouterr().err.split())
        assert server.judged() == []
    assert (
        run(data, "--judge", f"judge-1@http://127.0.0.1:{port}/v1", "--attempts", "1", "--out", tmp_path / "out") == 2
    )
    assert "does not answer" in capsys.readouterr().err
    assert not (tmp_path / "out" / "judgments.jsonl").exists()


def test_keys_go_to_whom_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OTHER", "other")
    assert key_for(None, "") == ("secret", "OPENAI_API_KEY")
    assert key_for("http://127.0.0.1:8000/v1", "") == ("none", "")
    assert key_for("http://localhost:8000/v1", "") == ("none", "")
    assert key_for("https://judges.example/v1", "OTHER") == ("other", "OTHER")
    for url in ("https://judges.example/v1", "http://10.0.0.5/v1", "http://localhost.example/v1"):
        with pytest.raises(HeedfulError, match="no key is named"):
            key_for(url, "")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert key_for(None, "") == ("none", "")
