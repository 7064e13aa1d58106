"""average and accuracy, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.main import main
from heedful.files import read_manifest
from heedful.models.averaging import INITIALISATION
from reward_runs import pair_rows, quality, write_rows
from stage_runs import config, run_stage, write_model


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs of one start, in two orders, and one of another start."""
    folder = tmp_path_factory.mktemp("members")
    write_model(folder / "model")
    data = str(write_rows(folder / "pairs.jsonl", pair_rows(40)))
    found = []
    for number, seeds in enumerate(({"seed": 1, "head_seed": 5}, {"seed": 2, "head_seed": 5}, {"seed": 3})):
        out = folder / f"run{number}"
        run_stage("reward", config("reward", folder, folder / "model", folder, out, data=data, epochs=1.0, **seeds))
        found.append(str(out))
    return found


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_average_writes_a_reward_model_with_its_lineage(
    members: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(["average", *members[:2], "--out", str(tmp_path / "warm")], capsys)
    manifest = read_manifest(tmp_path / "warm")
    assert manifest is not None
    assert said["kind"] == manifest["kind"] == "average"
    starts = [(read_manifest(Path(member)) or {})[INITIALISATION] for member in members]
    assert starts[0] == starts[1] == manifest[INITIALISATION] != starts[2]
    assert [parent["name"] for parent in manifest["parents"].values()] == members[:2]
    assert main(["average", *members[:2], "--out", str(tmp_path / "warm")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["average", members[0], members[2], "--out", str(tmp_path / "no")]) == 2
    assert "did not begin from the weights" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Pairs, and a reward that is right wherever there is something to see."""
    (tmp_path / "truth.py").write_text(
        "def score(prompts, completions):\n"
        "    return [1.5 * t.split().count('please') - 2.0 * t.split().count('no') for t in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    rows = pair_rows(120, seed=3, hard=True)
    write_rows(tmp_path / "held_out.jsonl", [row for row in rows if quality(row["a"]) != quality(row["b"])])
    return "truth:score", "held_out.jsonl"


def test_accuracy_of_a_perfect_reward_and_of_its_opposite(
    judged: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "worse.py").write_text(
        "import truth\ndef score(prompts, completions):\n    return [-x for x in truth.score(prompts, completions)]\n"
    )
    reward, data = judged
    figures = run(["accuracy", reward, "--data", data, "--out", "figures.json", "--slices", "3"], capsys)[data]
    assert (figures["accuracy"]["mean"], figures["accuracy"]["high"]) == (1.0, 1.0)
    assert 0.5 < figures["accuracy"]["low"] < 1.0  # so many pairs are no proof of always
    assert sum(part["pairs"] for part in figures["slices"]) == figures["pairs"]
    assert len(figures["slices"]) <= 3
    assert figures["temperature"] is None
    assert len(figures["calibration"]["confidence"]) == 10
    assert json.loads((tmp_path / "figures.json").read_text())[data] == figures
    worse = run(["accuracy", "worse:score", "--data", data], capsys)[data]
    assert worse["accuracy"]["mean"] == 0.0


def test_each_file_has_a_line_of_its_own(
    judged: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reward, data = judged
    write_rows(tmp_path / "policy.jsonl", pair_rows(60, seed=9))
    assert main(["accuracy", reward, "--data", data, "policy.jsonl"]) == 0
    shown = capsys.readouterr().out
    assert "held_out.jsonl" in shown
    assert "policy.jsonl: by how many words the better answer is longer" in shown
    write_rows(tmp_path / "ties.jsonl", [{"prompt": "hi", "a": "x", "b": "y", "probability": 0.5}])
    assert main(["accuracy", reward, "--data", "ties.jsonl"]) == 2
    assert "no pair has a better answer" in capsys.readouterr().err
