"""`heedful serve`: what it refuses, what it starts, and a real server that the real client speaks to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from architectures import tiny_architectures, tiny_tokenizer
from heedful.cli.main import main
from heedful.cli.serve import NEEDS, ServeConfig, command
from heedful.models.policy import new_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("policy") / "served"
    new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=0).save(made)
    return made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What this process would have become."""
    found: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, words: found.append(list(words)))
    return found


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def test_it_becomes_the_server_of_transformers(folder: Path, started: list[list[str]]) -> None:
    port = free_port()
    main(["serve", str(folder), "--port", str(port), "--device", "cpu"])
    assert started[0][0] == sys.executable
    assert started[0][3:] == ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]


def test_for_vllm_it_becomes_vllms() -> None:
    words = command(ServeConfig("owner/model", engine="vllm", port=8001), "owner/model")
    assert words[1:] == [
        "-m", "vllm.entrypoints.openai.api_server", "--model", "owner/model", "--host", "127.0.0.1", "--port", "8001",
    ]  # fmt: skip


def test_an_engine_that_is_not_installed_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NEEDS, "transformers", ("heedful_no_such_package",))
    assert main(["serve", str(folder)]) == 2
    assert "heedful_no_such_package, which is not installed." in (said := capsys.readouterr().err)
    assert "pip install 'heedful[serve]'" in said
    assert started == []


def test_a_port_that_is_taken_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], started: list[list[str]]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", str(folder), "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: cannot listen" in capsys.readouterr().err
    assert started == []


def test_what_is_no_policy_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], started: list[list[str]]
) -> None:
    assert main(["serve", str(tmp_path)]) == 2
    assert "no policy here" in capsys.readouterr().err
    (tmp_path / "adapter_config.json").write_text("{}")
    assert main(["serve", str(tmp_path)]) == 2
    assert "adapters, without the base" in capsys.readouterr().err
    assert started == []


@pytest.mark.slow
def test_the_real_client_speaks_to_the_real_server(folder: Path) -> None:
    import openai

    port = free_port()
    arguments = ["-m", "heedful.cli.main", "serve", str(folder), "--port", str(port), "--device", "cpu", "--json"]
    server = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        for _ in range(600):
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/health", timeout=5).is_success:
                    break
            except httpx2.HTTPError:
                assert server.poll() is None, "the server ended"
            time.sleep(0.5)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=120)
        said = client.chat.completions.create(
            model=str(folder), messages=[{"role": "user", "content": "hello"}], max_tokens=5
        )
        assert said.usage is not None
        assert said.usage.completion_tokens <= 5
        assert isinstance(said.choices[0].message.content, str)
    finally:
        server.send_signal(signal.SIGINT)
        told, _ = server.communicate(timeout=60)
    assert json.JSONDecoder().raw_decode(told)[0] == {
        "address": f"http://127.0.0.1:{port}/v1",
        "model": str(folder),
        "engine": "transformers",
    }
