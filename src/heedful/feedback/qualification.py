"""Tests that raters pass before they are given work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Max, Q, QuerySet

from heedful.errors import HeedfulError
from heedful.feedback import clock, events, places, statements
from heedful.feedback.models import (
    Account,
    Batch,
    BatchState,
    CurrentJudgment,
    GoldKey,
    Guideline,
    Item,
    ItemCompletion,
    ItemState,
    Programme,
    Purpose,
    Qualification,
    QualificationAttempt,
    Rater,
    Skip,
    Slot,
    TaskKind,
)
from heedful.feedback.patterns import check
from heedful.feedback.payloads import matches
from heedful.feedback.texts import clean

ORDINARY = (Purpose.TRAIN, Purpose.CHECK)
"""Purposes of batches whose items go to whoever is next; the others' go to one rater at a time."""


@dataclass(frozen=True)
class Standing:
    """How a rater stands in one qualification."""

    qualification: Qualification
    attempts: tuple[QualificationAttempt, ...]
    """Finished ones, the first first."""
    running: QualificationAttempt | None
    answered: int
    """Items of the running attempt that are answered or skipped."""
    items: int
    passed: bool
    left: int
    """Attempts that may still be started."""


def create(
    programme: Programme,
    batch: Batch,
    name: str,
    *,
    actor: Account,
    pass_mark: float = 0.8,
    attempts_allowed: int = 2,
    task: str = "",
    language: str = "",
    guideline_version: int | None = None,
    required: bool = True,
) -> Qualification:
    """Make a test of a batch whose items all have keys (`gold.promote` gives them).

    Args:
        programme: whose work it stands before.
        batch: of purpose qualification.
        name: shown to raters.
        actor: who makes it.
        pass_mark: share of the items that must be right, above 0, at most 1.
        attempts_allowed: 1 to 20.
        task, language, guideline_version: scope: the work that it stands before; empty: any.
        required: without a pass no work in the scope is given.

    Raises:
        HeedfulError: the batch is of another purpose or programme, empty, has a test already, or holds items without a
            key; a figure out of range; a scope that cannot be.
    """
    clean(name, "name", longest=120, empty=False)
    if batch.programme_id != programme.pk or batch.purpose != Purpose.QUALIFICATION:
        raise HeedfulError("the batch is not this programme's, or not for qualification.", where="batch")
    if not 0 < pass_mark <= 1:
        raise HeedfulError("{value} is no share above 0, at most 1.", where="pass_mark", value=pass_mark)
    if not 1 <= attempts_allowed <= 20:
        raise HeedfulError("{value} is not in 1 to 20.", where="attempts_allowed", value=attempts_allowed)
    if task and task not in TaskKind.values:
        raise HeedfulError("{task!r} is no kind of task.", where="task", task=task)
    clean(language, "language", longest=12)
    versions = programme.guidelines.values_list("version", flat=True)
    if guideline_version is not None and guideline_version not in versions:
        raise HeedfulError("there is no version {version}.", where="guideline_version", version=guideline_version)
    items = _items(batch)
    without = items.filter(gold_key__isnull=True).count()
    if without or not items.exists():
        raise HeedfulError(
            "{without} of {count} items have no key.",
            where="batch",
            mend="Say what is right for each.",
            without=without,
            count=items.count(),
        )
    with transaction.atomic():
        if Qualification.objects.filter(batch=batch).exists():
            raise HeedfulError("the batch is a test already.", where="batch")
        made = Qualification.objects.create(
            programme=programme,
            batch=batch,
            name=name.strip(),
            pass_mark=pass_mark,
            attempts_allowed=attempts_allowed,
            task=task,
            language=language,
            guideline_version=guideline_version,
            required=required,
        )
        events.record("qualification.created", programme=programme, actor=actor, qualification=made, batch=batch)
    return made


def renew(qualification: Qualification, guideline: Guideline, *, actor: Account) -> Qualification:
    """The same test for another version of the guideline: who passed the old one is asked again.

    Its items and keys are copied into an open batch under the new version.

    Raises:
        HeedfulError: the guideline is another programme's, the test was renewed for it already, or a key names an
            attribute that its rubric lacks.
    """
    programme, old = qualification.programme, qualification.batch
    if guideline.programme_id != programme.pk:
        raise HeedfulError("the guideline is another programme's.", where="guideline")
    name = f"{qualification.name} ({guideline.version})"[:120]
    with transaction.atomic():
        if programme.qualifications.filter(name=name, guideline_version=guideline.version).exists():
            raise HeedfulError("this test was renewed for that version.", where="guideline")
        batch = Batch.objects.create(
            programme=programme,
            name=name,
            round=old.round,
            purpose=Purpose.QUALIFICATION,
            state=BatchState.OPEN,
            guideline=guideline,
        )
        for key in GoldKey.objects.filter(item__in=_items(old)).select_related("item").order_by("item__position"):
            _copy(key, batch)
        return create(
            programme,
            batch,
            name,
            actor=actor,
            pass_mark=qualification.pass_mark,
            attempts_allowed=qualification.attempts_allowed,
            task=qualification.task,
            language=qualification.language,
            guideline_version=guideline.version,
            required=qualification.required,
        )


