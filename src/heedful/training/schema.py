"""The JSON schema of a settings class, for editors that complete and check YAML. Imports no torch."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Collection
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

_PLAIN: dict[Any, dict[str, Any]] = {
    Any: {},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    type(None): {"type": "null"},
}


def json_schema(cls: type, title: str, left_out: Collection[str] = ()) -> dict[str, Any]:
    """A schema (draft 7) that accepts what `settings.draft` accepts of a class, value ranges apart.

    Args:
        cls: the settings dataclass.
        title: of the schema.
        left_out: dotted names of settings that the file may not have.
    """
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": title, **_of(cls, None, (), set(left_out))}


def _of(cls: type, default: Any, path: tuple[str, ...], left_out: Collection[str]) -> dict[str, Any]:
    hints, said = typing.get_type_hints(cls), field_docs(cls)
    properties: dict[str, Any] = {}
    for f in dataclasses.fields(cls):
        dotted = ".".join((*path, f.name))
        if not f.init or dotted in left_out:
            continue
        own = _default(f) if default is None else getattr(default, f.name)
        if dataclasses.is_dataclass(hints[f.name]):
            made = _of(typing.cast(type, hints[f.name]), own, (*path, f.name), left_out)
        else:
            made = _hint(hints[f.name])
            plain = list(own) if isinstance(own, tuple) else own
            if isinstance(plain, bool | int | float | str | list):
                made["default"] = plain
        if said.get(f.name):
            made["description"] = said[f.name]
        properties[f.name] = made
    described = inspect.cleandoc(cls.__doc__ or "")
    return {"type": "object", "description": described, "additionalProperties": False, "properties": properties}


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else None


def _hint(hint: Any) -> dict[str, Any]:
    """The schema of a type hint of `settings.convert`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_hint(one) for one in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (tuple, list):
        return {"type": "array", "items": _hint(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _hint(arguments[1])}
    return dict(_PLAIN[hint])


@cache
def field_docs(cls: type) -> dict[str, str]:
    """What stands below each field of a dataclass as its docstring, those of its bases included."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(one):
            continue
        body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]).body
        for field, below in pairwise(body):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[field.target.id] = " ".join(str(below.value.value).split())
    return found
