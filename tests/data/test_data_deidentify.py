"""Texts without what names people: each pattern, what it leaves alone, and files."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.cli.main import main
from heedful.data.deidentify import PATTERNS, Found, deidentify, find
from heedful.data.read import read_rows
from heedful.errors import HeedfulError


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to jo.o'neill+x@mail.example.co.uk.", "write to [email]."),
        ("joe [at] example [dot] com", "[email]"),
        ("card 4111 1111 1111 1111, not 4111 1111 1111 1112", "card [card], not 4111 1111 1111 1112"),
        ("amex 378282246310005", "amex [card]"),
        ("call +44 7911 123456 or 415-555-2671", "call [phone] or [phone]"),
        ("i live at 12 baker street, leeds", "i live at [address]"),
        ("to 1600 Pennsylvania Ave NW, Washington, DC 20500 today", "to [address] today"),
        ("Flat 4, 17 Elm Grove, Leeds LS6 2AB.", "[address]."),
        ("Hauptstraße 5, 10115 Berlin", "[address]"),
        ("au 12 rue de la Paix, 75002 Paris", "au [address]"),
        ("số 12 đường Nguyễn Trãi, quận 1", "[address]"),
        ("我住在北京市朝阳区建国路88号", "[address]"),
        ("it took 3 days to drive there, in 2 ways", "it took 3 days to drive there, in 2 ways"),
        ("order 2024-0012345 of 2024-12-01 costs $1,299.00", "order 2024-0012345 of 2024-12-01 costs $1,299.00"),
        ("@jane and foo@1.2.3", "@jane and foo@1.2.3"),
    ],
)
def test_what_names_a_person_is_taken_out(text: str, left: str) -> None:
    assert deidentify(text)[0] == left


@pytest.mark.parametrize(
    "part", ["北京市", "北京市朝阳区街道", "4", "a.", "a@", "1-", "12 a ", "live at ", "12 rue de la "]
)
def test_no_text_is_slow_to_look_through(part: str) -> None:
    """Anybody's text comes here: a pattern that goes back over what it has read would not end on these."""
    text = part * (20_000 // len(part))
    left, counted = deidentify(text, ("email", "card", "address"))
    assert not counted
    assert left == text


@pytest.mark.parametrize("part", ["1/", "12/", "4 ", "số 1/1"])
def test_numbers_that_are_none_are_looked_at_so_often_and_no_more(part: str) -> None:
    """32,000 characters of an end user took 17 seconds of the server's processor."""
    text = part * (16_000 // len(part))
    began = time.process_time()
    deidentify(text)
    assert time.process_time() - began < 4


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("写给 jo＠example．com 。", "写给 [email] 。"),
        ("jo@\u200bexample.com", "[email]"),
        ("or jo@exam\u00adple.com, please", "or [email], please"),
        ("４１１１ １１１１ １１１１ １１１１", "[card]"),
        ("٤١١١١١١١١١١١١١١١", "[card]"),
        ("＋４４　７９１１　１２３４５６", "[phone]"),
        ("số 12/3/4 đường Nguyễn Trãi, quận 1", "[address]"),
        ("日本語で\u200b話す５つ", "日本語で\u200b話す５つ"),  # what is not found stays as it was
    ],
)
def test_wide_and_unseen_characters_hide_nothing(text: str, left: str) -> None:
    assert deidentify(text)[0] == left


def test_only_the_patterns_that_are_asked_for() -> None:
    text = "a@example.com, +44 7911 123456"
    assert deidentify(text, ["phone"]) == ("a@example.com, [phone]", {"phone": 1})
    assert find(text, ["email"]) == [Found("email", 0, 13)]
    with pytest.raises(HeedfulError, match=r"no pattern is called 'mail'.*Did you mean 'email'"):
        find(text, ["mail"])


def test_national_numbers_are_those_of_the_regions() -> None:
    assert deidentify("0912 345 678", regions=("VN",))[0] == "[phone]"
    assert deidentify("0912 345 678", regions=("US",))[0] == "0912 345 678"


@given(st.text(st.sampled_from("ab1 45@.,-+()street道号9\n"), max_size=60))
def test_finds_are_in_order_apart_and_nothing_else_changes(text: str) -> None:
    found = find(text)
    assert all(one.start < one.end for one in found)
    assert all(one.end <= other.start for one, other in pairwise(found))
    edges = [0, *(edge for one in found for edge in (one.start, one.end)), len(text)]
    kept = [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    cleaned, counted = deidentify(text)
    assert cleaned == "".join(part + (f"[{found[i].pattern}]" if i < len(found) else "") for i, part in enumerate(kept))
    assert sum(counted.values()) == len(found)
    assert set(counted) <= set(PATTERNS)


def test_a_file_is_cleaned_at_every_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": "mail a@example.com"}], "completion": "ok", "id": "b@example.com"},
        {"prompt": "none", "completion": "call +44 7911 123456", "score": 4},
    ]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["deidentify", str(source), "--out", str(out), "--keep", "id", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "out": str(out), "rows": 2, "email": 1, "card": 0, "phone": 1, "address": 0,
    }  # fmt: skip
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"prompt": [{"role": "user", "content": "mail [email]"}], "completion": "ok", "id": "b@example.com"},
        {"prompt": "none", "completion": "call [phone]", "score": 4},
    ]


def test_a_name_that_ends_in_gz_is_compressed_and_can_be_read_again(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl.gz"
    source.write_text('{"prompt": "a@example.com"}\n{"prompt": "é"}\n')
    assert main(["deidentify", str(source), "--out", str(out)]) == 0
    assert [row for _, row in read_rows(str(out))] == [{"prompt": "[email]"}, {"prompt": "é"}]


def test_a_wrong_call_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a@example.com"}\n')
    assert main(["deidentify", str(source), "--out", str(source)]) == 2
    assert "the output is the input" in capsys.readouterr().err
    assert main(["deidentify", str(source), "--out", str(tmp_path / "o.jsonl"), "--regions", "Utopia"]) == 2
    assert "'Utopia' is no country's code" in capsys.readouterr().err
    assert source.read_text() == '{"prompt": "a@example.com"}\n'
    assert not (tmp_path / "o.jsonl").exists()
