"""Erasing people: names, groups and every free text of theirs go; ids and verdicts stay.

What was erased stays erased. A tombstone is written for each subject, in the database and in a journal beside
it, which no restored backup takes away: `apply_tombstones` erases again whatever came back.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections, transaction
from django.db.models import Q, QuerySet

from heedful.errors import HeedfulError
from heedful.feedback import clock, events
from heedful.feedback.models import (
    Account,
    Adjudication,
    ApiToken,
    Completion,
    DialogueTurn,
    Draft,
    GoldOutcome,
    GroupAnswer,
    Item,
    ItemState,
    Membership,
    Prompt,
    Provenance,
    Rater,
    RaterQuestion,
    Rationale,
    Role,
    Skip,
    Tombstone,
)
from heedful.files import sync_folder

JOURNAL = "erasures.jsonl"
KINDS = ("account", "rater", "completion", "prompt", "rationale", "skip", "turn", "contest", "reason", "replies")
"""Subjects of tombstones. A text has one of its own, so that a raw export from before, in which its writer is a
pseudonym, brings it back no more than a backup does."""
CHUNK = 500


@dataclass(frozen=True)
class Erased:
    """What was erased, in counts."""

    subjects: dict[str, int]
    """Tombstones by kind."""


def erase_rater(rater: Rater, *, actor: Any = None) -> Erased:
    """Erase a person (or agent) who judges in one programme: everything they wrote, their groups, their account's link.

    Their judgments stay, under an id that leads to nobody.

    Args:
        rater: whom.
        actor: who asks, for the audit log.
    """
    with transaction.atomic():
        found = _rater(rater.pk, "default")
        events.record("rater.erased", programme=rater.programme_id, actor=actor, rater=rater.pk)
        report = _bury(found)
    rater.refresh_from_db()
    return report


def erase_account(account: Account, *, actor: Any = None) -> Erased:
    """Erase somebody altogether: their account and all that they are in every programme. They can log in no more.

    Args:
        account: whose.
        actor: who asks, for the audit log.
    """
    with transaction.atomic():
        found = _account(account.pk, "default")
        for programme in sorted(set(account.memberships.values_list("programme_id", flat=True))):
            events.record("account.erased", programme=programme, actor=actor, account=account.pk)
        if not account.memberships.exists():
            events.record("account.erased", actor=actor, account=account.pk)
        report = _bury(found)
    account.refresh_from_db()
    return report


Subject = tuple[str, uuid.UUID]


def _bury(found: Sequence[Subject]) -> Erased:
    """Write the tombstones: into the database, and before that is final, into the journal."""
    _tombstones(found, "default")
    append(journal_of("default"), found)
    subjects: dict[str, int] = {}
    for kind, _ in found:
        subjects[kind] = subjects.get(kind, 0) + 1
    return Erased(subjects)


def _tombstones(found: Iterable[Subject], alias: str) -> None:
    Tombstone.objects.using(alias).bulk_create(
        (Tombstone(kind=kind, subject=subject) for kind, subject in found), batch_size=CHUNK, ignore_conflicts=True
    )


def _rater(key: uuid.UUID, alias: str) -> list[Subject]:
    """Erase a rater and what is theirs; what was erased.

    Their row is held first, and a submission holds it too: so its texts are there to be seen, or it finds its rater
    erased.
    """
    found: list[Subject] = [("rater", key)]
    row = Rater.objects.using(alias).select_for_update(no_key=True).filter(pk=key).first()
    if row is None:
        return found
    if row.account_id is not None:
        roles = Membership.objects.using(alias).filter(programme=row.programme_id, account=row.account_id, ended=None)
        roles.filter(role__in=(Role.RATER, Role.ADJUDICATOR)).update(ended=clock.now())
    found += _written(row, alias)
    row.account, row.name, row.pause_reason = None, _nameless(key), ""
    row.languages, row.expertise, row.excluded_categories = [], [], []
    row.erased = row.erased or clock.now()
    row.save(using=alias)
    return found


def _written(rater: Rater, alias: str) -> dict[Subject, bool]:
    """Erase what a rater wrote: each text, and whether there was anything to erase."""
    turns = DialogueTurn.objects.using(alias).select_for_update(no_key=True, of=("self",))
    talk = turns.filter(dialogue__assignment__rater=rater)
    list(talk.order_by("pk").values_list("pk", flat=True))  # held: an answer that comes just now is kept or dropped
    texts = _texts(rater, alias).items()
    subjects = [(kind, key) for kind, rows in texts for key in rows.order_by("pk").values_list("pk", flat=True)]
    Draft.objects.using(alias).filter(assignment__rater=rater).delete()
    GroupAnswer.objects.using(alias).filter(rater=rater).delete()
    RaterQuestion.objects.using(alias).filter(rater=rater).update(text="", answer="")
    return {(kind, key): _one(kind, key, alias) for kind, key in subjects}


def _texts(rater: Rater, alias: str) -> dict[str, QuerySet[Any]]:
    """What a rater wrote that others may meet: rows by kind of tombstone."""
    own = Q(judgment__rater=rater)
    if rater.account_id is not None:
        own |= Q(adjudicator=rater.account_id, item__programme=rater.programme_id)
    return {
        "rationale": Rationale.objects.using(alias).filter(judgment__rater=rater),
        "skip": Skip.objects.using(alias).filter(assignment__rater=rater),
        "completion": Completion.objects.using(alias).filter(Q(author=rater) | Q(prompt__in=_from_use(rater, alias))),
        "turn": DialogueTurn.objects.using(alias).filter(dialogue__assignment__rater=rater),
        "prompt": Prompt.objects.using(alias).filter(
            _conversations(rater, alias) | Q(pk__in=_from_use(rater, alias).values("pk"))
        ),
        "contest": GoldOutcome.objects.using(alias).filter(rater=rater),
        "reason": Adjudication.objects.using(alias).filter(own),
        "replies": Provenance.objects.using(alias).filter(judgment__rater=rater),
    }


def _conversations(rater: Rater, alias: str) -> Q:
    """Prompts that hold a dialogue of a rater's: of turns that are items, and of those of which nothing went on yet."""
    items = Item.objects.using(alias).filter(dialogue_turn__dialogue__assignment__rater=rater)
    answers = Completion.objects.using(alias).filter(candidate__turn__dialogue__assignment__rater=rater)
    return Q(pk__in=items.values("prompt")) | Q(pk__in=answers.values("prompt"))


