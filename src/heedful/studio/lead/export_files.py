"""Exports that wait to be fetched: each in a folder of its own that only the studio reads, for an hour."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from heedful.feedback.exports import ExportReport
from heedful.feedback.models import Programme
from heedful.studio.said import say

PREFIX = "heedful-export-"
SECONDS = 3600
SESSION = "exports"
MOST = 5


@dataclass(frozen=True)
class Ready:
    """An export that can be fetched."""

    key: str
    folder: Path
    report: dict[str, Any]

    @property
    def files(self) -> list[tuple[str, int]]:
        """(name, bytes) of what is there, the export itself first."""
        main = Path(self.report["out"]).name
        found = [(path.name, path.stat().st_size) for path in self.folder.iterdir() if path.is_file()]
        return sorted(found, key=lambda pair: (pair[0] != main, pair[0]))


def new_folder() -> Path:
    """An empty folder that only this user of the machine can read; what is older than an hour goes."""
    sweep()
    return Path(tempfile.mkdtemp(prefix=PREFIX))


def sweep() -> None:
    """Delete the folders of exports that nobody fetched in time."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            old = folder.stat().st_mtime < time.time() - SECONDS
        except OSError:
            continue  # another process has just deleted it
        if old and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def keep(request: HttpRequest, programme: Programme, folder: Path, report: ExportReport) -> Ready:
    """Let this browser fetch an export."""
    key = secrets.token_urlsafe(12)
    told = report.as_dict() | {"notes": [say(note) for note in report.notes]}
    mine = [*request.session.get(SESSION, []), {"key": key, "programme": str(programme.pk), "folder": str(folder),
                                                "report": told}]  # fmt: skip
    for old in mine[:-MOST]:
        shutil.rmtree(old["folder"], ignore_errors=True)
    request.session[SESSION] = mine[-MOST:]
    return Ready(key, folder, told)


def find(request: HttpRequest, programme: Programme, key: str) -> Ready | None:
    """An export that this browser asked for, while it is there."""
    for one in request.session.get(SESSION, []):
        if one["key"] == key and UUID(one["programme"]) == programme.pk:
            folder = Path(one["folder"])
            return Ready(key, folder, one["report"]) if folder.is_dir() else None
    return None
