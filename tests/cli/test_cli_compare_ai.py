"""compare, judged by AI judges: blind, in both orders, each paid for once, beside other judges."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.main import main
from scripted_server import Say, ScriptedServer, scripted

FILES = ["good.jsonl", "poor.jsonl", "long.jsonl"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Answers of three models to six prompts; two of them say the same to the first."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    words = {"good.jsonl": "good {}", "poor.jsonl": "poor {}", "long.jsonl": "poor {} , and much more of it"}
    for name, text in words.items():
        rows = [{"prompt": f"question {i}", "completion": text.format(i)} for i in range(6)]
        if name != "long.jsonl":
            rows[0]["completion"] = "the same"
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "most_words.py").write_text("def score(prompts, texts):\n    return [len(t.split()) for t in texts]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def letters(logit: float) -> Say:
    """A judge's letter with the log-probabilities that make this logit of A over B."""
    chances = {"A": -math.log1p(math.exp(-logit)), "B": -math.log1p(math.exp(logit)), "C": -30.0}
    return Say("A" if logit > 0 else "B", chances)


def prefers_good(given: dict[str, Any], before: int) -> Say:
    """What is good is three logits better than what is not, and whatever stands first two."""
    text = given["messages"][-1]["content"]
    good, at = text.find("\ngood"), [place for word in ("\npoor", "\nthe same") if (place := text.find(word)) >= 0]
    sign = 0.0 if good < 0 or not at else 1.0 if good < min(at) else -1.0
    return letters(3.0 * sign + 2.0)


def compare(server: ScriptedServer, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    capsys.readouterr()
    code = main(["compare", *FILES, "--judge", f"judge-1@{server.url}", *more, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_ai_judges_compare_blind_and_in_both_orders(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(prefers_good) as server:
        found = compare(server, capsys)
        asked = server.judged()
        assert len(asked) == 2 * (5 + 6 + 5)  # nobody is asked about two equal texts, nor about the same two twice
        assert not any(name in json.dumps(one) for one in asked for name in FILES)
        compare(server, capsys)
        assert len(server.judged()) == len(asked)  # again: all from the ledger
    duels = {(one["a"], one["b"]): one for one in found["duels"]}
    first = duels["good.jsonl", "poor.jsonl"]
    assert (first["wins"], first["ties"], first["losses"]) == (5, 1, 0)
    sure = 1 / (1 + math.exp(-3.0))  # what the first place adds to one order it takes from the other
    assert first["rate"]["mean"] == pytest.approx((5 * sure + 0.5) / 6, abs=1e-4)
    level = duels["poor.jsonl", "long.jsonl"]
    assert level["rate"]["mean"] == pytest.approx(0.5, abs=1e-4)
    assert found["models"][0]["model"] == "good.jsonl"


def test_they_stand_beside_a_reward_and_what_is_unread_is_counted(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sometimes(given: dict[str, Any], before: int) -> Say:
        return Say("no letter") if "question 3" in json.dumps(given["messages"]) else prefers_good(given, before)

    with scripted(sometimes) as server:
        found = compare(server, capsys, "--reward", "most_words:score", "--report", "page.html")
        name = f"AI judge judge-1@{server.url}"
        assert main(["compare", *FILES, "--judge", f"judge-1@{server.url}"]) == 0
    assert set(found["judges"]) == {name, "most_words:score"}
    assert found["unread"] == {name: 3}
    assert found["judges"][name]["judgments"] == 15
    assert found["judges"]["most_words:score"]["models"][0]["model"] == "long.jsonl"
    assert name in (here / "page.html").read_text()
    assert "3 pairs are left out, which it was not read on in both orders" in capsys.readouterr().out


def test_a_judge_that_says_nothing_is_an_error_and_no_half(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(lambda given, before: Say("no letter")) as server:
        assert main(["compare", *FILES, "--judge", f"judge-1@{server.url}"]) == 2
        assert "could be read on none of 16 pairs" in capsys.readouterr().err
    with scripted(prefers_good) as server:
        spent = ["--budget.requests", "9", "--ledger", "other.sqlite", "--endpoint.concurrency", "1"]
        assert main(["compare", *FILES, "--judge", f"judge-1@{server.url}", *spent]) == 2
        assert "budget" in capsys.readouterr().err
    assert main(["compare", *FILES, "--judge", "a@http://127.0.0.1:1/v1", "a@http://127.0.0.1:1/v1"]) == 2
    assert "stands there twice" in capsys.readouterr().err
