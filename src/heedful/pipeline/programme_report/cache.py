"""What is dear to make, made once: a folder beside the rounds that may be deleted at any time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.files import sha256_json, write_json

FOLDER = Path("report") / "cache"


@dataclass(frozen=True)
class Cache:
    """Values of JSON by what they were made from.

    Attributes:
        folder: where they lie.
        made, found: names of what this call had to make, and of what it found.
    """

    folder: Path
    made: list[str]
    found: list[str]

    @classmethod
    def of(cls, programme: Path) -> Cache:
        """The cache of a programme."""
        return cls(programme / FOLDER, [], [])

    def kept(self, name: str, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """A value, made unless it lies here; what is not whole is made anew.

        Args:
            name: what it is, in a word or two, for file names and messages.
            key: all that it depends on, as JSON.
        """
        path = self.folder / f"{name.replace(' ', '-')}-{sha256_json([name, key])[:20]}.json"
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            self.found.append(name)
        except (FileNotFoundError, ValueError):
            value = make()
            write_json(path, value)
            self.made.append(name)
        return value
