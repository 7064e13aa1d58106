"""Judgments out of the store: what training reads, what it never reads, and the whole programme back again."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.hostile import hostile_texts
from feedback_factories import account, batch, item, programme, rater
from feedback_programmes import agents, held_back, lines, mixed, say
from feedback_quality import answer, take
from heedful.data.load import (
    DataSpec,
    load_demonstrations,
    load_labelled,
    load_preferences,
    load_prompts,
    load_rankings,
)
from heedful.errors import HeedfulError
from heedful.feedback import adjudication, content, submission
from heedful.feedback.exports import NAMES, export
from heedful.feedback.models import (
    AuditEvent,
    Item,
    Membership,
    Purpose,
    Rater,
    Role,
)


@pytest.mark.django_db
def test_trl_preferences_and_their_ties_beside(tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    report = export(mixed(), "trl-preference", out, margin="strength")
    rows = lines(out)
    assert rows[0] | {"raters": 0, "item": 0} == {
        "prompt": [{"role": "user", "content": "one"}],
        "chosen": [{"role": "assistant", "content": "a1"}],
        "rejected": [{"role": "assistant", "content": "b1"}],
        "margin": 0.0,
        "probability": pytest.approx(2 / 3),
        "votes": 3,
        "weight": 1.0,
        "consensus": "share",
        "raters": 0,
        "item": 0,
    }
    assert len(set(rows[0]["raters"])) == 3
    assert [(r["chosen"][0]["content"], r["rejected"][0]["content"], r["weight"]) for r in rows[1:4]] == [
        ("r1", "r0", pytest.approx(1 / 3)), ("r0", "r2", pytest.approx(1 / 3)), ("r1", "r2", pytest.approx(1 / 3))
    ]  # fmt: skip
    assert [(r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in rows[4:]] == [("new", "old")]
    assert (report.rows, report.ties, report.ties_out) == (5, 1, tmp_path / "pairs-ties.jsonl")
    assert report.raters == {"simulated": 6}
    (tie,) = lines(tmp_path / "pairs-ties.jsonl")
    assert (tie["a"], tie["b"], tie["probability"]) == ("a2", "b2", 0.5)
    loaded = load_preferences(DataSpec(str(out)))
    assert loaded.format == "trl-preference"
    assert len(loaded.records) == 5


@pytest.mark.django_db
def test_what_training_reads_back_is_what_the_votes_say(tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl.gz"
    report = export(mixed(), "heedful", out, margin="scaled")
    loaded = load_preferences(DataSpec(str(out)))
    assert loaded.format == "heedful"
    assert not len(loaded.findings)
    assert {(r.prompt[0].content, r.a, r.b): (r.probability, r.votes, r.weight) for r in loaded.records} == {
        ("one", "a1", "b1"): (pytest.approx(2 / 3), 3, 1.0),
        ("tie", "a2", "b2"): (0.5, 1, 1.0),
        ("ranked", "r1", "r0"): (1.0, 1, pytest.approx(1 / 3)),
        ("ranked", "r0", "r2"): (1.0, 1, pytest.approx(1 / 3)),
        ("ranked", "r1", "r2"): (1.0, 1, pytest.approx(1 / 3)),
        ("edit", "new", "old"): (1.0, 1, 1.0),
    }
    assert report.ties == 0
    assert report.items == 4


@pytest.mark.django_db
def test_unpaired_sft_and_prompts(tmp_path: Path) -> None:
    of = mixed()
    export(of, "unpaired", tmp_path / "unpaired.jsonl")
    found = load_labelled(DataSpec(str(tmp_path / "unpaired.jsonl"))).records
    assert {(r.completion, r.label) for r in found} == {
        ("a1", True), ("b1", False), ("a2", False), ("b2", False), ("r1", True), ("r2", False), ("new", True),
        ("old", False),
    }  # fmt: skip
    export(of, "sft", tmp_path / "sft.jsonl")
    written = load_demonstrations(DataSpec(str(tmp_path / "sft.jsonl"))).records
    assert [(r.prompt[0].content, r.completion) for r in written] == [("edit", "new"), ("write", "written")]
    report = export(of, "sft", tmp_path / "best.jsonl", best=True)
    chosen = load_demonstrations(DataSpec(str(tmp_path / "best.jsonl"))).records
    assert {r.completion for r in chosen} == {"new", "written", "a1", "r1"}
    assert report.left_out == {"no clear winner": 1}
    export(of, "prompt-only", tmp_path / "prompts.jsonl")
    prompts = load_prompts(DataSpec(str(tmp_path / "prompts.jsonl"))).records
    assert [r.prompt[0].content for r in prompts] == ["one", "tie", "ranked", "edit", "write"]


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in NAMES if name != "raw"])
def test_what_is_for_checking_or_gold_enters_no_training_format(name: str, tmp_path: Path) -> None:
    of = mixed()
    texts = held_back(of)
    more = {"best": True} if name == "sft" else {}
    export(of, name, tmp_path / "out.jsonl", **more)  # type: ignore[arg-type]
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode()
    assert ("ranked" if name == "ranking" else "one") in written
    for text in texts:
        assert text not in written
    only = programme()
    held_back(only)
    with pytest.raises(HeedfulError, match="nothing to export"):
        export(only, name, tmp_path / "none.jsonl", **more)  # type: ignore[arg-type]
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.django_db
def test_prompts_that_are_asked_for_checking_too_are_told(tmp_path: Path) -> None:
    of = mixed()
    item(batch(of, purpose=Purpose.CHECK), text="One!")
    report = export(of, "prompt-only", tmp_path / "prompts.jsonl")
    assert report.notes == ("1 of these prompts are asked for checking or gold, too.",)


@pytest.mark.django_db
def test_what_holds_no_longer_is_not_exported(tmp_path: Path) -> None:
    of = programme()
    who = rater(of)
    train = batch(of)
    for number in range(4):
        item(train, text=f"q{number}", answers=[f"a{number}", f"b{number}"])
    corrected, undone, stays = (answer(take(who), strength=-1) for _ in range(3))
    shown = {"strength": 3 if corrected.order == [0, 1] else -3}
    submission.correct(corrected, shown, key="correct")
    submission.undo(undone, key="undo")
    export(of, "heedful", tmp_path / "out.jsonl", margin="strength")
    found = {row["prompt"][0]["content"]: (row["a"], row["margin"]) for row in lines(tmp_path / "out.jsonl")}
    assert found == {"q0": ("b0", 3.0), "q2": ("a2", 1.0)}
    content.withdraw_item(stays.item)
    export(of, "heedful", tmp_path / "out.jsonl")
    assert [row["a"] for row in lines(tmp_path / "out.jsonl")] == ["b0"]


@pytest.mark.django_db
def test_one_rater_is_one_vote(tmp_path: Path) -> None:
    of = programme()
    judge, other, late = agents(of, 3)
    one = item(batch(of, quota=2), answers=["a", "b"])
    say(one, judge, {"strength": -1}, judge_template="v1", judge_order="0,1")
    say(one, judge, {"strength": 1}, judge_template="v1", judge_order="1,0", counts=False)
    say(one, other, {"strength": -2})
    say(one, other, {"strength": 3}, pass_number=2, counts=False)
    say(one, late, {"strength": 3}, counts=False)
    export(of, "heedful", tmp_path / "out.jsonl")
    (row,) = lines(tmp_path / "out.jsonl")
    assert (row["a"], row["probability"], row["votes"]) == ("a", 1.0, 2)
    export(of, "heedful", tmp_path / "out.jsonl", include_surplus=True)
    (row,) = lines(tmp_path / "out.jsonl")
    assert (row["a"], row["probability"], row["votes"]) == ("a", 0.5, 3)  # a half, 1, 0


@pytest.mark.django_db
def test_a_verdict_takes_the_place_of_votes_only_where_asked(tmp_path: Path) -> None:
    of = mixed()
    judge = account()
    Membership.objects.create(programme=of, account=judge, role=Role.ADJUDICATOR)
    one = Item.objects.get(prompt__messages__0__content="one")
    order = adjudication.order_for(one, judge)
    shown = {"strength": 3 if order == [0, 1] else -3}
    opened = adjudication.judge_first(one, judge, shown, "verdict")
    adjudication.votes(opened)
    adjudication.decide(opened, shown, "b is right")
    export(of, "heedful", tmp_path / "votes.jsonl")
    export(of, "heedful", tmp_path / "verdicts.jsonl", adjudicated=True, margin="strength")
    votes, verdicts = (
        next(row for row in lines(tmp_path / name) if row["prompt"][0]["content"] == "one")
        for name in ("votes.jsonl", "verdicts.jsonl")
    )
    assert (votes["a"], votes["votes"]) == ("a1", 3)
    assert (verdicts["a"], verdicts["votes"], verdicts["probability"], verdicts["margin"]) == ("b1", 1, 1.0, 3.0)


@pytest.mark.django_db
def test_choosing_batches_rounds_and_kinds_of_raters(tmp_path: Path) -> None:
    of = mixed()
    person = rater(of)
    second = batch(of, name="second", round=2)
    item(second, text="later", answers=["x", "y"])
    answer(take(person, batch=second), strength=1)
    out = tmp_path / "out.jsonl"
    assert export(of, "heedful", out, batches=["second"]).rows == 1
    assert export(of, "heedful", out, batches=[second, str(of.batches.order_by("pk")[0].pk)]).rows == 7
    assert export(of, "heedful", out, rounds=[2]).rows == 1
    assert export(of, "heedful", out, raters=["person"]).raters == {"person": 1}
    for wrong, match in (
        ({"batches": ["secnd"]}, "Did you mean 'second'"),
        ({"raters": ["people"]}, "no kind of rater"),
        ({"margin": "strenght"}, "Did you mean 'strength'"),
        ({"best": True}, "best says nothing in the format 'heedful'"),
    ):
        with pytest.raises(HeedfulError, match=match):
            export(of, "heedful", out, **wrong)  # type: ignore[arg-type]
    with pytest.raises(HeedfulError, match="Did you mean 'heedful'"):
        export(of, "heedfull", out)
    with pytest.raises(HeedfulError, match="margin says nothing"):
        export(of, "sft", out, margin="strength")
    with pytest.raises(HeedfulError, match=r"end with \.jsonl"):
        export(of, "heedful", tmp_path / "out.csv")


@pytest.mark.django_db
def test_raters_have_other_names_in_each_export(tmp_path: Path) -> None:
    of = mixed()
    ids = {str(key) for key in Rater.objects.values_list("pk", flat=True)}
    seen: list[set[str]] = []
    for number in range(2):
        export(of, "trl-preference", tmp_path / f"{number}.jsonl")
        seen.append({name for row in lines(tmp_path / f"{number}.jsonl") for name in row["raters"]})
        assert len(seen[-1]) == 3
    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & ids
    raw = tmp_path / "raw.jsonl"
    export(of, "raw", raw)
    text = raw.read_text()
    assert not [key for key in ids if key in text]


@pytest.mark.django_db
def test_an_export_is_written_down_and_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = mixed()
    out = tmp_path / "out.jsonl"
    who = account()
    report = export(of, "heedful", out, actor=who)
    event = AuditEvent.objects.get(kind="export.made")
    assert (event.digest, event.actor, event.ids["rows"]) == (report.sha256, who.pk, report.rows)
    before = out.read_bytes()
    monkeypatch.setattr("heedful.feedback.exports.rows_of", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(of, "heedful", out)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


@pytest.mark.django_db
def test_hostile_texts_come_out_as_they_went_in(tmp_path: Path) -> None:
    of = programme()
    texts = hostile_texts()
    train = batch(of)
    (who,) = agents(of, 1)
    for text in texts:
        say(item(train, text=text, answers=[text, "other"]), who, {"strength": -1}, rationale=text[:1000])
    out = tmp_path / "out.jsonl"
    export(of, "heedful", out)
    data = out.read_bytes()
    assert data.count(b"\n") == len(texts)  # one row a line, whatever the texts hold
    assert [r.a for r in load_preferences(DataSpec(str(out))).records] == texts
    export(of, "raw", tmp_path / "raw.jsonl")
    rows = lines(tmp_path / "raw.jsonl")
    for kind, wanted in (("completion", [*texts, *["other"] * len(texts)]), ("rationale", [t[:1000] for t in texts])):
        assert sorted(row["text"] for row in rows if row.get("record") == kind) == sorted(wanted)


@pytest.mark.django_db
def test_whole_rankings_and_strengths(tmp_path: Path) -> None:
    of = mixed()
    first, second = agents(of, 2)
    more = item(batch(of, quota=3), text="more", answers=["s0", "s1", "s2"], kind="ranking")
    say(more, first, {"ranks": [1, 1, 3]})
    say(more, second, {"ranks": [3, 2, 1]})
    report = export(of, "ranking", tmp_path / "rankings.jsonl")
    loaded = load_rankings(DataSpec(str(tmp_path / "rankings.jsonl")))
    assert loaded.format == "ranking"
    assert [(r.prompt[0].content, r.completions, r.ranks, r.weight) for r in loaded.records] == [
        ("ranked", ("r0", "r1", "r2"), (2.0, 1.0, 3.0), 1.0),
        ("more", ("s0", "s1", "s2"), (1.0, 1.0, 3.0), 0.5),
        ("more", ("s0", "s1", "s2"), (3.0, 2.0, 1.0), 0.5),
    ]
    assert (report.items, report.rows) == (2, 3)
    pairs = load_preferences(DataSpec(str(tmp_path / "rankings.jsonl"))).records
    assert {(one.votes, one.consensus) for one in pairs} == {(1, "share")}  # each row is one rater's
    export(of, "heedful", tmp_path / "pairs.jsonl")
    strengths = {
        r.prompt[0].content: r.strength for r in load_preferences(DataSpec(str(tmp_path / "pairs.jsonl"))).records
    }
    assert strengths == {"one": 0.0, "tie": 0.0, "ranked": None, "more": None, "edit": None}
