"""heedful judge on a studio's programme: an AI judge is a rater like others, measured against the people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_cli_judge import fair

from feedback_factories import batch, item, programme, rater
from feedback_stores import url_of_default
from heedful.cli.main import main
from heedful.feedback import submission
from heedful.feedback.models import GoldKey, GoldOutcome, Judgment, Purpose, RaterKind, TaskKind
from scripted_server import Say, scripted

pytestmark = pytest.mark.django_db


def run(slug: str, folder: Path, url: str, *words: Any) -> int:
    given = ["judge", "--programme", slug, "--judge", f"judge-1@{url}", "--out", str(folder / "out")]
    return main([*given, "--database", url_of_default(), "--json", *map(str, words)])


def test_judgments_stand_in_the_store_beside_peoples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = programme()
    work = batch(of, quota=3, name="round 1")
    items = [item(work, answers=[f"good {i}", f"bad {i}"]) for i in range(6)]
    people = [rater(of) for _ in range(2)]
    for number, one in enumerate(items[:4]):
        for who in people:
            submission.record(one, who, {"strength": -2 if number else 2}, key=f"{one.pk}-{who.pk}")
    with scripted(fair) as server:
        assert run(of.slug, tmp_path, server.url, "--batches", "round 1") == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["cases"], said["recorded"]) == (6, 12)
        assert "# Prefer what helps" in server.judged()[0]["messages"][0]["content"]  # the programme's own guideline
        card = said["judges"][0]["card"]
        assert (card["with_people"], card["agreement"]["mean"]) == (4, 0.75)
        made = Judgment.objects.filter(rater__kind=RaterKind.AI)
        assert made.count() == 12
        one = made.filter(item=items[0]).order_by("judge_order").first()
        assert one is not None
        assert one.rater.name == f"judge-1@{server.url}"
        assert (one.payload["strength"], one.order, one.judge_order) == (-2, [0, 1], "0,1")
        assert one.judge_template == said["judges"][0]["template"]
        # Of the two orders one fills a place of the item; the other is kept beside it.
        assert sorted(made.filter(item=items[0]).values_list("surplus", flat=True)) == [False, True]
        assert run(of.slug, tmp_path, server.url, "--batches", "round 1") == 0  # nothing is paid for or kept twice
        assert len(server.judged()) == 12
        assert made.count() == 12


def test_gold_items_score_the_judge_as_they_score_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = programme()
    work = batch(of, purpose=Purpose.GOLD)
    known = [item(work, answers=[f"good {i}", f"bad {i}"]) for i in range(4)]
    for number, one in enumerate(known):
        GoldKey.objects.create(
            item=one, acceptable=[{"strength": [-3, -1] if number else [1, 3]}], reason="it is known"
        )
    with scripted(fair) as server:
        assert run(of.slug, tmp_path, server.url) == 0
    outcomes = GoldOutcome.objects.filter(judgment__rater__kind=RaterKind.AI)
    assert sorted(outcomes.values_list("passed", flat=True)) == [False, True, True, True]
    said = json.loads(capsys.readouterr().out)
    assert (said["recorded"], said["labels"]) == (8, 0)  # what is gold is never learnt from
    assert not (tmp_path / "out" / "preferences.jsonl").exists()


def test_scores_go_by_the_programmes_own_attributes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = programme()
    work = batch(of)
    one = item(work, kind=TaskKind.ATTRIBUTES, answers=["good 1", "bad 1"])

    def script(given: dict[str, Any], before: int) -> Say:
        text = given["messages"][-1]["content"]
        better = "A" if text.find("\ngood") < text.find("\nbad") else "B"
        form = {letter: {"rationale": "so", "score": 4 if letter == better else 2} for letter in "AB"}
        return Say(json.dumps(form))

    with scripted(script) as server:
        assert run(of.slug, tmp_path, server.url, "--way", "attributes") == 0
    names = [attribute["name"] for attribute in work.guideline.attributes]
    kept = Judgment.objects.filter(item=one, rater__kind=RaterKind.AI)
    assert kept.count() == 2
    assert {json.dumps(row.payload["scores"]) for row in kept} == {
        json.dumps([dict.fromkeys(names, 4), dict.fromkeys(names, 2)])
    }


def test_a_programme_without_such_items_says_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = programme()
    item(batch(of))
    with scripted(fair) as server:
        assert run(of.slug, tmp_path, server.url, "--way", "ranking") == 2
        assert "items of the kind pairwise" in capsys.readouterr().err
        assert run(of.slug, tmp_path, server.url, "--batches", "none") == 2
        assert "there is no batch 'none'" in capsys.readouterr().err
        assert server.asked == []
