"""The TAB key: commands, flags, choices; in the shells themselves where they are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heedful.cli import command
from heedful.cli.completion import completed
from heedful.cli.main import COMMANDS, load, main


@pytest.mark.parametrize(
    ("words", "some", "none"),
    [
        ([""], {"sft", "studio", "--help"}, {"--epochs"}),
        (["re"], {"reward", "revise", "reinforce"}, {"sft"}),
        (["sft", "--ep"], {"--epochs", "--epsilon"}, {"--model"}),
        (["sft", "--"], {"--model", "--optimiser.learning-rate", "--learning-rate", "--config"}, {"--kl.coefficient"}),
        (["ppo", "--kl.est"], {"--kl.estimator"}, {"--kl.coefficient"}),
        (["sft", "--loading.precision", ""], {"auto", "float32", "bfloat16"}, {"--model"}),
        (["sft", "--loading.precision=b"], {"--loading.precision=bfloat16"}, {"bfloat16"}),
        (["sft", "--loading.precision", "=", "b"], {"bfloat16"}, {"auto"}),
        (["sft", "--loading.precision", "="], {"auto", "float32"}, {"--model"}),
        (["plan", ""], {"sft", "ppo"}, {"--model"}),
        (["plan", "ppo", "--kl.coef"], {"--kl.coefficient"}, set()),
        (["studio", "mig"], {"migrate-db"}, set()),
        (["studio", "migrate-db", "--"], {"--source", "--target"}, {"--lan"}),
        (["completion", ""], {"bash", "zsh", "fish"}, set()),
    ],
)
def test_what_a_word_may_become(words: list[str], some: set[str], none: set[str]) -> None:
    found = set(completed(words))
    assert some <= found
    assert not none & found


def test_files_are_left_to_the_shell() -> None:
    assert completed(["sft", "--data", ""]) == []
    assert completed(["nothing", ""]) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_its_flags(name: str) -> None:
    words = {"plan": ["plan", "sft"], "synthesise": ["synthesise", "degrade"]}.get(name, [name])
    assert {"--help", "--json"} <= set(completed([*words, "--"]))
    assert command.settings_of(load(COMMANDS[name]), words[1:]) is not None


def test_asking_for_flags_does_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "init", "studio", "round"):
        completed([name, "--"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed_and_the_shell_reads_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "heedful completion words" in script
    if shutil.which(shell):
        done = subprocess.run(
            [shell, "-n", "-c", script] if shell != "bash" else ["bash", "-n"], input=script, text=True
        )
        assert done.returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(tmp_path: Path, repository: Path) -> None:
    called = tmp_path / "heedful"
    called.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m heedful.cli.main "$@"\n')
    called.chmod(0o755)
    script = """
eval "$(heedful completion bash)"
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _heedful; echo "${COMPREPLY[*]}"; }
try heedful agr
try heedful sft --learning
try heedful judge --way lo
complete -p heedful
"""
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    source = str(repository / "src")
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "agreement",
        "--learning-rate",
        "logprob",
        "complete -o default -F _heedful heedful",
    ]
