"""sft, reward, ppo and dpo from the command line, one after the other, on files as a person would have them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

import stage_runs
from heedful.cli.main import main

SHORT = ["--max-length", "64", "--learning-rate", "1e-3", "--no-tensorboard"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, a reward model, and data."""
    folder = tmp_path_factory.mktemp("stages")
    stage_runs.write_inputs(folder)
    stage_runs.write_model(folder / "base")
    stage_runs.write_model(folder / "judge", kind="reward")
    return folder


def command(stage: str, root: Path, out: Path) -> list[str]:
    data = {"sft": "demonstrations", "ppo": "prompts"}.get(stage, "preferences")
    words = [stage, "--model", str(root / "base"), "--data", str(root / f"{data}.jsonl"), "--out", str(out), *SHORT]
    if stage == "ppo":
        return [
            *words,
            *("--reward", str(root / "judge"), "--steps", "2"),
            *("--prompts-per-step", "4", "--max-new-tokens", "6"),
        ]
    return [*words, "--epochs", "1", "--batch-size", "8"]


@pytest.mark.parametrize("stage", stage_runs.STAGES)
def test_a_stage_prints_its_manifest_alone_and_again_when_it_is_finished(
    stage: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(stage, root, tmp_path / "run")
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    manifest = json.loads(captured.out)
    assert manifest["kind"] == stage
    assert manifest["out"] == str(tmp_path / "run")
    assert manifest["figures"]
    assert stage in captured.err
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert f"{stage}: {tmp_path / 'run'}" in captured.out.splitlines()
    assert "finished already" in captured.err


def test_the_saved_settings_are_a_config_file(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("sft", root, tmp_path / "first")) == 0
    again = ["sft", "--config", str(tmp_path / "first" / "heedful.yaml"), "--out", str(tmp_path / "second"), "--json"]
    capsys.readouterr()
    assert main(again) == 0
    capsys.readouterr()
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]


def broken(root: Path, name: str, content: bytes) -> str:
    path = root / name
    path.write_bytes(content)
    return str(path)


ROW = b'{"prompt": "hello", "completion": "hello you"}\n'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.jsonl", ROW + ROW[:20], "cut.jsonl:2"),
        ("cut.jsonl.gz", gzip.compress(ROW * 500, mtime=0)[:40], "cut.jsonl.gz"),
        ("none.jsonl", b"", "none.jsonl"),
        ("type.jsonl", b'{"prompt": 3, "completion": "x"}\n', "type.jsonl:1"),
        ("roles.jsonl", b'{"messages": [{"role": "assistant", "content": "a"}]}\n', "roles.jsonl:1"),
    ],
)
def test_a_broken_file_is_one_message_and_leaves_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    out = tmp_path / "run"
    data = broken(tmp_path, name, content)
    assert main(["sft", "--model", str(root / "base"), "--data", data, "--out", str(out), *SHORT]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.startswith("error: ")
    assert not captured.out
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_folder_without_a_tokenizer_names_the_mend(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_runs.write_model(tmp_path / "bare")
    for path in (tmp_path / "bare").glob("*token*"):
        path.unlink()
    arguments = command("sft", root, tmp_path / "run")
    arguments[2] = str(tmp_path / "bare")
    assert main(arguments) == 2
    assert "tokenizer" in capsys.readouterr().err


def test_an_out_that_is_a_file(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").write_text("mine")
    assert main(command("sft", root, tmp_path / "run")) == 2
    assert "Choose another --out" in capsys.readouterr().err
    assert (tmp_path / "run").read_text() == "mine"
