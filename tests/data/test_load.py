"""Loading: which kinds come out of which formats, and what happens to content that cannot be learnt from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from heedful.data.chat import render_completion
from heedful.data.findings import Findings
from heedful.data.load import DataSpec, fit, load, load_demonstrations, load_labelled, load_preferences, load_prompts
from heedful.data.records import Demonstration, Message, Origin, Preference, Prompt
from heedful.errors import HeedfulError
from heedful.files import sha256_file

HH = "\n\nHuman: {}\n\nAssistant: {}"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def file_of(tmp_path: Path, rows: Sequence[Any]) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return str(path)


def hh(question: str, chosen: str, rejected: str, other: str | None = None) -> dict[str, str]:
    asked = question if other is None else other
    return {"chosen": HH.format(question, chosen), "rejected": HH.format(asked, rejected)}


MIXED = [
    hh("one", "good", "bad"),
    hh("two", "", "bad"),
    hh("three", "good", "   "),
    hh("four", "same", "same "),
    hh("five", "good", "bad", other="cinq"),
    {"chosen": "\n\nHuman: six", "rejected": "\n\nHuman: six"},
    {
        "chosen": "\n\nHuman: seven\n\nHuman: a\n\nAssistant: x",
        "rejected": "\n\nHuman: seven\n\nHuman: a\n\nAssistant: y",
    },
    hh("", "good", "bad"),
    hh("half a character \ud83d", "good", "bad"),
    hh("ten", "good", "bad"),
]
KINDS = {
    "empty answer": [2, 3],
    "equal answers": [4],
    "differing prompts": [5],
    "ends with the user": [6],
    "turns out of order": [7],
    "empty prompt": [8],
    "broken text": [9],
}


def test_bad_content_is_skipped_and_counted_with_lines(tmp_path: Path) -> None:
    loaded = load_preferences(DataSpec(file_of(tmp_path, MIXED)))
    assert [record.prompt[0].content for record in loaded.records] == ["one", "ten"]
    assert [record.origin.line for record in loaded.records] == [1, 10]
    found = loaded.findings.as_dict()
    assert found["rows"] == 10
    assert {kind: entry["lines"] for kind, entry in found["kinds"].items()} == KINDS
    assert {kind: entry["count"] for kind, entry in found["kinds"].items()} == {k: len(v) for k, v in KINDS.items()}
    assert found["kinds"]["empty answer"]["actions"] == {"skipped": 2}
    assert loaded.findings.summary().startswith("8 of 10 rows: 2 empty answer (skipped: lines 2, 3), ")
    assert json.loads(json.dumps(loaded.describe()))["records"] == 2
    assert "2 records; 8 of 10 rows" in loaded.summary()


@pytest.mark.parametrize(("line", "kind"), [(lines[0], kind) for kind, lines in KINDS.items()])
def test_bad_content_is_an_error_when_told(tmp_path: Path, line: int, kind: str) -> None:
    path = file_of(tmp_path, [MIXED[0], MIXED[line - 1]])
    with pytest.raises(HeedfulError) as caught:
        load_preferences(DataSpec(path, on_bad_row="error"))
    assert caught.value.what == f"{kind}."
    assert caught.value.where == f"{path}:2"
    assert "--records.on-bad-row skip" in caught.value.mend


def test_truncate_mends_only_what_cutting_can_mend(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        [
            {"messages": [user("a"), assistant("b"), user("c")]},
            {"messages": [user("a")]},
            {"messages": [user("a"), assistant("")]},
            {"messages": [user("x"), assistant("y")]},
        ],
    )
    loaded = load_demonstrations(DataSpec(path, on_bad_row="truncate"))
    assert loaded.records == [
        Demonstration((Message("user", "a"),), "b", Origin(path, 1)),
        Demonstration((Message("user", "x"),), "y", Origin(path, 4)),
    ]
    kinds = loaded.findings.as_dict()["kinds"]
    assert kinds["ends with the user"] == {"count": 2, "actions": {"truncated": 1, "skipped": 1}, "lines": [1, 2]}
    assert kinds["empty answer"]["actions"] == {"skipped": 1}
    assert len(load_demonstrations(DataSpec(path)).records) == 1


def test_no_rows_and_no_usable_rows(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(HeedfulError, match="no rows at all"):
        load_prompts(DataSpec(str(empty)))
    with pytest.raises(HeedfulError, match=r"no usable rows \(1 of 1 rows: 1 empty answer"):
        load_preferences(DataSpec(file_of(tmp_path, [MIXED[1]])))


def test_kinds_that_a_format_cannot_give(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": "hi", "completion": "x"}])
    for loader in (load_preferences, load_labelled):
        with pytest.raises(HeedfulError, match="the format 'trl-completion' holds demonstrations"):
            loader(DataSpec(path))
    path = file_of(tmp_path, [{"prompt": "hi"}])
    with pytest.raises(HeedfulError, match="needs demonstrations, and the format 'prompt' holds prompts"):
        load_demonstrations(DataSpec(path))


def test_demonstrations_of_preferences_are_the_preferred_answers(tmp_path: Path) -> None:
    rows = [
        {"prompt": "1", "a": "x", "b": "y", "probability": 0.75},
        {"prompt": "2", "a": "x", "b": "y", "probability": 0.25},
        {"prompt": "3", "a": "x", "b": "y", "probability": 0.5},
    ]
    loaded = load_demonstrations(DataSpec(file_of(tmp_path, rows), on_bad_row="error"))
    assert [(r.prompt[0].content, r.completion) for r in loaded.records] == [("1", "x"), ("2", "y")]
    assert loaded.findings.counts() == {"tie, so no answer to imitate": 1}
    labelled = load_labelled(DataSpec(file_of(tmp_path, rows))).records
    assert [(r.prompt[0].content, r.completion, r.label) for r in labelled] == [
        ("1", "x", True), ("1", "y", False), ("2", "y", True), ("2", "x", False),
    ]  # fmt: skip


def test_demonstrations_of_ratings_are_the_best_answer_once(tmp_path: Path) -> None:
    def rated(text: str, rating: int) -> dict[str, Any]:
        return {"response": text, "annotations": {"helpfulness": {"Rating": rating}}}

    path = file_of(tmp_path, [{"instruction": "i", "completions": [rated("c", 3), rated("a", 5), rated("b", 4)]}])
    assert [record.completion for record in load_demonstrations(DataSpec(path)).records] == ["a"]
    assert len(load_prompts(DataSpec(path)).records) == 1
    assert [(r.completion, r.label) for r in load_labelled(DataSpec(path)).records] == [("a", True), ("c", False)]
    assert [(r.a, r.b) for r in load_preferences(DataSpec(path)).records] == [("a", "c"), ("b", "c"), ("a", "b")]


def test_demonstrations_of_unpaired_feedback_are_the_good_ones(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": str(i), "label": i != 1} for i in range(3)]
    loaded = load_demonstrations(DataSpec(file_of(tmp_path, rows), on_bad_row="error"))
    assert [record.completion for record in loaded.records] == ["0", "2"]


def test_prompts_of_anything(tmp_path: Path) -> None:
    assert [r.prompt[0].content for r in load_prompts(DataSpec(file_of(tmp_path, MIXED[:4]))).records] == [
        "one", "two", "three", "four",
    ]  # fmt: skip
    talk = {"messages": [user("a"), assistant("b"), user("c"), assistant("d")]}
    assert load_prompts(DataSpec(file_of(tmp_path, [talk]))).records[0].prompt[-1] == Message("user", "c")


def test_limit_keeps_the_first_records(tmp_path: Path) -> None:
    path = file_of(tmp_path, MIXED)
    assert [r.origin.line for r in load_preferences(DataSpec(path, limit=1)).records] == [1]
    assert [r.origin.line for r in load_labelled(DataSpec(path, limit=3)).records] == [1, 1, 10]
    assert load_preferences(DataSpec(path, limit=1)).findings.rows == 1


def test_hash_is_the_files_own(tmp_path: Path) -> None:
    path = file_of(tmp_path, [{"prompt": "hi"}])
    assert load_prompts(DataSpec(path)).sha256 == sha256_file(Path(path))
    other = load_prompts(DataSpec(str(tmp_path))).sha256
    assert load_prompts(DataSpec(str(tmp_path))).sha256 == other
    file_of(tmp_path, [{"prompt": "ho"}])
    assert load_prompts(DataSpec(str(tmp_path))).sha256 != other


def test_load_takes_the_kind_of_the_format(tmp_path: Path) -> None:
    assert type(load(DataSpec(file_of(tmp_path, MIXED))).records[0]) is Preference
    assert type(load(DataSpec(file_of(tmp_path, MIXED)), "demonstrations").records[0]) is Demonstration
    assert type(load(DataSpec(file_of(tmp_path, [{"prompt": "hi"}]))).records[0]) is Prompt
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(HeedfulError, match="no rows at all"):
        load(DataSpec(str(tmp_path / "empty.jsonl")))


def test_findings_table_names_kinds_and_lines(tmp_path: Path) -> None:
    from rich.console import Console

    findings = Findings(rows=40)
    for line in range(1, 16):
        findings.add("empty answer", Origin("x", line), "skipped")
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(findings.table())
    text = console.export_text()
    assert "empty answer" in text
    assert "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 3 more" in text


Prepared = Callable[[str], Any]
LONG = (
    Message("system", "be brief"),
    Message("user", "one two three"),
    Message("assistant", "four five six"),
    Message("user", "seven"),
    Message("assistant", "eight"),
    Message("user", "nine"),
)


def place(line: int) -> Origin:
    return Origin("x", line)


def test_fit_skips_what_is_over_the_window(prepared: Prepared) -> None:
    tokenizer = prepared("words")  # 1 BOS, and per turn its words and two marks; then the generation prompt
    records = [
        Preference((Message("user", "a b"),), "c", "d", origin=place(1)),  # 1 + 4 + 1 + 1 + 1 = 8 tokens
        Preference((Message("user", "a b"),), "c", "d e", origin=place(2)),  # 9 tokens on side b
    ]
    findings = Findings(rows=2)
    assert fit(records, tokenizer, 9, "skip", findings) == records
    assert len(findings) == 0
    assert fit(records, tokenizer, 8, "skip", findings) == records[:1]
    assert findings.as_dict()["kinds"] == {"over the window": {"count": 1, "actions": {"skipped": 1}, "lines": [2]}}
    with pytest.raises(HeedfulError, match=r"x:2: over the window.*--records.max-length"):
        fit(records, tokenizer, 8, "error", findings)


def test_fit_cuts_the_oldest_turns_first_and_then_the_answer(prepared: Prepared) -> None:
    tokenizer = prepared("words")
    record = Demonstration(LONG, "ten eleven", place(1))
    length = len(render_completion(tokenizer, LONG, "ten eleven").tokens)
    assert fit([record], tokenizer, length, "truncate", Findings()) == [record]
    findings = Findings()
    (shorter,) = fit([record], tokenizer, length - 1, "truncate", findings)
    assert shorter.prompt == (LONG[0], *LONG[3:])
    assert shorter.completion == "ten eleven"
    (shortest,) = fit([record], tokenizer, 13, "truncate", findings)
    assert shortest.prompt == (LONG[0], LONG[5])
    assert len(render_completion(tokenizer, shortest.prompt, "ten eleven").tokens) == 12
    (cut,) = fit([record], tokenizer, 10, "truncate", findings)
    assert cut.prompt == (LONG[0], LONG[5])
    assert render_completion(tokenizer, cut.prompt, cut.completion, max_length=10).truncated
    assert fit([record], tokenizer, 9, "truncate", findings) == []  # the prompt alone takes 9
    assert findings.as_dict()["kinds"]["over the window"]["actions"] == {"truncated": 3, "skipped": 1}


def test_fit_of_prompts(prepared: Prepared) -> None:
    tokenizer = prepared("words")
    records = [Prompt(LONG, place(1)), Prompt((Message("user", "a b c d e f g h i j"),), place(2))]
    findings = Findings()
    assert fit(records, tokenizer, 9, "skip", findings) == []
    assert fit(records, tokenizer, 9, "truncate", findings) == [Prompt((LONG[0], LONG[5]), place(1))]


def test_fit_counts_what_the_template_refuses(prepared: Prepared) -> None:
    record = Demonstration(LONG, "x", place(3))
    findings = Findings()
    assert fit([record], prepared("gemma"), 500, "skip", findings) == []
    assert findings.as_dict()["kinds"]["refused by the chat template"]["lines"] == [3]
    with pytest.raises(HeedfulError, match=r"x:3: the chat template refuses.*System role not supported"):
        fit([record], prepared("gemma"), 500, "error", findings)
