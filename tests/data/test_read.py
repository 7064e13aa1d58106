"""Reading files: every kind and its compressed form, and every way in which one can be broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from heedful.data.read import read_rows, rows_of
from heedful.errors import HeedfulError

ROWS = [
    {"prompt": "hi", "completion": 'a, "quoted"\nanswer'},
    {"prompt": "été 日本", "completion": "2"},
    {"prompt": "[not json", "completion": "{}"},
]


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n", encoding="utf-8")


def write_json(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")


def write_table(path: Path) -> None:
    path.write_text(json.dumps({"version": 1, "data": ROWS}), encoding="utf-8")


def write_csv(path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


KINDS: list[tuple[str, Callable[[Path], None], list[int]]] = [
    ("a.jsonl", write_jsonl, [1, 2, 3]),
    ("a.ndjson", write_jsonl, [1, 2, 3]),
    ("lines.json", write_jsonl, [1, 2, 3]),
    ("a.json", write_json, [2, 6, 10]),
    ("table.json", write_table, [1, 1, 1]),
    ("a.csv", write_csv, [2, 4, 5]),
    ("a.tsv", write_csv, [2, 4, 5]),
    ("a.parquet", write_parquet, [1, 2, 3]),
]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(("name", "write", "lines"), KINDS, ids=[kind[0] for kind in KINDS])
def test_every_kind_with_its_lines(
    tmp_path: Path, name: str, write: Callable[[Path], None], lines: list[int], compressed: bool
) -> None:
    path = tmp_path / name
    write(path)
    if compressed:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / f"{name}.gz"
    found = list(read_rows(str(path)))
    if "csv" in name or "tsv" in name:  # a cell that is JSON is read as JSON
        assert [row for _, row in found] == [*ROWS[:2], {"prompt": "[not json", "completion": {}}]
    else:
        assert [row for _, row in found] == ROWS
    assert [origin.line for origin, _ in found] == lines
    assert {origin.file for origin, _ in found} == {str(path)}


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content, encoding="utf-8")  # type: ignore[return-value]


def raw(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)  # type: ignore[return-value]


GOOD = '{"prompt": "hi"}\n'
BROKEN: list[tuple[str, Callable[[Path], Any], str, str]] = [
    ("cut.jsonl", text(GOOD + '{"prompt": "h'), ":2", "not valid JSON"),
    ("brace.jsonl", text('{"prompt": "h"\n' + GOOD), ":1", "at column 15"),
    ("list.jsonl", text(GOOD + "[1, 2]\n"), ":2", "must be a JSON object, not list"),
    ("number.jsonl", text("7\n"), ":1", "must be a JSON object, not int"),
    ("deep.jsonl", text(GOOD + '{"a":' + "[" * 100_000), ":2", "not valid JSON"),
    ("huge.jsonl", text('{"a": ' + "1" * 5000 + "}\n"), ":1", "not valid JSON"),
    ("latin.jsonl", raw(GOOD.encode() + b'{"prompt": "caf\xe9"}\n'), ":2", "byte 16 of the line is not UTF-8"),
    ("cut.json", text('[\n{"prompt": "a"},\n{"prompt": "b'), ":3", "not valid JSON"),
    ("comma.json", text('[{"prompt": "a"}\n{"prompt": "b"}]'), ":2", "a comma or the list's end is missing"),
    ("open.json", text('[\n{"prompt": "a"}\n'), ":3", "a comma or the list's end is missing"),
    ("row.json", text('[{"prompt": "a"},\n"b"]'), ":2", "must be a JSON object, not str"),
    ("object.json", text('{"prompt": \n "a'), ":2", "not valid JSON"),
    ("cells.csv", text("prompt,completion\na,b\nc\n"), ":3", "1 cells, the header 2 columns"),
    ("twice.csv", text("prompt,prompt\na,b\n"), ":1", "two columns have one name"),
    ("quotes.csv", text('prompt\n"a\n'), ":2", "not valid CSV"),
    ("cut.jsonl.gz", raw(gzip.compress(GOOD.encode() * 2000, mtime=0)[:40]), ":1", "ends too early or is damaged"),
    ("text.jsonl.gz", raw(GOOD.encode()), ":1", "ends too early or is damaged"),
    ("text.parquet", raw(GOOD.encode()), "", "not a whole Parquet file"),
    ("cut.parquet.gz", raw(gzip.compress(b"PAR1" * 99, mtime=0)[:20]), "", "not a whole Parquet file"),
    ("data.xlsx", raw(b"PK"), "", "files of the kind '.xlsx' are not known"),
]


@pytest.mark.parametrize(("name", "write", "line", "said"), BROKEN, ids=[case[0] for case in BROKEN])
def test_broken_files_name_file_line_and_mend(
    tmp_path: Path, name: str, write: Callable[[Path], Any], line: str, said: str
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(HeedfulError) as caught:
        list(read_rows(str(path)))
    assert said in caught.value.what
    assert caught.value.where == f"{path}{line}"
    assert caught.value.mend


def test_rows_before_the_break_are_still_given(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD + "{")
    rows = read_rows(str(path))
    assert next(rows)[1] == {"prompt": "hi"}
    with pytest.raises(HeedfulError):
        next(rows)


def test_whoever_meets_the_errors_reads_on_behind_them() -> None:
    met: list[str] = []
    lines = b'{"a": 1}\n{bad\n[2]\n{"a": "\xff"}\n{"a": 3}\n'
    rows = rows_of(Path("a.jsonl"), io.BytesIO(lines), meet=lambda error: met.append(error.where))
    assert [(origin.line, row["a"]) for origin, row in rows] == [(1, 1), (4, "\ufffd"), (5, 3)]
    assert met == ["a.jsonl:2", "a.jsonl:3", "a.jsonl:4"]
    met.clear()
    table = b"a,b\n1,2\n3\n[4],{}\n"
    rows = rows_of(Path("a.csv"), io.BytesIO(table), meet=lambda error: met.append(error.where), json_cells=False)
    assert [row for _, row in rows] == [{"a": "1", "b": "2"}, {"a": "[4]", "b": "{}"}]
    assert met == ["a.csv:3"]


def test_missing_file_names_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "preferences.jsonl").write_text(GOOD)
    with pytest.raises(HeedfulError, match=r"no such file.*Did you mean 'preferences.jsonl'"):
        list(read_rows(str(tmp_path / "preference.jsonl")))


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD)
    with pytest.raises(HeedfulError, match="a single file has no splits"):
        list(read_rows(str(path), split="train"))


def folder(tmp_path: Path) -> Path:
    for name, prompt in (("train-00000-of-00002", "a"), ("train-00001-of-00002", "b"), ("test-00000-of-00001", "c")):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"prompt": prompt}]), tmp_path / f"{name}.parquet")
    (tmp_path / "README.md").write_text("no data")
    return tmp_path


def test_folder_of_shards(tmp_path: Path) -> None:
    source = str(folder(tmp_path))
    assert [row["prompt"] for _, row in read_rows(source, split="train")] == ["a", "b"]
    assert [row["prompt"] for _, row in read_rows(source, split="test")] == ["c"]
    with pytest.raises(HeedfulError, match="several splits: test, train"):
        list(read_rows(source))
    with pytest.raises(HeedfulError, match=r"no split 'tain'. Did you mean 'train'"):
        list(read_rows(source, split="tain"))


def test_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(HeedfulError, match="holds no data files"):
        list(read_rows(str(tmp_path)))


def test_folder_with_one_kind_of_file_needs_no_split(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"part{number}.jsonl").write_text(json.dumps({"prompt": str(number)}) + "\n")
    assert [(Path(o.file).name, o.line, r["prompt"]) for o, r in read_rows(str(tmp_path))] == [
        ("part1.jsonl", 1, "1"),
        ("part2.jsonl", 1, "2"),
    ]


def test_saved_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list([{"prompt": "a"}, {"prompt": "b"}])
    table.save_to_disk(str(tmp_path / "one"))
    assert [(o.line, r["prompt"]) for o, r in read_rows(str(tmp_path / "one"))] == [(1, "a"), (2, "b")]
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(str(tmp_path / "both"))
    assert [row["prompt"] for _, row in read_rows(str(tmp_path / "both"), split="test")] == ["b"]
    with pytest.raises(HeedfulError, match="several splits: test, train"):
        list(read_rows(str(tmp_path / "both")))
    with pytest.raises(HeedfulError, match="no split 'dev'"):
        list(read_rows(str(tmp_path / "both"), split="dev"))


def test_hub_ids_go_to_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(name: str, configuration: str | None) -> Any:
        asked.append((name, configuration))
        if name == "nobody/nothing":
            raise FileNotFoundError("Dataset 'nobody/nothing' doesn't exist on the Hub")
        return datasets.DatasetDict({"train": datasets.Dataset.from_list([{"prompt": "a"}])})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [(str(o), r) for o, r in read_rows("some/data:small", split="train")] == [
        ("some/data:small:1", {"prompt": "a"})
    ]
    assert [row for _, row in read_rows("some/data")] == [{"prompt": "a"}]
    assert asked == [("some/data", "small"), ("some/data", None)]
    with pytest.raises(HeedfulError, match="hub dataset could not be opened"):
        list(read_rows("nobody/nothing"))


def test_reading_needs_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, heedful.data.load, heedful.data.write, heedful.data.splits, heedful.data.inspect\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
