"""docs/in-the-field.md, carried out: a policy is asked, its user gives a thumb, the studio keeps it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from feedback_factories import account, programme
from heedful.feedback import tokens
from heedful.feedback.models import Judgment, Programme, Prompt
from scripted_server import Say, scripted


def blocks(repository: Path, language: str) -> list[str]:
    page = (repository / "docs" / "in-the-field.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def of(transactional_db: None) -> Programme:
    made = programme()
    Programme.objects.filter(pk=made.pk).update(slug="shop")
    made.refresh_from_db()
    return made


@pytest.fixture
def settings_of_the_page(of: Programme, live_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = tokens.create_token(of, "shop's server", ["feedback:write"], author=account())
    monkeypatch.setenv("STUDIO", live_server.url)
    monkeypatch.setenv("HEEDFUL_TOKEN", token)


@pytest.mark.usefixtures("settings_of_the_page")
def test_the_python_of_the_page_collects_a_thumb_and_sends_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(repository, "python")
    with scripted(lambda given, before: Say("It left us on Monday."), models=("shop-1",)) as server:
        monkeypatch.setenv("POLICY_URL", server.url)
        monkeypatch.setenv("POLICY_MODEL", "shop-1")
        names: dict[str, Any] = {}
        exec(code, names)
        assert capsys.readouterr().out == "It left us on Monday. kept\n"
        assert server.asked[-1]["model"] == "shop-1"
        again = names["thumb"](names["answer"], names["question"], "customer-4711", True, True)
        silent = names["thumb"](names["ask"](names["question"]), names["question"], "customer-4711", False, True)
    assert (again, silent) == ("kept", "no_consent")
    said = Judgment.objects.get()
    assert (said.kind, said.payload, said.rater.kind) == ("thumb", {"up": True}, "end_user")
    entry = said.item.entries.get()
    assert (entry.completion.text, entry.completion.policy) == ("It left us on Monday.", "shop-1")


@pytest.mark.usefixtures("settings_of_the_page")
def test_the_curl_of_the_page_sends_a_regeneration_and_a_withdrawal(repository: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    send, withdraw = blocks(repository, "bash")
    done = subprocess.run(["bash", "-c", send], capture_output=True, text=True, check=True)
    assert '"status": "kept"' in done.stdout
    assert Judgment.objects.get().payload["strength"] == 1
    done = subprocess.run(["bash", "-c", withdraw], capture_output=True, text=True, check=True)
    assert '"known": true' in done.stdout
    assert Prompt.objects.get().messages[0]["content"] == ""
