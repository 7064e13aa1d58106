"""The entry: help, exit codes, and one clear message for every mistake."""

from __future__ import annotations

import errno
import importlib
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from heedful.cli import main as cli
from heedful.cli.main import COMMANDS, Command, main
from heedful.errors import HeedfulError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | KeyboardInterrupt], int]:
    """Runs `heedful sft` with a body that raises what it is given; returns the exit code."""

    def run(error: BaseException) -> int:
        def body(arguments: list[str]) -> int:
            raise error

        monkeypatch.setattr(cli, "load", lambda command: body)
        return main(["sft", "--model", "m"])

    return run


def test_help_lists_every_command_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"  {name} " in printed
        assert " ".join(entry.summary.split()[:4]) in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert main([]) == 0
    assert capsys.readouterr().out == printed


def test_every_command_leads_to_a_function() -> None:
    for entry in COMMANDS.values():
        module, function = entry.target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_help_is_light() -> None:
    code = "import sys, json; from heedful.cli.main import main; main([]); print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "rich" in loaded
    assert not {"torch", "transformers", "numpy", "tyro", "yaml", "heedful.training.config"} & loaded


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("heedful 0.")


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evalute"]) == 2
    captured = capsys.readouterr()
    assert "no command 'evalute'" in captured.err
    assert "Did you mean 'evaluate'?" in captured.err
    assert not captured.out


def test_a_mistake_is_one_message_and_exit_code_2(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = HeedfulError("this is [not] JSON.", where="data.jsonl:17", mend="Mend the line.")
    assert command(wrong) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: data.jsonl:17: this is [not] JSON.\n       Mend the line.\n"
    assert not captured.out


def test_debugging_keeps_the_traceback(command: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEEDFUL_DEBUG", "1")
    with pytest.raises(HeedfulError):
        command(HeedfulError("wrong."))


def test_a_bug_of_ours_is_not_dressed_up(command: Callable[..., int]) -> None:
    with pytest.raises(ZeroDivisionError):
        command(ZeroDivisionError())
    with pytest.raises(ModuleNotFoundError):
        command(ModuleNotFoundError("No module named 'heedful.nowhere'", name="heedful.nowhere"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "pip install 'heedful[train]'"),
        (ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"), "pip install 'heedful[train]'"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "disk is full",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), "runs/a: Permission denied"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), "--memory.micro-batch-tokens"),
    ],
)
def test_what_the_system_refuses_is_explained(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    assert command(error) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err


def test_interrupted_training_says_how_to_go_on(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(KeyboardInterrupt()) == 130
    assert "same command again: it goes on from the last checkpoint" in capsys.readouterr().err


def test_what_cannot_go_on_does_not_promise_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(entry: Command) -> Callable[[list[str]], int]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load", stop)
    assert main(["inspect", "x"]) == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = (
        "import sys; from heedful.cli import main as cli\n"
        "def body(words):\n"
        "    for _ in range(100_000): print('a line of text')\n"
        "    return 0\n"
        "cli.load = lambda command: body\n"
        "sys.exit(cli.main(['sample']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
