"""What is written is read back as the same records."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.load import DataSpec, load, load_demonstrations, load_preferences
from heedful.data.records import MADE_HERE, Demonstration, Labelled, Message, Origin, Preference, Prompt
from heedful.data.write import write_records
from heedful.errors import HeedfulError

HI = (Message("user", "hi"),)
TURNS = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "and\nnow?"))
SYSTEM = (Message("system", "be brief"), *HI)


def same(records: list[Any]) -> list[Any]:
    return [dataclasses.replace(record, origin=MADE_HERE) for record in records]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


def talk(said: list[str]) -> tuple[Message, ...]:
    """A conversation that begins and ends with the user."""
    said = said[: len(said) - 1 + len(said) % 2]
    return tuple(Message("assistant" if index % 2 else "user", text) for index, text in enumerate(said))


@given(
    st.lists(
        st.builds(
            Preference,
            prompt=st.lists(texts, min_size=1, max_size=4).map(talk),
            a=texts.map(lambda t: "a" + t),
            b=texts.map(lambda t: "b" + t),
            probability=st.floats(0, 1),
            votes=st.integers(1, 99),
            margin=st.floats(-5, 5),
            weight=st.floats(0.01, 1),
            made=st.dictionaries(texts, texts | st.integers(-9, 9) | st.floats(-1, 1), max_size=2).map(
                lambda found: tuple(found.items())
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None)
def test_heedful_preferences_come_back_whole(
    tmp_path_factory: pytest.TempPathFactory, records: list[Preference]
) -> None:
    path = tmp_path_factory.mktemp("w") / "p.jsonl"
    write_records(path, records)
    loaded = load_preferences(DataSpec(str(path), on_bad_row="error"))
    assert same(loaded.records) == records
    assert loaded.format == "heedful"


@pytest.mark.parametrize("format", ["heedful", "trl"])
@pytest.mark.parametrize(
    "records",
    [
        [Prompt(HI), Prompt(TURNS)],
        [Demonstration(SYSTEM, " x\n"), Demonstration(TURNS, "y")],
        [Labelled(HI, "x", True), Labelled(SYSTEM, "y", False)],
    ],
    ids=["prompts", "demonstrations", "labelled"],
)
def test_other_records_come_back_whole(tmp_path: Path, format: str, records: list[Any]) -> None:
    path = tmp_path / "r.jsonl.gz"
    write_records(path, records, format=format)
    assert same(load(DataSpec(str(path), on_bad_row="error")).records) == records


PLAIN = [Preference(HI, "good", "bad"), Preference(TURNS, "yes", "no")]


@pytest.mark.parametrize(
    ("format", "records", "found"),
    [
        ("trl", [*PLAIN, Preference(SYSTEM, "x", "y", margin=1.5)], "trl-preference"),
        ("hh", PLAIN, "hh"),
        ("arena", [*PLAIN, Preference(HI, "x", "y", probability=0.5)], "arena"),
        ("alpaca-eval", [Preference(HI, "x", "y", probability=0.75), Preference(HI, "x", "y", probability=0.5)], None),
    ],
)
def test_formats_of_others_come_back_whole(tmp_path: Path, format: str, records: list[Any], found: str | None) -> None:
    path = tmp_path / "p.jsonl"
    write_records(path, records, format=format)
    loaded = load_preferences(DataSpec(str(path), on_bad_row="error"))
    assert same(loaded.records) == records
    assert loaded.format == (found or format)


def test_literal_rows(tmp_path: Path) -> None:
    record = Preference(TURNS, "good", "bad", probability=0.25)
    rows = {}
    for format in ("trl", "hh", "arena"):
        write_records(tmp_path / f"{format}.jsonl", [record], format=format)
        rows[format] = json.loads((tmp_path / f"{format}.jsonl").read_text())
    prompt = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "and\nnow?"},
    ]
    assert rows["trl"] == {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": "bad"}],
        "rejected": [{"role": "assistant", "content": "good"}],
    }
    assert rows["hh"] == {
        "chosen": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and\nnow?\n\nAssistant: bad",
        "rejected": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and\nnow?\n\nAssistant: good",
    }
    assert rows["arena"] == {
        "prompt": '["hi", "and\\nnow?"]',
        "response_a": '["hello", "good"]',
        "response_b": '["hello", "bad"]',
        "winner_model_a": 0,
        "winner_model_b": 1,
        "winner_tie": 0,
    }


@pytest.mark.parametrize(
    ("format", "record", "said"),
    [
        ("trl", Preference(HI, "x", "y", probability=0.5), "a tie cannot be said"),
        ("hh", Preference(HI, "x", "y", probability=0.5), "a tie cannot be said"),
        ("hh", Preference(SYSTEM, "x", "y"), "knows no 'system' message"),
        ("hh", Preference(HI, "x\n\nHuman: y", "z"), "itself holds a Human:"),
        ("arena", Preference(SYSTEM, "x", "y"), "user and assistant turns only"),
        ("arena", Prompt(HI, Origin("f", 3)), "holds preferences, not a prompt"),
        ("alpaca-eval", Preference(TURNS, "x", "y"), "a single instruction"),
        ("hhh", Prompt(HI), "Did you mean 'hh'"),
    ],
)
def test_what_a_format_cannot_say_is_refused_and_nothing_written(
    tmp_path: Path, format: str, record: Any, said: str
) -> None:
    path = tmp_path / "p.jsonl"
    with pytest.raises(HeedfulError, match=said):
        write_records(path, [PLAIN[0], record], format=format)
    assert list(tmp_path.iterdir()) == []


def test_only_json_lines(tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match=r"Let the name end with .jsonl"):
        write_records(tmp_path / "p.csv", PLAIN)


def test_gzip_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_records(tmp_path / name, PLAIN)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert len(gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).splitlines()) == 2
    assert len(load_demonstrations(DataSpec(str(tmp_path / "a.jsonl.gz"))).records) == 2
