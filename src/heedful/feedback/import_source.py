"""A file to import: its bytes within limits, its rows, and everything that is wrong with them. Needs no Django."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from heedful.data.read import SUFFIXES, rows_of
from heedful.errors import HeedfulError, Sentence, nearest
from heedful.feedback.texts import LONGEST_CONTENT
from heedful.files import sha256_file

Row = dict[str, Any]

MAX_BYTES = 512 * 2**20
"""The largest file, unpacked."""
MAX_DEPTH = 60
"""Lists and objects within each other."""
SHOWN = 200
"""Problems that are kept word by word; the rest are counted."""


@dataclass(frozen=True)
class Source:
    """A file by its path, or bytes with a file's name (an upload)."""

    name: str
    path: Path | None = None
    data: bytes = b""

    @classmethod
    def of(cls, given: Source | Path | str) -> Source:
        """A source as it is, or of a path.

        Raises:
            HeedfulError: there is no such file.
        """
        if isinstance(given, Source):
            return given
        path = Path(given).expanduser()
        if not path.is_file():
            siblings = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
            raise HeedfulError(
                "there is no such file.", where=str(path), mend=nearest(path.name, siblings) or "Check the path."
            )
        return cls(path.name, path)

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.name if self.path is None else str(self.path)

    def sha256(self) -> str:
        """Of the file's bytes, packed as they are."""
        return hashlib.sha256(self.data).hexdigest() if self.path is None else sha256_file(self.path)

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Its bytes, packed as they are.

        Raises:
            HeedfulError: it cannot be read.
        """
        try:
            with io.BytesIO(self.data) if self.path is None else open(self.path, "rb") as file:
                yield file
        except PermissionError as error:
            raise HeedfulError("no permission to read it.", where=self.where, mend="Change its rights.") from error


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a file from being imported."""

    line: int
    """Counted from 1; 0: the file as a whole."""
    field: str
    """A column, or empty."""
    what: str
    mend: str = ""

    def __str__(self) -> str:
        place = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.field) if part)
        text = f"{place}: {self.what}" if place else self.what
        return f"{text} {self.mend}" if self.mend else text


@dataclass
class Problems:
    """All problems of a file: each counted, the first `SHOWN` kept."""

    count: int = 0
    first: list[Problem] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    _undecoded: int = 0

    def add(self, line: int, name: str, what: str, mend: str = "") -> None:
        """Note a problem."""
        name = printable(name)
        what = what if printable(what) == what else printable(what)
        self.count += 1
        self.kinds[f"{name}: {_general(what)}" if name else _general(what)] += 1
        if len(self.first) < SHOWN:
            self.first.append(Problem(line, name, what, mend))

    def meet(self, error: HeedfulError) -> None:
        """Note what a reader found."""
        found = re.search(r":(\d+)$", error.where)
        line = int(found[1]) if found else 0
        if line and self._undecoded == line:
            return  # what is read of a line that is no UTF-8 is nonsense anyhow
        self._undecoded = line if "not UTF-8" in error.what else 0
        self.add(line, "", error.what, error.mend)


