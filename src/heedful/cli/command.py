"""What the commands share: settings from flags and a YAML file, and results for a person or a program."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

from heedful.errors import HeedfulError
from heedful.training.settings import REQUIRED, Draft, Source, all_keys, draft, read_yaml

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of a command: its settings, and whether a program reads the result."""

    settings: T
    json: bool


def parse(
    cls: type[T], name: str, arguments: list[str], *, notes: str = "", assumed: Mapping[str, Any] | None = None
) -> Call[T]:
    """Settings of a command: the class's defaults, over them `--config file.yaml`, over that the flags.

    Args:
        cls: the settings dataclass; every field is a flag, its docstring is the help.
        name: the command's name.
        arguments: the words after it. A flag's block may be left out where the rest names one flag only.
        notes: what `--help` says below the class's own description.
        assumed: values of required settings that this command can do without.

    Raises:
        HeedfulError: the YAML file is wrong, or the class refuses its values.
        SystemExit: `--help` (0), or a mistaken flag (2), explained on standard error.
    """
    import tyro

    if _ONLY_SETTINGS.get():
        raise _FoundSettingsError(cls)
    path = _config_path(arguments)
    mapping, source = read_yaml(path) if path else ({}, Source("the flags"))
    defaults = _blank(draft(cls, {**(assumed or {}), **mapping}, source))
    call_type = dataclasses.make_dataclass(
        "Options",
        [
            ("settings", Annotated[cls, tyro.conf.arg(name="")]),  # type: ignore[valid-type]
            (
                "config",
                Annotated[
                    Path | None,
                    tyro.conf.arg(
                        metavar="FILE",
                        help="YAML file of these settings; flags win over it.",
                        help_behavior_hint="",
                    ),
                ],
            ),
            (
                "json",
                Annotated[
                    bool,
                    tyro.conf.FlagCreatePairsOff,
                    tyro.conf.arg(help="Print the result as JSON on standard output.", help_behavior_hint=""),
                ],
            ),
        ],
        frozen=True,
    )
    blank: Any = object.__new__(call_type)
    for key, value in {"settings": defaults, "config": None, "json": False}.items():
        object.__setattr__(blank, key, value)
    options: Any = tyro.cli(
        call_type,
        prog=f"heedful {name}",
        description=_wrapped(f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{notes}"),
        args=full_flags(cls, arguments),
        default=blank,
        config=(tyro.conf.AvoidSubcommands, tyro.conf.PositionalMetavarFromFieldName),
    )
    return Call(options.settings, options.json)


class _FoundSettingsError(Exception):
    """Carries the class that a command was about to parse."""


_ONLY_SETTINGS: ContextVar[bool] = ContextVar("_ONLY_SETTINGS", default=False)


def settings_of(command: Callable[[list[str]], int], words: list[str]) -> type | None:
    """The settings class that a command parses when these words follow its name; None where they fit none.

    The command is called, and stopped where it would parse: nothing of what it does is done.
    """
    token = _ONLY_SETTINGS.set(True)
    try:
        command(words)
    except _FoundSettingsError as found:
        return cast(type, found.args[0])
    except HeedfulError:
        return None
    finally:
        _ONLY_SETTINGS.reset(token)
    return None


def _wrapped(text: str) -> str:
    """Text in paragraphs of the terminal's width. (tyro would join the lines if none began with a space.)"""
    width = min(shutil.get_terminal_size().columns, 110)
    paragraphs = text.strip().split("\n\n")
    return "\n".join(textwrap.fill(p, width, initial_indent="  ", subsequent_indent="  ") for p in paragraphs)


def _config_path(arguments: list[str]) -> Path | None:
    path = None
    for number, word in enumerate(arguments):
        if word == "--config" and number + 1 < len(arguments):
            path = Path(arguments[number + 1])
        elif word.startswith("--config="):
            path = Path(word.removeprefix("--config="))
    return path


def full_flags(cls: type, arguments: list[str]) -> list[str]:
    """Flags with their blocks written out: `--learning-rate` becomes `--optimiser.learning-rate`.

    `_` in a flag is `-`, so that `--learning_rate` is read too. A flag that is known as it stands is left alone, as is
    one that nothing ends in.

    Raises:
        HeedfulError: the short name stands in several blocks.
    """
    keys = [key.replace("_", "-") for key in all_keys(cls)]
    full = []
    for word in arguments:
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("_", "-")
        if flag.startswith("--") and "." not in name and name not in keys:
            negated = name.startswith("no-")
            leaf = name.removeprefix("no-")
            found = [key for key in keys if "." in key and key.rpartition(".")[2] in (name, leaf)]
            if len(found) > 1:
                choices = " or ".join(f"--{key}" for key in found)
                raise HeedfulError(f"{flag} stands in several blocks.", mend=f"Write {choices}.")
            if found:
                block, _, ending = found[0].rpartition(".")
                flag = f"--{block}.{'no-' if negated and ending == leaf else ''}{ending}"
        full.append(flag + equals + value)
    return full


def _blank(made: Draft) -> Any:
    """An instance that carries a draft's values as tyro's defaults, without running its own checks."""
    import tyro

    blank: Any = object.__new__(made.cls)
    for name, value in made.values.items():
        if isinstance(value, Draft):
            value = _blank(value)
        object.__setattr__(blank, name, tyro.MISSING if value is REQUIRED else value)
    return blank


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """Whatever is printed inside goes to standard error, so that standard output holds the result alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def print_json(value: Any) -> None:
    """One JSON value on standard output. A NaN or an infinity becomes null: JSON has neither."""
    json.dump(jsonable(value), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def jsonable(value: Any) -> Any:
    """A value as JSON has it: dataclasses as objects, paths as text, a NaN or an infinity as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bool | int | str) or value is None:
        return value
    if getattr(value, "ndim", 0):  # an array
        return jsonable(value.tolist())
    if isinstance(value, float) or hasattr(value, "__float__"):
        number = float(value)
        return number if abs(number) < float("inf") else None
    return str(value)


def print_result(title: str, figures: Mapping[str, Any]) -> None:
    """A stage's figures as a table for a person. Nested mappings become dotted rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _flat(figures):
        table.add_row(Text(key.replace("_", " ")), Text(shown(value)))
    console = Console()
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(table)


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shown(value: Any) -> str:
    """A value for a table: four significant digits, an interval as 'mean [low, high]'."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if all(hasattr(value, name) for name in ("mean", "low", "high")):
        return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return str(value)
