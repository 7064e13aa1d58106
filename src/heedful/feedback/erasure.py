"""Erasing people: names, groups and every free text of theirs go; what they judged is learnt from no more.

Verdicts stay in the store as rows that lead to nobody, so that pay, quotas and the trail add up; a tombstone keeps each
out of every dataset from then on (`heedful.feedback.withdrawal`).

What was erased stays erased. A tombstone is written for each subject, in the database and in a journal beside
it, which no restored backup takes away: `apply_tombstones` erases again whatever came back.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections, transaction
from django.db.models import Q, QuerySet

from heedful.feedback import clock, events
from heedful.feedback.journal import JOURNAL, Subject, append, entries
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
    Judgment,
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

CHUNK = 500


@dataclass(frozen=True)
class Erased:
    """What was erased, in counts."""

    subjects: dict[str, int]
    """Tombstones by kind."""


def erase_rater(rater: Rater, *, actor: Any = None) -> Erased:
    """Erase a person (or agent) who judges in one programme: everything they wrote, their groups, their account's link.

    Their judgments stay as rows, under an id that leads to nobody, and leave every dataset that is made from now on.

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


def withdraw_judgments(rater: Rater) -> int:
    """Keep all that a rater has judged so far out of every dataset that is made from now on. It is for good.

    Returns:
        how many judgments were withdrawn that were not before.
    """
    with transaction.atomic():
        row = Rater.objects.select_for_update(no_key=True).get(pk=rater.pk)
        known = set(Tombstone.objects.filter(kind="judgment").values_list("subject", flat=True))
        found = [subject for subject in _judged(row.pk, "default") if subject[1] not in known]
        if found:
            events.record("judgments.withdrawn", programme=row.programme_id, actor=row, count=len(found))
            _bury(found)
    return len(found)


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
    found += _judged(key, alias)
    row.account, row.name, row.pause_reason = None, _nameless(key), ""
    row.languages, row.expertise, row.excluded_categories = [], [], []
    row.erased = row.erased or clock.now()
    row.save(using=alias)
    return found


def _judged(rater: uuid.UUID, alias: str) -> list[Subject]:
    """The judgments of a rater, for the tombstones that keep them out of datasets."""
    rows = Judgment.objects.using(alias).filter(rater=rater).order_by("pk")
    return [("judgment", key) for key in rows.values_list("pk", flat=True)]


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
    """Erase one text; whether there was anything to erase. A judgment is a row that stays: its tombstone is all."""
    at = clock.now()
    if kind == "judgment":
        return False
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
                late = _late(key, alias, {*known, *subjects})
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


def _late(key: uuid.UUID, alias: str, known: Collection[Subject]) -> list[Subject]:
    """Erase what was written for a rater who was erased already, by a request that was under way."""
    row = Rater.objects.using(alias).select_for_update(no_key=True).filter(pk=key).first()
    if row is None:
        return []
    judged = [subject for subject in _judged(key, alias) if subject not in known]
    return [subject for subject, there in _written(row, alias).items() if there] + judged


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
