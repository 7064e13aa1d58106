"""Rounds that people judge: waited for, asked once, told of, and never asked again by accident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.db import connection

from feedback_factories import programme as new_programme
from feedback_factories import rater
from heedful.errors import HeedfulError
from heedful.feedback.client import connect
from heedful.feedback.models import Batch, Judgment, Programme, Snapshot
from heedful.feedback.recording import record
from heedful.feedback.wire import WorkRow
from heedful.files import read_manifest
from heedful.pipeline.rounds.parts import WaitingError
from heedful.pipeline.rounds.programme import status
from heedful.pipeline.rounds.rows import read_rows, read_said
from rounds_people import judge_all, recipe_of
from rounds_programme import go, write_programme, write_recipe

pytestmark = pytest.mark.on_sqlite


@pytest.fixture
def of(transactional_db: None) -> Programme:
    return new_programme()


@pytest.fixture
def folder(of: Programme, tmp_path: Path) -> Path:
    return write_programme(tmp_path / "programme", **recipe_of(of))


def test_a_round_waits_for_people_says_so_and_goes_on_when_they_are_done(folder: Path, of: Programme) -> None:
    with pytest.raises(WaitingError, match=r"waiting for judgments by people in 'round 1: train'.* 0 of 32 are in"):
        go(folder)
    found = status(folder)
    assert (found["next"], found["waiting"]["filled"], found["waiting"]["places"]) == ("1/judge", 0, 32)
    since = found["waiting"]["since"]
    batch = Batch.objects.get()
    assert (batch.purpose, batch.round, batch.quota, batch.state) == ("train", 1, 2, "open")
    first = batch.items.first()
    assert first is not None
    record(first, rater(of), {"strength": 1}, key="one")
    with pytest.raises(WaitingError, match="1 of 32"):
        go(folder)
    assert Batch.objects.count() == 1  # nobody is asked twice
    assert status(folder)["waiting"]["since"] == since
    made = go(folder, wait=True, sleep=judge_all(of))["made"]
    assert made == ["1/judge", "1/consensus", "1/dataset", "1/reward", "1/policy", "1/check", "1/decide"]
    assert [one.purpose for one in Batch.objects.order_by("created")] == ["train", "check"]
    assert status(folder)["waiting"] is None


def test_what_people_said_reaches_training_with_its_lineage(folder: Path, of: Programme) -> None:
    go(folder, wait=True, sleep=judge_all(of))
    said = read_said(folder / "rounds/1/judge/judgments.jsonl")
    assert {one.kind for one in said} == {"human"}
    assert {one.judgment for one in said} <= {str(key) for key in Judgment.objects.values_list("pk", flat=True)}
    assert {one.guideline for one in said} == {1}
    pairs = {row["id"]: row for row in read_rows(folder / "rounds/1/sample/pairs.jsonl")}
    for one in said:
        short = len(pairs[one.pair]["a"]) <= len(pairs[one.pair]["b"])
        assert one.vote == (1.0 if short else pytest.approx(-2 / 3))
    preferences = list(read_rows(folder / "rounds/1/consensus/preferences.jsonl"))
    assert all(row["strength"] in (3.0, -2.0) for row in preferences)
    manifest = read_manifest(folder / "rounds/1/judge") or {}
    snapshot = Snapshot.objects.get()
    assert manifest["store"]["snapshot"] == {"id": str(snapshot.pk), "sha256": snapshot.sha256, "judgments": len(said)}
    decided = (read_manifest(folder / "rounds/1/decide") or {})["record"]["judgments"]
    checked = len(list(read_rows(folder / "rounds/1/check/judgments.jsonl")))
    assert decided == {"human": len(said) + checked, "ai": 0, "simulated": 0}
    check = {row["id"]: row for row in read_rows(folder / "rounds/1/check/pairs.jsonl")}
    wins = [
        (one.vote > 0) == (check[one.pair]["policy_a"] == "new")
        for one in read_said(folder / "rounds/1/check/judgments.jsonl")
    ]
    equal = sum(row["a"].strip() == row["b"].strip() for row in check.values())
    rate = json.loads((folder / "rounds/1/check/check.json").read_text())["win_rate"]["mean"]
    assert rate == pytest.approx((sum(wins) + equal / 2) / (len(wins) + equal))


def test_shares_part_the_pairs_between_people_and_machine(of: Programme, tmp_path: Path) -> None:
    folder = write_programme(tmp_path / "programme", **recipe_of(of, people=0.5, ai=0.5), sample={"pairs": 40})
    go(folder, wait=True, sleep=judge_all(of))
    said = read_said(folder / "rounds/1/judge/judgments.jsonl")
    by = {kind: {one.pair for one in said if one.kind == kind} for kind in ("human", "ai")}
    pairs = {row["id"] for row in read_rows(folder / "rounds/1/sample/pairs.jsonl")}
    assert by["human"] | by["ai"] == pairs
    assert not by["human"] & by["ai"]
    assert min(len(some) for some in by.values()) >= 10
    own = (read_manifest(folder / "rounds/1/judge") or {})["judgments"]
    assert own == {"human": 2 * len(by["human"]), "ai": len(by["ai"]), "simulated": 0}


def test_people_are_not_asked_again_unless_it_is_said(folder: Path, of: Programme) -> None:
    go(folder, wait=True, sleep=judge_all(of))
    write_recipe(folder, **recipe_of(of), sample={"temperatures": [0.5]})
    with pytest.raises(HeedfulError, match=r"would be asked anew .*temperatures|would be asked anew .*sample"):
        go(folder)
    assert Batch.objects.count() == 2
    assert "1/sample" not in go_made(folder, of)
    found = go(folder, again=True, wait=True, sleep=judge_all(of))
    assert found["made"][0] == "1/sample"
    assert Batch.objects.filter(purpose="train").count() == 2


def go_made(folder: Path, of: Programme) -> list[str]:
    """What a round makes with the setting put back."""
    write_recipe(folder, **recipe_of(of))
    made = go(folder)["made"]
    write_recipe(folder, **recipe_of(of), sample={"temperatures": [0.5]})
    return made


def test_a_deleted_result_asks_nobody_again(folder: Path, of: Programme) -> None:
    import shutil

    go(folder, wait=True, sleep=judge_all(of))
    said = (folder / "rounds/1/judge/judgments.jsonl").read_bytes()
    for name in ("sample", "judge"):
        shutil.rmtree(folder / "rounds/1" / name)
    assert go(folder)["made"] == ["1/sample", "1/judge"]
    assert (folder / "rounds/1/judge/judgments.jsonl").read_bytes() == said


def test_a_store_that_is_not_there_is_said_and_what_is_done_stands(of: Programme, tmp_path: Path) -> None:
    gone = {**recipe_of(of), "store": {"programme": of.slug, "database": str(tmp_path / "gone.db")}}
    folder = write_programme(tmp_path / "programme", **gone)
    with pytest.raises(HeedfulError, match="the store is not there"):
        go(folder)
    assert read_manifest(folder / "rounds/1/sample")
    assert not (tmp_path / "gone.db").exists()
    write_recipe(folder, **{**recipe_of(of), "store": {**recipe_of(of)["store"], "programme": "nobody"}})
    with pytest.raises(HeedfulError, match="there is no programme 'nobody'"):
        go(folder)
    write_recipe(folder, **recipe_of(of))
    assert go(folder, wait=True, sleep=judge_all(of))["made"][0] == "1/judge"


def test_a_batch_that_is_gone_from_the_store_is_put_up_again(folder: Path, of: Programme) -> None:
    with pytest.raises(WaitingError):
        go(folder)
    kept = folder / "rounds/1/judge.part/.batch.json"
    assert json.loads(kept.read_text()) == str(Batch.objects.get().pk)
    kept.write_text(json.dumps("00000000-0000-7000-8000-000000000000"))  # as of a store that was put back
    with pytest.raises(WaitingError):
        go(folder)
    assert json.loads(kept.read_text()) == str(Batch.objects.get().pk)


def test_a_database_that_is_no_store_is_said(of: Programme, folder: Path) -> None:
    client = connect(database=f"sqlite:///{connection.settings_dict['NAME']}")
    assert client.status(of.slug).batches == ()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE feedback_push RENAME TO feedback_push_away")
    try:
        with pytest.raises(HeedfulError, match="the store cannot be read"):
            go(folder)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE feedback_push_away RENAME TO feedback_push")


def test_what_peoples_work_cost_stands_with_the_stage_that_waited_for_it(
    folder: Path, of: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heedful.feedback.local import LocalClient
    from heedful.pipeline.costs import programme_costs

    worth = {"train": WorkRow(1.5, 32, {"USD": 27.0}), "check": WorkRow(0.25, 12, {"USD": 4.5})}

    def work(self: LocalClient, programme: str, batch: str) -> WorkRow:
        assert programme == of.slug
        return worth[Batch.objects.get(pk=batch).purpose]

    monkeypatch.setattr(LocalClient, "work", work)
    go(folder, wait=True, sleep=judge_all(of))
    costs = programme_costs(folder)
    by = {one.stage: one.spent for one in costs.rounds[1].stages}
    assert (by["judge"].rater_hours, by["judge"].rater_judgments, by["judge"].rater_money) == (1.5, 32, {"USD": 27.0})
    assert by["check"].rater_hours == 0.25
    assert costs.total.rater_money == {"USD": 31.5}
    assert [one.by for one in costs.rounds[1].gains] == ["human"]
    assert "cost" not in {*(read_manifest(folder / "rounds/1/judge") or {})}
