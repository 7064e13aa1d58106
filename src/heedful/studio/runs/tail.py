"""Files of a run that grow while they are read: each look reads what came since the last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
PIECE = 2**20


class Tail(Generic[T]):
    """The rows of a JSONL file, kept in memory, in order.

    A last line without its end is left for the next look. A line that is no JSON object, or that `pick` makes nothing
    of, is passed over. A file that was put in the place of the one before, or cut, as when a run was killed and goes
    on, is read from its beginning; one that cannot be read has no rows.

    Args:
        path: the file; it need not be there yet.
        pick: what is kept of a row; None passes it over. It may raise KeyError, TypeError or ValueError.
    """

    def __init__(self, path: Path, pick: Callable[[dict[str, object]], T | None]) -> None:
        self.path, self.pick = path, pick
        self.rows: list[T] = []
        self.changed = 0.0
        """When the file last changed, in seconds since 1970; 0 where there is none."""
        self.read_bytes = 0
        """How many bytes were read in all."""
        self._offset = 0
        self._file: tuple[int, int] | None = None
        self._rest = b""

    def look(self) -> list[T]:
        """All rows so far."""
        try:
            with open(self.path, "rb") as file:
                found = os.fstat(file.fileno())
                if (found.st_dev, found.st_ino) != self._file or found.st_size < self._offset:
                    self._begin((found.st_dev, found.st_ino))
                self.changed = found.st_mtime
                file.seek(self._offset)
                while piece := file.read(PIECE):
                    self._take(piece)
        except OSError:
            self._begin(None)
            self.changed = 0.0
        return self.rows

    def _begin(self, file: tuple[int, int] | None) -> None:
        self._file, self._offset, self._rest, self.rows = file, 0, b"", []

    def _take(self, piece: bytes) -> None:
        self._offset += len(piece)
        self.read_bytes += len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            try:
                row = json.loads(line)
                kept = self.pick(row) if isinstance(row, dict) else None
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            if kept is not None:
                self.rows.append(kept)
