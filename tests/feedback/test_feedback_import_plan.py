"""The dry run of an import: what is recognised, and everything that is wrong, with line and field."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.hostile import hostile_texts, refused_texts
from feedback_files import jsonl, table
from heedful.data.load import DataSpec, load_preferences
from heedful.errors import HeedfulError
from heedful.feedback.import_columns import TARGETS, parse_mapping, propose
from heedful.feedback.import_plan import drafts, plan
from heedful.feedback.import_rows import Reader
from heedful.feedback.import_source import SHOWN, Problems, Source, flaws, plain, printable


def said(source: Source, **how: Any) -> list[tuple[int, str, str]]:
    """(line, field, what) of every problem."""
    return [(p.line, p.field, p.what) for p in plan(source, **how).problems]


HH = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: What?"}
USER = [{"role": "user", "content": "Hi"}]
PAIR = ["Hello", "What?"]


def turns(text: str) -> list[dict[str, str]]:
    return [*USER, {"role": "assistant", "content": text}]


FORMATS: list[tuple[str, dict[str, Any], list[str], list[str], str]] = [
    ("heedful", {"prompt": USER, "a": "Hello", "b": "What?", "probability": 0.2}, PAIR, ["", ""], "pairwise"),
    ("trl-preference", {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"}, PAIR, ["", ""], "pairwise"),
    ("trl-preference", {"prompt": USER, "chosen": turns("Hello"), "rejected": turns("What?")}, PAIR, ["", ""],
     "pairwise"),
    ("trl-implicit", {"chosen": turns("Hello"), "rejected": turns("What?")}, PAIR, ["", ""], "pairwise"),
    ("hh", HH, PAIR, ["", ""], "pairwise"),
    ("argilla", {"prompt": "Hi", "chosen": turns("Hello"), "rejected": turns("What?"), "chosen-rating": 4,
                 "rejected-rating": 4, "chosen-model": "m", "rejected-model": "n"}, PAIR, ["m", "n"], "pairwise"),
    ("argilla-records", {"id": "1", "fields": {"prompt": "Hi", "response1": "Hello", "response2": "What?"},
                         "responses": {"preference": [{"value": "response1", "user_id": "u"}]}, "suggestions": {}},
     PAIR, ["", ""], "pairwise"),
    ("label-studio", {"id": 1, "data": {"prompt": "Hi", "answer1": "Hello", "answer2": "What?"}, "predictions": [],
                      "annotations": [{"result": [{"type": "pairwise", "value": {"selected": "left"}}]}]},
     PAIR, ["", ""], "pairwise"),
    ("arena", {"prompt": '["Hi"]', "response_a": '["Hello"]', "response_b": '["What?"]', "winner_model_a": 0,
               "winner_model_b": 1, "winner_tie": 0, "model_a": "m", "model_b": "n"}, PAIR, ["m", "n"], "pairwise"),
    ("arena-conversations", {"conversation_a": turns("Hello"), "conversation_b": turns("What?"), "winner": "model_b",
                             "model_a": "m", "model_b": "n"}, PAIR, ["m", "n"], "pairwise"),
    ("alpaca-eval", {"instruction": "H", "input": "i", "output_1": "Hello", "output_2": "What?", "preference": 2.0,
                     "generator_1": "m", "generator_2": "n"}, PAIR, ["m", "n"], "pairwise"),
    ("ultrafeedback", {"instruction": "Hi", "models": ["x"], "completions": [
        {"response": "Hello", "model": "m", "annotations": {"honesty": {"Rating": "5"}}},
        {"response": "What?", "model": "n"}, {"response": "Yes", "model": "o"}]},
     ["Hello", "What?", "Yes"], ["m", "n", "o"], "ranking"),
    ("trl-completion", {"prompt": "Hi", "completion": "Hello"}, ["Hello"], [""], "attributes"),
    ("trl-unpaired", {"prompt": "Hi", "completion": "Hello", "label": True}, ["Hello"], [""], "attributes"),
    ("messages", {"messages": turns("Hello")}, ["Hello"], [""], "attributes"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
     ["Hello"], [""], "attributes"),
    ("alpaca", {"instruction": "Hi", "input": "there", "output": "Hello"}, ["Hello"], [""], "attributes"),
    ("prompt", {"prompt": USER}, [], [], "demonstration"),
    ("columns", {"question": "Hi", "completion_a": "Hello", "completion_b": "What?", "policy_a": "m", "policy_b": "n"},
     PAIR, ["m", "n"], "pairwise"),
    ("columns", {"prompt": "Hi", "responses": ["Hello", "What?"], "policies": ["m", "n"]}, PAIR, ["m", "n"],
     "pairwise"),
    ("columns", {"query": "Hi", "answer_0": "Hello", "answer_1": "What?", "answer_2": "No", "model": "m"},
     ["Hello", "What?", "No"], ["m"] * 3, "ranking"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "row", "texts", "policies", "task"), FORMATS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_each_format_is_recognised_and_its_answers_keep_their_order(
    name: str, row: dict[str, Any], texts: list[str], policies: list[str], task: str
) -> None:
    made = plan(jsonl(row))
    assert made.problems == ()
    assert (made.format, made.task, made.items) == (name, task, 1)
    (draft,) = drafts(made)
    assert [one.text for one in draft.answers] == texts
    assert [one.policy for one in draft.answers] == policies
    assert draft.messages[-1]["role"] == "user"
    assert draft.messages[-1]["content"].startswith("H")


def test_the_verdict_of_a_file_is_kept_aside() -> None:
    row = FORMATS[8][1]
    (draft,) = drafts(plan(jsonl(row)))
    assert draft.source == {"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}
    row = next(row for name, row, *_ in FORMATS if name == "label-studio")
    (draft,) = drafts(plan(jsonl(row)))
    assert set(draft.source) == {"id", "predictions", "annotations"}


ROWS = [["What is 1?", "one", "[1, 2]"], ["What\nis 2?", '{"a": 1}', ' "two", and\nmore ']]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.ndjson", "a.parquet"])
def test_each_kind_of_file_gives_the_same_texts(tmp_path: Path, name: str, packed: bool) -> None:
    rows = [dict(zip(("prompt", "a", "b"), row, strict=True)) for row in ROWS]
    path = tmp_path / name
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif name == "a.json":
        path.write_text(json.dumps(rows))
    elif name.endswith(("csv", "tsv")):
        path.write_bytes(table(["prompt", "a", "b"], *ROWS, name=name).data)
    else:
        path.write_bytes(jsonl(*rows).data)
    if packed:
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = path.with_name(f"{name}.gz")
    made = plan(path)
    assert made.problems == ()
    found = list(drafts(made))
    assert [[d.messages[0]["content"], *(one.text for one in d.answers)] for d in found] == ROWS
    assert [one.text for d in drafts(plan(Source(path.name, data=path.read_bytes()))) for one in d.answers] == [
        one.text for d in found for one in d.answers
    ]


def test_every_problem_is_listed_at_once_with_line_and_field() -> None:
    good = '{"prompt": "p", "a": "1", "b": "2"}'
    lines = [
        good,
        "{bad",
        '{"prompt": "", "a": "1", "b": "2"}',
        '{"prompt": "p", "a": "1", "b": " "}',
        '{"prompt": "p", "a": "1\\u0000", "b": "\\ud800"}',
        "[1]",
        '{"prompt": "p", "a": 7, "b": "2", "language": "no tag at all", "priority": "high"}',
        '{"prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "a": "1", "b": "2"}',
        '{"prompt": "p", "a": "1"}',
        good,
    ]
    data = "\n".join(lines).encode() + b'\n{"prompt": "caf\xe9", "a": "1", "b": "2"}\n'
    made = plan(Source("rows.jsonl", data=data))
    found = [(p.line, p.field) for p in made.problems]
    assert found == [
        (2, ""), (3, "prompt"), (4, "b"), (5, "a"), (5, "b"), (6, ""), (7, "a"), (7, "language"), (7, "language"),
        (7, "priority"), (8, "prompt"), (9, "b"), (11, ""),
    ]  # fmt: skip
    assert made.problem_count == len(found)
    assert sum(made.problem_kinds.values()) == len(found)
    assert "NUL" in made.problems[3].what
    assert "surrogate" in made.problems[4].what
    assert "UTF-8" in made.problems[-1].what
    with pytest.raises(HeedfulError, match=r"rows\.jsonl:2: not valid JSON.*one of 13 problems.*Nothing was imported"):
        made.require_clean()


def test_problems_of_tables() -> None:
    data = b'prompt,a,b\n1,2\n1,2,3,4\n"x"y,2,3\n,2,3\n5,6,7\n'
    assert [(line, name) for line, name, _ in said(Source("a.csv", data=data))] == [
        (2, ""),
        (3, ""),
        (4, ""),
        (5, "prompt"),
    ]
    assert said(Source("a.csv", data=b"prompt,a,a\n1,2,3\n"))[0][2] == "two columns have one name."
    assert "semicolons" in said(Source("a.csv", data=b"prompt;a;b\n1;2;3\n"))[0][2]
    assert "UTF-16" in said(Source("a.csv", data="prompt,a,b\n1,2,3\n".encode("utf-16")))[0][2]
    assert said(Source("a.csv", data=b""))[0][2] == "there are no rows at all."
    open_quote = said(Source("a.csv", data=b'prompt,a,b\n1,2,3\n"1,2,3\n'))
    assert [(line, "CSV" in what) for line, _, what in open_quote] == [(3, True)]


def test_more_than_nine_completions_are_refused() -> None:
    ten = [f"c{i}" for i in range(10)]
    assert said(jsonl({"prompt": "p", "completions": ten})) == [(1, "completions", "10 completions; the most are 9.")]
    wide = table(["prompt", *(f"answer_{i}" for i in range(1, 11))], ["p", *ten])
    assert [(name, what) for _, name, what in said(wide)] == [
        ("answer_10", "10 columns of completions; an item has at most 9.")
    ]
    nine = {"abcdefghi"[i]: f"answer_{i + 1}" for i in range(9)}
    assert plan(wide, nine).completions == {9: 1}


@pytest.mark.parametrize(
    ("task", "count"), [("pairwise", 3), ("ranking", 1), ("demonstration", 1), ("edit", 2), ("dialogue", 1)]
)
def test_the_task_must_fit_the_number_of_completions(task: str, count: int) -> None:
    found = said(jsonl({"prompt": "p", "completions": ["x"] * count}), task=task)
    assert [(line, name) for line, name, _ in found] == [(1, "completions")]
    assert f"the task {task} takes" in found[0][2]
    with pytest.raises(HeedfulError, match="Did you mean 'pairwise'"):
        plan(jsonl({"prompt": "p"}), task="pairwize")


def test_a_table_of_up_to_k_answers_may_have_empty_cells_at_its_end() -> None:
    made = plan(table(["prompt", "a", "b", "c", "d"], ["p", "1", "2", "", ""], ["p", "1", "2", "3", "4"]))
    assert (made.problems, made.completions, made.task) == ((), {2: 1, 4: 1}, "ranking")
    assert [(line, name) for line, name, _ in said(table(["prompt", "a", "b", "c"], ["p", "1", "", "3"]))] == [(2, "b")]


@pytest.mark.parametrize("kind", ["bomb", "long", "parquet"])
def test_what_is_small_packed_and_large_unpacked_is_refused(tmp_path: Path, kind: str) -> None:
    limit = 2**20
    if kind == "parquet":
        path = tmp_path / "a.parquet"
        rows = pyarrow.table({"prompt": ["x" * 1000] * 20_000, "a": ["1"] * 20_000, "b": ["2"] * 20_000})
        pyarrow.parquet.write_table(rows, path, compression="zstd")
        assert path.stat().st_size < limit
        made = plan(path, limit=limit)
    elif kind == "bomb":
        packed = gzip.compress(b"\n" * 50 * limit)
        assert len(packed) < limit
        made = plan(Source("a.jsonl.gz", data=packed), limit=limit)
    else:
        made = plan(jsonl({"prompt": "x" * 2_000_001, "a": "1", "b": "2"}))
        assert [(p.line, p.field) for p in made.problems] == [(1, "prompt")]
        return
    assert [p.what for p in made.problems][-1] == "it holds more than 1 MiB, unpacked."


def test_damaged_files_are_said_to_be() -> None:
    whole = gzip.compress(jsonl({"prompt": "p"}).data * 5000)
    assert "damaged" in said(Source("a.jsonl.gz", data=whole[: len(whole) // 2]))[-1][2]
    assert "damaged" in said(Source("a.jsonl.gz", data=b"no gzip at all"))[-1][2]
    assert "Parquet" in said(Source("a.parquet", data=b"PAR1 no parquet"))[-1][2]
    with pytest.raises(HeedfulError, match="a spreadsheet is saved as CSV"):
        plan(Source("a.xlsx", data=b"PK"))
    with pytest.raises(HeedfulError, match=r"no such file"):
        plan("nowhere.jsonl")


def test_a_batch_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heedful.feedback.import_plan.MAX_ITEMS", 3)
    rows = [{"prompt": "p", "a": "1", "b": "2"}] * 6
    assert plan(jsonl(*rows[:3])).problems == ()
    assert said(jsonl(*rows)) == [(4, "", "there are more than 3 items, the most of one batch.")]


@pytest.mark.parametrize("prompt", ["p", ""], ids=["items", "problems"])
def test_reading_ends_where_a_page_is_not_to_pay_for_more(monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    monkeypatch.setattr("heedful.feedback.import_plan.MAX_ITEMS", 60)
    drafted: list[int] = []
    draft = Reader.draft
    monkeypatch.setattr(Reader, "draft", lambda self, line, row: drafted.append(line) or draft(self, line, row))
    source = jsonl(*([{"prompt": prompt, "a": "1", "b": "2"}] * 500))
    made = plan(source, most=60)
    assert [str(one) for one in made.problems if "60" in one.what] == [
        "line 61: there are more than 60 items, the most of one batch. Split the file."
    ]
    assert (made.rows, drafted) == (61, [*range(1, 62)])
    assert plan(jsonl(*([{"prompt": "p", "a": "1", "b": "2"}] * 60)), most=60).problem_count == 0


def test_many_problems_are_counted_and_the_first_ones_kept() -> None:
    made = plan(jsonl(*({"prompt": "", "a": "1", "b": "2"} for _ in range(SHOWN + 50))))
    assert (len(made.problems), made.problem_count) == (SHOWN, SHOWN + 50)
    assert made.problem_kinds == {"prompt: there is no prompt.": SHOWN + 50}
    json.dumps(made.as_dict())


def test_a_mapping_wins_over_the_proposal() -> None:
    source = jsonl({"prompt": "p", "chosen": "1", "rejected": "2", "draft": "3", "lang": "vi"})
    made = plan(source, {"a": "draft", "b": "rejected"})
    assert made.mapping == {"prompt": "prompt", "a": "draft", "b": "rejected", "language": "lang"}
    assert made.kept == ("chosen",)
    assert plan(source, {"language": ""}).mapping == {"prompt": "prompt", "a": "chosen", "b": "rejected"}
    (draft,) = drafts(made)
    assert draft.source == {"chosen": "1"}
    assert draft.language == "vi"


@pytest.mark.parametrize(
    ("mapping", "what"),
    [
        ({"a": "chsen"}, "map a: there is no column 'chsen'. Did you mean 'chosen'? The file has prompt, chosen"),
        ({"promt": "prompt"}, "map: 'promt' is nothing that a column can be. Did you mean 'prompt'?"),
        ({"a": "chosen", "c": "rejected"}, "map: there is c, but no b."),
        ({"a": "chosen", "completions": "rejected"}, "map completions: completions come from columns"),
        ({"a": "chosen", "b": "chosen"}, "map b: the column 'chosen' is a and b at once"),
        ({"prompt": ""}, "map: no column is the prompt."),
        ({"a": "chosen", "policy_b": "rejected"}, "map policy_b: there is a policy of completion b"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong(mapping: dict[str, str], what: str) -> None:
    with pytest.raises(HeedfulError) as caught:
        plan(jsonl({"prompt": "p", "chosen": "1", "rejected": "2"}), mapping)
    assert str(caught.value).startswith(what)


def test_columns_that_say_nothing_are_a_problem_of_the_file() -> None:
    (problem,) = plan(jsonl({"x": "p", "y": "1"})).problems
    assert (problem.line, problem.what) == (0, "no column is the prompt.")


def test_mappings_are_written_as_words() -> None:
    assert parse_mapping(["a=answer 1", "b=x=y", "c="]) == {"a": "answer 1", "b": "x=y", "c": ""}
    for wrong in (["a"], ["a=x", "a=y"]):
        with pytest.raises(HeedfulError):
            parse_mapping(wrong)


@given(st.lists(st.text(max_size=12), unique=True, max_size=12))
def test_any_columns_get_a_proposal_of_known_targets_or_a_clear_refusal(columns: list[str]) -> None:
    rows = [dict.fromkeys(columns, "x")]
    try:
        found = propose(columns, rows)
    except HeedfulError:
        assert len(columns) > 9
        return
    assert set(found) <= set(TARGETS)
    assert set(found.values()) <= set(columns)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
names = st.sampled_from(["prompt", "a", "b", "chosen", "completions", "messages", "language", "raters", "data", "x"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(names, values, max_size=5) | values, max_size=5), st.sampled_from([None, "ranking"]))
def test_no_file_breaks_the_reader(rows: list[Any], task: str | None) -> None:
    data = "\n".join(json.dumps(row) for row in rows).encode()
    made = plan(Source("rows.jsonl", data=data), task=task)
    assert made.problem_count or made.items == made.rows
    if not made.problem_count:
        assert len(list(drafts(made))) == made.items
    json.dumps(made.as_dict()).encode()


@given(values)
def test_what_passes_can_be_stored(value: Any) -> None:
    if not list(flaws(value, "x")):
        text = json.dumps(plain(value), allow_nan=False)
        assert "\\u0000" not in text
        json.loads(text.encode())


def test_what_is_printed_cannot_move_the_cursor() -> None:
    for text in [*hostile_texts(), *refused_texts()]:
        shown = printable(text)
        assert shown.isprintable()
        shown.encode()
        assert len(shown) < 4000
    problems = Problems()
    problems.add(1, "\x1b[2J", "a \udc00 b\x07")
    assert str(problems.first[0]).isprintable()


@pytest.mark.real_data
def test_real_comparisons_have_the_problems_that_training_finds(shared_data: Path) -> None:
    path = shared_data / "hh-harmless.jsonl.gz"
    made = plan(path)
    findings = load_preferences(DataSpec(str(path))).findings
    unfit = {finding.origin.line for finding in findings if finding.kind != "equal answers"}
    assert {problem.line for problem in made.problems} == unfit
    assert (made.format, made.task, made.rows) == ("hh", "pairwise", findings.rows)
    assert made.items == made.rows - len(unfit)


def test_what_no_database_keeps_is_refused_by_line() -> None:
    texts = refused_texts()
    rows = [{"prompt": "p", "a": "1", "b": "2"}]
    rows += [{"prompt": "p", "a": text, "b": "2"} for text in texts]
    rows += [{"prompt": "p", "a": "1", "b": "2", "kept": text} for text in texts]
    rows += [{"prompt": "p", "a": "1", "b": "2", text: "kept"} for text in texts]
    found = said(jsonl(*rows))
    assert {line for line, _, _ in found} == set(range(2, len(rows) + 1))
