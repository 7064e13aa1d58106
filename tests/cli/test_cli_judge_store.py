"""heedful judge on a studio's programme: an AI judge is a rater like others, measured against the people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_cli_judge import fair

from feedback_factories import account, batch, item, programme, rater
from feedback_stores import url_of_default
from heedful.cli.main import main
from heedful.feedback import submission, tokens
from heedful.feedback.client import connect
from heedful.feedback.models import GoldKey, GoldOutcome, Judgment, Provenance, Purpose, RaterKind, TaskKind
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


def test_how_a_judgment_came_about_is_kept_with_it_and_leaves_in_a_raw_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = programme()
    item(batch(of), answers=["good 1", "bad 1"])

    def script(given: dict[str, Any], before: int) -> Say:
        text = given["messages"][-1]["content"]
        better = "A" if text.find("\ngood") < text.find("\nbad") else "B"
        return Say(json.dumps({"rationale": "so", "verdict": better, "strength": 2}))

    prices = ("--budget.price-prompt", "1000000", "--budget.price-completion", "2000000")
    with scripted(script) as server:
        assert run(of.slug, tmp_path, server.url, "--way", "verdict", "--asking.temperature", "0.5", *prices) == 0
    said = json.loads(capsys.readouterr().out)
    kept = list(Provenance.objects.select_related("judgment").order_by("judgment__judge_order"))
    assert [one.judgment.judge_order for one in kept] == ["0,1", "1,0"]
    assert {one.judgment.judge_template for one in kept} == {said["judges"][0]["template"]}
    first = kept[0]
    assert (first.model, first.temperature) == ("judge-1", 0.5)
    (reply,) = first.replies
    assert reply["finish"] == "stop"
    assert json.loads(reply["text"]) == {"rationale": "so", "verdict": "A", "strength": 2}
    assert first.prompt_tokens > 0
    assert first.cost == pytest.approx(first.prompt_tokens + 2 * first.completion_tokens)
    assert 0 < sum(one.cost for one in kept) < said["spent"]["cost"]  # the judge was tried first, which was paid too
    assert main(["export", str(tmp_path / "raw.jsonl"), "--programme", of.slug, "--format", "raw",
                 "--database", url_of_default()]) == 0  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "raw.jsonl").read_text().splitlines()]
    told = [row for row in rows if row.get("record") == "provenance"]
    assert {row["judgment_id"] for row in told} == {str(one.judgment_id) for one in kept}
    assert all(row["replies"] for row in told)


@pytest.mark.django_db(transaction=True)
def test_a_judge_writes_through_a_studio_what_it_writes_at_a_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = programme()
    items = [item(batch(of), answers=[f"good {i}", f"bad {i}"]) for i in range(2)]
    submission.record(items[0], rater(of), {"strength": -2}, key="a person")
    _, token = tokens.create_token(
        of, "judge", ["judgments:read", "judgments:write", "status:read"], author=account()
    )  # fmt: skip
    monkeypatch.setenv("HEEDFUL_TOKEN", token)
    with scripted(fair) as server:
        words = ["judge", "--programme", of.slug, "--judge", f"judge-1@{server.url}", "--out", str(tmp_path / "out")]
        words += ["--studio", live_server.url, "--json"]
        assert main(words) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["cases"], said["recorded"]) == (2, 4)
        assert main(words) == 0  # nothing is paid for or kept twice
        assert len(server.judged()) == 4
    kept = Judgment.objects.filter(rater__kind=RaterKind.AI).order_by("pk")
    assert [one.payload["strength"] < 0 for one in kept] == [True] * 4
    assert {one.rater.name for one in kept} == {f"judge-1@{server.url}"}
    assert [one.provenance.model for one in kept] == ["judge-1"] * 4
    assert all(one.provenance.replies[0]["text"] for one in kept)
    # The same provenance comes back through the API.
    client = connect(studio=live_server.url, token=token)
    told = {row.id: row.provenance for row in client.judgments(of.slug, surplus=True)}
    for one in kept:
        row = told[str(one.pk)]
        assert row is not None
        assert (row.model, row.temperature, row.prompt_tokens) == ("judge-1", 0.0, one.provenance.prompt_tokens)
        assert [dict(reply) for reply in row.replies] == one.provenance.replies
    assert sum(row is None for row in told.values()) == 1  # the person's


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
