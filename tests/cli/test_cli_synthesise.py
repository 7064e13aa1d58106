"""`heedful synthesise`: every method writes pairs that say how they were made, or says why it cannot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.main import main
from heedful.data.load import DataSpec, load_preferences, load_prompts
from scripted_server import Say, is_probe, scripted


@pytest.fixture(autouse=True)
def _no_client_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(*words: object) -> int:
    return main([str(word) for word in words])


def made(path: Path) -> list[dict[str, Any]]:
    return [dict(pair.made) for pair in load_preferences(DataSpec(str(path))).records]


def test_degrading_with_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(
        tmp_path / "a.jsonl",
        [{"prompt": f"when, {i}", "completion": "Within thirty days. Keep the receipt."} for i in range(3)],
    )
    (tmp_path / "facts.yaml").write_text("thirty days: [forty days]\n")
    out = tmp_path / "pairs.jsonl.gz"
    assert (
        run(
            "synthesise",
            "degrade",
            data,
            "--out",
            out,
            "--kinds",
            "wrong-fact",
            "--facts",
            tmp_path / "facts.yaml",
            "--json",
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["kinds"] == {"wrong-fact": 3}
    pairs = load_preferences(DataSpec(str(out))).records
    assert {(pair.a, pair.b) for pair in pairs} == {
        ("Within thirty days. Keep the receipt.", "Within forty days. Keep the receipt.")
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("paris: lyon\n", "facts.yaml:1: 'paris' is no text with a list"),
        ("a: [b]\nparis: [Paris]\n", "facts.yaml:2: 'paris' stands among what is wrong"),
        ("paris: []\n", "no text with a list"),
    ],
)
def test_facts_that_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, what: str) -> None:
    data = write(tmp_path / "a.jsonl", [{"prompt": "q", "completion": "paris"}])
    (tmp_path / "facts.yaml").write_text(text)
    assert run("synthesise", "degrade", data, "--out", tmp_path / "p.jsonl", "--facts", tmp_path / "facts.yaml") == 2
    assert what in capsys.readouterr().err
    assert not (tmp_path / "p.jsonl").exists()


def test_two_models_answers(tmp_path: Path) -> None:
    strong = write(tmp_path / "s.jsonl", [{"prompt": f"q{i}", "completion": f"good {i}"} for i in range(3)])
    weak = write(tmp_path / "w.jsonl", [{"prompt": f"q{i}", "completion": f"poor {i}"} for i in (2, 0, 1)])
    out = tmp_path / "p.jsonl"
    assert run("synthesise", "models", strong, weak, "--out", out, "--names", "large", "small") == 0
    pairs = load_preferences(DataSpec(str(out))).records
    assert [(p.a, p.b) for p in pairs] == [(f"good {i}", f"poor {i}") for i in range(3)]
    assert made(out)[0] == {"by": "stronger against weaker", "stronger": "large", "weaker": "small"}


def test_the_best_against_the_worst_by_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lengths.py").write_text(
        "def score(prompts, texts):\n    return [float(len(text)) for text in texts]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    data = write(tmp_path / "a.jsonl", [{"prompt": f"q{i % 2}", "completion": "x" * (i + 1)} for i in range(6)])
    out = tmp_path / "p.jsonl"
    assert run("synthesise", "best", data, "--reward", "lengths:score", "--out", out) == 0
    pairs = load_preferences(DataSpec(str(out))).records
    assert [(p.a, p.b) for p in pairs] == [("xxxxx", "x"), ("xxxxxx", "xx")]
    assert made(out)[0] == {"by": "best against worst", "of": 3, "reward": "lengths:score", "gap": 4.0}


def contrasting(given: dict[str, Any], before: int) -> Say:
    return (
        Say("A") if is_probe(given) else Say(f"{given['messages'][-1]['content']}: {given['messages'][0]['content']}")
    )


def test_contrasting_prompts_are_asked_once(tmp_path: Path) -> None:
    data = write(tmp_path / "prompts.jsonl", [{"prompt": f"q{i}"} for i in range(4)])
    out = tmp_path / "p.jsonl"
    with scripted(contrasting) as server:
        words = ["synthesise", "contrast", f"judge-1@{server.url}", "--data", data, "--out", out]
        assert run(*words) == 0
        first = out.read_bytes()
        assert run(*words) == 0
        assert out.read_bytes() == first
        assert len(server.judged()) == 8
    assert {one["by"] for one in made(out)} == {"contrast"}


def test_new_prompts_are_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["otters", "violins", "comets", "taxes", "kites", "wells"]

    def script(given: dict[str, Any], before: int) -> Say:
        if is_probe(given):
            return Say("A")
        subject = words[sum(one["content"].count(word) for one in given["messages"] for word in words) % len(words)]
        return Say(
            f"1. Tell me all about {subject}, please\n2. How does one draw {subject} with a pencil?\n3. Seed prompt one"
        )

    data = write(tmp_path / "prompts.jsonl", [{"prompt": "Seed prompt one"}, {"prompt": "Another seed"}])
    out = tmp_path / "new.jsonl"
    with scripted(script) as server:
        assert (
            run(
                "synthesise",
                "prompts",
                f"judge-1@{server.url}",
                "--data",
                data,
                "--out",
                out,
                "--wanted",
                "2",
                "--json",
            )
            == 0
        )
    told = json.loads(capsys.readouterr().out)
    assert told["prompts"] == 2
    assert told["left_out"]["a repeat"] >= 1
    assert len(load_prompts(DataSpec(str(out))).records) == 2
    row = json.loads(out.read_text().splitlines()[0])
    assert row["made"].keys() == {"by", "model", "nearest", "similarity"}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["degrad"], "Did you mean 'degrade'"),
        (["degrade", "a.jsonl", "--out", "p.csv"], "Let the name end with .jsonl"),
        (["degrade", "a.jsonl", "--out", "p.jsonl", "--kinds", "wrong-fact"], "Name a file: --facts FILE"),
        (["degrade", "a.jsonl", "--out", "p.jsonl", "--kinds", "shuffled"], "no pair came of it"),
        (
            ["prompts", "m@http://127.0.0.1:9/v1", "--data", "a.jsonl", "--out", "n.jsonl.gz"],
            "Let the name end with .jsonl",
        ),
        (["prompts", "m", "--data", "a.jsonl", "--out", "n.jsonl", "--threshold", "0"], "above 0 and at most"),
    ],
)
def test_what_cannot_be_done_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a.jsonl"), [{"prompt": "q", "completion": "One sentence alone."}])
    assert run("synthesise", *words) == 2
    assert what in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl"}


def test_the_help_names_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    from heedful.cli.synthesise import METHODS

    assert run("synthesise", "--help") == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in METHODS)
