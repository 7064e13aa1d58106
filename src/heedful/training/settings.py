"""Settings: from a YAML file to a frozen dataclass and back, with errors that name the file, line and key.

A stage's settings are dataclasses nested by concern. A YAML file sets any of them under the same names;
what it leaves out keeps the default of the *outer* class, so that a stage can have an optimiser of its own.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from heedful.errors import HeedfulError, nearest

T = TypeVar("T")
_UNIONS = (typing.Union, types.UnionType)


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()
"""Stands in a `Draft` where a setting has neither a value nor a default."""


@dataclass
class Draft:
    """Checked values of a dataclass that is not constructed yet; nested dataclasses are drafts themselves."""

    cls: type
    values: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where settings came from: a name for messages and, for a file, the line of each key."""

    name: str
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def place(self, path: tuple[str, ...]) -> str:
        """The file, and the line where the key (or the nearest block around it) stands."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return self.name


# --- YAML ------------------------------------------------------------------------------------------------

_FLOAT = re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, and `1e-5` is a number."""


class _Dumper(yaml.SafeDumper):
    """The loader's counterpart: a text that the loader would read as a number is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    """YAML reads these line breaks of Unicode back as a space unless they are quoted and escaped."""
    style = '"' if any(mark in value for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)

for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_yaml(path: Path) -> tuple[dict[str, Any], Source]:
    """The mapping in a YAML file, and where each of its keys stands.

    Raises:
        HeedfulError: no such file, not YAML, not a mapping, or a key given twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise HeedfulError("the file is not UTF-8 text.", where=str(path), mend="Give a YAML file.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise HeedfulError(f"cannot read the settings: {reason}.", where=str(path), mend="Check --config.") from error
    lines: dict[tuple[str, ...], int] = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            _walk(node, (), lines, str(path))
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise HeedfulError(f"not YAML: {problem}.", where=where, mend="Mend the line.") from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise HeedfulError(
            f"the settings are {_kind(value)}, not 'key: value' lines.", where=str(path), mend="See --help."
        )
    return value, Source(str(path), lines)


def _walk(node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int], file: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        name = str(key.value).replace("-", "_")
        line = key.start_mark.line + 1
        if name in seen and key.tag != "tag:yaml.org,2002:merge":
            dotted = ".".join((*path, name))
            raise HeedfulError(f"key '{dotted}' stands here twice.", where=f"{file}:{line}", mend="Delete one of them.")
        seen.add(name)
        lines[(*path, name)] = line
        _walk(value, (*path, name), lines, file)


def plain(config: Any) -> dict[str, Any]:
    """A config dataclass as nested dicts, lists and scalars: what YAML and JSON can say."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def to_yaml(config: Any) -> str:
    """A config dataclass as YAML; `load_yaml_config` reads back an equal one."""
    return yaml.dump(plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


# --- from a mapping to a dataclass -----------------------------------------------------------------------


def load_yaml_config(cls: type[T], path: Path | str, overrides: Mapping[str, Any] | None = None) -> T:
    """Read a config from a YAML file.

    Args:
        cls: the dataclass.
        path: the YAML file.
        overrides: values that win over the file's, by dotted name: `{"optimiser.learning_rate": 1e-5}`.

    Raises:
        HeedfulError: an unknown key (with the nearest known one), a wrong type, a required key left out.
    """
    mapping, source = read_yaml(Path(path))
    for dotted, value in (overrides or {}).items():
        *blocks, name = dotted.split(".")
        inner = mapping
        for block in blocks:
            inner = inner.setdefault(block, {})
        inner[name] = value
    return build(draft(cls, mapping, source), source)


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Build a config from nested dicts; `where` names their origin in errors.

    Raises:
        HeedfulError: as `load_yaml_config`.
    """
    source = Source(where)
    return build(draft(cls, mapping, source), source)


def draft(
    cls: type,
    mapping: Mapping[str, Any],
    source: Source,
    path: tuple[str, ...] = (),
    base: Any = REQUIRED,
    root: type | None = None,
) -> Draft:
    """Check a mapping against a dataclass and lay its values over the defaults, without constructing it.

    Args:
        cls: the dataclass.
        mapping: its values; a nested dataclass is a nested mapping.
        source: names the place in errors.
        path: the key of this block in the whole, empty at the top.
        base: an instance whose values are the defaults; the class's own defaults where there is none.
        root: the outermost dataclass, for suggestions.

    Raises:
        HeedfulError: an unknown key, or a value of a wrong type.
    """
    root = root or cls
    if not isinstance(mapping, Mapping):
        raise _wrong(source, path, "a block of keys", mapping)
    given = {str(key).replace("-", "_"): value for key, value in mapping.items()}
    hints = _hints(cls)
    known = [f for f in dataclasses.fields(cls) if f.init]
    names = [f.name for f in known]
    for name in given:
        if name not in names:
            raise _unknown(source, path, name, names, root)
    values: dict[str, Any] = {}
    for f in known:
        inside = (*path, f.name)
        default = _default(f) if base is REQUIRED else getattr(base, f.name)
        if dataclasses.is_dataclass(hints[f.name]):
            values[f.name] = draft(hints[f.name], given.get(f.name, {}), source, inside, default, root)
        elif f.name not in given:
            values[f.name] = default
        else:
            values[f.name] = convert(hints[f.name], given[f.name], source, inside)
    return Draft(cls, values)


def build(made: Draft, source: Source | None = None) -> Any:
    """Construct the dataclass of a draft, nested ones first.

    Raises:
        HeedfulError: a required setting is missing, or the dataclass itself refuses its values.
    """
    missing = missing_keys(made)
    if missing:
        keys = ", ".join(f"'{key}'" for key in missing)
        raise HeedfulError(
            f"required: {keys}.",
            where=source.name if source else "",
            mend="Add it to the file, or give the flag of that name.",
        )
    values = {k: build(v, source) if isinstance(v, Draft) else v for k, v in made.values.items()}
    return made.cls(**values)


def missing_keys(made: Draft, path: tuple[str, ...] = ()) -> list[str]:
    """Dotted names of the settings of a draft that still have no value."""
    found = []
    for name, value in made.values.items():
        if isinstance(value, Draft):
            found += missing_keys(value, (*path, name))
        elif value is REQUIRED:
            found.append(".".join((*path, name)))
    return found


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields. Python evaluates their text anew at each call, most of what reading takes."""
    return typing.get_type_hints(cls)


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return REQUIRED


def convert(hint: Any, value: Any, source: Source, path: tuple[str, ...]) -> Any:
    """A YAML value as the Python value that a type hint asks for.

    Raises:
        HeedfulError: it is of another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in _UNIONS:
        return _convert_union(hint, arguments, value, source, path)
    if origin is Literal:
        if value in arguments and type(value) in {type(a) for a in arguments}:
            return value
        choices = [str(a) for a in arguments]
        mend = nearest(str(value), choices) or f"Choose one of {', '.join(choices)}."
        raise _wrong(source, path, f"one of {', '.join(choices)}", value, mend)
    if origin in (tuple, list):
        return _convert_sequence(hint, origin, arguments, value, source, path)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(source, path, "a block of keys", value)
        return {k: convert(arguments[1], v, source, (*path, str(k))) for k, v in value.items()}
    if hint is type(None):
        accepted = value is None
    elif hint is bool or hint is str:
        accepted = isinstance(value, hint)
    elif hint is int:
        whole = isinstance(value, float) and value.is_integer()
        accepted = whole or (isinstance(value, int) and not isinstance(value, bool))
    elif hint is float:
        accepted = isinstance(value, int | float) and not isinstance(value, bool)
    elif hint is Path:
        accepted = isinstance(value, str | Path)
    else:
        raise TypeError(f"settings cannot have the type {hint!r} ({'.'.join(path)})")
    if not accepted:
        raise _wrong(source, path, _NAMES.get(hint, "nothing"), value, _hint_for(hint, value))
    return value if value is None else hint(value)


def _convert_union(hint: Any, arguments: tuple[Any, ...], value: Any, source: Source, path: tuple[str, ...]) -> Any:
    exact = [a for a in arguments if isinstance(a, type) and type(value) is a]
    for choice in (*exact, *arguments):
        try:
            return convert(choice, value, source, path)
        except HeedfulError:
            continue
    raise _wrong(source, path, _describe(hint), value)


def _convert_sequence(
    hint: Any, origin: Any, arguments: tuple[Any, ...], value: Any, source: Source, path: tuple[str, ...]
) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(source, path, _describe(hint), value, "Write it as [a, b].")
    if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        kinds = [arguments[0]] * len(value)
    else:
        kinds = list(arguments)
    if len(kinds) != len(value):
        raise _wrong(source, path, f"a list of {len(kinds)}", value)
    items = zip(kinds, value, strict=True)
    return origin(convert(kind, item, source, (*path, str(n))) for n, (kind, item) in enumerate(items))


# --- words for errors ------------------------------------------------------------------------------------

_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    type(None): "nothing (null)",
}


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return " or ".join(_describe(a) for a in arguments)
    if origin is Literal:
        return " or ".join(repr(a) for a in arguments)
    if origin in (tuple, list):
        return "a list"
    return _NAMES.get(hint, "a block of keys")


