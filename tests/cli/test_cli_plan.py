"""`heedful plan`: a table for people, JSON for programs, the stage's own flags, and nothing that has to exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import stage_runs
from heedful.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "model"
    stage_runs.write_model(folder)
    return folder


def test_a_stage_is_planned_with_its_flags_and_a_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sft.yaml").write_text("batch_size: 6\nrecords: {max_length: 48}\n")
    words = ["plan", "sft", "--config", str(tmp_path / "sft.yaml"), "--model", str(model)]
    assert main([*words, "--micro-batch-tokens", "96", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["stage"], found["micro_batch_tokens"], found["micro_batch"]) == ("sft", 96, [2, 48])
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "optimiser state" in shown
    assert "micro-batch: 1024 tokens (chosen)" in shown
    assert not list(tmp_path.glob("runs"))


def test_gpus_that_are_not_at_hand_are_planned_for(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "sft", "--model", str(model), "--gpus", "2xH100", "--max-length", "32", "--price", "3"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "sft on 2xH100, replicas" in shown
    assert "demonstrations" in shown
    assert "1,000 of them cost" in shown
    assert main(["plan", "sft", "--model", str(model), "--gpus", "2x100KB"]) == 2
    assert "cluster.gpus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["plan", "stf"], "Did you mean 'sft'?"), (["plan", "sft"], "model"), (["plan", "studio"], "no stage")],
)
def test_what_cannot_be_planned_is_explained(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_help_names_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--help"]) == 0
    assert "online-dpo" in capsys.readouterr().out
