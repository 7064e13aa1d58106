"""Snapshots: what a training run read stays what it read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from feedback_factories import account, batch, item, programme, rater
from heedful.errors import HeedfulError
from heedful.feedback import adjudication, content, erasure, gold, submission
from heedful.feedback.exports import export
from heedful.feedback.models import (
    AuditEvent,
    Judgment,
    Membership,
    Programme,
    Purpose,
    Rater,
    RaterKind,
    Role,
    Snapshot,
    SnapshotEntry,
)
from heedful.feedback.snapshots import create_snapshot, verify

pytestmark = pytest.mark.django_db
_keys = itertools.count(1)
FORMATS = ("trl-preference", "heedful", "unpaired", "sft", "prompt-only")


def say(of: Any, who: Rater, payload: dict[str, Any], **how: Any) -> Judgment:
    return submission.record(of, who, payload, key=f"key-{next(_keys)}", **how)


@pytest.fixture
def judged() -> Programme:
    of = programme()
    who = rater(of, kind=RaterKind.SIMULATED)
    train = batch(of, quota=2)
    for number in range(4):
        say(item(train, text=f"q{number}", answers=[f"a{number}", f"b{number}"]), who, {"strength": number - 1})
    say(item(train, text="write", kind="demonstration", answers=["x"]), who, {}, text="written")
    say(item(batch(of, purpose=Purpose.CHECK), text="check"), who, {"strength": 1})
    return of


def exported(snapshot: Snapshot, folder: Path) -> dict[str, bytes]:
    for name in FORMATS:
        export(snapshot.programme, name, folder / f"{name}.jsonl", snapshot=snapshot)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_it_lists_what_holds_and_is_for_training(judged: Programme) -> None:
    author = account()
    made = create_snapshot(judged, "first", author=author)
    assert (made.count, made.training, verify(made)) == (5, True, [])
    assert set(made.entries.values_list("purpose", flat=True)) == {"train"}
    event = AuditEvent.objects.get(kind="snapshot.made")
    assert (event.digest, event.actor, event.ids["count"]) == (made.sha256, author.pk, 5)
    other = create_snapshot(judged, "second")
    assert other.sha256 == made.sha256
    checks = create_snapshot(judged, "checks", filters={"purposes": ["check"]}, training=False)
    assert (checks.count, checks.training) == (1, False)
    with pytest.raises(HeedfulError, match="not for training"):
        export(judged, "heedful", Path("never.jsonl"), snapshot=checks)


def test_an_export_of_it_is_the_same_bytes_whatever_came_since(judged: Programme, tmp_path: Path) -> None:
    made = create_snapshot(judged, "first")
    before = exported(made, tmp_path / "before")
    assert b"raters" in before["trl-preference.jsonl"]
    live = export(judged, "heedful", tmp_path / "live.jsonl")
    late = rater(judged, kind=RaterKind.SIMULATED)
    items = list(judged.items.order_by("pk"))
    say(items[0], late, {"strength": 3})
    first = Judgment.objects.get(item=items[1])
    submission.correct(first, {"strength": -3}, key="correct")
    content.withdraw_item(items[2])
    gold.promote(items[3], [{"strength": [1, 3]}], "because", actor=account())
    judge = account()
    Membership.objects.create(programme=judged, account=judge, role=Role.ADJUDICATOR)
    opened = adjudication.judge_first(items[0], judge, {"strength": 1}, "v")
    adjudication.votes(opened)
    adjudication.decide(opened, {"strength": 2}, "so")
    assert exported(made, tmp_path / "after") == before
    assert verify(made) == []
    assert export(judged, "heedful", tmp_path / "live.jsonl").sha256 != live.sha256
    export(judged, "heedful", tmp_path / "adjudicated.jsonl", snapshot=made, adjudicated=True)
    assert (tmp_path / "adjudicated.jsonl").read_bytes() == before["heedful.jsonl"]  # the verdict came later


def test_erased_text_leaves_it(judged: Programme, tmp_path: Path) -> None:
    made = create_snapshot(judged, "first")
    before = exported(made, tmp_path / "before")
    assert b"written" in before["sft.jsonl"]
    erasure.erase_rater(Rater.objects.get())
    with pytest.raises(HeedfulError, match=r"nothing to export \(1 erased\)"):
        export(judged, "sft", tmp_path / "sft.jsonl", snapshot=made)
    export(judged, "heedful", tmp_path / "heedful.jsonl", snapshot=made)
    assert (tmp_path / "heedful.jsonl").read_bytes() == before["heedful.jsonl"]
    assert verify(made) == []


def test_the_database_refuses_what_is_not_for_training(judged: Programme) -> None:
    made = create_snapshot(judged, "first")
    check = Judgment.objects.get(purpose="check")
    with pytest.raises(IntegrityError), transaction.atomic():
        SnapshotEntry.objects.create(
            snapshot=made, judgment=check, item=check.item, training=True, purpose=check.purpose
        )
    for change in (
        lambda: made.entries.update(purpose="check"),
        lambda: made.entries.all()[:1].get().delete(),
        lambda: Snapshot.objects.filter(pk=made.pk).update(sha256="0" * 64),
    ):
        with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
            change()


def test_tampering_shows(judged: Programme) -> None:
    made = create_snapshot(judged, "first")
    entry = made.entries.order_by("pk")[0]
    triggers = "feedback_snapshotentry_no_delete"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {triggers}" + (" ON feedback_snapshotentry" * (connection.vendor != "sqlite")))
    entry.delete()
    assert verify(made) == [
        "it has 4 judgments; 5 were listed.",
        "its judgments are not the ones that were listed.",
    ]


@pytest.mark.parametrize(
    ("filters", "training", "match"),
    [
        ({"batch": ["x"]}, True, "Did you mean 'batches'"),
        ({"purposes": ["check"]}, True, "for training alone"),
        ({"purposes": ["test"]}, False, "no purpose"),
        ({"rounds": [7]}, True, "no judgments to list"),
        ({"batches": ["nowhere"]}, True, "no batch 'nowhere'"),
    ],
)
def test_wrong_filters(judged: Programme, filters: dict[str, Any], training: bool, match: str) -> None:
    with pytest.raises(HeedfulError, match=match):
        create_snapshot(judged, "wrong", filters=filters, training=training)
    assert not Snapshot.objects.exists()


def test_nothing_is_chosen_within_it_and_it_is_its_programmes_own(judged: Programme, tmp_path: Path) -> None:
    made = create_snapshot(judged, "first")
    with pytest.raises(HeedfulError, match="nothing can be chosen within it"):
        export(judged, "heedful", tmp_path / "x.jsonl", snapshot=made, rounds=[1])
    with pytest.raises(HeedfulError, match="another programme's"):
        export(programme(), "heedful", tmp_path / "x.jsonl", snapshot=made)
