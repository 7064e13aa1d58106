"""`heedful env`: all that a bug report needs, and no secret."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from heedful.cli import env
from heedful.cli.main import main


def test_the_environment_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", found["heedful"])
    assert found["packages"]["torch"].startswith("2.")
    assert found["extras"]["train"] is True
    assert found["torch"]["threads"] >= 1
    assert found["processors"] >= found["processors_allowed"] >= 1
    assert main(["env"]) == 0
    text = capsys.readouterr().out
    assert f"transformers: {found['packages']['transformers']}" in text


def test_nothing_secret_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = {
        "HEEDFUL_TOKEN": "tell-nobody-1",
        "DATABASE_URL": "postgresql://me:tell-nobody-2@db/heedful",
        "OPENAI_API_KEY": "tell-nobody-3",
        "HF_TOKEN": "tell-nobody-4",
        "HEEDFUL_STUDIO_DATABASE": "postgresql://me:tell-nobody-5@db/heedful",
        "SOMETHING_ELSE": "tell-nobody-6",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-folder"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    for words in (["env"], ["env", "--json"]):
        assert main(words) == 0
        text = capsys.readouterr().out
        assert "tell-nobody" not in text
        assert "HEEDFUL_TOKEN" in text
        assert "SOMETHING_ELSE" not in text
        assert "~/hub-folder/hub (not there)" in text


def test_what_an_extra_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        "numpy>=1.26",
        "no-such-package>=2; extra == 'odd'",
        "heedful[train]; extra == 'odd'",
        "rich; extra == 'fine'",
    ]
    monkeypatch.setattr(env, "requires", lambda name: asked)
    assert env.extras_installed() == {
        "": {"packages": ["numpy"], "missing": []},
        "odd": {"packages": ["no-such-package"], "missing": ["no-such-package"]},
        "fine": {"packages": ["rich"], "missing": []},
    }


def test_a_torch_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    found = env._torch()
    assert found is not None
    assert found["cannot_import"].startswith("ModuleNotFoundError")