def _from_use(rater: Rater, alias: str) -> QuerySet[Prompt]:
    """Conversations that an end user had with an application: theirs altogether, the answers to them too."""
    judged = Item.objects.using(alias).filter(batch__field_intake__isnull=False, judgments__rater=rater)
    return Prompt.objects.using(alias).filter(pk__in=judged.values("prompt"))


def _nameless(key: uuid.UUID) -> str:
    return f"erased-{key.hex}"


def _account(key: uuid.UUID, alias: str) -> list[Subject]:
    found: list[Subject] = [("account", key)]
    row = Account.objects.using(alias).select_for_update(no_key=True).filter(pk=key).first()
    if row is None:
        return found
    for rater in Rater.objects.using(alias).filter(account=key).order_by("pk").values_list("pk", flat=True):
        found += _rater(rater, alias)
    Membership.objects.using(alias).filter(account=key, ended=None).update(ended=clock.now())
    ApiToken.objects.using(alias).filter(author=key, revoked=None).update(revoked=clock.now())
    reasons = Adjudication.objects.using(alias).filter(adjudicator=key).order_by("pk").values_list("pk", flat=True)
    for subject in dict.fromkeys(("reason", one) for one in reasons):
        _one(*subject, alias)
        found += [subject] if subject not in found else []
    RaterQuestion.objects.using(alias).filter(answered_by=key).update(answered_by=None)
    _attempts(row.username, alias)
    row.username, row.display_name, row.email, row.first_name, row.last_name = _nameless(key), "", "", "", ""
    row.is_active = row.is_staff = row.is_superuser = False
    row.language, row.last_login = "en", None
    row.set_unusable_password()
    row.erased = row.erased or clock.now()
    row.save(using=alias)
    return found


def _attempts(username: str, alias: str) -> None:
    """Forget attempts to log in by that name, with the addresses they came from."""
    if apps.is_installed("axes"):
        for name in ("AccessAttempt", "AccessFailureLog", "AccessLog"):
            apps.get_model("axes", name)._base_manager.using(alias).filter(username=username).delete()


def _one(kind: str, key: uuid.UUID, alias: str) -> bool:
    """Erase one text; whether there was anything to erase."""
    at = clock.now()
    if kind == "rationale":
        return bool(Rationale.objects.using(alias).filter(pk=key).exclude(text="").update(text="", erased=at))
    if kind == "skip":
        return bool(Skip.objects.using(alias).filter(pk=key).exclude(note="").update(note=""))
    if kind == "replies":
        return bool(Provenance.objects.using(alias).filter(pk=key).exclude(replies=[]).update(replies=[]))
    if kind == "completion":
        _unquote(Q(judgment__item__entries__completion=key), alias)
        rows = Completion.objects.using(alias).filter(pk=key, erased=None)
        return bool(rows.update(text="", source={}, erased=at))
    if kind == "turn":
        turns = DialogueTurn.objects.using(alias).filter(pk=key).exclude(text="", failure="")
        return bool(turns.update(text="", failure=""))
    if kind == "contest":
        outcomes = GoldOutcome.objects.using(alias).filter(pk=key).exclude(contest="", contest_answer="")
        return bool(outcomes.update(contest="", contest_answer=""))
    if kind == "reason":
        return bool(Adjudication.objects.using(alias).filter(pk=key).exclude(reason="").update(reason=""))
    _unquote(Q(judgment__item__prompt=key), alias)
    prompt = Prompt.objects.using(alias).filter(pk=key).first()
    if prompt is None or not any(message["content"] for message in prompt.messages):
        return False
    prompt.messages = [{"role": message["role"], "content": ""} for message in prompt.messages]
    prompt.source, prompt.key = {}, "0" * 16
    prompt.save(using=alias, update_fields=["messages", "source", "key"])
    Item.objects.using(alias).filter(prompt=key).update(state=ItemState.WITHDRAWN)
    return True