def _copy(key: GoldKey, batch: Batch) -> None:
    old = key.item
    entries = list(old.entries.all())
    check(old.kind, key.acceptable, completions=len(entries), attributes=batch.guideline.attributes)
    made = Item.objects.create(
        programme_id=old.programme_id,
        batch=batch,
        prompt_id=old.prompt_id,
        kind=old.kind,
        purpose=batch.purpose,
        language=old.language,
        expertise=old.expertise,
        position=old.position,
    )
    ItemCompletion.objects.bulk_create(
        ItemCompletion(item=made, completion_id=entry.completion_id, index=entry.index) for entry in entries
    )
    GoldKey.objects.create(item=made, acceptable=key.acceptable, reason=key.reason, active_from=clock.now())


def start_attempt(qualification: Qualification, rater: Rater) -> QualificationAttempt:
    """Begin a try, or go on with the one that is running; the studio then serves its items first.

    Raises:
        HeedfulError: the rater is of another programme, passed already or has no attempt left; the test is not open.
    """
    if rater.programme_id != qualification.programme_id:
        raise HeedfulError("the test is another programme's.", where="qualification")
    if qualification.batch.state != BatchState.OPEN:
        raise HeedfulError("the test is not open.", where="qualification", mend="Ask the manager to open it.")
    with transaction.atomic():
        Rater.objects.select_for_update(no_key=True).get(pk=rater.pk)
        own = QualificationAttempt.objects.filter(qualification=qualification, rater=rater)
        running = own.filter(finished__isnull=True).first()
        if running is not None:
            return running
        if own.filter(passed=True).exists():
            raise HeedfulError("the test is passed.", where="qualification")
        number = (own.aggregate(last=Max("number"))["last"] or 0) + 1
        if number > qualification.attempts_allowed:
            raise HeedfulError(
                "no attempt is left.", where="qualification", mend="Ask the manager, who can allow another."
            )
        made = QualificationAttempt.objects.create(qualification=qualification, rater=rater, number=number)
        events.record(
            "qualification.started",
            programme=qualification.programme_id,
            actor=rater,
            qualification=qualification,
            attempt=made,
        )
    return made


def change(
    qualification: Qualification,
    *,
    actor: Account,
    attempts_allowed: int | None = None,
    required: bool | None = None,
) -> Qualification:
    """Allow more or fewer attempts, or no longer require the test. None leaves a thing as it is.

    Raises:
        HeedfulError: attempts outside 1 to 20.
    """
    if attempts_allowed is not None and not 1 <= attempts_allowed <= 20:
        raise HeedfulError("{value} is not in 1 to 20.", where="attempts_allowed", value=attempts_allowed)
    with transaction.atomic():
        found = Qualification.objects.select_for_update(no_key=True).get(pk=qualification.pk)
        found.attempts_allowed = found.attempts_allowed if attempts_allowed is None else attempts_allowed
        found.required = found.required if required is None else required
        found.save(update_fields=["attempts_allowed", "required"])
        events.record("qualification.changed", programme=found.programme_id, actor=actor, qualification=found)
    return found


def next_slot(rater: Rater, batches: Sequence[Batch]) -> Slot | None:
    """The next item of the rater's running attempt in one of these batches, the one begun first."""
    tests = [batch.pk for batch in batches if batch.purpose == Purpose.QUALIFICATION]
    if not tests:
        return None
    running = QualificationAttempt.objects.filter(rater=rater, finished=None, qualification__batch__in=tests)
    for attempt in running.select_related("qualification__batch__guideline").order_by("created", "pk"):
        done = _answered(attempt)
        waiting = 0
        for item in _items(attempt.qualification.batch).exclude(pk__in=done).order_by("position", "pk"):
            waiting += 1
            slot = places.reserve(rater, item, str(Purpose.QUALIFICATION), pass_number=attempt.number)
            if slot is not None:
                return slot
        if not waiting:
            finish(attempt)
    return None


def after(rater: Rater, batch: Batch, number: int) -> None:
    """Finish an attempt if everything in it is answered or skipped."""
    attempt = QualificationAttempt.objects.filter(
        qualification__batch=batch, rater=rater, number=number, finished__isnull=True
    ).first()
    if attempt is not None and not _items(batch).exclude(pk__in=_answered(attempt)).exists():
        finish(attempt)


