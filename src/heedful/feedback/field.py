"""Taking in what end users did: thumbs, regenerations and edits, as judgments of a kind of rater of their own.

What comes is held in memory until it is decided that it is kept, and written only after the patterns of
`heedful.data.deidentify` have been taken out of it. Of an event without consent nothing is written but a count.
"""

from __future__ import annotations

import hmac
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Max

from heedful.data.deidentify import PATTERNS, deidentify
from heedful.errors import HeedfulError
from heedful.feedback import clock, content, erasure, programmes
from heedful.feedback.conflict import Conflict
from heedful.feedback.export_select import FIELD
from heedful.feedback.incoming import problem
from heedful.feedback.keeping import Said, keep, payload_of, tell_of
from heedful.feedback.leases import hold_rater
from heedful.feedback.models import (
    Batch,
    Completion,
    Consent,
    FieldEvent,
    FieldIntake,
    FieldKind,
    FieldOutcome,
    FieldRefusal,
    Item,
    ItemCompletion,
    ItemState,
    Judgment,
    Programme,
    Prompt,
    Rater,
    RaterKind,
    TaskKind,
)
from heedful.feedback.rules import Rules, rules_of
from heedful.feedback.texts import clean
from heedful.feedback.transactions import writes
from heedful.feedback.wire import FieldFeedback, FieldResult, NewCompletion, NewItem, json_of

BATCH = "In the field"
TASKS = {FieldKind.THUMB: "thumb", FieldKind.REGENERATION: "pairwise", FieldKind.EDIT: "edit"}
KEPT_STRENGTH = 1
"""Of a regenerated answer that was kept, over the one before: slightly better. Nobody compared them on purpose."""
NO_CONSENT, REFUSED, CONFLICT, WITHDRAWN = "no_consent", "refused", "conflict", "withdrawn"
"""What becomes of an event besides `FieldOutcome`."""


FIELDS = {"completions[0].text": "answer", "completions[1].text": "new", "text": "edited", "rationale": "comment"}
"""What the store calls a text, and what the application calls it."""


class Secret:
    """What turns the ids that an application sends into hashes that nobody without it can try out.

    Args:
        key: of the server; kept apart from the database.
        programme: whose hashes; another's are others.
    """

    def __init__(self, key: bytes, programme: Programme) -> None:
        if len(key) < 32:
            raise HeedfulError("a key of 32 bytes or more is needed.", where="field key")
        self._key, self._programme = key, str(programme.pk)

    def of(self, what: str, text: str) -> str:
        """Hex HMAC-SHA256 of a text, for one purpose."""
        return hmac.new(self._key, f"{self._programme}\n{what}\n{text}".encode(), sha256).hexdigest()

    def place(self, what: str, text: str) -> float:
        """A number from 0 to 1 that a text always has."""
        return int(self.of(what, text)[:16], 16) / 2**64


@dataclass(frozen=True)
class Intake:
    """Where a programme takes in what end users did."""

    programme: Programme
    rules: Rules
    secret: Secret
    batch: Batch


@dataclass(frozen=True)
class Erasure:
    """What a withdrawal erased."""

    known: bool
    erased: Mapping[str, int]
    """Tombstones by kind."""


def intake_of(programme: Programme, key: bytes) -> Intake:
    """A programme's intake, made on first need.

    Raises:
        Conflict: the server's secret is not the one that its users' keys were hashed with.
    """
    secret = Secret(key, programme)
    check = secret.of("check", "")
    found = FieldIntake.objects.select_related("batch__guideline").filter(programme=programme).first()
    if found is None:
        found = _begin(programme, check)
    if not hmac.compare_digest(found.key_check, check):
        raise Conflict(
            "this server's field key is not the one that the users' keys were hashed with.",
            where="field-key",
            mend="Put the file field-key back into the studio's folder; without it nobody's withdrawal finds them.",
        )
    return Intake(programme, rules_of(programme.settings), secret, found.batch)


