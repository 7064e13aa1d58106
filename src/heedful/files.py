"""Files that are either whole or absent: atomic writes, content hashes, artifacts with a manifest.

An artifact is a folder. It is written beside its place under a temporary name, its manifest last,
synced to disk, and then renamed; a folder without a manifest does not exist as far as heedful cares.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from heedful.errors import HeedfulError

MANIFEST = "manifest.json"


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value; independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries, so that a rename inside it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def explain(error: OSError, path: Path) -> HeedfulError:
    """What a failed write means to the person, and its mend."""
    reasons = {
        13: ("no permission to write here.", "Choose another --out, or change the folder's rights."),
        28: ("the disk is full.", "Free some space and run the same command again; nothing was half-written."),
        30: ("the file system is read-only.", "Choose another --out."),
    }
    what, mend = reasons.get(error.errno or 0, (f"cannot write: {error.strerror or error}.", "Choose another --out."))
    return HeedfulError(what, where=str(path), mend=mend)


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only once it is whole and on disk.

    Raises:
        HeedfulError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        encoding = None if "b" in mode else "utf-8"
        with open(temporary, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_json_lines(path: Path) -> None:
    """Refuse a name whose ending says that the file holds something else than JSON lines.

    Raises:
        HeedfulError: it ends in neither .jsonl nor .jsonl.gz.
    """
    if not Path(path).name.endswith((".jsonl", ".jsonl.gz")):
        raise HeedfulError(
            "the result is JSON lines.", where=str(path), mend="Let the name end with .jsonl or .jsonl.gz."
        )


def write_json_lines(path: Path, rows: Iterable[Any], *, default: Callable[[Any], Any] | None = None) -> None:
    """Write values as JSON lines, one by one, whole or not at all; compressed where the name ends in .gz.

    Args:
        default: what JSON does not have becomes what this returns, as in `json.dumps`.

    Raises:
        HeedfulError: as `check_json_lines` and `atomic_write`.
    """
    check_json_lines(path)
    with atomic_write(path, "wb") as file:
        packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if path.name.endswith(".gz") else None
        for row in rows:
            (packed or file).write((json.dumps(row, ensure_ascii=False, default=default) + "\n").encode())
        if packed is not None:
            packed.close()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an artifact, or None where there is no (whole) artifact."""
    try:
        return json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except json.JSONDecodeError as error:
        raise HeedfulError(
            f"the manifest is not JSON ({error}).",
            where=str(Path(folder) / MANIFEST),
            mend="Delete the folder and make the artifact again.",
        ) from error


@contextmanager
def artifact(folder: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Write an artifact: yields a temporary folder that takes `folder`'s place when the block ends well.

    The manifest is written last, with the SHA-256 of each file. When the block raises, what stood at
    `folder` before still stands there, and the temporary folder is gone.
    """
    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        put_back(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        seal(temporary, manifest)
        put_in_place(temporary, folder)
    except OSError as error:
        raise explain(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(made: Path, folder: Path) -> None:
    """Let a whole folder take another's place; a crash between leaves what `put_back` mends."""
    old = _set_aside(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(made, folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Undo a `put_in_place` that a crash cut short before the new folder stood."""
    old = _set_aside(folder)
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    shutil.rmtree(old, ignore_errors=True)


def _set_aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Sync every file of a folder and write its manifest: the last act of making an artifact."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            hashes[str(path.relative_to(folder))] = sha256_file(path)
    write_json(folder / MANIFEST, {**manifest, "files": hashes})
