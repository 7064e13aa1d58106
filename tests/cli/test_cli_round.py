"""`heedful init` and `heedful round` as a person and a program meet them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.main import main
from heedful.pipeline.rounds import programme as programme_module
from heedful.pipeline.rounds.parts import WaitingError
from rounds_programme import go, write_programme, write_recipe


@pytest.fixture(scope="module")
def one_round(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_programme(tmp_path_factory.mktemp("cli") / "programme", rounds=1)
    go(folder)
    return folder


def test_init_then_a_look_ahead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "My Shop!")
    assert main(["init", folder]) == 0
    assert "heedful round" in capsys.readouterr().out
    assert "name: my-shop\n" in (tmp_path / "My Shop!" / "heedful.yaml").read_text()
    assert main(["round", folder, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["to_make"] == [row["step"] for row in found["steps"]]
    assert found["to_make"][:3] == ["0/base", "0/demonstrations", "0/sft"]
    assert found["to_make"][-1] == "3/decide"
    assert main(["round", folder, "--status"]) == 0
    assert "0 of 30 steps done" in capsys.readouterr().out
    assert main(["init", folder]) == 2
    assert "there is a recipe already" in capsys.readouterr().err


def test_a_mistake_in_the_recipe_ends_with_its_line(one_round: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (one_round / "heedful.yaml").read_text()
    (one_round / "heedful.yaml").write_text(text + "chekc: {}\n")
    try:
        assert main(["round", str(one_round)]) == 2
    finally:
        (one_round / "heedful.yaml").write_text(text)
    said = capsys.readouterr().err
    assert f"heedful.yaml:{len(text.splitlines()) + 1}" in said
    assert "Did you mean 'check'?" in said


def test_a_finished_programme_says_so(one_round: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["round", str(one_round)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Nothing to do: all is as the recipe says.\nround 1: won ")
    assert "kept: rounds/1/policy" in said
    assert main(["round", str(one_round), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["made"] == []
    assert found["rounds"][0]["judgments"]["ai"] > 0
    assert main(["round", str(one_round), "--status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["state"] for row in found["steps"]} == {"done"}
    assert all(row["seconds"] >= 0 for row in found["steps"])


def test_the_look_ahead_names_what_has_changed(one_round: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(one_round, rounds=1, rloo={"steps": 3})
    try:
        assert main(["round", str(one_round), "--dry-run"]) == 0
    finally:
        write_recipe(one_round, rounds=1)
    said = capsys.readouterr().out
    assert said.startswith("7 of 10 steps are done.\n  1/policy          rloo.steps: 2 before, 3 now\n")
    assert "left alone where that comes out as it was" in said


def test_waiting_for_people_is_no_error_and_has_an_exit_code_of_its_own(
    one_round: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"for": "judgments by people in 'round 1: train' of shop", "filled": 3, "places": 10}

    def wait(*_: Any) -> None:
        raise WaitingError(told)

    monkeypatch.setattr(programme_module, "run_rounds", wait)
    assert main(["round", str(one_round)]) == 3
    assert capsys.readouterr().out.startswith("Waiting for judgments by people in 'round 1: train' of shop: 3 of 10")
    assert main(["round", str(one_round), "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {"waiting": told}


def test_two_questions_at_once_are_refused(one_round: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["round", str(one_round), "--dry-run", "--status"]) == 2
    assert "Ask one at a time" in capsys.readouterr().err
