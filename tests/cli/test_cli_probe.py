"""probe, from the command line: in the world, on a file, with gold and a rewriter, and on a benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.main import main
from heedful.cli.probe import is_model
from scripted_server import Act, Say, scripted

MODULE = """
import zlib

def padded(prompts, texts):
    return [0.2 * len(text.split()) + zlib.crc32(text.encode()) % 97 / 97 for text in texts]

def gold(prompts, texts):
    return [zlib.crc32(text.encode()) % 97 / 97 for text in texts]

def rewrite(prompts):
    return [f"Oui, {number}." for number in range(len(prompts))]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rewards and a file of judged pairs."""
    (tmp_path / "taste.py").write_text(MODULE)
    words = "The sun gives light to all of us. It is near, and very large. We like to see it."
    rows = [{"prompt": f"question {i}", "a": f"{words} Number {i}.", "b": f"No {i}."} for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def by_kind(result: Any) -> dict[str, Any]:
    return {row["kind"]: row for row in result["probes"]["effects"]}


def test_probe_in_the_world_finds_the_length_and_leaves_a_report(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["probe", "taste:padded", "--world", "3", "--kinds", "length", "flattery", "position", "--out", "probed"]
    found = by_kind(run(command, capsys))
    assert list(found) == ["length", "position", "flattery"]
    assert found["length"]["found"] == "favours"
    assert found["length"]["gold"]["mean"] < 0 < found["length"]["bias"]["low"]
    assert found["flattery"]["found"] == "length"
    assert by_kind(json.loads((here / "probed/probe.json").read_text())) == found
    page = (here / "probed/report.html").read_text()
    assert "favours padding strongly" in page
    assert "seed 3" in page
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "bias in spreads" in printed
    assert "favours padding strongly" in printed


def test_probe_on_a_file_with_gold_and_a_rewriter(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["probe", "taste:padded", "--data", "pairs.jsonl", "--rewriter", "taste:rewrite", "--rewrites", "10"]
    result = run(command, capsys)
    found = by_kind(result)
    assert found["length"]["found"] == "favours"
    assert found["length"]["bias"] is None
    assert found["language"]["contrasts"] == 10
    assert "0 empty or unchanged" in result["lineage"]["rewriter"]
    assert by_kind(run([*command[:4], "--gold", "taste:gold"], capsys))["length"]["gold"] is not None
    assert main(["probe", "taste:padded", "--data", "pairs.jsonl", "--limit", "3"]) == 0
    assert "is left out" in capsys.readouterr().out


def test_a_model_rewrites_once_and_what_it_did_not_answer_is_left_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def french(given: dict[str, Any], before: int) -> Say | Act:
        asked = given["messages"][-1]["content"]
        return Act(status=400) if "Number 3." in asked else Say(f"Oui. {asked.split()[-1]}")

    command = ["probe", "taste:padded", "--data", "pairs.jsonl", "--kinds", "language", "--rewrites", "10"]
    with scripted(french) as server:
        for _ in range(2):
            result = run([*command, "--rewriter", f"judge-1@{server.url}"], capsys)
            assert by_kind(result)["language"]["contrasts"] == 9
            assert "9 texts used, 1 empty or unchanged" in result["lineage"]["rewriter"]
        assert sum(server.paid.values()) <= 10  # nine, and one short look whether it answers; the second time none
        assert (here / "ledger.sqlite").exists()
    with scripted(lambda given, before: Act(status=400)) as server:
        assert main([*command, "--rewriter", f"judge-1@{server.url}", "--ledger", "other.sqlite"]) == 2
    assert [is_model(name) for name in ("a@http://h/v1", "hf:models/a", "gpt", "module:function")] == [True] * 3 + [
        False
    ]


def test_probe_on_a_benchmark(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": str(i), "prompt": f"p {i}", "chosen": ["a b c d e f"], "rejected": ["x", "y", "z"], "subset": "Focus"}
        for i in range(3)
    ]
    (here / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(["probe", "taste:padded", "--rewardbench", "bench.jsonl"], capsys)
    assert "probes" not in found
    assert found["rewardbench"]["subsets"]["Focus"]["score"] == 1.0
    assert main(["probe", "taste:padded", "--rewardbench", "bench.jsonl"]) == 0
    assert "Focus: 100.0% (43.9% to 100.0%) of 3 prompts, chance 25.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to probe with"),
        (["--data", "pairs.jsonl", "--world", "0"], "not both"),
        (["--world", "0", "--gold", "taste:gold"], "are for --data"),
        (["--world", "0", "--kinds", "lenght"], "Did you mean 'length'?"),
        (["--data", "pairs.jsonl", "--kinds", "refusal_safe"], "no probe can be made"),
        (["--world", "0", "--rewrites", "0"], "rewrites"),
    ],
)
def test_probe_refuses_what_makes_no_sense(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["probe", "taste:padded", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert not captured.out
