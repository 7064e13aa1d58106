"""HTML that is escaped by construction: text becomes markup only through `element`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import TypeAlias

_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
_ATTRIBUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*\Z")
_VOID = {"meta", "br", "line", "rect", "circle", "path", "polyline", "polygon"}
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Safe(str):
    """Markup that was built by `element`; any other string is text, and gets escaped."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"


def text(value: str) -> Safe:
    """Text as markup: escaped, with characters that HTML cannot hold shown as U+FFFD."""
    return value if isinstance(value, Safe) else Safe(escape(_UNSEEN.sub("\ufffd", value), quote=True))


def element(name: str, *children: Child, **attributes: str | float | bool | None) -> Safe:
    """One element. Attributes: `class_` is class, `_` in a name is `-`, False and None leave it out.

    Raises:
        ValueError: a name or attribute that is no plain word, an event handler, or a script.
    """
    if not _NAME.match(name) or name == "script":
        raise ValueError(f"no element may be called {name!r}")
    opening = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    if name in _VOID:
        return Safe(opening if name in ("meta", "br") else f"{opening[:-1]}/>")
    return Safe(f"{opening}{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Safe:
    """Children one behind another; strings that are not `Safe` are escaped, None is left out."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        parts.append(text(child) if isinstance(child, str) else join(child))
    return Safe("".join(parts))


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    if not _ATTRIBUTE.match(name) or name.lower().startswith("on"):
        raise ValueError(f"no attribute may be called {name!r}")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{text(str(value))}"'
