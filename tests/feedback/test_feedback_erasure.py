"""Erasing people: what they wrote is gone, what they judged stays, and nothing brings a text back."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connections

from feedback_factories import account, batch, item, open_batch, programme, rater
from feedback_quality import take
from feedback_stores import everything, forget, url_of_default
from heedful.errors import HeedfulError
from heedful.feedback import assignment, dialogue, erasure, gold, replay, submission
from heedful.feedback.backup import backup
from heedful.feedback.backup import restore as restore_backup
from heedful.feedback.dialogue_asking import fill
from heedful.feedback.dialogue_items import choose
from heedful.feedback.endpoints import pinned
from heedful.feedback.erasure import apply_tombstones, erase_account, erase_rater, journal_of
from heedful.feedback.exports import export
from heedful.feedback.imports import plan, restore
from heedful.feedback.journal import append, entries
from heedful.feedback.models import (
    Account,
    Assignment,
    AuditEvent,
    Completion,
    Dialogue,
    DialogueTurn,
    Draft,
    GoldOutcome,
    GroupAnswer,
    Item,
    Judgment,
    Membership,
    PolicyEndpoint,
    Programme,
    Rater,
    RaterKind,
    RaterQuestion,
    Rationale,
    Role,
    Skip,
    Tombstone,
)

SECRETS = [
    "Mx Secret", "secret@example.org", "secret-login", "secret rationale", "secret draft", "secret note",
    "secret demonstration", "secret correction", "secret question", "secret group", "secret contest", "secret turn",
]  # fmt: skip


@pytest.fixture
def journal() -> Path:
    path = journal_of("default")
    path.unlink(missing_ok=True)
    return path


def somebody(of: Programme) -> Rater:
    """A rater who has left text in every place there is."""
    who = rater(of, account=account("secret-login", display_name="Mx Secret", email="secret@example.org"))
    GroupAnswer.objects.create(rater=who, question="age", answer="secret group")
    RaterQuestion.objects.create(rater=who, text="secret question", answer="answer to a secret question")
    made = batch(of)
    for _ in range(2):
        item(made)
    first = take(who, batch=made)
    submission.submit(first, {"strength": 1}, key="a", item_version=1, rationale="secret rationale")
    assignment.skip(take(who, batch=made), "other", "secret note")
    for kind, text, key in (("demonstration", "secret demonstration", "d"), ("edit", "secret correction", "e")):
        held = take(who, batch=open_batch(of, 1, kind=kind)) if kind == "demonstration" else _edit(of, who)
        submission.submit(held, {}, key=key, item_version=1, text=text)
    held = take(who, batch=open_batch(of, 1))
    assignment.save_draft(held, {"rationale": "secret draft"}, 0, 0)
    golden = gold.promote(item(batch(of)), [{"strength": [1, 3]}], "because", actor=account())
    said = submission.record(golden.item, who, {"strength": -1}, key="gold", counts=False)
    GoldOutcome.objects.update_or_create(
        judgment=said, defaults={"gold_key": golden, "rater": who, "passed": False, "contest": "secret contest"}
    )
    _dialogue(of, held)
    return who


def _edit(of: Programme, who: Rater) -> Assignment:
    made = batch(of)
    item(made, kind="edit", answers=["to be corrected"])
    return take(who, batch=made)


def _dialogue(of: Programme, held: Assignment) -> None:
    endpoint = PolicyEndpoint.objects.create(programme=of, name="p", base_url="https://policy.example", model="m")
    talk = Dialogue.objects.create(assignment=held, endpoint=endpoint, pinned=pinned(endpoint))
    turn = item(batch(of), text="secret turn", answers=["yes", "no"])
    DialogueTurn.objects.create(dialogue=talk, index=0, text="secret turn", idempotency_key="t", item=turn)


@pytest.mark.django_db
def test_every_text_of_theirs_is_gone_and_every_judgment_stays(journal: Path) -> None:
    of = programme()
    who = somebody(of)
    assert [text for text in SECRETS if text not in everything()] == []
    judgments = list(Judgment.objects.order_by("pk").values())
    differences = replay.difference(replay.replay(of))
    actor = account()
    report = erase_account(who.account, actor=actor)  # type: ignore[arg-type]
    text = everything()
    assert [secret for secret in SECRETS if secret in text] == []
    assert list(Judgment.objects.order_by("pk").values()) == judgments
    assert replay.difference(replay.replay(of)) == differences
    assert report.subjects == {
        "account": 1, "rater": 1, "rationale": 1, "skip": 1, "completion": 2, "prompt": 1, "turn": 1, "contest": 1,
        "judgment": 4,
    }  # fmt: skip
    assert Tombstone.objects.count() == sum(report.subjects.values()) == len(list(entries(journal)))
    event = AuditEvent.objects.get(kind="account.erased")
    assert (event.actor, event.programme) == (actor.pk, of.pk)
    gone = Account.objects.get(pk=who.account_id)
    assert not gone.is_active
    assert not gone.has_usable_password()
    again = Rater.objects.get(pk=who.pk)
    assert (again.account_id, again.erased is not None) == (None, True)
    assert not Membership.objects.filter(account=gone, ended=None).exists()
    assert set(Completion.objects.filter(author=who).values_list("text", flat=True)) == {""}
    assert Item.objects.get(dialogue_turn__isnull=False).state == "withdrawn"
    assert not Draft.objects.exists()


@pytest.mark.django_db
def test_one_programmes_rater_goes_and_the_account_stays(journal: Path) -> None:
    of, other = programme(), programme()
    who = somebody(of)
    elsewhere = rater(other, account=who.account)
    erase_rater(who)
    assert not GroupAnswer.objects.filter(rater=who).exists()
    assert Rationale.objects.get(judgment__rater=who).text == ""
    assert Skip.objects.get(assignment__rater=who).note == ""
    own = Account.objects.get(username="secret-login")
    assert (own.is_active, own.display_name) == (True, "Mx Secret")
    assert Rater.objects.get(pk=elsewhere.pk).account == own
    roles = Membership.objects.filter(account=own, ended=None).values_list("programme", "role")
    assert list(roles) == [(other.pk, Role.RATER)]


@pytest.mark.django_db
def test_two_erased_raters_of_a_programme_do_not_clash(journal: Path) -> None:
    of = programme()
    people = [rater(of), rater(of), rater(of, kind=RaterKind.END_USER, name="u1")]
    for who in people:
        erase_rater(who)
        erase_rater(who)
    assert Rater.objects.filter(erased__isnull=False).count() == 3


@pytest.mark.django_db
def test_erased_answers_are_not_exported(journal: Path, tmp_path: Path) -> None:
    of = programme()
    who = somebody(of)
    out = tmp_path / "sft.jsonl"
    assert export(of, "sft", out).rows == 2
    erase_rater(who)
    with pytest.raises(HeedfulError, match="erased"):
        export(of, "sft", out)
    export(of, "raw", tmp_path / "raw.jsonl")
    text = (tmp_path / "raw.jsonl").read_text()
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.django_db
def test_what_a_backup_brought_back_is_erased_again(journal: Path) -> None:
    """The rows of an older state return; the journal alone knows better."""
    of = programme()
    who = somebody(of)
    before = {model: list(model._base_manager.values()) for model in (Account, Rater, Rationale, Completion, Skip)}
    erase_account(who.account)  # type: ignore[arg-type]
    Tombstone.objects.all().delete()
    for model, rows in before.items():
        for row in rows:
            model._base_manager.filter(pk=row["id"]).update(**row)
    assert "secret rationale" in everything()
    assert apply_tombstones() > 0
    text = everything()
    assert [secret for secret in SECRETS if secret in text] == []
    assert Tombstone.objects.count() == 13  # four of them of judgments
    assert apply_tombstones() == 0


@pytest.mark.django_db
def test_a_raw_export_from_before_brings_nothing_back(journal: Path, tmp_path: Path) -> None:
    of = programme()
    who = somebody(of)
    export(of, "raw", tmp_path / "raw.jsonl")
    assert "secret demonstration" in (tmp_path / "raw.jsonl").read_text()
    erase_account(who.account)  # type: ignore[arg-type]
    Draft.objects.all().delete()
    GroupAnswer.objects.all().delete()
    RaterQuestion.objects.all().delete()
    forget(of)
    restore(plan(tmp_path / "raw.jsonl"))
    text = everything()
    assert Rationale.objects.exists()
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.django_db
def test_without_the_journal_nothing_is_erased(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = programme()
    who = somebody(of)
    monkeypatch.setattr(erasure, "journal_of", lambda alias: Path("/nowhere/erasures.jsonl"))
    with pytest.raises(HeedfulError, match="nothing was erased"):
        erase_rater(who)
    assert Rationale.objects.get(judgment__rater=who).text == "secret rationale"
    assert not Tombstone.objects.exists()


def test_a_journal_that_a_crash_cut_off_is_read_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    one, other = ("rater", UUID(int=1)), ("completion", UUID(int=2))
    append(path, [one])
    with open(path, "ab") as file:
        file.write(b'{"kind": "rater", "subj')
    assert list(entries(path)) == [one]
    append(path, [other])
    assert list(entries(path)) == [one, other]
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    for wrong in ('{"kind": "rater"}', f'{{"kind": "planet", "subject": "{UUID(int=3)}"}}'):
        path.write_text(json.dumps({"kind": "rater", "subject": str(UUID(int=1))}) + "\n" + wrong + "\n")
        with pytest.raises(HeedfulError, match=r"erasures\.jsonl:2"):
            list(entries(path))
    assert list(entries(tmp_path / "none")) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("beside")
@pytest.mark.on_sqlite
def test_restoring_an_older_backup_erases_again(journal: Path, tmp_path: Path) -> None:
    of = programme()
    who = somebody(of)
    copy = tmp_path / "older.db"
    backup(url_of_default(), copy)
    erase_account(who.account)  # type: ignore[arg-type]
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copy(journal, fresh / "erasures.jsonl")
    report = restore_backup(copy, f"sqlite:///{fresh / 'feedback.db'}")
    assert report.erased > 0
    assert fresh / "erasures.jsonl" in report.journals
    with closing(sqlite3.connect(fresh / "feedback.db")) as database:
        text = "\n".join(database.iterdump())
    assert [secret for secret in SECRETS if secret in text] == []
    with closing(sqlite3.connect(copy)) as database:
        assert "secret rationale" in "\n".join(database.iterdump())
    journal.unlink()


def _talking(of: Programme) -> tuple[Rater, Dialogue]:
    """A rater in a dialogue: one turn done, one whose answers are there and of which none was chosen yet."""
    PolicyEndpoint.objects.create(programme=of, name="p", base_url="https://policy.example", model="m")
    who = rater(of)
    made = batch(of)
    item(made, kind="dialogue", completions=0)
    talk = dialogue.begin(take(who, batch=made))
    for number, words in enumerate(("first secret", "second secret")):
        turn = dialogue.say(talk, words, key=str(number))
        fill(turn, lambda pin, messages, index, **_: f"answer {index} to {len(messages)} messages")
        if not number:
            choose(turn, 0, -1)
    return who, talk


@pytest.mark.django_db
def test_what_was_said_in_a_turn_of_which_nothing_went_on_is_gone_too(journal: Path, tmp_path: Path) -> None:
    of = programme()
    who, talk = _talking(of)
    assert dialogue.state(talk).turns[-1].state == "choose"
    report = erase_rater(who)
    assert "secret" not in everything()
    assert (report.subjects["turn"], report.subjects["prompt"]) == (2, 2)
    export(of, "raw", tmp_path / "raw.jsonl")
    assert "secret" not in (tmp_path / "raw.jsonl").read_text()


@pytest.mark.django_db
def test_what_came_after_an_erasure_is_found_when_tombstones_are_applied(journal: Path) -> None:
    """A request that was under way may have been faster than the erasure saw."""
    of = programme()
    who = somebody(of)
    said = Judgment.objects.filter(rater=who).order_by("pk")[1]
    erase_account(who.account)  # type: ignore[arg-type]
    late = Rationale.objects.create(judgment=said, text="late secret")
    Draft.objects.create(assignment=Assignment.objects.filter(rater=who)[0], payload={"rationale": "late secret"})
    GroupAnswer.objects.create(rater=who, question="age", answer="late secret")
    RaterQuestion.objects.create(rater=who, text="late secret")
    assert apply_tombstones() == 1
    assert "late secret" not in everything()
    assert Tombstone.objects.filter(kind="rationale", subject=late.pk).exists()
    assert ("rationale", late.pk) in set(entries(journal))
    assert apply_tombstones() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.on_postgresql
def test_an_erasure_waits_for_a_submission_that_is_under_way(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 1)
    held = take(who)
    begun, tell_of = threading.Event(), submission.tell_of

    def slow(*args: Any, **kwargs: Any) -> None:
        begun.set()
        time.sleep(1)
        tell_of(*args, **kwargs)

    monkeypatch.setattr(submission, "tell_of", slow)

    def say() -> None:
        try:
            submission.submit(held, {"strength": 1}, key="a", item_version=1, rationale="late secret")
        finally:
            connections.close_all()

    thread = threading.Thread(target=say)
    thread.start()
    assert begun.wait(10)
    erase_rater(who)
    thread.join()
    assert Rationale.objects.get(judgment__rater=who).text == ""
