"""Copying a store to one file while people are at work, and making a store of the copy."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback import setup as store
from heedful.feedback.databases import opened, require_file, sqlite_path, unreachable
from heedful.files import atomic_write, explain, sha256_file, sync_folder

SQLITE_HEAD = b"SQLite format 3\0"
DUMP_HEAD = b"PGDMP"
SEAL = ".sha256"
"""Ends the name of the file beside a backup, in the form that `sha256sum --check` reads."""
BUSY_SECONDS = 60


@dataclass(frozen=True)
class Backup:
    """A copy that was made and checked."""

    out: Path
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"out": str(self.out), "bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True)
class Restored:
    """A store that was made of a backup."""

    database: str
    sealed: bool
    """The file beside the backup was there, and its hash is right."""
    journals: tuple[Path, ...]
    """The journals of erasures that were found. Without one, what was erased after the backup has come back."""
    erased: int
    """Subjects that were erased again."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "database": self.database,
            "sealed": self.sealed,
            "journals": [str(path) for path in self.journals],
            "erased": self.erased,
        }


def backup(url: str, out: Path | str) -> Backup:
    """Copy a database as it is at one moment to one file, checked and on disk; raters go on meanwhile.

    The file's hash stands beside it, in NAME.sha256.

    Args:
        url: of the store.
        out: a file; one that is there is replaced once the new one is whole.

    Raises:
        HeedfulError: there is no database, it is damaged, pg_dump is missing, or the file cannot be written.
    """
    out = Path(out)
    require_file(url)
    path = sqlite_path(url)
    if path is not None and out.exists() and path.samefile(out):
        raise HeedfulError("the backup would take the database's own place.", where=str(out), mend="Name another file.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, out) from error
    with _beside(out) as temporary:
        if path is not None:
            _copy(path, temporary)
        else:
            _dump(url, temporary)
        _sync(temporary)
        digest, size = sha256_file(temporary), temporary.stat().st_size
        os.replace(temporary, out)
        sync_folder(out.parent)
    with atomic_write(_seal(out)) as file:
        file.write(f"{digest}  {out.name}\n")
    return Backup(out, size, digest)


def restore(file: Path | str, url: str) -> Restored:
    """Make a store of a backup, bring its tables up to this version, and erase again what was erased since.

    The journals of erasures beside the new database and beside the backup are read.

    Args:
        file: that `backup` wrote.
        url: where the store shall be: a SQLite file that is not there, or an empty PostgreSQL database.

    Raises:
        HeedfulError: the file is no backup, damaged or of the other kind of database, or the place is taken.
    """
    file = Path(file)
    if not file.is_file():
        raise HeedfulError("there is no such file.", where=str(file), mend="Check the path.")
    sealed = _unsealed(file)
    with open(file, "rb") as opening:
        head = opening.read(16)
    path = sqlite_path(url)
    kind = "SQLite" if head == SQLITE_HEAD else "PostgreSQL" if head.startswith(DUMP_HEAD) else ""
    if not kind:
        raise HeedfulError("this is no backup of a store.", where=str(file), mend="Give a file that backup wrote.")
    if kind != ("PostgreSQL" if path is None else "SQLite"):
        raise HeedfulError(
            f"this is a backup of a {kind} database.",
            where=str(file),
            mend="Restore it into one of that kind, then move it: heedful studio migrate-db.",
        )
    _configure(url)
    if path is not None:
        return _restore_file(file, path, sealed)
    _restore_dump(file, url)
    return _made_whole(file, url, str(store.database(url)["NAME"]), sealed)


def _configure(url: str) -> None:
    """Configure Django on the store to be, where it is not configured yet."""
    from django.conf import settings

    if not settings.configured:
        store.setup(url)


def _made_whole(file: Path, url: str, name: str, sealed: bool) -> Restored:
    """Bring a restored store's tables up to date, and erase what was erased."""
    with opened(url) as alias:
        from django.core.management import call_command

        from heedful.feedback import erasure

        call_command("migrate", database=alias, verbosity=0, interactive=False)
        journals = erasure.journals_beside(erasure.journal_of(alias), file)
        return Restored(name, sealed, tuple(journals), erasure.apply_tombstones(alias, journals))


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A temporary name that is gone when the block ends, come what may."""
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        yield temporary
    except OSError as error:
        raise explain(error, out) from error
    finally:
        for name in (temporary, *(temporary.with_name(temporary.name + end) for end in ("-wal", "-shm", "-journal"))):
            with suppress(OSError):
                name.unlink(missing_ok=True)


def _seal(file: Path) -> Path:
    return file.with_name(file.name + SEAL)


def _unsealed(file: Path) -> bool:
    """Whether the hash beside a backup is there; it is then right.

    Raises:
        HeedfulError: it is wrong.
    """
    seal = _seal(file)
    if not seal.is_file():
        return False
    found = re.match(r"([0-9a-f]{64})\b", seal.read_text(encoding="utf-8", errors="replace"))
    if not found or found[1] != sha256_file(file):
        raise HeedfulError(
            f"the backup is not what {seal.name} says.", where=str(file), mend="Copy it again, or take another one."
        )
    return True


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _copy(source: Path, target: Path) -> None:
    """A SQLite database as it is at one moment, by SQLite's own online backup, as one file."""
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as before,
            closing(sqlite3.connect(target, timeout=BUSY_SECONDS)) as after,
        ):
            before.backup(
                after, pages=-1
            )  # in one step: under write-ahead logging it reads one state, and holds nobody
            after.execute("PRAGMA journal_mode=DELETE")
            found = [row[0] for row in after.execute("PRAGMA integrity_check")]
            loose = after.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.Error as error:
        raise unreachable(error, str(source)) from error
    if found != ["ok"] or loose is not None:
        what = found[0] if found != ["ok"] else f"a row of {loose[0]} points at nothing"
        raise HeedfulError(f"the database is damaged ({what}).", where=str(source), mend="Restore an older backup.")


