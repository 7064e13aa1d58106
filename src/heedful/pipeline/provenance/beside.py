"""What stands beside a data file and says how it came about: the record of an export, the folder of `heedful judge`.

Imports no torch and no Django.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.export_lineage import beside
from heedful.files import read_manifest

JUDGE = "judge.json"


def record_of_export(file: Path) -> dict[str, Any] | None:
    """The record that `heedful export` left beside a file; None where there is none.

    Raises:
        HeedfulError: it is no JSON.
    """
    return read_object(beside(file))


def judged_folder(file: Path) -> Path | None:
    """The folder of `heedful judge` that a file of labels stands in; None where it is none of its files."""
    found = read_object(file.parent / JUDGE)
    return file.parent if found is not None and file.name in found.get("files", {}).values() else None


def made_folder(file: Path) -> Path | None:
    """The nearest folder above a file whose manifest lists it; None where there is none."""
    for folder in file.parents:
        with suppress(HeedfulError):  # a file of that name that is none of ours
            manifest = own_manifest(folder)
            if manifest is not None and str(file.relative_to(folder)) in manifest["files"]:
                return folder
    return None


def own_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of one of heedful's artifacts; None where there is none, or another tool's file of that name.

    Raises:
        HeedfulError: it is no JSON.
    """
    found = read_manifest(folder)
    ours = isinstance(found, dict) and isinstance(found.get("kind"), str) and isinstance(found.get("files"), dict)
    return found if ours else None


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is no such file.

    Raises:
        HeedfulError: it is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise HeedfulError(f"this is no JSON ({error}).", where=str(path), mend="Put it back from a copy.") from error
    if not isinstance(found, dict):
        raise HeedfulError("this is no JSON object.", where=str(path), mend="Put it back from a copy.")
    return found
