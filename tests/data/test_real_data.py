"""The real preference files, read as they are: 1,800 HH-RLHF comparisons and 4,826 AlpacaEval judgments."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heedful.data.chat import end_of_turn_ids, prepare_tokenizer, render_completion, render_prompt
from heedful.data.load import DataSpec, fit, load_demonstrations, load_preferences, load_prompts
from heedful.data.records import prompt_key
from heedful.data.splits import near_duplicates, split
from heedful.data.write import write_records

pytestmark = pytest.mark.real_data


def hh(folder: Path) -> str:
    return str(folder / "hh-harmless.jsonl.gz")


def test_hh_is_recognised_and_its_bad_rows_found(real_data: Path) -> None:
    loaded = load_preferences(DataSpec(hh(real_data)))
    assert loaded.format == "hh"
    assert loaded.findings.rows == 1800
    assert len(loaded.records) == 1791
    lines = {kind: entry["lines"] for kind, entry in loaded.findings.as_dict()["kinds"].items()}
    assert lines == {
        "empty answer": [87, 517, 926, 1104],
        "differing prompts": [1255, 1689],
        "turns out of order": [668, 764, 1320],
    }
    assert len(load_demonstrations(DataSpec(hh(real_data))).records) == 1791
    assert len(load_prompts(DataSpec(hh(real_data))).records) == 1795


def test_hh_turns_say_what_the_file_says(real_data: Path) -> None:
    with gzip.open(hh(real_data), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for record in load_preferences(DataSpec(hh(real_data))).records:
        names = {"user": "Human", "assistant": "Assistant"}
        text = "".join(f"\n\n{names[turn.role]}: {turn.content}" for turn in record.prompt)
        row = rows[record.origin.line - 1]
        assert row["chosen"] == f"{text}\n\nAssistant: {record.a}"
        assert row["rejected"] == f"{text}\n\nAssistant: {record.b}"


def test_hh_written_and_read_again(real_data: Path, tmp_path: Path) -> None:
    records = load_preferences(DataSpec(hh(real_data))).records
    for format in ("heedful", "trl", "hh", "arena"):
        path = tmp_path / f"{format}.jsonl.gz"
        write_records(path, records, format=format)
        again = load_preferences(DataSpec(str(path), on_bad_row="error")).records
        assert [(r.prompt, r.a, r.b, r.probability) for r in again] == [
            (r.prompt, r.a, r.b, r.probability) for r in records
        ]


def test_hh_splits_without_leaks(real_data: Path) -> None:
    records = load_preferences(DataSpec(hh(real_data))).records
    train, held = split(records, 0.1, 0)
    assert len(train) + len(held) == 1791
    assert 110 <= len(held) <= 250
    assert not {prompt_key(r.prompt) for r in train} & {prompt_key(r.prompt) for r in held}
    groups = near_duplicates([r.prompt for r in records])
    sides = {id(r) for r in held}
    assert all(
        len({id(r) in sides for r, g in zip(records, groups, strict=True) if g == group}) == 1
        for group in set(groups)
        if groups.count(group) > 1
    )


@pytest.mark.parametrize("name", ["gpt2-plain", "qwen", "llama3", "gemma"])
def test_hh_renders_token_by_token(real_data: Path, prepared: Callable[[str], Any], name: str) -> None:
    tokenizer = prepared(name)
    records = load_preferences(DataSpec(hh(real_data), limit=200)).records
    end = end_of_turn_ids(tokenizer)[0]
    loaded = load_preferences(DataSpec(hh(real_data), limit=1))
    assert len(fit(records, tokenizer, 10_000, "error", loaded.findings)) == 200
    for record in records:
        head = render_prompt(tokenizer, record.prompt)
        for answer in (record.a, record.b):
            rendered = render_completion(tokenizer, record.prompt, answer)
            assert rendered.tokens[: rendered.prompt_length] == head
            learnt = rendered.tokens[rendered.prompt_length :]
            assert learnt.count(end) == 1
            assert learnt[-1] == end
            if name != "gemma":  # whose small vocabulary lacks some letters
                assert tokenizer.decode(learnt[:-1]).strip() == answer.strip()


def test_a_tokenizer_trained_on_the_file_and_the_plain_template(real_data: Path) -> None:
    from tokenizer_families import gpt2

    tokenizer = prepare_tokenizer(gpt2(), template="plain")
    record = load_preferences(DataSpec(hh(real_data), limit=1)).records[0]
    rendered = render_completion(tokenizer, record.prompt, record.a)
    with gzip.open(hh(real_data), "rt", encoding="utf-8") as file:
        row = json.loads(file.readline())
    text = tokenizer.decode(rendered.tokens)
    assert text.count("<|endoftext|>") == 1 + sum(turn.role == "assistant" for turn in record.prompt)
    assert text.replace("<|endoftext|>", "") == row["chosen"]


def test_alpaca_eval_judgments(real_data: Path) -> None:
    loaded = load_preferences(DataSpec(str(real_data / "alpaca-eval-judgments.jsonl.gz")))
    assert loaded.format == "alpaca-eval"
    assert loaded.findings.rows == 4826
    assert loaded.findings.counts() == {"equal answers": 16, "empty answer": 2}
    assert len(loaded.records) == 4808
    assert all(0.5 <= record.probability <= 1.0 for record in loaded.records)
    assert loaded.records[0].probability == pytest.approx(1 - 1.827e-7)
    assert loaded.records[0].a.startswith("Several famous actors")
    assert loaded.records[0].b.startswith("Some famous actors")
