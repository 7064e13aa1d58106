"""compare, judged by people: pairs go out blind, once; what is in is told; groups that are too small are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from feedback_factories import programme, rater
from feedback_stores import url_of_default
from heedful.cli.main import main
from heedful.feedback import submission
from heedful.feedback.models import Batch, GroupAnswer, Item, Programme, Rater, RaterKind

pytestmark = pytest.mark.django_db


@pytest.fixture
def of() -> Programme:
    return programme()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, word in (("good.jsonl", "right"), ("poor.jsonl", "wrong")):
        rows = [
            {"prompt": f"question {i}", "completion": "the same" if i == 0 else f"{word} answer {i}"} for i in range(6)
        ]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(of: Programme, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    words = ["compare", "good.jsonl", "poor.jsonl", "--people", of.slug, "--database", url_of_default(), "--json"]
    capsys.readouterr()
    code = main([*words, *more])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def judge(who: Rater, likes: str, items: list[Item]) -> None:
    """A rater who prefers what holds a word, whichever side it stands on."""
    for one in items:
        texts = [entry.completion.text for entry in one.entries.order_by("index")]
        strength = -2 if likes in texts[0] else 2
        submission.record(one, who, {"strength": strength}, key=f"{who.pk}-{one.pk}")


def test_pairs_go_out_blind_and_once_and_what_is_in_is_told(
    of: Programme, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare(of, capsys)
    assert found["judges"] == {}
    assert (found["waiting"]["filled"], found["waiting"]["places"]) == (0, 5)
    (batch,) = Batch.objects.all()
    assert (batch.state, batch.purpose) == ("open", "check")
    items = list(Item.objects.order_by("pk"))
    assert len(items) == 5  # nobody is asked about two equal texts
    assert {entry.completion.policy for one in items for entry in one.entries.all()} == {""}
    who = rater(of, kind=RaterKind.SIMULATED)
    judge(who, "right", items[:3])
    part = compare(of, capsys)
    assert part["waiting"]["filled"] == 3
    judge(who, "wrong", items[3:])
    whole = compare(of, capsys, "--report", "page.html")
    assert "waiting" not in whole
    (duel,) = whole["duels"]
    assert (duel["wins"], duel["ties"], duel["losses"]) == (3, 1, 2)
    assert duel["rate"]["mean"] == pytest.approx(3.5 / 6)
    assert Batch.objects.count() == 1
    page = (here / "page.html").read_text()
    assert f"people ({of.slug})" in page
    assert "the two cannot be told apart" in page


def test_rates_of_groups_are_told_where_five_raters_or_more_are_in_them(
    of: Programme, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(of, capsys, "--votes", "9")
    items = list(Item.objects.order_by("pk"))
    for number in range(9):
        who = rater(of)
        GroupAnswer.objects.create(rater=who, question="age", answer="young" if number < 5 else "old")
        judge(who, "right" if number < 5 else "wrong", items)
    (duel,) = compare(of, capsys, "--votes", "9", "--group", "age")["duels"]
    assert set(duel["by"]) == {"group: young"}  # the old are four
    young = duel["by"]["group: young"]
    assert (young["mean"], young["high"]) == (1.0, 1.0)
    assert young["low"] == pytest.approx(0.566, abs=0.001)  # they agree on five prompts of five
    assert duel["rate"]["mean"] == pytest.approx((0.5 + 5 * 5) / (1 + 9 * 5))
    assert main(["compare", "good.jsonl", "poor.jsonl", "--people", of.slug, "--group", "agee",
                 "--votes", "9", "--database", url_of_default()]) == 2  # fmt: skip
    assert "Did you mean 'age'" in capsys.readouterr().err


def test_without_a_question_sorts_of_raters_are_told_apart_and_other_judges_stand_beside(
    of: Programme, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "longest.py").write_text(
        "def score(prompts, texts):\n    return [len(t) + ('wrong' in t) for t in texts]\n"
    )
    compare(of, capsys, "--votes", "2")
    items = list(Item.objects.order_by("pk"))
    judge(rater(of), "right", items)
    judge(rater(of, kind=RaterKind.SIMULATED), "wrong", items)
    found = compare(of, capsys, "--votes", "2", "--reward", "longest:score", "--report", "page.html")["judges"]
    assert list(found) == [f"people ({of.slug})", "longest:score"]
    by = found[f"people ({of.slug})"]["duels"][0]["by"]
    assert by["group: person"]["mean"] == 1.0
    assert by["group: simulated"]["mean"] == 0.0
    assert found["longest:score"]["duels"][0]["rate"]["mean"] == pytest.approx(0.5 / 6)
    page = (here / "page.html").read_text()
    assert "The same pair by longest:score, 8.3%" in page
    assert "https:" not in page.replace("http://www.w3.org", "")


def test_nobody_is_asked_twice_about_the_same_two_texts(
    of: Programme, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "copy.jsonl").write_text((here / "poor.jsonl").read_text())
    words = ["compare", "good.jsonl", "poor.jsonl", "copy.jsonl", "--people", of.slug]
    words += ["--database", url_of_default(), "--json"]
    assert main(words) == 0
    items = list(Item.objects.order_by("pk"))
    assert len(items) == 5
    judge(rater(of), "right", items)
    capsys.readouterr()
    assert main(words) == 0
    duels = {(row["a"], row["b"]): row for row in json.loads(capsys.readouterr().out)["duels"]}
    assert duels["good.jsonl", "poor.jsonl"]["wins"] == duels["good.jsonl", "copy.jsonl"]["wins"] == 5
    assert duels["poor.jsonl", "copy.jsonl"]["ties"] == 6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--group", "age"], "only a store"),
        (["--people", "x", "--group", "age", "--studio", "https://studio.example.org"], "only a store"),
        (["--people", "x", "--blind"], "not people and blind"),
        (["--people", "x", "--votes", "0"], "0 votes"),
    ],
)
def test_what_makes_no_sense_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(["compare", "good.jsonl", "poor.jsonl", *more]) == 2
    assert said in capsys.readouterr().err
