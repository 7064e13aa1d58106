"""`heedful studio`: serve it, bring its database up to date, move it, back it up, restore it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heedful.cli.command import parse, print_json
from heedful.errors import HeedfulError, nearest
from heedful.studio.config import StudioConfig

NOTES = """heedful studio migrate brings the database up to date; --check only says what is left.

heedful studio migrate-db --source ADDRESS --target ADDRESS moves a store between SQLite and PostgreSQL.

heedful studio backup --out FILE and heedful studio restore --file FILE copy one, also while it is in use.

heedful studio prioritise --programme SHOP puts items in the order that the programme's rule says."""


@dataclass(frozen=True)
class UpdateConfig:
    """Bring the database up to date with this version. Several at once wait for each other: one does it."""

    database: str | None = None
    """Address of the database; by default DATABASE_URL, or feedback.db in the folder."""
    folder: Path = Path()
    """The studio's folder."""
    check: bool = False
    """Change nothing: list what is left, and whether the old version may run meanwhile; exit with 1 if any is."""


@dataclass(frozen=True)
class MigrateConfig:
    """Move a store from one database to another, empty one, and prove that nothing changed."""

    source: str
    """Address of the database that is: sqlite:///feedback.db or postgresql://user@host/name."""
    target: str
    """Address of the database that shall be."""
    folder: Path = Path()
    """The studio's folder, where the journal of erasures stands."""


@dataclass(frozen=True)
class BackupConfig:
    """Copy a store to one file, also while people are at work."""

    out: Path
    """The file to write."""
    database: str | None = None
    """Address of the database; by default DATABASE_URL, or feedback.db in the folder."""
    folder: Path = Path()
    """The studio's folder."""


@dataclass(frozen=True)
class RestoreConfig:
    """Make a store from a backup. What was erased after the backup is erased again."""

    file: Path
    """The backup."""
    database: str | None = None
    """Address of a database that is not there yet, or empty; by default DATABASE_URL, or feedback.db in the folder."""
    folder: Path = Path()
    """The studio's folder, where the journal of erasures stands."""


@dataclass(frozen=True)
class PrioritiseConfig:
    """Put the items of open batches in the order that their programme's rule says: as imported, random, information.

    A studio that serves does so by itself, a minute or more after judgments came in.
    """

    programme: str
    """The programme's short name, as in its address."""
    database: str | None = None
    """Address of the database; by default DATABASE_URL, or feedback.db in the folder."""
    folder: Path = Path()
    """The studio's folder."""


def studio(arguments: list[str]) -> int:
    """Serve, or do what the first word names."""
    if arguments and arguments[0] in OTHERS:
        return OTHERS[arguments[0]](arguments[1:])
    if arguments and not arguments[0].startswith("-"):
        raise HeedfulError(
            f"heedful studio has no {arguments[0]!r}.",
            mend=nearest(arguments[0], list(OTHERS)) or f"It serves by itself, or does {', '.join(OTHERS)}.",
        )
    call = parse(StudioConfig, "studio", arguments, notes=NOTES)
    from heedful.studio.serve import serve

    serve(call.settings)
    return 0


def _configure(database: str | None, folder: Path) -> str:
    """Configure Django on the studio's own database, and give its address."""
    from heedful.feedback.setup import setup

    address = StudioConfig(folder=folder, database=database).address
    setup(address, {"HEEDFUL_FOLDER": str(folder.resolve())})
    return address


def _update(arguments: list[str]) -> int:
    call = parse(UpdateConfig, "studio migrate", arguments)
    given = call.settings
    address = StudioConfig(folder=given.folder, database=given.database).address
    from heedful.studio.setup import configure

    configure(address, given.folder)  # the web face has tables too: failed logins
    from django.db import DatabaseError

    from heedful.feedback import databases, migrating, migration_rules

    if given.check:
        databases.require_file(address)
    try:
        found = migrating.pending() if given.check else migrating.migrate()
    except DatabaseError as error:
        raise databases.unreachable(error, "DATABASE_URL") from error
    rows = [{"app": app, "name": name, "stops": migration_rules.troubles_of(app, name)} for app, name in found]
    if call.json:
        print_json({"check": given.check, "migrations": rows})
    else:
        for row in rows:
            why = f" (stop the old version first: {'; '.join(row['stops'])})" if row["stops"] else ""
            print(f"{'Pending' if given.check else 'Applied'}: {row['app']} {row['name']}{why if given.check else ''}")
        if not rows:
            print("The database is up to date.")
    return int(given.check and bool(rows))


def _migrate(arguments: list[str]) -> int:
    call = parse(MigrateConfig, "studio migrate-db", arguments)
    given = call.settings
    _configure(given.source, given.folder)
    from heedful.feedback.transfer import migrate

    moved = migrate(given.source, given.target)
    if call.json:
        print_json(moved.as_dict())
    else:
        rows = sum(table.rows for table in moved.tables.values())
        print(f"{rows:,} rows of {len(moved.tables)} tables moved; each table's content is the same by its hash.")
        if moved.left:
            print(f"Left behind, since heedful does not know them: {', '.join(moved.left)}.")
        if moved.erased:
            print(f"Erased again in the target: {moved.erased}.")
    return 0


def _backup(arguments: list[str]) -> int:
    call = parse(BackupConfig, "studio backup", arguments)
    given = call.settings
    address = _configure(given.database, given.folder)
    from heedful.feedback.backup import backup

    made = backup(address, given.out)
    if call.json:
        print_json(made.as_dict())
    else:
        print(f"{made.out}: {made.bytes:,} bytes, sha256 {made.sha256}, checked and on disk.")
    return 0


def _restore(arguments: list[str]) -> int:
    call = parse(RestoreConfig, "studio restore", arguments)
    given = call.settings
    address = _configure(given.database, given.folder)
    from heedful.feedback.backup import restore

    made = restore(given.file, address)
    if call.json:
        print_json(made.as_dict())
        return 0
    print(f"{made.database} is made of {given.file}.")
    if not made.sealed:
        print("The backup's .sha256 file was not beside it, so that its content could not be checked against it.")
    if made.journals:
        print(f"Erased again: {made.erased}, by {', '.join(map(str, made.journals))}.")
    else:
        print("No journal of erasures was found: what was erased after the backup has come back.")
    return 0


def _prioritise(arguments: list[str]) -> int:
    call = parse(PrioritiseConfig, "studio prioritise", arguments)
    given = call.settings
    _configure(given.database, given.folder)
    from heedful.cli.feedback_io import programme_named
    from heedful.feedback.handing_out import reorder

    done = reorder(programme_named(given.programme))
    if call.json:
        print_json({"batches": done})
        return 0
    for one in done:
        print(f"{one.name}: {one.places:,} places by {one.selection}, {one.moved:,} moved. {one.note}".rstrip())
    if not done:
        print("No open batch has a place that waits.")
    return 0


OTHERS: dict[str, Callable[[list[str]], int]] = {
    "migrate": _update,
    "migrate-db": _migrate,
    "backup": _backup,
    "restore": _restore,
    "prioritise": _prioritise,
}
"""What `heedful studio` does besides serving, by its word."""
