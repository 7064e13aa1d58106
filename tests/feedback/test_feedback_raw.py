"""A whole programme out and back again: every record with its id, and no name."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.db import connection, connections, transaction

from feedback_factories import account, batch, item, programme, rater
from feedback_programmes import agents, held_back, lines, mixed, say
from feedback_quality import answer, take
from feedback_stores import contents, forget
from heedful.errors import HeedfulError
from heedful.feedback import adjudication, events, export_select, replay, submission
from heedful.feedback.exports import export
from heedful.feedback.import_source import Source
from heedful.feedback.imports import plan, restore, stage
from heedful.feedback.models import (
    Account,
    Batch,
    Completion,
    Item,
    Judgment,
    Membership,
    Programme,
    Role,
)
from heedful.feedback.raw_export import TABLES, of_programme


def as_people(rows: list[dict[str, Any]]) -> list[str]:
    """Rows in one form: each pseudonym is replaced by the places where it stands, since every export has its own."""
    places: dict[str, list[str]] = {}

    def walk(value: Any, place: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{place}.{key}")
        elif isinstance(value, list):
            for inner in value:
                walk(inner, place)
        elif isinstance(value, str) and _is_pseudonym(value):
            places.setdefault(value, []).append(place)

    numbered = [(f"{row.get('record')} {row.get('id', index)}", row) for index, row in enumerate(rows)]
    for name, row in numbered:
        walk(row, "rater" if row.get("record") == "rater" else name)
    names = {key: events.digest_of(sorted(where)) for key, where in places.items()}
    text = [json.dumps(row, sort_keys=True) for row in rows]
    for key, name in names.items():
        text = [line.replace(key, name) for line in text]
    return sorted(text)


def _is_pseudonym(value: str) -> bool:
    try:
        return UUID(value).version == 8
    except ValueError:
        return False


def busy() -> Programme:
    """A programme in which everything has happened at least once."""
    of = mixed()
    held_back(of)
    people = [rater(of, languages=["vi"]) for _ in range(3)]
    made = batch(of, name="open", quota=2, quota_cap=3)
    for number in range(6):
        item(made, text=f"open {number}", answers=[f"o{number}", f"p{number}"], priority=2)
    first = answer(take(people[0], batch=made), strength=2)
    submission.correct(first, {"strength": 1}, key="c", rationale="so it is")
    second = answer(take(people[1], batch=made), strength=-2)
    submission.undo(second, key="u")
    take(people[2], batch=made)
    judge = account()
    Membership.objects.create(programme=of, account=judge, role=Role.ADJUDICATOR)
    opened = adjudication.judge_first(Item.objects.get(prompt__messages__0__content="one"), judge, {"strength": 1}, "v")
    adjudication.votes(opened)
    adjudication.decide(opened, {"strength": 0}, "even")
    from heedful.feedback.snapshots import create_snapshot

    create_snapshot(of, "first", author=judge)
    return of


@pytest.mark.django_db
def test_a_raw_export_restored_is_the_same_programme(tmp_path: Path) -> None:
    of = busy()
    export(of, "raw", tmp_path / "before.jsonl.gz")
    before = lines(tmp_path / "before.jsonl.gz")
    counts = {kind: of_programme(kind, of).count() - (kind == "event") for kind in TABLES}  # one: the export itself
    assert before[0]["records"] == {kind: count for kind, count in counts.items() if count}
    differences = replay.difference(replay.replay(of))
    forget(of)
    made = plan(tmp_path / "before.jsonl.gz")
    assert (made.format, made.problems) == ("heedful-raw", ())
    admin = account()
    again = restore(made, admin=admin)
    assert (again.pk, again.slug, again.name, again.created) == (of.pk, of.slug, of.name, of.created)
    assert Membership.objects.get(programme=again).account == admin
    export(again, "raw", tmp_path / "after.jsonl")
    after = [
        row for row in lines(tmp_path / "after.jsonl") if row.get("kind") not in ("export.made", "programme.restored")
    ]
    before = [row for row in before if row.get("kind") != "export.made"]
    for rows in (before, after):
        rows[0]["records"].pop("event")
    assert as_people(after) == as_people(before)
    assert replay.difference(replay.replay(again)) == differences
    if connection.vendor == "sqlite":
        connection.check_constraints()


def test_every_record_is_in_a_raw_export_or_left_out_on_purpose() -> None:
    left_out = {
        "Account", "Programme", "Membership", "Invitation", "Consent", "GroupAnswer", "PayRate", "RaterQuestion",
        "Draft", "ApiToken", "Webhook", "Delivery", "Push", "RateWindow", "QueueCursor", "Tally", "Tombstone",
            "OpenedVotes", "FieldIntake", "FieldEvent", "FieldRefusal",
    }  # fmt: skip
    known = {model.__name__ for model in apps.get_app_config("feedback").get_models()}
    exported = {model.__name__ for model, _ in TABLES.values()}
    assert exported | left_out == known
    assert not exported & left_out


@pytest.mark.django_db(transaction=True)
def test_an_export_reads_one_state_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction.atomic():
        of = mixed()
    (late,) = agents(of, 1)
    one = Item.objects.get(prompt__messages__0__content="one")

    def write() -> None:
        try:
            say(one, late, {"strength": -3}, counts=False)
        finally:
            connections.close_all()

    def while_reading(*given: Any) -> Any:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()  # a writer does not wait for a reader
        monkeypatch.undo()
        return load(*given)

    load = export_select._load
    monkeypatch.setattr(export_select, "_load", while_reading)
    export(of, "heedful", tmp_path / "out.jsonl", include_surplus=True)
    assert lines(tmp_path / "out.jsonl")[0]["votes"] == 3
    assert Judgment.objects.filter(rater=late).exists()
    export(of, "heedful", tmp_path / "out.jsonl", include_surplus=True)
    assert lines(tmp_path / "out.jsonl")[0]["votes"] == 4


DAMAGE: list[tuple[str, Any, str]] = [
    ("a record is missing", lambda rows: rows.pop(), "were announced"),
    ("its head is of tomorrow", lambda rows: rows[0].update(version=9), "version 9 of raw exports"),
    ("a kind nobody knows", lambda rows: rows[3].update(record="promt"), "announced"),
    ("a field is unknown", lambda rows: rows[3].update(colour="red"), ":4, colour: unknown field 'colour'"),
    ("a field is missing", lambda rows: rows[3].pop("id"), ":4, id: the"),
    ("a payload that no rater can give", "payload", ", strength: 7 is no whole number"),
    ("a link that leads outside", "outside", "it points at what is not in the file"),
    ("an id is none", lambda rows: rows[3].update(id="x"), ":4, id"),
    ("a text with NUL", "nul", "NUL"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "damage", "said"), DAMAGE, ids=[case[0] for case in DAMAGE])
def test_a_damaged_raw_export_is_refused_whole(name: str, damage: Any, said: str, tmp_path: Path) -> None:
    of = mixed()
    path = tmp_path / "raw.jsonl"
    export(of, "raw", path)
    forget(of)
    rows = lines(path)
    first = {row["record"]: row for row in reversed(rows[1:])}
    if damage == "payload":
        first["judgment"]["payload"] = {"strength": 7}
    elif damage == "outside":
        first["item"]["prompt_id"] = str(UUID(int=1))
    elif damage == "nul":
        first["completion"]["text"] = "a\0b"
    else:
        damage(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(HeedfulError) as caught:
        restore(plan(path))
    assert said in str(caught.value)
    assert not Programme.objects.filter(pk=of.pk).exists()
    for model in (Batch, Completion, Judgment):
        assert not model._default_manager.exists()


@pytest.mark.django_db
def test_a_raw_export_is_restored_only_where_its_programme_is_not(tmp_path: Path) -> None:
    of = mixed()
    path = tmp_path / "raw.jsonl"
    export(of, "raw", path)
    made = plan(path)
    assert (made.problem_count, made.problems[0].field) == (1, "programme.id")  # the dry run says so
    fit = replace(made, problems=(), problem_count=0)  # as if looked at before the programme was here
    before = contents("default")
    for one in (made, fit, replace(fit, source=Source("raw.jsonl", data=path.read_bytes()))):
        with pytest.raises(HeedfulError, match=f"this programme is here already, as '{of.slug}'") as caught:
            restore(one, slug="another", name="Another", admin=account("late"))
        assert "restore it into a store of its own, with --database ADDRESS" in caught.value.mend
        Account.objects.get(username="late").delete()
        assert contents("default") == before
    made = fit
    with pytest.raises(HeedfulError, match="a whole programme"):
        stage(of, made, name="x")
    forget(of)
    programme()
    Programme.objects.update(slug=of.slug)
    before = contents("default")
    with pytest.raises(HeedfulError, match=f"another programme is called '{of.slug}'.*--programme NAME"):
        restore(made)
    assert contents("default") == before
    assert restore(made, slug="other", name="Other").slug == "other"
