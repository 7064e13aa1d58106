"""The content of what stages read and make, as hashes. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.files import read_manifest, sha256_file, sha256_json


def digest(manifest: Mapping[str, Any], files: Collection[str] = ()) -> str:
    """The content of a stage's result as one hash: of the files named, or of all but pages for people."""
    chosen = {name: one for name, one in manifest["files"].items() if name in files or not files}
    return sha256_json({name: one for name, one in chosen.items() if not name.endswith(".html")})


def content(path: str, known: MutableMapping[str, str] | None = None) -> str:
    """The content of a file or folder as one hash, of a `module:function` that of its module; of a hub id its name.

    A hub id can move, so pin a revision where that matters (`loading.revision`, which is a setting).

    Args:
        known: hashes of files by path, size and time of change, so that a large model is not read at each look; what is
            read is added.
    """
    known = {} if known is None else known

    def of_file(file: Path) -> str:
        stat = file.stat()
        name = f"{file} {stat.st_size} {stat.st_mtime_ns}"
        if name not in known:
            known[name] = sha256_file(file)
        return known[name]

    place = Path(path)
    if place.is_file():
        return of_file(place)
    module, colon, _ = path.partition(":")
    if colon and not place.exists():
        source = _source_of(module)
        if source is not None:
            return sha256_json([path, sha256_file(source)])
    if not place.is_dir():
        return sha256_json(path)
    files = sorted(one for one in place.rglob("*") if one.is_file() and not _hidden(one.relative_to(place)))
    return sha256_json({str(one.relative_to(place)): of_file(one) for one in files})


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _source_of(module: str) -> Path | None:
    """The file of a module, which may stand in the working folder."""
    here = Path.cwd().joinpath(*module.split(".")).with_suffix(".py")
    if here.is_file():
        return here
    with suppress(ImportError, ValueError):
        found = find_spec(module)
        if found is not None and found.origin is not None and Path(found.origin).is_file():
            return Path(found.origin)
    return None


def verify(place: Path) -> None:
    """Refuse a stage's result whose files are not those that its manifest names.

    Raises:
        HeedfulError: naming the file.
    """
    for name, wanted in (read_manifest(place) or {}).get("files", {}).items():
        path = place / name
        what = "is gone" if not path.exists() else "is not what was written" if sha256_file(path) != wanted else ""
        if what:
            raise HeedfulError(
                f"the file {what}: its hash is not the one in the manifest.",
                where=str(path),
                mend=f"Put it back from a copy, or delete the folder {place} and run the same command: that stage "
                "alone is made again, and what follows from it where it differs.",
            )
