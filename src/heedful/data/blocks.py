"""Parquet data in blocks: which there are, reading one, and a folder that fills block by block and can be gone on with.

Nothing here holds more than one row group in memory. Blocks are a function of the files alone, so that a run that is
started again has the same ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.files import MANIFEST, atomic_write, read_manifest, sha256_file, sha256_json, write_json

SETTINGS = ".blocks.json"
"""What a folder is being made from; hidden, so that readers of data files pass it by."""


@dataclass(frozen=True)
class Block:
    """Some rows of a row group.

    Attributes:
        number: counted from 0 over all files.
        start: rows of all files before it.
        group: of the file; `first` is its first row in that group.
    """

    number: int
    path: str
    group: int
    first: int
    rows: int
    start: int

    def __str__(self) -> str:
        return f"{self.path}, row group {self.group}, rows {self.first + 1} to {self.first + self.rows}"


def parquet_files(source: str) -> list[Path]:
    """The Parquet files of a source: itself, or those of a folder in the order of their names.

    Raises:
        HeedfulError: there are none.
    """
    path = Path(source).expanduser()
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path] if path.suffix == ".parquet" else []
    files = [file for file in files if file.is_file() and not file.name.startswith(".")]
    if not files:
        raise HeedfulError(
            "this is no Parquet file, and no folder of them.",
            where=source,
            mend="Write the data as Parquet: only that can be read in parts.",
        )
    return files


def blocks_of(source: str, rows: int, limit: int | None = None) -> list[Block]:
    """All blocks of a source, of so many rows each; a block never passes the end of a row group.

    Args:
        limit: the most rows in all.

    Raises:
        HeedfulError: no Parquet, or a file that is not whole.
    """
    found: list[Block] = []
    start = 0
    for file in parquet_files(source):
        metadata = _opened(file).metadata
        for group in range(metadata.num_row_groups):
            size = metadata.row_group(group).num_rows
            for first in range(0, size, rows):
                many = min(rows, size - first, *(() if limit is None else (limit - start,)))
                if many <= 0:
                    return found
                found.append(Block(len(found), str(file), group, first, many, start))
                start += many
    return found


def read_block(block: Block) -> Any:
    """A block's rows, as a `pyarrow.Table`."""
    return _opened(Path(block.path)).read_row_group(block.group).slice(block.first, block.rows)


def identity(source: str) -> str:
    """SHA-256 of the footers of a source's files: their schema, sizes, places and statistics. Data is not read."""
    digest = hashlib.sha256()
    for file in parquet_files(source):
        with open(file, "rb") as raw:
            raw.seek(-8, 2)
            size = int.from_bytes(raw.read(4), "little")
            raw.seek(-8 - size, 2)
            digest.update(f"{file.name} {file.stat().st_size} ".encode() + raw.read(size))
    return digest.hexdigest()


def _opened(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise HeedfulError(
            f"not a whole Parquet file ({str(error).splitlines()[0]}).",
            where=str(path),
            mend="Fetch or copy the file again: it seems to be cut short.",
        ) from error


class BlockFolder:
    """A folder of Parquet files, one for each block, under one name or several.

    Args:
        folder: where they stand.
        kinds: the names; "" is the folder itself, another a folder in it. The last one's file is written last, so that
            a block of which it is there is whole.
    """

    def __init__(self, folder: Path, kinds: Sequence[str] = ("",)) -> None:
        self.folder, self.kinds = Path(folder), tuple(kinds)

    def path(self, number: int, kind: str = "") -> Path:
        """The file of a block."""
        return self.folder / kind / f"part-{number:06d}.parquet"

    def done(self, number: int) -> bool:
        """Whether a block is there."""
        return self.path(number, self.kinds[-1]).exists()

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Begin, or go on: the folder is empty, or was begun with the same settings.

        Raises:
            HeedfulError: it holds something else.
        """
        note, digest = self.folder / SETTINGS, sha256_json(dict(settings))
        if note.exists():
            before = json.loads(note.read_text(encoding="utf-8"))
            if before["sha256"] != digest:
                changed = sorted(
                    k for k in settings if before["settings"].get(k) != json.loads(json.dumps(settings[k]))
                )
                raise HeedfulError(
                    f"this folder was begun with other settings ({', '.join(changed)}).",
                    where=str(self.folder),
                    mend="Give the same ones to go on, or name another --out.",
                )
            return
        self.refuse_others()
        write_json(note, {"sha256": digest, "settings": dict(settings)})

    def refuse_others(self) -> None:
        """Refuse a folder of other things, before anything is written there.

        Raises:
            HeedfulError: it holds what no blocks were begun beside.
        """
        if not self.folder.exists() or (self.folder / SETTINGS).exists():
            return
        strange = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))
        if strange:
            raise HeedfulError(
                f"this folder holds something else ({strange[0]}).",
                where=str(self.folder),
                mend="Name an empty folder, or a new one.",
            )

    def write(self, number: int, tables: Mapping[str, Any]) -> None:
        """Write a block's files: each appears whole.

        Args:
            tables: a `pyarrow.Table` for each of the kinds.
        """
        import pyarrow.parquet

        for kind in self.kinds:
            with atomic_write(self.path(number, kind), "wb") as file:
                pyarrow.parquet.write_table(tables[kind], file)

    def rows(self, kind: str = "") -> Iterator[int]:
        """Rows of each file that is there."""
        for file in sorted((self.folder / kind).glob("part-*.parquet")):
            yield _opened(file).metadata.num_rows

    @property
    def finished(self) -> bool:
        """Whether all blocks were made."""
        return read_manifest(self.folder) is not None

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, with the hash of each block's files."""
        parts = [file for kind in self.kinds for file in sorted((self.folder / kind).glob("part-*.parquet"))]
        hashes = {str(file.relative_to(self.folder)): sha256_file(file) for file in parts}
        write_json(self.folder / MANIFEST, {**manifest, "files": hashes})