@writes
def _begin(programme: Programme, check: str) -> FieldIntake:
    Programme.objects.select_for_update(no_key=True).get(pk=programme.pk)  # two first events make one batch
    found = FieldIntake.objects.select_related("batch__guideline").filter(programme=programme).first()
    if found is not None:
        return found
    batch = content.create_batch(programme, BATCH)
    content.close_batch(batch)  # nobody is asked to judge these
    return FieldIntake.objects.create(programme=programme, batch=batch, key_check=check)


def take_in(programme: Programme, given: Sequence[FieldFeedback], *, key: bytes) -> list[FieldResult]:
    """Take in events, each whole or not at all; a problem of one is no hindrance to the others.

    Args:
        programme: whose users they are of.
        given: the events.
        key: the server's secret, of 32 bytes or more.

    Returns:
        what became of each, in order.

    Raises:
        Conflict: the secret is not the one that users' keys were hashed with.
    """
    intake = intake_of(programme, key)
    return [FieldResult(one.id, *_decided(intake, one)) for one in given]


def _decided(intake: Intake, one: FieldFeedback) -> tuple[str, str, str]:
    """(status, detail, field) of an event."""
    try:
        if one.consent is not True:
            _count_refusal(intake.programme, one.model)
            return NO_CONSENT, "", ""
        return _taken(intake, one), "", ""
    except Conflict as error:
        return (WITHDRAWN, "", "") if error.where == "rater" else (CONFLICT, error.what, error.where)
    except HeedfulError as error:
        return REFUSED, error.what, FIELDS.get(error.where, error.where)


@writes
def _count_refusal(programme: Programme, policy: str) -> None:
    day = {"programme": programme, "day": clock.now().date(), "policy": clean(policy, "model", longest=300)}
    FieldRefusal.objects.get_or_create(**day)
    FieldRefusal.objects.filter(**day).update(count=F("count") + 1)


def _taken(intake: Intake, one: FieldFeedback) -> str:
    """Keep an event, or write down why not: once for each id, whichever process is asked.

    Raises:
        Conflict: the id came with something else.
        HeedfulError: a text is not as it should be.
    """
    _check(one)
    event, request = intake.secret.of("event", one.id), _request(intake, one)
    known = FieldEvent.objects.select_related("user").filter(programme=intake.programme, event_hash=event).first()
    if known is not None:
        return _again(known, request)
    before = _replaced(intake, one)
    outcome, found = _outcome(intake, one, before), Counter[str]()
    if outcome == FieldOutcome.KEPT:  # looked through before the transaction: others write meanwhile
        one, found = without_names(one, intake.rules)
    row = FieldEvent(
        programme=intake.programme,
        event_hash=event,
        request_hash=request,
        kind=one.kind,
        policy=one.model,
        outcome=outcome,
        up=one.up if one.kind == FieldKind.THUMB else None,
    )
    return _entered(intake, one, row, found, before)


@writes
def _entered(
    intake: Intake, one: FieldFeedback, row: FieldEvent, found: Counter[str], before: FieldEvent | None
) -> str:
    """Write an event's row, and what it says where that is kept; unless another process was first.

    Raises:
        HeedfulError: it is to replace another user's.
    """
    try:
        with transaction.atomic():  # a second one waits here until the first is done
            row.save(force_insert=True)
    except IntegrityError:
        first = FieldEvent.objects.select_related("user")
        return _again(first.get(programme=intake.programme, event_hash=row.event_hash), row.request_hash)
    if row.outcome != FieldOutcome.KEPT:
        return str(row.outcome)
    user = _user(intake, one)
    if before is not None and before.user_id is not None:
        _retire(before, user)
    if _full(intake, user):
        row.outcome = FieldOutcome.CAPPED
    else:
        row.user, row.judgment, row.found = user, _written(intake, user, one, row.event_hash), dict(found)
    row.save(update_fields=["outcome", "user", "judgment", "found"])
    return str(row.outcome)


def _again(found: FieldEvent, request: str) -> str:
    """What became of an event the first time.

    Raises:
        Conflict: the id came with something else.
    """
    if not hmac.compare_digest(found.request_hash, request):
        raise Conflict("this id came with something else before.", where="id", mend="Give each event an id of its own.")
    return WITHDRAWN if found.user is not None and found.user.erased else str(found.outcome)


