"""Verdicts of imported files as judgments of a rater who is named for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from feedback_factories import account, programme, rater
from feedback_files import jsonl, table
from feedback_quality import answer, take
from feedback_stores import contents
from heedful.data.formats import FORMATS
from heedful.errors import HeedfulError
from heedful.feedback import adjudication, content, people, progress
from heedful.feedback.exports import export
from heedful.feedback.import_plan import KEPT_ASIDE, plan
from heedful.feedback.import_rows import WITH_VERDICTS, verdict_format
from heedful.feedback.import_source import Source
from heedful.feedback.import_verdicts import READERS, look
from heedful.feedback.imports import Author, stage
from heedful.feedback.imports import plan as plan_for
from heedful.feedback.models import AuditEvent, Batch, CurrentJudgment, Judgment, Programme, Rater
from heedful.feedback.replay import difference, replay

HH = "\n\nHuman: Hi\n\nAssistant: "
A, B, TIE = -2, 2, 0


def turns(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]


def uf(*ratings: Mapping[str, str] | None) -> dict[str, Any]:
    """A row of UltraFeedback: an answer for each of these ratings by aspect."""
    answers = [
        {"response": f"r{i}"} | ({} if one is None else {"annotations": {k: {"Rating": v} for k, v in one.items()}})
        for i, one in enumerate(ratings)
    ]
    return {"instruction": "Hi", "completions": answers}


def arena(a: Any, b: Any, tie: Any) -> dict[str, Any]:
    row = {"prompt": '["Hi"]', "response_a": '["x"]', "response_b": '["y"]'}
    return row | {"winner_model_a": a, "winner_model_b": b, "winner_tie": tie}


def talk(winner: str) -> dict[str, Any]:
    return {"conversation_a": turns("x"), "conversation_b": turns("y"), "winner": winner}


def studio(*annotations: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"prompt": "Hi", "answer1": "x", "answer2": "y"}, "annotations": list(annotations)}


def side(selected: Any, by: Any = None, **more: Any) -> dict[str, Any]:
    return {"result": [{"type": "pairwise", "value": {"selected": selected}}], "completed_by": by, **more}


def records(responses: Any) -> dict[str, Any]:
    return {"id": "1", "fields": {"prompt": "Hi", "response1": "x", "response2": "y"}, "responses": responses}


def steer(strength: Any) -> dict[str, Any]:
    return {"prompt": "Hi", "response_1": "x", "response_2": "y", "preference_strength": strength}


def pair(**more: Any) -> dict[str, Any]:
    return {"prompt": "Hi", "chosen": "x", "rejected": "y", **more}


ROWS: list[tuple[str, dict[str, Any], list[tuple[str, int]]]] = [
    ("trl-preference", pair(), [("", A)]),
    ("trl-implicit", {"chosen": turns("x"), "rejected": turns("y")}, [("", A)]),
    ("hh", {"chosen": HH + "x", "rejected": HH + "y"}, [("", A)]),
    ("argilla", pair(**{"chosen-rating": 4.5, "rejected-rating": 2}), [("", A)]),
    ("argilla", pair(**{"chosen-rating": 4, "rejected-rating": 4}), [("", TIE)]),
    ("ultrafeedback-binarized", pair(score_chosen=7, score_rejected="7.0"), [("", TIE)]),
    ("ultrafeedback-binarized", pair(score_chosen=8, score_rejected=7), [("", A)]),
    ("heedful", {"prompt": "Hi", "a": "x", "b": "y", "probability": 0.25, "votes": 4}, [("", B)]),
    ("heedful", {"prompt": "Hi", "a": "x", "b": "y", "probability": 0.5}, [("", TIE)]),
    ("arena", arena(1, 0, 0), [("", A)]),
    ("arena", arena(False, True, False), [("", B)]),
    ("arena", arena("0", "0", "1"), [("", TIE)]),
    ("arena-conversations", talk("model_a"), [("", A)]),
    ("arena-conversations", talk("model_b"), [("", B)]),
    ("arena-conversations", talk("tie"), [("", TIE)]),
    ("alpaca-eval", {"instruction": "Hi", "output_1": "x", "output_2": "y", "preference": 1.1}, [("", A)]),
    ("alpaca-eval", {"instruction": "Hi", "output_1": "x", "output_2": "y", "preference": "2"}, [("", B)]),
    ("alpaca-eval", {"instruction": "H", "input": "!", "output_1": "x", "output_2": "y", "preference": 1.9}, [("", B)]),
    ("alpaca-eval", {"instruction": "Hi", "output_1": "x", "output_2": "y", "preference": 0}, [("", TIE)]),
    ("ultrafeedback", uf({"truth": "5", "help": "1"}, {"truth": "4", "help": "N/A"}), [("", B)]),
    ("ranking", {"prompt": "Hi", "completions": ["x", "y"], "ranks": [2, 1]}, [("", B)]),
    ("ranking", {"prompt": "Hi", "completions": ["x", "y"], "ranks": [1, 1.0]}, [("", TIE)]),
    ("helpsteer-preference", steer(-3), [("", -3)]),
    ("helpsteer-preference", steer("1"), [("", 1)]),
    ("helpsteer-preference", steer(0), [("", TIE)]),
    ("helpsteer-preference", steer(None), []),
    ("label-studio", studio(side("left")), [("", A)]),
    ("label-studio", studio(side("right", 7), side("left", {"id": 9, "email": "a@b.c"})), [("7", B), ("9", A)]),
    ("label-studio", studio(side("left", 7, was_cancelled=True), side("answer2", 8)), [("8", B)]),
    ("label-studio", studio({"result": [{"type": "choices", "value": {"choices": ["tie"]}}]}), [("", TIE)]),
    ("argilla-records", records({"best": [{"value": "response-2", "user_id": "u1"}]}), [("u1", B)]),
    ("argilla-records", records({"best": [{"value": "response1", "user_id": "u1", "status": "draft"}], "why": []}), []),
    ("argilla-records", records({"best": [{"value": ["response2", "response1"], "user_id": "a@b.c"}]}), [("", B)]),
    (
        "argilla-records",
        records([{"user_id": "u2", "status": "submitted", "values": {
            "order": {"value": [{"value": "response1", "rank": 1}, {"value": "response2", "rank": 1}]},
            "why": {"value": "both are fine"}}}]),
        [("u2", TIE)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "wanted"), ROWS, ids=lambda value: value if isinstance(value, str) else "")
def test_each_format_says_which_answer_is_better(name: str, row: dict[str, Any], wanted: list[tuple[str, int]]) -> None:
    made = plan(jsonl(row, row), task="pairwise")
    assert (verdict_format(made.format, made.columns, made.mapping), made.problems) == (name, ())
    assert KEPT_ASIDE in made.notes
    told, found = look(made)
    assert [[(one.by, one.payload("pairwise")["strength"]) for one in verdicts] for verdicts in found] == [wanted] * 2
    assert KEPT_ASIDE not in told.notes
    if wanted:
        assert told.problems == ()
        assert f"{2 * len(wanted)} verdicts" in told.notes[-1]
    else:
        assert told.problems[0].what == "no row says which answer is better."
        assert "2 rows have no verdict" in told.notes[-1]


def test_every_format_with_verdicts_is_known_as_one_and_read_here() -> None:
    assert set(WITH_VERDICTS) == set(READERS) == {name for name, *_ in ROWS}
    assert {known.name for known in FORMATS if known.kind == "preferences"} <= set(WITH_VERDICTS)


def test_ratings_of_several_answers_become_a_ranking_with_ties_and_a_missing_one_none() -> None:
    aspects = [{"truth": "3", "help": "4"}, {"truth": "5"}, {"truth": "4", "help": "3"}, {"truth": "1"}]
    made = plan(jsonl(uf(*aspects), uf(*aspects[:3], None)))
    told, (ranked, unrated) = look(made)
    assert made.task == "ranking"
    assert [one.payload("ranking") for one in ranked] == [{"ranks": [2, 1, 2, 4]}]
    assert unrated == ()
    assert "1 rows have no verdict" in told.notes[-1]


def test_both_bad_is_kept_and_a_table_is_read_like_a_list_of_objects() -> None:
    _, found = look(plan(jsonl(talk("tie (bothbad)"))))
    assert found[0][0].payload("pairwise") == {"strength": 0, "both_bad": True, "both_good": False}
    rows = [["Hi", "x", "y", "3", "3"], ["Ho", "x", "y", "4.5", "3"]]
    csv = table(["prompt", "chosen", "rejected", "chosen-rating", "rejected-rating"], *rows)
    _, found = look(plan(csv))
    assert [one.payload("pairwise")["strength"] for (one,) in found] == [TIE, A]
    turned = plan(csv, {"a": "rejected", "b": "chosen"})  # the item's own order is the one that was asked for
    assert [one.payload("pairwise")["strength"] for (one,) in look(turned)[1]] == [TIE, B]


@pytest.mark.parametrize(
    ("row", "field", "what"),
    [
        (arena(1, 1, 0), "winner_model_a", "exactly one"),
        (talk("the first"), "winner", "none of model_a"),
        ({"instruction": "Hi", "output_1": "x", "output_2": "y", "preference": 3}, "preference", "between 1 and 2"),
        (pair(**{"chosen-rating": "good", "rejected-rating": 2}), "chosen-rating", "no number"),
        (uf({"truth": "five"}, {"truth": "1"}), "completions[0].annotations", "cannot be read"),
        (steer(4), "preference_strength", "no whole number from -3 to 3"),
        ({"prompt": "Hi", "completions": ["x", "y"], "ranks": [1]}, "ranks", "do not rank each answer"),
        (studio(side("middle")), "annotations[0].result", "'middle' names no answer"),
        (studio(side("left", 7), side("right", 7)), "", "one person gives two verdicts"),
    ],
)
def test_a_verdict_that_cannot_be_read_is_named_with_its_line_and_nothing_is_written(
    row: dict[str, Any], field: str, what: str, db: None
) -> None:
    of = programme()
    good = next(one for _, one, _ in ROWS if one.keys() == row.keys())
    made = plan_for(jsonl(good, row), task="pairwise", programme=of)
    told, _ = look(made)
    (problem,) = told.problems
    assert (problem.line, problem.field) == (2, field)
    assert what in problem.what
    before = contents("default")
    with pytest.raises(HeedfulError, match=r"rows\.jsonl:2"):
        stage(of, made, name="x", judgments=Author("somebody", "person"))
    assert contents("default") == before


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("source", "task", "author", "purpose", "what"),
    [
        (jsonl({"prompt": "p", "answer1": "1", "answer2": "2"}), "pairwise", ("x", "ai"), "train", "says nothing of"),
        (jsonl(pair()), "pairwise", ("", "ai"), "train", "judgments_as: the text is empty"),
        (jsonl(pair()), "pairwise", ("x", ""), "train", "judgments_by: say who gave the verdicts: person, ai"),
        (jsonl(pair()), "pairwise", ("x", "simulated"), "train", "judgments_by: say who"),
        (jsonl(pair()), "pairwise", ("x", "ai"), "gold", "votes of a batch to train or to check"),
        (jsonl(pair()), "attributes", ("x", "ai"), "train", "task attributes has no place"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    source: Source, task: str, author: tuple[str, str], purpose: str, what: str
) -> None:
    of = programme()
    before = contents("default")
    with pytest.raises(HeedfulError, match=what):
        stage(of, plan(source, task=task), name="x", purpose=purpose, judgments=Author(*author))
    assert contents("default") == before


def imported(of: Programme, *rows: dict[str, Any], kind: str = "ai", name: str = "GPT-4 (UltraFeedback)") -> Batch:
    made = plan_for(jsonl(*rows), programme=of)
    return stage(of, made, name="foreign", quota=1, judgments=Author(name, kind), actor=account())


@pytest.mark.django_db
def test_they_are_judgments_of_a_named_rater_with_where_they_came_from_and_fill_no_place(tmp_path: Path) -> None:
    of = programme()
    batch = imported(of, pair(), pair(prompt="Ho", chosen="u", rejected="v"))
    (who,) = Rater.objects.filter(programme=of)
    assert (who.kind, who.name, who.account) == ("ai", "GPT-4 (UltraFeedback)", None)
    first, second = Judgment.objects.order_by("item__position")
    assert first.payload == {"strength": -2, "both_bad": False, "both_good": False}
    assert (first.rater, first.assignment, first.surplus, first.order, first.active_ms) == (who, None, False, [], 0)
    assert (first.purpose, first.batch, first.guideline) == ("train", batch, batch.guideline)
    assert first.item.prompt.source["line"] == 1
    event = AuditEvent.objects.get(kind="judgments.imported")
    assert event.digest == batch.source_sha256
    assert event.ids == {"batch": str(batch.pk), "rater": str(who.pk), "judgments": [str(first.pk), str(second.pk)]}
    assert event.actor is not None
    assert difference(replay(of)) == []
    content.open_batch(batch)
    assert batch.slots.filter(state="free").count() == 2
    report = export(of, "heedful", tmp_path / "out.jsonl", batches=[batch])
    assert (report.rows, report.raters) == (2, {"ai": 2})
    with pytest.raises(HeedfulError, match="nothing to export"):
        export(of, "heedful", tmp_path / "people.jsonl", raters=["person"])
    person = rater(of)
    answer(take(person), strength=2)
    export(of, "heedful", tmp_path / "again.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    told = {row["prompt"][0]["content"]: (row["votes"], row["probability"]) for row in rows}
    assert told == {"Hi": (2, 0.5), "Ho": (1, 1.0)}
    assert batch.items.get(position=0).state == "done"
    overview = progress.overview(of)
    assert (overview.counted, overview.wanted) == (1, 2)
    assert difference(replay(of)) == []
    one = batch.items.get(position=0)
    made = adjudication.judge_first(one, of.memberships.get(role="admin").account, {"strength": 1}, "k")
    assert len(adjudication.votes(made)) == 2


@pytest.mark.django_db
def test_people_whom_a_file_tells_apart_are_raters_each_and_the_same_ones_next_time() -> None:
    of = programme()
    imported(of, studio(side("left", 7), side("right", 9)), kind="person", name="Spring")
    imported(of, studio(side("left", 7), side("left")), kind="person", name="Spring")
    counts = dict.fromkeys(["Spring 7", "Spring 9", "Spring"], 1) | {"Spring 7": 2}
    found = {one.name: one.judgments.count() for one in Rater.objects.filter(programme=of, kind="person")}
    assert found == counts
    assert CurrentJudgment.objects.count() == 4
    assert {row.rater.name: (row.judgments, row.hours) for row in people.table(of)}["Spring 7"] == (2, 0)
    assert progress.overview(of).batches[0].median_seconds is None


@pytest.mark.django_db
def test_all_or_nothing_and_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    of = programme()
    made = plan_for(jsonl(pair()), programme=of)
    stage(of, made, name="aside")
    assert not Judgment.objects.exists()
    assert Batch.objects.get().items.get().prompt.source.get("columns") is None
    record = content.events.record

    def last_of_all(kind: str, **ids: Any) -> Any:
        if kind == "judgments.imported":
            assert Judgment.objects.count() == 1
            raise RuntimeError("the power is gone")
        return record(kind, **ids)

    monkeypatch.setattr("heedful.feedback.import_judgments.events.record", last_of_all)
    before = contents("default")
    with pytest.raises(RuntimeError):
        stage(of, made, name="second", again=True, judgments=Author("x", "ai"))
    assert contents("default") == before


@pytest.mark.django_db
def test_one_rater_judges_a_file_that_is_taken_twice_once_in_each_batch() -> None:
    of = programme()
    made = plan_for(jsonl(pair()), programme=of)
    for number in range(2):
        stage(of, made, name=str(number), again=True, judgments=Author("x", "end_user"))
    assert Judgment.objects.count() == 2
    assert Rater.objects.filter(programme=of, kind="end_user").count() == 1
