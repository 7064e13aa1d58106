"""What `heedful inspect` shows."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from heedful.data.inspect import inspect_data, pieces, token_text
from heedful.data.load import DataSpec
from heedful.errors import HeedfulError

ROWS = [
    {"prompt": "what is the sky", "chosen": "blue and salt", "rejected": "green"},
    {"prompt": "What is the SKY?", "chosen": "blue", "rejected": "not green at all"},
    {"prompt": "what is the sky", "chosen": "blue and salt", "rejected": "green"},
    {"prompt": "who are you", "chosen": "", "rejected": "no"},
    {"prompt": "say it", "chosen": "one two three four five six seven", "rejected": "no"},
]
Prepared = Callable[[str], Any]


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return str(path)


def test_counts_are_literal(source: str, prepared: Prepared) -> None:
    found = inspect_data(DataSpec(source), prepared("words"), max_length=13)
    assert found.kind == "preference"
    assert found.records == 3
    assert found.unit == "tokens"
    assert {k: v["lines"] for k, v in found.findings["kinds"].items()} == {"empty answer": [4], "over the window": [5]}
    assert found.lengths["prompt"] == {"least": 8, "median": 8, "mean": 8, "95%": 8, "most": 8}
    # answers with their end of turn: 4, 2 | 2, 5 | 4, 2
    assert found.lengths["answer"]["mean"] == pytest.approx(19 / 6)
    assert found.lengths["together"]["most"] == 13
    assert found.truncated == 0
    assert found.duplicates == {"records": 1, "prompts": 2, "near_prompts": 0}
    assert found.preferences == {"ties": 0, "soft": 0, "longer_preferred": pytest.approx(2 / 3)}
    json.dumps(found.as_dict())


def test_truncated_answers_are_counted(source: str, prepared: Prepared) -> None:
    found = inspect_data(DataSpec(source, on_bad_row="truncate"), prepared("words"), max_length=9)
    assert found.truncated == 7
    assert found.records == 4


def test_examples_hold_tokens_and_masks(source: str, prepared: Prepared) -> None:
    found = inspect_data(DataSpec(source), prepared("words"), examples=1)
    (example,) = found.examples
    assert example["origin"] == f"{source}:1"
    first, second = example["sides"]
    assert (first["name"], second["name"]) == ("a (preferred)", "b")
    assert first["mask"] == [False] * 8 + [True] * 4
    assert first["pieces"][:3] == ["<bos>", "<|user|>", "what"]
    assert first["special"] == [True, True, *[False] * 4, True, True, *[False] * 3, True]


def test_colours_and_frames(source: str, prepared: Prepared) -> None:
    found = inspect_data(DataSpec(source), prepared("qwen"), examples=1)
    text = token_text(found.examples[0]["sides"][0])
    assert text.plain.endswith("<|im_start|>assistant↵\n⟨blue and salt<|im_end|>⟩")
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert styles["<|im_start|>"] == "bold magenta"
    assert styles["user"] == "dim"
    assert "on" in styles["<|im_end|>"]
    assert "green" in styles["<|im_end|>"]


def test_everything_is_printed(source: str, prepared: Prepared) -> None:
    out = io.StringIO()
    inspect_data(DataSpec(source), prepared("llama3"), console=Console(file=out, width=400), examples=2)
    shown = out.getvalue()
    for part in (
        "format 'trl-preference'",
        "4 records of the kind 'preference'",
        "empty answer",
        "an answer ends with '<|eot_id|>'",
        "Lengths in tokens",
        "1 whole records, 2 prompts seen before",
        "the longer answer is preferred in 75.0%",
        "⟨blue and salt<|eot_id|>⟩",
        f"{source}:2 b:",
    ):
        assert part in shown, part


def test_without_a_tokenizer_lengths_are_in_words(source: str) -> None:
    found = inspect_data(DataSpec(source))
    assert found.unit == "words"
    assert found.lengths["prompt"]["most"] == 4
    assert found.lengths["answer"]["most"] == 7
    assert found.examples == []


def test_prompts_alone(tmp_path: Path, prepared: Prepared) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "hi"}\n')
    found = inspect_data(DataSpec(str(path)), prepared("words"))
    assert found.kind == "prompt"
    assert "answer" not in found.lengths
    assert not any(found.examples[0]["sides"][0]["mask"])
    assert found.preferences == {}


def test_nothing_fits(source: str, prepared: Prepared) -> None:
    with pytest.raises(HeedfulError, match=r"no usable rows .*over the window"):
        inspect_data(DataSpec(source), prepared("words"), max_length=5)


def test_pieces_join_to_the_text(prepared: Prepared) -> None:
    for name in ("qwen", "llama3"):
        tokenizer = prepared(name)
        tokens = tokenizer("the sky is 日本 — été", add_special_tokens=False)["input_ids"]
        assert "".join(pieces(tokenizer, tokens)) == "the sky is 日本 — été"
        assert len(pieces(tokenizer, tokens)) == len(tokens)