def _request(intake: Intake, one: FieldFeedback) -> str:
    said = {name: value for name, value in json_of(one).items() if name not in ("consent", "consent_text")}
    return intake.secret.of("request", json.dumps(said, sort_keys=True))


def _replaced(intake: Intake, one: FieldFeedback) -> FieldEvent | None:
    """The event that this one stands in place of, if it came."""
    if not one.replaces:
        return None
    rows = FieldEvent.objects.select_related("judgment__item")
    return rows.filter(programme=intake.programme, event_hash=intake.secret.of("event", one.replaces)).first()


def _retire(before: FieldEvent, user: Rater) -> None:
    """Take what an event said out of training: its user says something else since. The caller holds the user.

    Raises:
        HeedfulError: it is another user's.
    """
    if before.user_id != user.pk:
        raise HeedfulError("the event to be replaced is another user's.", where="replaces")
    if FieldEvent.objects.filter(pk=before.pk, outcome=FieldOutcome.KEPT).update(outcome=FieldOutcome.REPLACED):
        assert before.judgment is not None
        content.withdraw_item(before.judgment.item, actor=user)


def _outcome(intake: Intake, one: FieldFeedback, before: FieldEvent | None) -> str:
    """What becomes of an event but for the cap; of one that replaces another, what became of that."""
    if one.kind == FieldKind.REGENERATION and not one.kept:
        return str(FieldOutcome.NOT_KEPT)
    if before is not None and before.outcome == FieldOutcome.SAMPLED_OUT:
        return str(FieldOutcome.SAMPLED_OUT)
    if before is not None and before.judgment_id is not None:
        return str(FieldOutcome.KEPT)
    drawn = intake.secret.place("sample", one.conversation or one.id)
    return str(FieldOutcome.KEPT if drawn < intake.rules.field_share else FieldOutcome.SAMPLED_OUT)


def _user(intake: Intake, one: FieldFeedback) -> Rater:
    """The end user's rater, its row held until the transaction ends; their consent is written down with it."""
    name = intake.secret.of("user", one.user)
    rater = programmes.agent(intake.programme, str(RaterKind.END_USER), name)
    hold_rater(rater.pk)
    text = sha256(one.consent_text.encode()).hexdigest()
    Consent.objects.get_or_create(rater=rater, text_sha256=text, withdrawn=None)
    return rater


def _full(intake: Intake, user: Rater) -> bool:
    since = clock.now() - timedelta(days=intake.rules.field_cap_days)
    held = FieldEvent.objects.filter(user=user, outcome=FieldOutcome.KEPT, created__gte=since)
    return held.count() >= intake.rules.field_cap


# --- what it says ---


def _check(one: FieldFeedback) -> None:
    """Refuse an event whose fields do not go together.

    Raises:
        HeedfulError: naming the field.
    """
    for field, value, most in (("id", one.id, 200), ("user", one.user, 500), ("model", one.model, 300)):
        clean(value, field, longest=most, empty=False)
    for field in ("conversation", "consent_text", "replaces"):
        clean(getattr(one, field), field, longest=200)
    if one.replaces == one.id:
        raise HeedfulError("an event cannot replace itself.", where="replaces")
    if one.kind not in FieldKind.values:
        raise HeedfulError("{kind!r} is nothing that end users do.", where="kind", kind=one.kind)
    needed = {FieldKind.THUMB: "up", FieldKind.REGENERATION: "new", FieldKind.EDIT: "edited"}
    for kind, field in needed.items():
        given = getattr(one, field)
        if kind == one.kind and given in (None, ""):
            raise HeedfulError("a {kind} needs it.", where=field, kind=str(kind))
        if kind != one.kind and given not in (None, ""):
            raise HeedfulError("a {kind} has no such field.", where=field, kind=one.kind)
    if one.kind == FieldKind.REGENERATION and one.kept is None:
        raise HeedfulError("was the new answer kept?", where="kept")
    if one.kind != FieldKind.REGENERATION and one.kept is not None:
        raise HeedfulError("a {kind} has no such field.", where="kept", kind=one.kind)
    other = one.new or one.edited
    if other and other.strip() == one.answer.strip():
        raise HeedfulError("both texts are the same.", where=needed[FieldKind(one.kind)])


