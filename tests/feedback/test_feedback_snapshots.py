"""Snapshots: what a training run read stays what it read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from feedback_factories import account, batch, item, programme, rater
from feedback_stores import url_of_default
from heedful.errors import HeedfulError
from heedful.feedback import adjudication, client, content, erasure, gold, submission
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


@pytest.mark.parametrize("became", ["gold", "check", "check batch"])
def test_what_has_become_gold_or_check_since_is_left_out_counted_and_named(
    judged: Programme, tmp_path: Path, became: str
) -> None:
    made = create_snapshot(judged, "first")
    before = exported(made, tmp_path / "before")
    one = judged.items.get(prompt__messages__0__content="q3")
    if became == "gold":
        judge = account()
        Membership.objects.create(programme=judged, account=judge, role=Role.ADJUDICATOR)
        opened = adjudication.judge_first(one, judge, {"strength": 1}, "v")
        adjudication.votes(opened)
        adjudication.decide(opened, {"strength": 2}, "so")
        gold.promote(one, [{"strength": [1, 3]}], "because", actor=account())
    elif became == "check":
        judged.items.filter(pk=one.pk).update(purpose="check")
    else:
        moved = batch(judged, purpose="check")
        judged.items.filter(pk=one.pk).update(batch=moved)
    after = exported(made, tmp_path / "after")
    for name, lines in before.items():
        rest = [line for line in lines.splitlines() if b"q3" not in line]
        assert after[name].splitlines() == rest, name
        assert (b"q3" in lines) == (name not in ("sft.jsonl", "trl-preference-ties.jsonl"))
    for format in ("heedful", "prompt-only"):
        report = export(judged, format, tmp_path / "counted.jsonl", snapshot=made)
        assert report.left_out["gold or check since the snapshot"] == 1
        assert report.held_back == (str(one.pk),)
        assert str(one.pk) in report.notes[-1]
        assert report.as_dict()["held_back"] == [str(one.pk)]
        assert AuditEvent.objects.filter(kind="export.made").latest("seq").ids["held_back"] == 1
    report = export(judged, "heedful", tmp_path / "verdicts.jsonl", snapshot=made, adjudicated=True)
    assert b"q3" not in (tmp_path / "verdicts.jsonl").read_bytes()
    assert (verify(made), made.entries.count()) == ([], 5)  # the list says what was read, and stays
    with pytest.warns(client.HeldBackWarning, match=f"1 items of the snapshot .* {one.pk}"):
        read = list(client.connect(url_of_default()).preferences(judged.slug, snapshot="first"))
    assert [preference.prompt[0].content for preference in read] == ["q0", "q1", "q2"]


def test_a_snapshot_of_which_nothing_is_left_is_refused_with_the_count(judged: Programme, tmp_path: Path) -> None:
    made = create_snapshot(judged, "first")
    for one in judged.items.filter(kind="pairwise", purpose="train"):
        gold.promote(one, [{"strength": [1, 3]}], "because", actor=account())
    with pytest.raises(HeedfulError, match=r"nothing to export \(4 gold or check since the snapshot\)"):
        export(judged, "heedful", tmp_path / "heedful.jsonl", snapshot=made)
    assert not list(tmp_path.iterdir())
    report = export(judged, "sft", tmp_path / "sft.jsonl", snapshot=made)
    assert (report.rows, len(report.held_back)) == (1, 4)


def test_a_note_names_the_first_of_many(judged: Programme, tmp_path: Path) -> None:
    who = Rater.objects.get()
    many = batch(judged)
    for number in range(22):
        say(item(many, text=f"many {number}"), who, {"strength": 1})
    made = create_snapshot(judged, "first")
    many.items.update(purpose="gold")
    report = export(judged, "heedful", tmp_path / "out.jsonl", snapshot=made)
    assert len(report.held_back) == 22
    assert report.notes[-1].endswith(f"{report.held_back[19]} and 2 more.")


def test_erased_text_leaves_it(judged: Programme, tmp_path: Path) -> None:
    made = create_snapshot(judged, "first")
    before = exported(made, tmp_path / "before")
    assert b"written" in before["sft.jsonl"]
    erasure.erase_rater(Rater.objects.get())
    with pytest.raises(HeedfulError, match=r"nothing to export \(5 judgments erased or taken back\)"):
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


@pytest.mark.parametrize("lie", ["purpose", "item", "training", "programme"])
def test_the_database_refuses_an_entry_that_says_else_than_what_it_names(judged: Programme, lie: str) -> None:
    """The columns of an entry are its own: nobody can call a judgment for checking one for training."""
    made = create_snapshot(judged, "first")
    train, check = Judgment.objects.filter(purpose="train")[0], Judgment.objects.get(purpose="check")
    plain = Snapshot.objects.create(programme=judged, name="plain", training=False, count=1, sha256="0" * 64)
    other = Snapshot.objects.create(programme=programme(), name="other", training=False, count=1, sha256="0" * 64)
    said = train if lie != "purpose" else check
    given = {
        "snapshot": {"purpose": made, "training": plain, "programme": other}.get(lie, plain),
        "judgment": said,
        "item": check.item if lie == "item" else said.item,
        "training": lie in ("purpose", "training"),
        "purpose": "train",
    }
    with pytest.raises(IntegrityError, match="its judgment and its snapshot say"), transaction.atomic():
        SnapshotEntry.objects.create(**given)
    true = {"snapshot": plain, "judgment": train, "item": train.item, "training": False, "purpose": "train"}
    assert SnapshotEntry.objects.create(**true).pk


def test_an_entry_that_lies_shows_and_its_judgment_is_not_exported(judged: Programme, tmp_path: Path) -> None:
    """Of a database that was written before its trigger refused it."""
    made = Snapshot.objects.create(programme=judged, name="forged", training=True, count=1, sha256="0" * 64)
    check = Judgment.objects.get(purpose="check")
    ours = connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER feedback_snapshotentry_is_true" + " ON feedback_snapshotentry" * (not ours))
    SnapshotEntry.objects.create(snapshot=made, judgment=check, item=check.item, training=True, purpose="train")
    assert "an entry says something else than its judgment." in verify(made)
    with pytest.raises(HeedfulError, match="nothing to export"):
        export(judged, "heedful", tmp_path / "out.jsonl", snapshot=made)


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