def _unquote(which: Q, alias: str) -> None:
    """Erase the words of AI judges about a text that is erased, which may quote it."""
    about = list(Provenance.objects.using(alias).filter(which).exclude(replies=[]).values_list("pk", flat=True))
    Provenance.objects.using(alias).filter(pk__in=about).update(replies=[])


def apply_tombstones(alias: str = "default", journals: Iterable[Path] = ()) -> int:
    """Erase again what came back: of every tombstone in the database and in the journals.

    To be called after a backup was restored or a database moved; does nothing where nothing came back.

    Args:
        alias: the database's.
        journals: further ones; the database's own is always read.

    Returns:
        how many subjects were erased again.

    Raises:
        HeedfulError: a journal is damaged, with the line.
    """
    own = journal_of(alias)
    subjects: dict[Subject, None] = {}
    for path in dict.fromkeys([own, *journals]):
        subjects |= dict.fromkeys(entries(path))
    known = set(Tombstone.objects.using(alias).values_list("kind", "subject"))
    again = 0
    with transaction.atomic(using=alias):
        for kind, key in {**dict.fromkeys(sorted(known)), **subjects}:
            if kind == "rater" and Rater.objects.using(alias).filter(pk=key, erased=None).exists():
                known |= set(found := _rater(key, alias))
                _tombstones(found, alias)
                again += 1
            elif kind == "rater":
                late = _late(key, alias)
                known |= set(late)
                _tombstones(late, alias)
                again += len(late)
            elif kind == "account" and Account.objects.using(alias).filter(pk=key, erased=None).exists():
                _tombstones(_account(key, alias), alias)
                again += 1
            elif kind not in ("rater", "account"):
                again += _one(kind, key, alias)
        _tombstones((one for one in subjects if one not in known), alias)
    journalled = set(entries(own))
    append(own, [one for one in {**dict.fromkeys(sorted(known)), **subjects} if one not in journalled])
    return again


def _late(key: uuid.UUID, alias: str) -> list[Subject]:
    """Erase what was written for a rater who was erased already, by a request that was under way."""
    row = Rater.objects.using(alias).select_for_update(no_key=True).filter(pk=key).first()
    return [] if row is None else [subject for subject, there in _written(row, alias).items() if there]


def journal_of(alias: str) -> Path:
    """Where a database's journal stands: beside a SQLite file; else in HEEDFUL_FOLDER, or the working folder."""
    connection = connections[alias]
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite" and not connection.is_in_memory_db():  # type: ignore[attr-defined]
        return Path(name).with_name(JOURNAL)
    return Path(getattr(settings, "HEEDFUL_FOLDER", None) or ".") / JOURNAL


def journals_beside(*paths: Path) -> list[Path]:
    """The journals in the folders of these files."""
    return [path for path in dict.fromkeys(one.absolute().with_name(JOURNAL) for one in paths) if path.is_file()]


def append(path: Path, found: Iterable[Subject]) -> None:
    """Add subjects to a journal; on disk when this returns."""
    lines = "".join(json.dumps({"kind": kind, "subject": str(key)}) + "\n" for kind, key in found).encode()
    if not lines:
        return
    new = not path.exists()
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                lines = b"\n" + lines  # the last one was cut off by a crash
            os.write(handle, lines)
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            sync_folder(path.parent)
    except OSError as error:
        raise HeedfulError(
            f"the journal of erasures cannot be written ({error.strerror}); nothing was erased.",
            where=str(path),
            mend="Make its folder writable: without the journal a restored backup would bring the texts back.",
        ) from error


def entries(path: Path) -> Iterator[Subject]:
    """The subjects in a journal. A line that a crash cut off was never acknowledged, and is passed over.

    Raises:
        HeedfulError: a line is no entry.
    """
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip() or not line.endswith(b"}"):
            continue
        try:
            row = json.loads(line)
            kind, subject = row["kind"], uuid.UUID(row["subject"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HeedfulError("no entry of the journal of erasures.", where=f"{path}:{number}") from error
        if kind not in KINDS:
            raise HeedfulError(f"{kind!r} is nothing that is erased.", where=f"{path}:{number}")
        yield kind, subject
