"""Rows out of files, folders and hub datasets, each with the place it stood at.

A row that cannot be read is an error with its file and line; nothing here judges what a row means.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

from heedful.data.held import held_rows, is_held
from heedful.data.records import Origin
from heedful.errors import HeedfulError, Sentence, nearest

Row = dict[str, Any]
Meet: TypeAlias = Callable[[HeedfulError], None]
"""Told of each row that cannot be read. If it returns, reading goes on behind that row."""

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_TABLES = ("data", "rows", "records", "examples", "instances")
_CUT_SHORT = Sentence("Fetch or copy the file again: it seems to be cut short.")


def read_rows(source: str, *, split: str | None = None) -> Iterator[tuple[Origin, Row]]:
    """The rows of a data source, in their order.

    Args:
        source: a file (`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, each also with `.gz`), a
            folder of such files, a folder of `datasets.save_to_disk`, or a hub id ("name/dataset" or
            "name/dataset:configuration"), or rows in memory (`heedful.data.held`).
        split: which split of a hub dataset or folder. A folder's files belong to the split that they are
            named after ("train.jsonl", "test-00000-of-00001.parquet").

    Raises:
        HeedfulError: nothing is there, it cannot be read, a row is malformed, or the split is missing or
            has to be chosen.
    """
    if is_held(source):
        for number, row in enumerate(held_rows(source, split), start=1):
            yield Origin(source, number), dict(row)
        return
    path = Path(source).expanduser()
    if path.is_dir():
        if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
            yield from _saved_dataset(path, split)
        else:
            for file in folder_files(path, split):
                yield from _file_rows(file)
    elif path.exists():
        if split is not None:
            raise HeedfulError(
                "a single file has no splits.", where=source, mend="Leave --records.split {split} away.", split=split
            )
        yield from _file_rows(path)
    elif _HUB_ID.fullmatch(source) and not source.endswith((*SUFFIXES, ".gz")):
        yield from _hub_dataset(source, split)
    else:
        raise _missing(path)


def _missing(path: Path) -> HeedfulError:
    stem = path.name.partition(".")[0]
    siblings = [
        p.name
        for p in (path.parent.iterdir() if path.parent.is_dir() else ())
        if difflib.SequenceMatcher(None, p.name.partition(".")[0], stem).ratio() > 0.5  # a shared ending is no likeness
    ]
    hint = nearest(path.name, siblings)
    return HeedfulError(
        "there is no such file, folder or hub dataset.", where=str(path), mend=hint or "Check the path."
    )


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def folder_files(folder: Path, split: str | None) -> list[Path]:
    """A folder's data files, those of one split when it has several.

    Raises:
        HeedfulError: no data files, or the split is missing or has to be chosen.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and _suffix(p) and not p.name.startswith("."))
    files = [p for p in files if p.name not in ("manifest.json", "dataset_info.json", "state.json")]
    if not files:
        kinds = ", ".join(SUFFIXES)
        raise HeedfulError(
            "the folder holds no data files.", where=str(folder), mend="heedful reads {kinds}, and .gz.", kinds=kinds
        )
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(re.split(r"[.\-]", file.name)[0], []).append(file)
    if split is not None:
        if split not in splits:
            raise _no_split(str(folder), split, sorted(splits))
        return splits[split]
    if len(splits) > 1 and {"train", "test", "validation", "valid", "dev", "eval"} & set(splits):
        raise _choose_split(str(folder), sorted(splits))
    return files


def _no_split(where: str, split: str, known: list[str]) -> HeedfulError:
    hint = nearest(split, known)
    return HeedfulError(
        "there is no split {split!r}. {hint}",
        where=where,
        mend="Known: {known}.",
        split=split,
        hint=hint,
        known=", ".join(known),
    )


def _choose_split(where: str, known: list[str]) -> HeedfulError:
    return HeedfulError(
        "there are several splits: {known}.",
        where=where,
        mend="Choose one: --records.split {last}.",
        known=", ".join(known),
        last=known[-1],
    )


def _fail(error: HeedfulError) -> None:
    raise error


def _file_rows(path: Path) -> Iterator[tuple[Origin, Row]]:
    if _suffix(path) == ".parquet":
        yield from _parquet(path)
        return
    _reader(path)  # an unknown kind is said before the file is opened
    try:
        with _open(path) as file:
            yield from rows_of(path, file)
    except PermissionError as error:
        raise HeedfulError("no permission to read it.", where=str(path), mend="Change its rights.") from error
    except (IsADirectoryError, OSError) as error:
        raise HeedfulError(
            "cannot read it ({error}).", where=str(path), mend="Check the file.", error=str(error)
        ) from error


def rows_of(
    path: Path, file: IO[bytes], *, meet: Meet = _fail, json_cells: bool = True
) -> Iterator[tuple[Origin, Row]]:
    """The rows of an open file of text: JSON lines, JSON, CSV or TSV.

    Args:
        path: its name, which tells the kind and stands in every message.
        file: its bytes, decompressed.
        meet: what happens to a row that cannot be read; by default the first one raises.
        json_cells: a CSV cell that is a list or an object of JSON is read as one; else cells are text.

    Raises:
        HeedfulError: a row cannot be read, or the name tells no such kind.
    """
    reader = _reader(path)
    if reader is _csv:
        yield from _csv(path, file, meet, _cell if json_cells else str)
    else:
        yield from reader(path, file, meet)


def _reader(path: Path) -> Callable[..., Iterator[tuple[Origin, Row]]]:
    readers: dict[str, Any] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json,
        ".csv": _csv,
        ".tsv": _csv,
    }
    reader: Callable[..., Iterator[tuple[Origin, Row]]] | None = readers.get(_suffix(path))
    if reader is None:
        raise HeedfulError(
            "files of the kind {kind!r} are not known.",
            where=str(path),
            mend="heedful reads {known}, and .gz of each.",
            kind=path.suffix or path.name,
            known=", ".join(SUFFIXES),
        )
    return reader


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def _lines(path: Path, file: IO[bytes], meet: Meet) -> Iterator[tuple[int, str]]:
    """Numbered text lines; an error in the stream or the encoding names the line."""
    number = 0
    while True:
        number += 1
        try:
            line = file.readline()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            damaged = HeedfulError(
                "the compressed file ends too early or is damaged.",
                where=str(Origin(str(path), number)),
                mend=_CUT_SHORT,
            )
            damaged.__cause__ = error
            meet(damaged)
            return
        if not line:
            return
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            what = Sentence("byte {byte} of the line is not UTF-8.", byte=error.start + 1)
            meet(HeedfulError(what, where=str(Origin(str(path), number)), mend="Save the file in UTF-8."))
            yield number, line.decode("utf-8", errors="replace")  # so that the lines behind it keep their numbers


def _malformed(path: Path, line: int, error: Exception) -> HeedfulError:
    if isinstance(error, json.JSONDecodeError):
        what = Sentence("not valid JSON ({reason} at column {column}).", reason=error.msg, column=error.colno)
    else:
        what = Sentence("not valid JSON ({reason}).", reason=str(error))
    return HeedfulError(
        what,
        where=str(Origin(str(path), line)),
        mend="Correct the line, or fetch the file again if it was cut short.",
    )


def _object(path: Path, line: int, value: Any, meet: Meet) -> Iterator[tuple[Origin, Row]]:
    origin = Origin(str(path), line)
    if isinstance(value, dict):
        yield origin, value
        return
    kind = type(value).__name__
    meet(
        HeedfulError(
            "a row must be a JSON object, not {kind}.",
            where=str(origin),
            mend='Write {{"prompt": ...}} rows.',
            kind=kind,
        )
    )


def _json_lines(path: Path, file: IO[bytes], meet: Meet) -> Iterator[tuple[Origin, Row]]:
    for number, line in _lines(path, file, meet):
        if not line.strip():
            continue
        try:
            value = json.loads(line.rstrip("\r\n"))
        except (ValueError, RecursionError) as error:
            meet(_malformed(path, number, error))
            continue
        yield from _object(path, number, value, meet)


def _json(path: Path, file: IO[bytes], meet: Meet) -> Iterator[tuple[Origin, Row]]:
    """A list of objects, an object with one such list, or (as many `.json` files are) JSON lines."""
    text = "".join(line for _, line in _lines(path, file, meet))
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "[":
        yield from _array(path, text, start, meet)
        return
    first, _, rest = text.strip().partition("\n")
    try:
        whole = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        if rest.lstrip().startswith("{") and first.rstrip().endswith("}"):
            yield from _json_lines(path, io.BytesIO(text.encode()), meet)
            return
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        meet(_malformed(path, line, error))
        return
    table = next((key for key in _TABLES if isinstance(whole, dict) and isinstance(whole.get(key), list)), None)
    if table is not None:
        yield from _array(path, text, text.index("[", text.index(f'"{table}"')), meet)
    elif whole:
        yield from _object(path, text.count("\n", 0, start) + 1, whole, meet)


def _array(path: Path, text: str, at: int, meet: Meet) -> Iterator[tuple[Origin, Row]]:
    """The objects of a JSON array that opens at `at`, each with the line where it begins.

    Behind a malformed object nothing can be read: where the next one begins is not known.
    """
    decoder = json.JSONDecoder()
    gap = re.compile(r"[\s]*")
    counted, line = 0, 1

    def place(position: int) -> int:
        nonlocal counted, line
        line += text.count("\n", counted, position)
        counted = position
        return line

    at = gap.match(text, at + 1).end()  # type: ignore[union-attr]
    while text[at : at + 1] != "]":
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            meet(_malformed(path, place(at), error))
            return
        yield from _object(path, place(at), value, meet)
        at = gap.match(text, end).end()  # type: ignore[union-attr]
        if text[at : at + 1] == ",":
            at = gap.match(text, at + 1).end()  # type: ignore[union-attr]
        elif text[at : at + 1] != "]":
            gone = json.JSONDecodeError("a comma or the list's end is missing", text, min(at, len(text)))
            meet(_malformed(path, place(at), gone))
            return


def _csv(path: Path, file: IO[bytes], meet: Meet, cell: Callable[[str], Any]) -> Iterator[tuple[Origin, Row]]:
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if _suffix(path) == ".tsv" else ","
    rows = csv.reader((line for _, line in _lines(path, file, meet)), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            where = str(Origin(str(path), line))
            meet(
                HeedfulError(
                    "not valid CSV ({error}).", where=where, mend="Correct the row's quotes.", error=str(error)
                )
            )
            continue
        if not header:
            header = cells
            if len(set(header)) < len(header):
                meet(HeedfulError("two columns have one name.", where=f"{path}:1", mend="Rename one of them."))
                return
        elif cells:
            if len(cells) != len(header):
                meet(
                    HeedfulError(
                        "the row has {cells} cells, the header {columns} columns.",
                        where=str(Origin(str(path), line)),
                        mend="Quote cells that hold commas or line breaks.",
                        cells=len(cells),
                        columns=len(header),
                    )
                )
                continue
            yield (
                Origin(str(path), line),
                {key: cell(value) for key, value in zip(header, cells, strict=True)},
            )


def _cell(text: str) -> Any:
    """A CSV cell: JSON where it is a list or an object of JSON, text otherwise."""
    if text[:1] in "[{" and text[-1:] in "]}" and text:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _parquet(path: Path) -> Iterator[tuple[Origin, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path, "rb") as file:
                source: Any = pyarrow.BufferReader(file.read())
        else:
            source = str(path)
        table = pyarrow.parquet.ParquetFile(source)
        line = 0
        for batch in table.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                line += 1
                yield Origin(str(path), line), row
    except (pyarrow.ArrowException, EOFError, zlib.error, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HeedfulError(
            "not a whole Parquet file ({reason}).", where=str(path), mend=_CUT_SHORT, reason=reason
        ) from error


def _datasets(where: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise HeedfulError(
            "hub datasets and saved dataset folders need the package `datasets`.",
            where=where,
            mend="Install it: pip install 'heedful[train]'.",
        ) from error
    return datasets


def _saved_dataset(path: Path, split: str | None) -> Iterator[tuple[Origin, Row]]:
    datasets = _datasets(str(path))
    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:
        raise HeedfulError(
            "cannot open the saved dataset ({error}).", where=str(path), mend=_CUT_SHORT, error=str(error)
        ) from error
    yield from _dataset_rows(loaded, str(path), split)


def _hub_dataset(source: str, split: str | None) -> Iterator[tuple[Origin, Row]]:
    datasets = _datasets(source)
    name, _, configuration = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, configuration or None)
    except Exception as error:
        raise HeedfulError(
            "there is no such file, and the hub dataset could not be opened ({error}).",
            where=source,
            mend="Check the name and the network, or download it and give the folder.",
            error=str(error),
        ) from error
    yield from _dataset_rows(loaded, source, split)


def _dataset_rows(loaded: Any, where: str, split: str | None) -> Iterator[tuple[Origin, Row]]:
    if hasattr(loaded, "keys"):
        splits = sorted(loaded.keys())
        if split is None and len(splits) > 1:
            raise _choose_split(where, splits)
        if split is not None and split not in splits:
            raise _no_split(where, split, splits)
        loaded = loaded[split or splits[0]]
    elif split is not None and str(loaded.split) != split:
        raise _no_split(where, split, [str(loaded.split)] if loaded.split else ["(none: one table)"])
    for index, row in enumerate(loaded, start=1):
        yield Origin(where, index), dict(row)
