"""Judgments that were withdrawn are in no dataset any more, by whichever way it is made, and the record tells of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from feedback_factories import batch, item, programme, rater
from heedful.errors import HeedfulError
from heedful.feedback import erasure, pulls, services, submission
from heedful.feedback.export_lineage import beside
from heedful.feedback.exports import export
from heedful.feedback.imports import plan, restore
from heedful.feedback.journal import entries
from heedful.feedback.models import AuditEvent, Judgment, PayRate, Programme, Rater, RaterKind, Tombstone
from heedful.feedback.pseudonyms import Pseudonyms
from heedful.feedback.snapshots import create_snapshot, verify
from heedful.feedback.wire import WorkRow
from heedful.files import sha256_file

pytestmark = pytest.mark.django_db


@pytest.fixture
def of() -> Programme:
    erasure.journal_of("default").unlink(missing_ok=True)
    return programme()


@pytest.fixture
def people(of: Programme) -> list[Rater]:
    """Two people and an AI judge, who have judged three items each; the first also wrote a rationale."""
    who = [rater(of), rater(of), rater(of, kind=RaterKind.AI, name="judge-7")]
    items = [item(batch(of, quota=3)) for _ in range(3)]
    for number, one in enumerate(who):
        for each in items:
            words = "because" if number == 0 else ""
            strength = 2 if number else -3
            key = f"{number}-{each.pk}"
            submission.record(each, one, {"strength": strength}, key=key, rationale=words)
    return who


def votes(of: Programme, out: Path, **how: object) -> list[int]:
    export(of, "heedful", out, **how)  # type: ignore[arg-type]
    return [json.loads(line)["votes"] for line in out.read_text().splitlines()]


def pulled(of: Programme) -> int:
    names = Pseudonyms()
    return sum(
        len(pulls.judgments_page(of, pulls.Wanted(history=h), after="", most=99, names=names)[0]) for h in (False, True)
    )


def test_an_erased_raters_judgments_leave_snapshots_exports_and_pulls(
    of: Programme, people: list[Rater], tmp_path: Path
) -> None:
    old = create_snapshot(of, "before")
    assert votes(of, tmp_path / "before.jsonl") == [3, 3, 3]
    assert pulled(of) == 2 * 9
    erasure.erase_rater(people[0])
    assert create_snapshot(of, "after").count == 6
    report = export(of, "heedful", tmp_path / "after.jsonl")
    assert report.left_out == {"judgments erased or taken back": 3}
    assert (report.judgments, votes(of, tmp_path / "again.jsonl")) == (6, [2, 2, 2])
    assert votes(of, tmp_path / "old.jsonl", snapshot=old) == [2, 2, 2]
    assert (old.count, verify(old)) == (9, [])  # it says what was read then
    assert pulled(of) == 2 * 6
    gone = {str(key) for key in Judgment.objects.filter(rater=people[0]).values_list("pk", flat=True)}
    assert services.withdrawn(of) == gone
    assert {str(key) for kind, key in entries(erasure.journal_of("default")) if kind == "judgment"} == gone


def test_a_rater_takes_everything_back_and_stays(of: Programme, people: list[Rater], tmp_path: Path) -> None:
    assert erasure.withdraw_judgments(people[1]) == 3
    assert erasure.withdraw_judgments(people[1]) == 0
    assert votes(of, tmp_path / "after.jsonl") == [2, 2, 2]
    assert Rater.objects.get(pk=people[1].pk).erased is None
    assert set(Tombstone.objects.values_list("kind", flat=True)) == {"judgment"}
    event = AuditEvent.objects.get(kind="judgments.withdrawn")
    assert (event.actor, event.ids["count"]) == (people[1].pk, 3)
    submission.record(item(batch(of)), people[1], {"strength": 1}, key="later")
    assert votes(of, tmp_path / "later.jsonl") == [2, 2, 2, 1]  # what they judge from now on counts


def test_a_judgment_that_came_while_its_rater_was_erased_is_withdrawn_too(of: Programme, people: list[Rater]) -> None:
    erasure.erase_rater(people[0])
    late = Judgment.objects.filter(rater=people[0]).first()
    assert late is not None
    Tombstone.objects.filter(subject=late.pk).delete()  # as if it had come a moment later
    erasure.journal_of("default").unlink()
    assert str(late.pk) in services.withdrawn(of)
    assert erasure.apply_tombstones() == 1
    assert Tombstone.objects.filter(kind="judgment", subject=late.pk).exists()
    assert erasure.apply_tombstones() == 0


def test_a_raw_export_from_before_brings_no_judgment_back(of: Programme, people: list[Rater], tmp_path: Path) -> None:
    from feedback_stores import forget

    export(of, "raw", tmp_path / "raw.jsonl")
    erasure.erase_rater(people[0])
    forget(of)
    again = restore(plan(tmp_path / "raw.jsonl"))
    assert not Rater.objects.filter(erased__isnull=False).exists()  # a pseudonym there
    assert votes(again, tmp_path / "after.jsonl") == [2, 2, 2]


def test_where_everything_was_withdrawn_there_is_nothing_to_export(
    of: Programme, people: list[Rater], tmp_path: Path
) -> None:
    for one in people:
        erasure.withdraw_judgments(one)
    with pytest.raises(HeedfulError, match="9 judgments erased or taken back"):
        export(of, "heedful", tmp_path / "none.jsonl")
    with pytest.raises(HeedfulError, match="no judgments"):
        create_snapshot(of, "none")


def test_the_record_beside_an_export_tells_what_it_rests_on(of: Programme, people: list[Rater], tmp_path: Path) -> None:
    out = tmp_path / "preferences.jsonl"
    made = create_snapshot(of, "first")
    export(of, "heedful", out, snapshot=made, record=True)
    record = json.loads(beside(out).read_text())
    assert (record["sha256"], record["programme"], record["rows"]) == (sha256_file(out), of.slug, 3)
    assert record["snapshot"] == {"id": str(made.pk), "sha256": made.sha256, "judgments": 9}
    assert sorted(key for key, _, _ in record["judgments"]) == sorted(
        str(key) for key in Judgment.objects.values_list("pk", flat=True)
    )
    assert {(kind, version) for _, kind, version in record["judgments"]} == {("human", 1), ("ai", 1)}
    assert [one["version"] for one in record["guidelines"]] == [1]
    by = {row["kind"]: row for row in record["raters"]}
    assert by["ai"] == {"rater": "judge-7", "kind": "ai", "judgments": 3}
    names = [row["rater"] for row in record["raters"] if row["kind"] == "human"]
    assert len(set(names)) == 2
    assert not {str(one.pk) for one in people} & set(names)
    assert str(people[0].pk) not in beside(out).read_text()
    export(of, "prompt-only", tmp_path / "prompts.jsonl", record=True)
    assert not beside(tmp_path / "prompts.jsonl").exists()


def test_work_on_a_batch_is_peoples_hours_and_their_pay(of: Programme, people: list[Rater]) -> None:
    made = batch(of)
    PayRate.objects.create(programme=of, per_hour=Decimal(18), begins=datetime(2020, 1, 1, tzinfo=UTC))
    assert services.work(made) == WorkRow(0.0, 0, {})
    from feedback_quality import take

    item(made)
    held = take(people[0], batch=made)
    held.active_ms = 600_000
    held.save()
    submission.submit(held, {"strength": 1}, key="paid", item_version=1)
    found = services.work(made)
    assert (found.hours, found.judgments, found.money) == (pytest.approx(1 / 6), 1, {"USD": 3.0})
