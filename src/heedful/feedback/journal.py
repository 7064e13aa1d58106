"""The journal of erasures: which subjects were erased, as lines of a file beside the store. Needs no Django."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from heedful.errors import HeedfulError
from heedful.files import sync_folder

JOURNAL = "erasures.jsonl"
KINDS = (
    "account",
    "rater",
    "completion",
    "prompt",
    "rationale",
    "skip",
    "turn",
    "contest",
    "reason",
    "replies",
    "judgment",
)
"""Subjects of tombstones. A text and a judgment have one of their own, so that a raw export from before, in which their
writer is a pseudonym, brings them back no more than a backup does."""
Subject = tuple[str, uuid.UUID]


def append(path: Path, found: Iterable[Subject]) -> None:
    """Add subjects to a journal; on disk when this returns."""
    lines = "".join(json.dumps({"kind": kind, "subject": str(key)}) + "\n" for kind, key in found).encode()
    if not lines:
        return
    new = not path.exists()
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                lines = b"\n" + lines  # the last one was cut off by a crash
            os.write(handle, lines)
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            sync_folder(path.parent)
    except OSError as error:
        raise HeedfulError(
            f"the journal of erasures cannot be written ({error.strerror}); nothing was erased.",
            where=str(path),
            mend="Make its folder writable: without the journal a restored backup would bring the texts back.",
        ) from error


def entries(path: Path) -> Iterator[Subject]:
    """The subjects in a journal. A line that a crash cut off was never acknowledged, and is passed over.

    Raises:
        HeedfulError: a line is no entry.
    """
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip() or not line.endswith(b"}"):
            continue
        try:
            row = json.loads(line)
            kind, subject = row["kind"], uuid.UUID(row["subject"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HeedfulError("no entry of the journal of erasures.", where=f"{path}:{number}") from error
        if kind not in KINDS:
            raise HeedfulError(f"{kind!r} is nothing that is erased.", where=f"{path}:{number}")
        yield kind, subject
