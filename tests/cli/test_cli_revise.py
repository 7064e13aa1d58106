"""`heedful revise` and `heedful judge --constitution` against a server on loopback that speaks the real protocol."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.main import main
from heedful.data.load import DataSpec, load_demonstrations, load_preferences
from heedful.errors import HeedfulError
from scripted_server import Act, Say, is_probe, scripted


@pytest.fixture(autouse=True)
def _no_client_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)


def answers(folder: Path, count: int = 4) -> str:
    rows = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(count)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "answers.jsonl")


def bettering(given: dict[str, Any], before: int) -> Say:
    text = given["messages"][-1]["content"]
    if is_probe(given):
        return Say("A")
    found = re.search(r"<answer>\n(.*?)\n</answer>", text, re.DOTALL)
    if found is None:
        return Say(f"my own answer to {text}")
    return Say(f"{found[1]}!") if "<critique>" in text else Say(f"on {found[1]}: dull")


def run(*words: str) -> int:
    return main(list(words))


def test_a_run_leaves_demonstrations_pairs_and_chains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    with scripted(bettering) as server:
        code = run(
            "revise", f"judge-1@{server.url}", "--data", answers(tmp_path), "--out", str(out), "--rounds", "2", "--json"
        )
        assert code == 0
        assert len(server.judged()) == 16
    told = json.loads(capsys.readouterr().out)
    assert (told["figures"]["whole"], told["figures"]["changed"], told["spent"]["replies"]) == (4, 4, 16)
    assert told["constitution"]["version"] == "b50708fe4d18"
    made = load_demonstrations(DataSpec(str(out / "demonstrations.jsonl"))).records
    assert [(r.prompt[0].content, r.completion) for r in made] == [(f"question {i}", f"answer {i}!!") for i in range(4)]
    pairs = load_preferences(DataSpec(str(out / "pairs.jsonl"))).records
    assert [(p.a, p.b, dict(p.made)["by"]) for p in pairs] == [
        (f"answer {i}!!", f"answer {i}", "revision") for i in range(4)
    ]
    chains = [json.loads(line) for line in (out / "chains.jsonl").read_text().splitlines()]
    assert [[step["revision"] for step in chain["steps"]] for chain in chains] == [
        [f"answer {i}!", f"answer {i}!!"] for i in range(4)
    ]
    assert json.loads((out / "manifest.json").read_text())["files"].keys() >= {
        "constitution.yaml",
        "demonstrations.jsonl",
    }


def test_the_model_can_answer_first(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    rows = [{"prompt": [system, {"role": "user", "content": text}]} for text in ("hello", "bye")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "run"
    with scripted(bettering) as server:
        run(
            "revise",
            f"judge-1@{server.url}",
            "--data",
            str(tmp_path / "prompts.jsonl"),
            "--out",
            str(out),
            "--rounds",
            "1",
            "--samples",
            "2",
        )
        assert len(server.judged()) == 2 * 2 * 3
    chains = [json.loads(line) for line in (out / "chains.jsonl").read_text().splitlines()]
    assert [(chain["answer"], chain["copy"]) for chain in chains] == [
        ("my own answer to hello", 0),
        ("my own answer to hello", 1),
        ("my own answer to bye", 0),
        ("my own answer to bye", 1),
    ]


def test_a_budget_ends_cleanly_and_the_same_command_pays_only_for_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with scripted(bettering) as server:
        words = ["revise", f"judge-1@{server.url}", "--data", answers(tmp_path), "--out", str(out), "--rounds", "1"]
        assert run(*words, "--budget.requests", "5") == 2
        assert {path.name for path in out.iterdir()} == {".lock", "heedful.yaml", "ledger.sqlite"}
        assert run(*words) == 0
        assert max(server.paid.values()) == 1
        assert len(server.judged()) == 8
        assert run(*words) == 0, "a finished run is not run again"
        assert len(server.judged()) == 8


def test_a_run_that_came_to_nothing_takes_other_settings_and_a_finished_one_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, data = tmp_path / "run", answers(tmp_path)
    with scripted(bettering) as server:
        rest = ["--data", data, "--out", str(out), "--rounds", "1"]
        assert run("revise", f"judge-2@{server.url}", *rest) == 2
        assert "judge-1" in capsys.readouterr().err, "the server's models are named"
        assert run("revise", f"judge-1@{server.url}", *rest, "--budget.requests", "5") == 2
        assert run("revise", f"judge-1@{server.url}", *rest[:-1], "2") == 0, (
            "the first round's replies serve the second run"
        )
        assert max(server.paid.values()) == 1
        assert run("revise", f"judge-1@{server.url}", *rest) == 2
        assert "rounds (2 before, 1 now)" in capsys.readouterr().err


def test_chains_that_broke_are_asked_again_where_that_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ill = True

    def script(given: dict[str, Any], before: int) -> Say | Act:
        if ill and "answer 2" in given["messages"][-1]["content"]:
            return Act(status=400, error={"message": "not today"})
        return bettering(given, before)

    out = tmp_path / "run"
    with scripted(script) as server:
        words = ["revise", f"judge-1@{server.url}", "--data", answers(tmp_path), "--out", str(out), "--rounds", "1"]
        assert run(*words) == 0
        chains = [json.loads(line) for line in (out / "chains.jsonl").read_text().splitlines()]
        assert [chain["broken"] and chain["broken"]["reason"] for chain in chains] == [None, None, "bad request", None]
        ill = False
        assert run(*words) == 0
        assert "--again asks anew where no reply came" in capsys.readouterr().err
        assert run(*words, "--again") == 0
        assert max(server.paid.values()) == 1
    assert len(load_demonstrations(DataSpec(str(out / "demonstrations.jsonl"))).records) == 4


@pytest.mark.parametrize(
    ("over", "what"),
    [
        (["--constitution", "none.yaml"], "cannot read the constitution"),
        (["--constitution", "twice.yaml"], "twice.yaml:4: the id 'a' stands at twice.yaml:2 already"),
        (["--tags", "harmlesness"], "Did you mean 'harmlessness'"),
        (["--rounds", "0"], "revise nothing"),
        (["--data", "none.jsonl"], "no such file"),
        (["--samples", "2", "--temperature", "0"], "all answers to a prompt are the same"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], over: list[str], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("twice.yaml").write_text("principles:\n- id: a\n  choice: x\n- id: a\n  choice: y\n")
    with scripted(bettering) as server:
        assert run("revise", f"judge-1@{server.url}", "--data", answers(tmp_path), "--out", "run", *over) == 2
        assert not server.asked
    assert what in capsys.readouterr().err


def test_no_key_is_told_before_the_first_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("revise", "some-model", "--data", answers(tmp_path), "--out", str(tmp_path / "run")) == 2
    assert "OPENAI_API_KEY holds no key" in capsys.readouterr().err


def test_a_run_that_is_killed_goes_on_and_no_reply_is_paid_for_twice(tmp_path: Path) -> None:
    """The server outlives the client and counts what it was paid for; only what was under way may come twice."""

    def slowly(given: dict[str, Any], before: int) -> Say:
        time.sleep(0.02)
        return bettering(given, before)

    with scripted(slowly) as server:
        words = ["revise", f"judge-1@{server.url}", "--data", answers(tmp_path, 30), "--out", str(tmp_path / "run")]
        words += ["--rounds", "1", "--concurrency", "2"]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS="1")
        command = [sys.executable, "-m", "heedful.cli.main", *words]
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(server.judged()) < 40 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert not (tmp_path / "run" / "manifest.json").exists()
        assert run(*words) == 0
        assert len(server.paid) == 61, "a look at the server, 30 critiques, 30 revisions"
        assert sum(server.paid.values()) - len(server.paid) <= 2, "no more than the two requests that were under way"
    assert len(load_demonstrations(DataSpec(str(tmp_path / "run" / "demonstrations.jsonl"))).records) == 30


def pairs(folder: Path) -> str:
    rows = [{"prompt": f"question {i}", "a": f"good {i}", "b": f"bad {i}"} for i in range(6)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "pairs.jsonl")


def judging(given: dict[str, Any], before: int) -> Say:
    """Eight in ten for the good answer, wherever it stands; not asked for letters, it reasons."""
    if is_probe(given):
        return Say("A", {"A": -0.1, "B": -3.0})
    if not given.get("logprobs"):
        return Say("Both have their points.")
    material = given["messages"][1]["content"]
    first, second = ("A", "B") if material.index("good") < material.index("bad") else ("B", "A")
    return Say(first, {first: math.log(0.8), second: math.log(0.2)})


def test_judging_by_a_constitution_writes_soft_labels_that_say_their_principle(tmp_path: Path) -> None:
    with scripted(judging) as server:
        words = ["judge", pairs(tmp_path), "--judge", f"judge-1@{server.url}", "--constitution", "default"]
        assert run(*words, "--tags", "harmlessness", "--out", str(tmp_path / "ai")) == 0
        plain = len(server.judged())
        assert run(*words, "--thoughts", "--out", str(tmp_path / "thinking")) == 0
        assert len(server.judged()) - plain == 2 * plain
    made = load_preferences(DataSpec(str(tmp_path / "ai" / "preferences.jsonl"))).records
    assert [(r.a, round(r.probability, 6)) for r in made] == [(f"good {i}", 0.8) for i in range(6)]
    assert {dict(r.made)["principle"] for r in made} <= {
        "harm-to-others", "danger-to-the-asker", "respect", "privacy", "kind-refusal",
    }  # fmt: skip
    clamped = load_preferences(DataSpec(str(tmp_path / "thinking" / "preferences.jsonl"))).records
    assert [round(r.probability, 6) for r in clamped] == [0.6] * 6


def test_ai_and_human_preferences_in_one_folder_are_read_together(tmp_path: Path) -> None:
    """How a preference model learns from AI labels of harm and people's of the rest: the folder is the data."""
    both = tmp_path / "both"
    both.mkdir()
    with scripted(judging) as server:
        run(
            "judge",
            pairs(tmp_path),
            "--judge",
            f"judge-1@{server.url}",
            "--constitution",
            "default",
            "--out",
            str(tmp_path / "ai"),
        )
    (both / "ai-harm.jsonl").write_bytes((tmp_path / "ai" / "preferences.jsonl").read_bytes())
    (both / "people-help.jsonl").write_text('{"prompt": "q", "a": "x", "b": "y", "probability": 0.67, "votes": 3}\n')
    records = load_preferences(DataSpec(str(both))).records
    assert [bool(r.made) for r in records] == [True] * 6 + [False]
    assert records[-1].probability == 0.67


@pytest.mark.parametrize(
    ("over", "what"),
    [
        (["--way", "verdict"], "Leave it at logprob"),
        (["--judge", "a", "b"], "a constitution's labels are one judge's"),
        (["--tags", "nothing-of-it"], "no principle has the tag"),
    ],
)
def test_settings_that_a_constitution_does_not_go_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], over: list[str], what: str
) -> None:
    words = [
        "judge",
        pairs(tmp_path),
        "--judge",
        "m@http://127.0.0.1:9/v1",
        "--constitution",
        "default",
        "--out",
        str(tmp_path / "o"),
    ]
    assert run(*words, *over) == 2
    assert what in capsys.readouterr().err


def test_tags_without_a_constitution() -> None:
    from heedful.cli.judge import JudgeConfig

    with pytest.raises(HeedfulError, match="Give --constitution"):
        JudgeConfig(data="x", judge=("m",), out=Path("o"), thoughts=True)