def finish(attempt: QualificationAttempt) -> None:
    """Score an attempt: the share of the test's items with an acceptable answer; a skip is none."""
    with transaction.atomic():
        attempt = QualificationAttempt.objects.select_for_update(no_key=True).get(pk=attempt.pk)
        if attempt.finished is not None:
            return
        qualification = attempt.qualification
        items = _items(qualification.batch)
        keys = dict(GoldKey.objects.filter(item__in=items).values_list("item_id", "acceptable"))
        answers = _judgments(attempt).values_list("item_id", "judgment__kind", "judgment__payload")
        right = sum(item in keys and matches(kind, payload, keys[item]) for item, kind, payload in answers)
        attempt.finished = clock.now()
        attempt.score = right / len(keys) if keys else 0.0
        attempt.passed = attempt.score >= qualification.pass_mark
        attempt.save(update_fields=["finished", "score", "passed"])
        events.record(
            "qualification.finished",
            programme=qualification.programme_id,
            actor=attempt.rater_id,
            qualification=qualification,
            attempt=attempt,
            passed=attempt.passed,
        )


def _items(batch: Batch) -> QuerySet[Item]:
    return Item.objects.filter(batch=batch, purpose=Purpose.QUALIFICATION).exclude(state=ItemState.WITHDRAWN)


def _judgments(attempt: QualificationAttempt) -> QuerySet[CurrentJudgment]:
    return CurrentJudgment.objects.filter(
        rater=attempt.rater_id,
        item__batch=attempt.qualification.batch_id,
        purpose=Purpose.QUALIFICATION,
        pass_number=attempt.number,
    )


def _answered(attempt: QualificationAttempt) -> set[object]:
    """Ids of the items that this attempt has judged or skipped."""
    skipped = Skip.objects.filter(
        assignment__rater=attempt.rater_id,
        assignment__item__batch=attempt.qualification.batch_id,
        assignment__purpose=Purpose.QUALIFICATION,
        assignment__pass_number=attempt.number,
    )
    judged = _judgments(attempt).values_list("item_id", flat=True)
    return set(judged) | set(skipped.values_list("assignment__item_id", flat=True))


def standing(rater: Rater) -> list[Standing]:
    """How a rater stands in each of the programme's tests that are open or that they have taken."""
    tests = Qualification.objects.filter(programme=rater.programme_id).select_related("batch")
    shown = tests.filter(Q(batch__state=BatchState.OPEN) | Q(attempts__rater=rater)).distinct().order_by("name", "pk")
    return [_standing(test, rater) for test in shown]


def _standing(test: Qualification, rater: Rater) -> Standing:
    attempts = list(test.attempts.filter(rater=rater).order_by("number"))
    running = next((one for one in attempts if one.finished is None), None)
    finished = tuple(one for one in attempts if one.finished is not None)
    passed = any(one.passed for one in finished)
    left = 0 if passed else max(0, test.attempts_allowed - len(attempts))
    answered = len(_answered(running)) if running else 0
    return Standing(test, finished, running, answered, _items(test.batch).count(), passed, left)


REQUIRED = """
SELECT {q} FROM feedback_qualification q JOIN feedback_batch b ON b.id = q.batch_id
WHERE q.programme_id = %s AND q.required AND b.state <> 'staged' AND NOT EXISTS (
  SELECT 1 FROM feedback_qualificationattempt a WHERE a.qualification_id = q.id AND a.rater_id = %s AND a.passed)
ORDER BY q.name, q.id
"""


def required(rater: Rater) -> list[Qualification]:
    """The tests that a programme requires and that a rater has not passed."""
    return [test for (test,) in statements.rows(REQUIRED, [rater.programme_id, rater.pk], q=Qualification)]


def lacking(rater: Rater, batch: Batch, tests: Sequence[Qualification] | None = None) -> list[Qualification]:
    """The required tests that stand before a batch and that a rater has not passed.

    A test stands before a batch that is under its guideline version and holds an item of its task and language, if
    the rater reads that language: nobody is asked for a test of what they are never given.

    Args:
        rater: whose.
        batch: which they ask for.
        tests: those that are `required`, where the caller asks for several batches.
    """
    return [
        test
        for test in (required(rater) if tests is None else tests)
        if test.guideline_version in (None, batch.guideline.version) and _covers(test, rater, batch)
    ]


def _covers(test: Qualification, rater: Rater, batch: Batch) -> bool:
    if not test.task and not test.language:
        return True
    if test.language and rater.languages and test.language not in rater.languages:
        return False
    items = Item.objects.filter(batch=batch)
    if test.task:
        items = items.filter(kind=test.task)
    if test.language:
        items = items.filter(language=test.language)
    return items.exists()


def may_work(rater: Rater, batch: Batch, tests: Sequence[Qualification] | None = None) -> bool:
    """Whether a rater may be given this batch's ordinary work: every test that stands before it is passed.

    Batches of gold, tests and calibration have no ordinary work. `tests` as for `lacking`.
    """
    return batch.purpose in ORDINARY and not lacking(rater, batch, tests)
