"""The reference made from the code: complete, with a sentence for each flag, field and figure, and not stale."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest

import command_pages
import command_read
import heedful
import metric_page
import python_page
import reference
import settings_read
from heedful.cli.main import COMMANDS, main
from heedful.training.config.programme import Recipe
from heedful.training.metrics import METRICS, metric_of

SOURCE = Path(heedful.__file__).parent
USAGES = [usage for name in COMMANDS for usage in command_read.usages(name)]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return command_pages.pages()


@pytest.mark.parametrize("settings", [*(usage.settings for usage in USAGES), Recipe], ids=lambda cls: cls.__name__)
def test_every_setting_and_every_block_has_a_sentence(settings: type) -> None:
    silent = [one.key for one in settings_read.settings_of(settings) if len(one.help.split()) < 2]
    assert not silent, f"{settings.__name__}: write a docstring below {silent}"
    for name, block in settings_read.blocks_of(settings).items():
        assert not command_pages.documented(block).startswith(f"{block.__name__}("), f"{settings.__name__}.{name}"


def test_each_command_is_caught_as_it_hands_its_settings_over() -> None:
    caught = {usage.words for usage in USAGES}
    assert {"heedful ppo", "heedful studio", "heedful studio backup", "heedful synthesise degrade"} <= caught
    first_words = {words.split()[1] for words in caught}
    for name in COMMANDS.keys() - first_words:
        assert name in command_read.ABOUT, f"heedful {name} has neither settings nor a text"


def test_what_the_studio_does_besides_serving_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studio", "nothing-of-the-kind"]) == 2
    told = " ".join(capsys.readouterr().err.split()).partition("or does ")[2].strip(" .").split(", ")
    assert ["", *sorted(told)] == sorted(command_read.UNDER["studio"])


def test_the_pages_of_commands_name_each_of_their_settings(pages: dict[str, str]) -> None:
    for usage in USAGES:
        page = pages[f"{usage.words.split()[1]}.md"]
        for setting in settings_read.settings_of(usage.settings):
            shared = f"[`--{setting.path[0]}.*`](blocks.md#" in page
            there = pages["blocks.md"] if shared and len(setting.path) > 1 else page
            assert f"| `{setting.flag}` |" in there, f"{usage.words} {setting.flag}"


def test_a_command_s_own_defaults_of_a_shared_block_are_told(pages: dict[str, str]) -> None:
    (line,) = [line for line in pages["ppo.md"].splitlines() if line.startswith("| [`--optimiser.*`]")]
    assert "`learning_rate` `1e-06`" in line
    assert "`epsilon` `1e-05`" in line
    assert "`beta1`" not in line  # as in the block itself


def test_what_is_committed_is_what_the_code_says() -> None:
    assert reference.stale() == [], "run make reference"


def test_stale_pages_are_found(tmp_path: Path) -> None:
    reference.write(tmp_path)
    assert reference.stale(tmp_path) == []
    (tmp_path / "metrics.md").write_text("old", "utf-8")
    (tmp_path / "commands" / "ppo.md").unlink()
    (tmp_path / "commands" / "gone.md").write_text("of a command that is no more", "utf-8")
    assert reference.stale(tmp_path) == ["commands/gone.md", "commands/ppo.md", "metrics.md"]
    reference.write(tmp_path)
    assert reference.stale(tmp_path) == []
    assert not (tmp_path / "commands" / "gone.md").exists()


def test_settings_are_read_with_types_defaults_and_bases() -> None:
    @dataclass(frozen=True)
    class Base:
        "Of both."

        many: tuple[str, ...] = ()
        """Some names,
        on two lines."""
        one: typing.Literal["a", "b"] = "a"
        """One of two."""

    @dataclass(frozen=True)
    class Derived(Base):
        "Of one."

        one: typing.Literal["a", "b"] = "b"
        share: float | None = None
        """A share."""
        silent: bool = True

    globals().update(Base=Base)
    found = {one.key: one for one in settings_read.settings_of(Derived)}
    assert [*found] == ["many", "one", "share", "silent"]
    assert found["many"].help == "Some names, on two lines."
    assert (found["one"].help, found["one"].takes, found["one"].default) == ("One of two.", "`a` / `b`", "b")
    assert (found["share"].takes, settings_read.default_in_words(found["share"].default)) == ("number", "")
    assert (found["silent"].help, settings_read.default_in_words(found["silent"].default)) == ("", "yes")


# --- metrics -------------------------------------------------------------------------------------------


def test_every_figure_is_told_once_and_says_what_to_do() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    page = metric_page.page()
    for metric in METRICS:
        assert page.count(f"| `{metric.name}` |") == 1
        assert metric.means.endswith(".")
        assert metric.moves.endswith(".")


def test_no_figure_is_told_that_the_code_does_not_log() -> None:
    code = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py") if path.name != "metrics.py")
    made = {"policy_gradient_norm": "_gradient_norm", "critic_gradient_norm": "_gradient_norm"}
    made |= {name: rf"{name.partition('_')[0]}_{{" for name in ("chosen_reward", "rejected_reward")}
    for metric in METRICS:
        stem = metric.name.partition("{")[0]
        known = [f'"{stem}"', f'f"{stem}{{', f'"{stem.removeprefix("held_out_")}"', made.get(metric.name, "\0")]
        assert any(text in code for text in known), metric.name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("kl", "kl"),
        ("threshold_2", "threshold_{k}"),
        ("mixture_helpfulness", "mixture_{attribute}"),
        ("reference_kl", "reference_kl"),
    ],
)
def test_a_key_finds_its_figure(key: str, name: str) -> None:
    found = metric_of(key)
    assert found is not None
    assert found.name == name


def test_a_foreign_key_has_none() -> None:
    assert metric_of("kls") is None
    assert metric_of("mixture_") is None


def test_the_signs_of_the_watch_read_figures_that_are_told() -> None:
    from heedful.monitoring.signs import SIGNS

    assert all(metric_of(sign.metric) for sign in SIGNS.values())


# --- the Python API ------------------------------------------------------------------------------------


def test_the_api_page_has_every_public_name_with_its_docstring() -> None:
    page = python_page.page()
    for name in heedful.__all__:
        section = page.partition(f"## heedful.{name}\n")[2].partition("\n## ")[0]
        assert section, name
        assert re.search(r"\n```\n\n[\w`]", section), f"{name} has no docstring"


def test_the_api_page_says_what_python_says() -> None:
    import inspect

    section = python_page.page().partition("## heedful.compare\n")[2].partition("\n## ")[0]
    for parameter in inspect.signature(heedful.compare).parameters:
        assert re.search(rf"\b{parameter}\b", section)
    assert inspect.getdoc(heedful.compare).splitlines()[0] in section  # type: ignore[union-attr]
