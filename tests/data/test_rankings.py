"""Rankings out of files: what they hold, what is left out of them, and what is no ranking."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from heedful.data.load import DataSpec, fit, load_demonstrations, load_preferences, load_rankings
from heedful.data.records import Message, Ranking
from heedful.data.write import write_records
from heedful.errors import HeedfulError

HI = (Message("user", "hi"),)


def written(path: Path, *rows: dict[str, Any]) -> DataSpec:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSpec(str(path))


def test_a_ranking_is_read_with_its_ratings(tmp_path: Path) -> None:
    row = {"prompt": "hi", "completions": ["x", "y"], "ranks": [2, 1], "attributes": {"wit": [1, None], "help": [2, 3]}}
    (record,) = load_rankings(written(tmp_path / "x.jsonl", row)).records
    assert (record.prompt, record.completions, record.ranks, record.weight) == (HI, ("x", "y"), (2.0, 1.0), 1.0)
    (helped, helps), (wit, wits) = record.attributes
    assert (helped, helps, wit, wits[0]) == ("help", (2.0, 3.0), "wit", 1.0)
    assert math.isnan(wits[1])


def test_raw_ultrafeedback_is_a_ranking_with_its_aspects(tmp_path: Path) -> None:
    def rated(text: str, **ratings: Any) -> dict[str, Any]:
        return {"response": text, "annotations": {name: {"Rating": value} for name, value in ratings.items()}}

    answers = [rated("x", help="3", truth=4), rated("y", help=5, truth="N/A"), rated("z", help=4, truth=3), rated("w")]
    spec = written(tmp_path / "x.jsonl", {"instruction": "hi", "completions": answers})
    (record,) = load_rankings(spec).records
    assert (record.completions, record.ranks) == (("x", "y", "z"), (2.0, 1.0, 2.0))
    (helped, helps), (truth, truths) = record.attributes
    assert (helped, helps, truth, truths[0], truths[2]) == ("help", (3.0, 5.0, 4.0), "truth", 4.0, 3.0)
    assert math.isnan(truths[1])
    assert [(r.a, r.b, r.probability) for r in load_preferences(spec).records] == [
        ("y", "x", 1.0), ("x", "z", 0.5), ("y", "z", 1.0)
    ]  # fmt: skip


def test_empty_and_repeated_answers_leave_their_ranking(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": "hi",
            "completions": ["x", " ", "y", "x "],
            "ranks": [1, 2, 3, 4],
            "attributes": {"a": [1, 2, 3, 4]},
        },
        {"prompt": "hi", "completions": ["x", "x"], "ranks": [1, 2]},
        {"prompt": " ", "completions": ["x", "y"], "ranks": [1, 2]},
    ]
    loaded = load_rankings(written(tmp_path / "x.jsonl", *rows))
    (record,) = loaded.records
    assert (record.completions, record.ranks) == (("x", "y"), (1.0, 3.0))
    assert record.attributes == (("a", (1.0, 3.0)),)
    assert len(loaded.findings) == 4
    with pytest.raises(HeedfulError, match="empty answer"):
        load_rankings(DataSpec(str(tmp_path / "x.jsonl"), on_bad_row="error"))


def test_all_answers_must_fit_the_window(tmp_path: Path) -> None:
    from architectures import tiny_tokenizer

    rows = [
        {"prompt": "hello", "completions": ["a", "red " * 30], "ranks": [1, 2]},
        {"prompt": "hello", "completions": ["a", "red"], "ranks": [1, 2]},
    ]
    loaded = load_rankings(written(tmp_path / "x.jsonl", *rows))
    assert [r.completions for r in fit(loaded.records, tiny_tokenizer(), 16, "skip", loaded.findings)] == [("a", "red")]


def test_of_rankings_the_best_answer_is_a_demonstration(tmp_path: Path) -> None:
    spec = written(tmp_path / "x.jsonl", {"prompt": "hi", "completions": ["x", "y", "z"], "ranks": [2, 1, 3]})
    assert [record.completion for record in load_demonstrations(spec).records] == ["y"]


def test_pairs_are_no_rankings(tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="this needs rankings, and the format 'trl-preference'"):
        load_rankings(written(tmp_path / "x.jsonl", {"prompt": "hi", "chosen": "x", "rejected": "y"}))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    record = Ranking(HI, ("x", "y", "z"), (1.0, 2.0, 2.0), (("wit", (1.0, 2.5, 0.0)),), 0.5)
    write_records(tmp_path / "x.jsonl", [record])
    (back,) = load_rankings(DataSpec(str(tmp_path / "x.jsonl"))).records
    assert (back.completions, back.ranks, back.attributes, back.weight) == (
        record.completions, record.ranks, record.attributes, record.weight,
    )  # fmt: skip
    with pytest.raises(HeedfulError, match="cannot be said in the format 'trl'"):
        write_records(tmp_path / "y.jsonl", [record], format="trl")
