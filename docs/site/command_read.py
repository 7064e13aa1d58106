"""The commands as the code has them: each is called with --help, and stopped where it hands its settings to tyro."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from typing import Any
from unittest import mock

from heedful.cli.main import COMMANDS, main
from heedful.cli.plan import NOTES as PLAN_NOTES
from heedful.cli.synthesise import METHODS, USAGE

UNDER: dict[str, tuple[str, ...]] = {
    "studio": ("", "migrate", "backup", "restore", "migrate-db", "prioritise"),
    "synthesise": tuple(METHODS),
}
"""Commands whose first word says what they do; nothing is the command by itself."""

ABOUT = {"plan": PLAN_NOTES, "synthesise": USAGE.split("\n\n")[1]}
"""What a command says that has no settings of its own."""


@dataclasses.dataclass(frozen=True)
class Usage:
    """One way to call a command: its settings class, what it is for, and what the notes of its help add."""

    words: str
    settings: type
    text: str


class _Found(BaseException):
    """Not an Exception, so that the command line lets it through."""

    def __init__(self, call: Any, name: str, text: str) -> None:
        hints = typing.get_type_hints(call, include_extras=True)
        self.settings: type = typing.get_args(hints["settings"])[0]
        self.name, self.text = name, text


def usages(name: str) -> list[Usage]:
    """The ways to call a command, `heedful plan` apart: its settings are those of the stages."""
    if name == "plan":
        return []
    return [found for under in UNDER.get(name, ("",)) if (found := usage(name, under)) is not None]


@functools.cache
def usage(name: str, under: str = "") -> Usage | None:
    """What one call asks tyro for; None where it asks for nothing."""

    def stopped(call: Any, *, prog: str, description: str, **_: Any) -> None:
        raise _Found(call, prog, description)

    with mock.patch("tyro.cli", stopped), mock.patch("heedful.cli.command._wrapped", str):
        try:
            main([name, *([under] if under else []), "--help"])
        except _Found as found:
            return Usage(found.name, found.settings, inspect.cleandoc(found.text).strip())
    return None


def groups() -> dict[str, list[str]]:
    """The commands by their headings in `heedful --help`."""
    found: dict[str, list[str]] = {}
    for name, command in COMMANDS.items():
        found.setdefault(command.group, []).append(name)
    return found