def _kind(value: Any) -> str:
    if value is None:
        return "empty (null)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (true or false)"
    if isinstance(value, int | float):
        return f"the number {value!r}"
    if isinstance(value, str):
        shown = value if len(value) <= 40 else value[:37] + "..."
        return f"the text {shown!r}"
    if isinstance(value, Mapping):
        return "a block of keys"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a {type(value).__name__}"


def _hint_for(hint: Any, value: Any) -> str:
    if hint in (str, Path) and value is not None and not isinstance(value, list | tuple | Mapping):
        return "Put it in quotes."
    return ""


def _wrong(source: Source, path: tuple[str, ...], wanted: str, value: Any, mend: str = "") -> HeedfulError:
    key = ".".join(path) or "the whole"
    return HeedfulError(f"'{key}' must be {wanted}, and is {_kind(value)}.", where=source.place(path), mend=mend)


def _unknown(source: Source, path: tuple[str, ...], name: str, names: list[str], root: type) -> HeedfulError:
    dotted = ".".join((*path, name))
    everywhere = all_keys(root)
    elsewhere = [key for key in everywhere if key.split(".")[-1] == name]
    if "." in name:
        mend = "Write nested keys as a block, not with dots."
    elif elsewhere:
        mend = f"Did you mean '{elsewhere[0]}'?"
    else:
        mend = _nearest_key(path, name, names, everywhere) or f"Known here: {', '.join(names)}."
    return HeedfulError(f"unknown key '{dotted}'.", where=source.place((*path, name)), mend=mend)


def _nearest_key(path: tuple[str, ...], name: str, here: list[str], everywhere: list[str]) -> str:
    """The setting most like a name, as a question; of two that are equally like it, the one of this block."""
    leaves = {key.rpartition(".")[2]: key for key in reversed(everywhere)}
    leaves |= {known: ".".join((*path, known)) for known in here}
    found = difflib.get_close_matches(name, list(leaves), n=1, cutoff=0.5)
    return f"Did you mean '{leaves[found[0]]}'?" if found else ""


def all_keys(cls: type, path: tuple[str, ...] = ()) -> list[str]:
    """Dotted names of every setting of a dataclass, blocks included."""
    hints = _hints(cls)
    keys = []
    for f in dataclasses.fields(cls):
        keys.append(".".join((*path, f.name)))
        if dataclasses.is_dataclass(hints[f.name]):
            keys += all_keys(hints[f.name], (*path, f.name))
    return keys
