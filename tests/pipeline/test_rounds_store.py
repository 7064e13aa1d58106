"""The store of a programme's own folder: begun where nobody was asked, and missed where somebody was."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from heedful.errors import HeedfulError
from heedful.pipeline.rounds.recipe import read_programme
from heedful.pipeline.rounds.store import has_asked, open_store
from heedful.training.progress import Display
from rounds_programme import write_recipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    write_recipe(tmp_path, judge={"people": 1.0, "ai": 0.0}, store={"programme": "shop", "guideline": "nowhere.md"})
    return tmp_path


@pytest.mark.parametrize("trace", ["half-made", "finished"])
def test_a_store_that_was_asked_and_is_gone_is_named_and_none_is_begun_in_its_place(folder: Path, trace: str) -> None:
    programme = read_programme(folder)
    assert not has_asked(programme)
    place = folder / "rounds/1" / ("judge.part" if trace == "half-made" else "judge")
    place.mkdir(parents=True)
    if trace == "half-made":
        (place / ".batch.json").write_text('"an id"')
    else:
        (place / "manifest.json").write_text('{"store": {"programme": "shop", "batch": "an id"}}')
    assert has_asked(programme)
    with pytest.raises(HeedfulError, match="the store is not there") as found:
        open_store(programme.base, programme, Display(Console(file=io.StringIO())))
    assert found.value.where == str(folder / "feedback.db")
    assert not (folder / "feedback.db").exists()


def test_a_guideline_that_is_not_there_begins_no_store(folder: Path) -> None:
    programme = read_programme(folder)
    with pytest.raises(HeedfulError, match="cannot read the rubric"):
        open_store(programme.base, programme, Display(Console(file=io.StringIO())))
    assert not (folder / "feedback.db").exists()
