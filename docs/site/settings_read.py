"""What a settings dataclass says of itself: each field with its type in words, its default and its help."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import tyro

from heedful.training.settings import REQUIRED, Draft, Source, draft

POSITIONAL: Any = typing.get_args(tyro.conf.Positional[str])[1]
"""What tyro marks a positional argument with."""

WORDS: dict[Any, str] = {bool: "yes or no", int: "whole number", float: "number", str: "text", Path: "path", Any: "any"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field that holds a value: `path` is its name with the blocks that it lies in."""

    path: tuple[str, ...]
    takes: str
    default: Any
    help: str
    positional: bool = False

    @property
    def flag(self) -> str:
        """As the command line has it."""
        name = ".".join(self.path).replace("_", "-")
        return name.upper() if self.positional else f"--{name}"

    @property
    def key(self) -> str:
        """As a YAML file has it."""
        return ".".join(self.path)

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is REQUIRED


@functools.cache
def field_helps(cls: type) -> dict[str, str]:
    """The text below each field of a dataclass, its bases' fields included."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(one) or "__dataclass_fields__" not in vars(one):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found[field.target.id] = _text(below) or found.get(field.target.id, "")
    return found


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""


def defaults_of(cls: type) -> Draft:
    """A settings class's own defaults, blocks included."""
    return draft(cls, {}, Source(cls.__name__))


def settings_of(cls: type, values: Draft | None = None, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """The settings of a dataclass in its order, those of its blocks among them.

    Args:
        values: the defaults, where an outer class has others.
    """
    values = values or defaults_of(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint, value, here = hints[field.name], values.values[field.name], (*path, field.name)
        positional = typing.get_origin(hint) is typing.Annotated and POSITIONAL in typing.get_args(hint)[1:]
        hint = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            yield from settings_of(hint, value, here)
        else:
            yield Setting(here, in_words(hint), value, field_helps(cls)[field.name], positional)


def blocks_of(cls: type) -> dict[str, type]:
    """The blocks that a settings dataclass is nested into: name and class."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if dataclasses.is_dataclass(hints[f.name])}


def in_words(hint: Any) -> str:
    """A type as a person says it: 'whole number', 'auto, mean or worst'."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        named = [in_words(one) for one in arguments if one is not type(None)]
        return " or ".join(named)
    if origin is Literal:
        return " / ".join(f"`{one}`" for one in arguments)
    if origin in (tuple, list):
        return f"{in_words(arguments[0])}, several" if arguments[-1] is Ellipsis or origin is list else "several"
    if origin is dict:
        return "a block"
    return WORDS[hint]


def default_in_words(value: Any) -> str:
    """A default for a table; empty for one that is 'nothing'."""
    if value is REQUIRED:
        return "required"
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return f"`{' '.join(map(str, value))}`"
    return f"`{value}`" if str(value) else '`""`'
