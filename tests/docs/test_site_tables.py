"""What "coming from" and "reading a run" name is there: flags, commands, formats, losses, figures, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import command_read
import settings_read
from heedful.cli.main import COMMANDS
from heedful.data.formats import FORMATS
from heedful.training.metrics import metric_of
from heedful.training.preference_losses import LOSSES

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted((DOCS / "coming-from").glob("*.md"))
ELSEWHERE = {"argilla": ("import",), "label-studio": ("import",), "trl": ("dpo", "reward"), "openrlhf": ("reward",)}
"""The commands of tables whose heading and line name none."""
OF_THE_STORE = {"argilla-records", "label-studio"}
"""Formats that only `heedful import` reads."""


@dataclass(frozen=True)
class Line:
    """A row of a table, with the headings that it stands under."""

    page: str
    headings: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def command(self) -> str | None:
        """The command that the nearest heading names."""
        found = [re.search(r"`heedful ([\w-]+)`|^heedful ([\w-]+)$", heading) for heading in self.headings]
        named = [match[1] or match[2] for match in found if match]
        return named[-1] if named else None


def lines(page: Path) -> Iterator[Line]:
    """The rows of a page's tables, heads left out."""
    headings: list[str] = []
    fenced = False
    rows = page.read_text("utf-8").splitlines()
    for number, row in enumerate(rows):
        fenced ^= row.startswith("```")
        if fenced:
            continue
        if row.startswith("#"):
            level = len(row) - len(row.lstrip("#"))
            headings = [*headings[: level - 1], row.lstrip("# ")]
        cells = tuple(cell.strip() for cell in row.strip("|").split(" | "))
        is_head = number + 1 < len(rows) and rows[number + 1].startswith("|---")
        if row.startswith("|") and not row.startswith("|---") and not is_head:
            yield Line(page.stem, tuple(headings), tuple(cell.strip("| ") for cell in cells))


@cache
def flags_of(command: str) -> set[str]:
    """All flags of a command, the short ones too, which leave their block out."""
    found = {"--config", "--json", "--help"}
    for usage in command_read.usages(command):
        for setting in settings_read.settings_of(usage.settings):
            found |= {setting.flag, f"--{setting.path[-1].replace('_', '-')}"}
    return found


def codes(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


ALL = [line for page in PAGES for line in lines(page)]


def test_the_pages_have_tables_under_commands() -> None:
    assert {page.stem for page in PAGES} == {"trl", "openrlhf", "argilla", "label-studio"}
    assert {line.command for line in ALL} >= {"dpo", "reward", "ppo", "grpo", "import"}
    assert sum(line.command is not None for line in ALL) > 70


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_flag_on_our_side_exists(page: Path) -> None:
    seen = 0
    for line in lines(page):
        if len(line.cells) < 2:
            continue
        told = [line.command] if line.command else re.findall(r"heedful ([\w-]+)", line.cells[1])
        commands = told or ELSEWHERE[page.stem]
        known = set().union(*(flags_of(command) for command in commands))
        for code in (code for cell in line.cells[1:] for code in codes(cell)):
            if code.startswith("--"):
                assert code.split()[0].partition("=")[0] in known, f"{page.stem}: {line.cells[0]}: {code}"
                seen += 1
    assert seen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_on_our_side_exists(page: Path) -> None:
    named = re.findall(r"`heedful ([\w-]+)", page.read_text("utf-8"))
    assert named
    assert set(named) <= COMMANDS.keys()


def test_each_format_on_our_side_exists() -> None:
    known = {one.name for one in FORMATS} | OF_THE_STORE
    rows = [line for line in ALL if line.headings[-1] == "Data"]
    assert len(rows) >= 10
    for line in rows:
        assert set(codes(line.cells[1])) <= known, line.cells


def test_each_loss_on_our_side_exists() -> None:
    rows = [line for line in ALL if line.headings[-1] == "Losses"]
    assert len(rows) >= 12
    for line in rows:
        assert codes(line.cells[1])
        assert set(codes(line.cells[1])) <= set(LOSSES), line.cells


# --- reading a run -------------------------------------------------------------------------------------


def settings_known() -> set[str]:
    """Keys of settings of all that trains, and what a flag of them looks like."""
    stages = ("sft", "reward", "dpo", "ppo", "grpo", "raft", "online-dpo")
    found = [
        one
        for name in stages
        for usage in command_read.usages(name)
        for one in settings_read.settings_of(usage.settings)
    ]
    return {one.key for one in found} | {one.flag for one in found}


def test_reading_a_run_names_figures_and_settings_that_exist() -> None:
    text = (DOCS / "explain" / "reading-a-run.md").read_text("utf-8")
    known = settings_known()
    named = [code for line in lines(DOCS / "explain" / "reading-a-run.md") for code in codes(" ".join(line.cells))]
    assert len(named) > 40
    for code in named:
        word = code.split()[0]
        is_file = word.endswith((".jsonl", ".json", ".html", "/"))
        assert metric_of(code) or word in known or is_file or word == "heedful", (
            f"`{code}` is neither figure nor setting"
        )
    for figure in re.findall(r"^\d\. \*\*`(\w+)`", text, re.MULTILINE):
        assert metric_of(figure), figure
