"""Judgments that were erased, as journals of erasures name them. Imports no Django."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from heedful.feedback.journal import JOURNAL, entries


def journals_near(folder: Path) -> list[Path]:
    """The journals in a folder and in the one above it, which a store that stands there keeps."""
    return [path for path in (folder / JOURNAL, folder.parent / JOURNAL) if path.is_file()]


def erased_judgments(journals: Iterable[Path]) -> frozenset[str]:
    """Ids of the judgments that journals name.

    Raises:
        HeedfulError: a journal is damaged, with the line.
    """
    return frozenset(str(key) for path in dict.fromkeys(journals) for kind, key in entries(path) if kind == "judgment")