def printable(text: str, longest: int = 200) -> str:
    """Text that can be printed anywhere: what is no printable character is written out, what is long is cut."""
    cut = text if len(text) <= longest else text[:longest] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def _general(what: str) -> str:
    """A sentence without its own figures and words, so that like problems are counted together."""
    return re.sub(r"'[^']*'|\d[\d,.]*\d|\d", "…", what)


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes."""

    def __init__(self, file: IO[bytes], limit: int, where: str) -> None:
        self._file, self._limit, self._where, self._given = file, limit, where, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self._given += len(data)
        if self._given > self._limit:
            raise too_large(self._limit, self._where)
        buffer[: len(data)] = data
        return len(data)


def too_large(limit: int, where: str) -> HeedfulError:
    """The error for a file over the limit."""
    size = f"{limit / 2**20:.0f} MiB" if limit >= 2**20 else f"{limit} bytes"
    return HeedfulError(
        "it holds more than {size}, unpacked.", where=where, mend="Split it into smaller files.", size=size
    )


def read(source: Source, problems: Problems, *, limit: int = MAX_BYTES) -> Iterator[tuple[int, Row]]:
    """The rows of a file with their lines; what cannot be read is noted, and reading goes on behind it.

    Cells of a CSV are text, whatever they look like.

    Raises:
        HeedfulError: the kind of file is not known, or it cannot be opened at all.
    """
    name = Path(source.name)
    bare = name.name.lower().removesuffix(".gz")
    if not bare.endswith(SUFFIXES):
        raise HeedfulError(
            "files of the kind {kind!r} are not known.",
            where=source.where,
            mend="heedful reads {known}, and .gz of each; a spreadsheet is saved as CSV (UTF-8).",
            kind=name.suffix or name.name,
            known=", ".join(SUFFIXES),
        )
    with source.opened() as packed:
        zipped = name.name.lower().endswith(".gz")
        unpacked: Any = gzip.GzipFile(fileobj=packed, mode="rb") if zipped else packed
        bounded: Any = _Bounded(unpacked, limit, source.where)
        file = io.BufferedReader(bounded)
        try:
            if bare.endswith(".parquet"):
                yield from _parquet(source, file, limit)
            elif _is_utf16(file):
                problems.add(0, "", "the file is UTF-16.", "Save it in UTF-8.")
            else:
                for origin, row in rows_of(name, file, meet=problems.meet, json_cells=False):
                    yield origin.line, row
        except HeedfulError as error:
            problems.meet(error)
        except (EOFError, zlib.error, OSError) as error:
            problems.add(
                0, "", Sentence("it cannot be read ({error}).", error=str(error)), "Fetch or copy the file again."
            )


def _is_utf16(file: Any) -> bool:
    try:
        return file.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff")
    except (EOFError, zlib.error, OSError):
        return False  # the reader meets the same again, and says where


def _parquet(source: Source, file: IO[bytes], limit: int) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(file.read()))
        groups = (table.metadata.row_group(index).total_byte_size for index in range(table.metadata.num_row_groups))
        if sum(groups) > limit:
            raise too_large(limit, source.where)
        line = held = 0
        for batch in table.iter_batches(batch_size=256):
            held += batch.nbytes
            if held > limit:
                raise too_large(limit, source.where)
            for row in batch.to_pylist():
                line += 1
                yield line, row
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HeedfulError(
            "not a whole Parquet file ({reason}).",
            where=source.where,
            mend="Fetch or copy the file again.",
            reason=reason,
        ) from error


def flaw(text: str) -> str:
    """What keeps a text out of the store: a sentence, or empty."""
    if "\0" in text:
        return Sentence("it holds a NUL character.")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return Sentence("it holds half a character (an unpaired surrogate).")
    if len(text) > LONGEST_CONTENT:
        return Sentence("it has {count:,} characters; the most are {most:,}.", count=len(text), most=LONGEST_CONTENT)
    return ""


def flaws(value: Any, place: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """(field, sentence) of every text within a JSON value that cannot be stored, names of fields included."""
    if depth > MAX_DEPTH:
        yield place.split(".")[0], Sentence("it is nested more than {most} deep.", most=MAX_DEPTH)
    elif isinstance(value, str):
        what = flaw(value)
        if what:
            yield place, what
    elif isinstance(value, dict):
        for key, inner in value.items():
            what = flaw(str(key))
            if what:
                yield place, Sentence("of a name in it: {problem}", problem=what)
            yield from flaws(inner, f"{place}.{key}" if place else str(key), depth + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from flaws(inner, f"{place}[{index}]", depth + 1)


def plain(value: Any) -> Any:
    """A value as JSON keeps it: what JSON has no word for (a date, NaN, bytes) becomes its text."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
