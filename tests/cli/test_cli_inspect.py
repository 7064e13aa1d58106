"""heedful inspect, with and without a tokenizer."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from architectures import tiny_tokenizer
from heedful.cli.main import main


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [
        {"prompt": "tell me about the sea", "chosen": "the sea is big", "rejected": "no"},
        {"prompt": "what is a bird", "chosen": "a bird is small", "rejected": "a bird is small"},
        {"prompt": "hello", "chosen": "hello you", "rejected": ""},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_it_counts_what_is_there_without_a_model(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", data, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["records"], found["unit"]) == ("preference", 1, "words")
    assert found["lengths"]["prompt"]["most"] == 5
    assert main(["inspect", data, "--kind", "prompts", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 3


def test_it_shows_the_tokens_that_are_learnt(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    assert main(["inspect", data, "--model", str(tmp_path / "tokenizer"), "--examples", "1"]) == 0
    printed = capsys.readouterr().out
    assert "pairs.jsonl:1 a (preferred)" in printed
    assert "5 learnt" in printed  # four words and the end of the turn


def test_findings_may_be_errors_with_their_line(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", data, "--on-bad-row", "error"]) == 2
    assert "pairs.jsonl:2" in capsys.readouterr().err


def test_the_base_install_can_inspect_and_says_what_training_needs(data: str) -> None:
    code = textwrap.dedent("""
        import importlib.abc, sys

        class Absent(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name in ("torch", "transformers", "tokenizers", "datasets"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Absent())
        from heedful.cli.main import main
        sys.exit(main(sys.argv[1:]))
    """)
    done = subprocess.run([sys.executable, "-c", code, "inspect", data], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 records of the kind 'preference'" in done.stdout
    stage = ["sft", "--model", "m", "--data", data, "--out", "unused"]
    done = subprocess.run([sys.executable, "-c", code, *stage], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'heedful[train]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.real_data
def test_real_comparisons_are_read_as_they_are(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(shared_data / "hh-harmless.jsonl.gz"), "--limit", "300", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "preference"
    assert 0 < found["records"] <= 300
