"""Blocks of Parquet data: the same every time, each row once, and a folder that fills and is gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from heedful.data.blocks import BlockFolder, blocks_of, identity, read_block
from heedful.data.read import read_rows
from heedful.errors import HeedfulError


def write(path: Path, first: int, rows: int, group: int) -> None:
    table = pyarrow.table({"n": list(range(first, first + rows))})
    pyarrow.parquet.write_table(table, path, row_group_size=group)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "b.parquet", 25, 5, 100)
    write(folder / "a.parquet", 0, 25, 10)
    return folder


@pytest.mark.parametrize("rows", [1, 4, 7, 100])
def test_every_row_is_in_one_block_and_in_order(source: Path, rows: int) -> None:
    blocks = blocks_of(str(source), rows)
    read = [row for block in blocks for row in read_block(block)["n"].to_pylist()]
    assert read == list(range(30))
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert all(read_block(block)["n"][0].as_py() == block.start for block in blocks)
    assert max(block.rows for block in blocks) <= rows


def test_a_limit_cuts_the_last_block(source: Path) -> None:
    blocks = blocks_of(str(source), 4, limit=6)
    assert [block.rows for block in blocks] == [4, 2]
    assert len(blocks_of(str(source), 4, limit=10)) == 3


def test_other_data_has_another_identity(source: Path) -> None:
    before = identity(str(source))
    assert identity(str(source)) == before
    write(source / "b.parquet", 26, 5, 100)
    assert identity(str(source)) != before


@pytest.mark.parametrize("name", ["none.parquet", "rows.jsonl"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(HeedfulError, match="Parquet"):
        blocks_of(str(tmp_path / name), 4)


def test_a_parquet_file_that_is_cut_short_is_named(source: Path) -> None:
    whole = (source / "a.parquet").read_bytes()
    (source / "a.parquet").write_bytes(whole[:-20])
    with pytest.raises(HeedfulError, match=r"a\.parquet.*not a whole Parquet file"):
        blocks_of(str(source), 4)


def test_a_folder_is_gone_on_with_by_the_same_settings_alone(tmp_path: Path) -> None:
    folder = BlockFolder(tmp_path / "out", ("looks", "labels"))
    folder.folder.mkdir()
    folder.claim({"policy": "a", "seed": 1})
    folder.claim({"policy": "a", "seed": 1})
    with pytest.raises(HeedfulError, match=r"other settings \(seed\)"):
        folder.claim({"policy": "a", "seed": 2})


def test_a_block_is_there_once_its_last_file_is(tmp_path: Path) -> None:
    folder = BlockFolder(tmp_path / "out", ("looks", "labels"))
    table = pyarrow.table({"n": [1, 2]})
    folder.folder.mkdir()
    with pytest.raises(KeyError):
        folder.write(3, {"looks": table})
    assert not folder.done(3)
    folder.write(3, {"looks": table, "labels": table})
    assert folder.done(3)
    assert not folder.finished
    folder.finish({"kind": "blocks"})
    manifest = json.loads((folder.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == {"looks/part-000003.parquet", "labels/part-000003.parquet"}
    assert [row["n"] for _, row in read_rows(str(folder.folder / "labels"))] == [1, 2]


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(HeedfulError, match=r"something else \(thesis.txt\)"):
        BlockFolder(tmp_path).claim({})
