"""Objects of a Python program under names that settings can carry: `memory:rows-5f1c09ab37e2d804`.

A setting is text: it stands in a run's heedful.yaml, in its manifest and in messages. An object in memory has no path,
so for the length of a call it gets a name that says what it is and ends in the SHA-256 of its content. The same content
has the same name, so that lineage, and the check that an interrupted run goes on with what it began with, hold for
objects as they do for files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from heedful.data.records import Demonstration, Labelled, Preference, Prompt, Ranking
from heedful.data.write import WRITERS
from heedful.errors import HeedfulError
from heedful.files import sha256_json

Kind = Literal["rows", "model", "reward", "judge"]
PREFIX = "memory:"
_DIGITS = 16
_KEPT: dict[str, tuple[str, Any]] = {}
_USERS: Counter[str] = Counter()


class Holding:
    """Keeps objects under their names as long as its block runs. Calls may stand inside each other."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            _USERS[name] -= 1
            if not _USERS[name]:
                del _KEPT[name], _USERS[name]

    def keep(self, kind: Kind, sha256: str, value: Any) -> str:
        """The name of an object with this content, by which `held` finds it until the block ends."""
        name = f"{PREFIX}{kind}-{sha256[:_DIGITS]}"
        _KEPT.setdefault(name, (sha256, value))
        _USERS[name] += 1
        self._names.append(name)
        return name

    def rows(self, data: Iterable[Any]) -> str:
        """The name of rows: a `datasets.Dataset`, or a list of mappings or of heedful's own records.

        Raises:
            HeedfulError: something else, a dataset with several splits, a stream, or no rows.
        """
        found = _as_rows(data)
        return self.keep("rows", sha256_json([row_sha256(row) for row in found]), found)


def is_held(name: str) -> bool:
    """Whether a setting names an object in memory."""
    return name.startswith(PREFIX)


def held(name: str) -> Any:
    """The object of a name.

    Raises:
        HeedfulError: nobody holds it now: the name is of another process, or of a call that has ended.
    """
    return _find(name)[1]


def held_rows(name: str, split: str | None) -> Iterable[Mapping[str, Any]]:
    """The rows of a name.

    Raises:
        HeedfulError: as `held`; a split is asked for, and rows in memory have none.
    """
    if split is not None:
        raise HeedfulError("rows in memory have no splits.", where=name, mend=f"Leave split={split!r} away.")
    return held(name)  # type: ignore[no-any-return]


def held_sha256(name: str) -> str:
    """Hex SHA-256 of the content of the object of a name. Raises as `held`."""
    return _find(name)[0]


def _find(name: str) -> tuple[str, Any]:
    if name not in _KEPT:
        raise HeedfulError(
            "this was an object in the memory of a Python program, which is gone.",
            where=name,
            mend="Call the function of heedful again with the same object; a command takes a path.",
        )
    return _KEPT[name]


def row_sha256(row: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a row's content, whatever the order of its columns."""
    return sha256_json([repr(item) for item in sorted(row.items())])


def _as_rows(data: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(data, Mapping):
        splits = ", ".join(repr(name) for name in data)
        raise _no_rows(
            f"this is a {type(data).__name__} of {splits}", f"Take one: data[{next(iter(data), 'train')!r}]."
        )
    if not hasattr(data, "__iter__"):
        raise _no_rows(f"{type(data).__name__} is nothing that holds rows", "Give a list of dicts, or a file's path.")
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise _no_rows(
            f"a {type(data).__name__} can be read only once", "Give a list: list(rows), or list(dataset.take(1000))."
        )
    if hasattr(data, "to_dict") and hasattr(data, "columns") and not hasattr(data, "features"):
        raise _no_rows(f"this is a table ({type(data).__name__})", 'Give its rows: table.to_dict("records").')
    if not len(data):
        raise _no_rows("there are no rows at all", "Check what the list was made from.")
    if hasattr(data, "features"):  # a datasets.Dataset stays where it is
        return data  # type: ignore[no-any-return]
    return [_as_row(number, row) for number, row in enumerate(data, start=1)]


def _as_row(number: int, row: Any) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return dict(row)
    if isinstance(row, Demonstration | Labelled | Preference | Prompt | Ranking):
        return WRITERS["heedful"](row)
    raise _no_rows(
        f"row {number} is a {type(row).__name__}, and a row is a mapping of columns",
        'Write {"prompt": ..., "chosen": ..., "rejected": ...}; docs/data-formats.md has every form.',
    )


def _no_rows(what: str, mend: str) -> HeedfulError:
    return HeedfulError(f"{what}.", where="data", mend=mend)