def _restore_file(file: Path, target: Path, sealed: bool) -> Restored:
    """The store takes its name once it is whole, up to date, and free of what was erased."""
    for path in (target, target.with_name(target.name + "-wal")):
        if path.exists():
            raise HeedfulError(
                "there is a database here already.", where=str(path), mend="Move it away first, or name another place."
            )
    with _beside(target) as temporary:
        _copy(file, temporary)
        made = _made_whole(file, f"sqlite:///{temporary}", str(target), sealed)
        with closing(sqlite3.connect(temporary)) as whole:
            whole.execute("PRAGMA journal_mode=DELETE")  # nothing of it stays in a file of another name
        _sync(temporary)
        os.replace(temporary, target)
        sync_folder(target.parent)
    return made


def _dump(url: str, target: Path) -> None:
    _tool("pg_dump", url, ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"])


def _restore_dump(file: Path, url: str) -> None:
    with opened(url) as alias:
        from django.db import DatabaseError, connections

        try:
            there = connections[alias].introspection.table_names()
        except DatabaseError as error:
            raise unreachable(error, store.database(url)["NAME"]) from error
        finally:
            connections[alias].close()
    if there:
        raise HeedfulError("the database is not empty.", where=store.database(url)["NAME"], mend="Give an empty one.")
    arguments = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"]
    _tool("pg_restore", url, [*arguments, f"--dbname={store.database(url)['NAME']}", str(file)])


def _tool(name: str, url: str, arguments: list[str]) -> None:
    """Run one of PostgreSQL's own programs; the address reaches it by its environment, which others cannot read."""
    program = shutil.which(name)
    if program is None:
        raise HeedfulError(
            f"{name} is not installed, and PostgreSQL is copied with it.",
            where="PATH",
            mend="Install PostgreSQL's client programs of the server's version.",
        )
    chosen = store.database(url)
    named = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
    environment = os.environ | {key: str(chosen[value]) for key, value in named.items() if chosen[value]}
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise HeedfulError(f"{name} failed ({reason}).", where=str(chosen["NAME"]), mend="See what it says.")