def without_names(one: FieldFeedback, rules: Rules) -> tuple[FieldFeedback, Counter[str]]:
    """The event with `[email]`, `[phone]`, `[card]` and `[address]` in place of what the patterns find in its texts."""
    found: Counter[str] = Counter()
    regions = rules.field_regions.split()

    def cleaned(text: str) -> str:
        made, counted = deidentify(text, tuple(PATTERNS), regions=regions)
        found.update(counted)
        return made

    messages = [{"role": turn["role"], "content": cleaned(turn["content"])} for turn in one.messages]
    made = replace(
        one,
        messages=messages,
        answer=cleaned(one.answer),
        new=cleaned(one.new),
        edited=cleaned(one.edited),
        comment=cleaned(one.comment),
    )
    return made, found


def _item_of(one: FieldFeedback) -> NewItem:
    answers = [NewCompletion(one.answer, one.model)]
    if one.kind == FieldKind.REGENERATION:
        answers.append(NewCompletion(one.new, one.model))
    task = TASKS[FieldKind(one.kind)]
    return NewItem(one.messages, answers, task, language=one.language, source={FIELD: one.kind})


def _written(intake: Intake, user: Rater, one: FieldFeedback, event: str) -> Judgment:
    """The rows of an event: its item, which is done and asks nobody, and the judgment. The caller holds the user."""
    new = _item_of(one)
    wrong = problem(new, intake.batch, (), from_use=True)
    if wrong is not None:
        raise wrong
    batch = Batch.objects.select_for_update(no_key=True).get(pk=intake.batch.pk)
    last = Item.objects.filter(batch=batch).aggregate(last=Max("position"))["last"]
    prompts, completions, items, entries = content.build(batch, [new], 0 if last is None else last + 1)
    items[0].state = ItemState.DONE
    for model, rows in ((Prompt, prompts), (Completion, completions), (Item, items), (ItemCompletion, entries)):
        model._default_manager.bulk_create(rows)
    said = Said(_payload(one), event, one.comment, False, 0, one.edited or None)
    followed = batch.guideline_id
    kept, written = payload_of(items[0], followed, said, None, user.pk)
    made = Judgment(
        purpose=batch.purpose,
        payload=kept,
        order=list(range(len(entries))) if new.kind == TaskKind.PAIRWISE else [],
        request_sha256=said.digest("field", items[0].pk),
    )
    keep(made, items[0], user.pk, followed, None, said, written)
    tell_of("judgment.recorded", made, None)
    return made


def _payload(one: FieldFeedback) -> dict[str, Any]:
    """What an event says, in its item's own indices."""
    if one.kind == FieldKind.THUMB:
        return {"up": one.up}
    return {"strength": KEPT_STRENGTH} if one.kind == FieldKind.REGENERATION else {}


# --- withdrawal ---


def withdraw(programme: Programme, user: str, *, key: bytes, actor: Any = None) -> Erasure:
    """An end user takes their consent back: what they wrote, what they were answered and their key are erased.

    Args:
        programme: where.
        user: their key, as the application sends it with events.
        key: the server's secret.
        actor: who asks, for the audit log.

    Raises:
        Conflict: the secret is not the one that users' keys were hashed with.
    """
    clean(user, "user", longest=500, empty=False)
    intake = intake_of(programme, key)
    name = intake.secret.of("user", user)
    with transaction.atomic():
        found = Rater.objects.filter(programme=programme, kind=RaterKind.END_USER, name=name, erased=None).first()
        if found is None:
            return Erasure(False, {})
        programmes.withdraw_consent(found)
        return Erasure(True, erasure.erase_rater(found, actor=actor).subjects)
