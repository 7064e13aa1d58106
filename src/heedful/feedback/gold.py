"""Gold: items whose right answers are known, shown among the others to see how well raters judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet

from heedful.core.statistics import Interval, wilson
from heedful.errors import HeedfulError, Sentence
from heedful.feedback import clock, events, patterns, places
from heedful.feedback.models import (
    Account,
    Adjudication,
    AuditEvent,
    FieldIntake,
    GoldKey,
    GoldOutcome,
    Item,
    ItemState,
    Judgment,
    Programme,
    Purpose,
    Rater,
    RaterKind,
)
from heedful.feedback.payloads import matches
from heedful.feedback.rules import rules_of
from heedful.feedback.texts import clean

RESUMED = "rater.resumed"
LONGEST_TEXT = 5_000
EARLIEST = 4
"""The fewest gold answers that pause anybody before the window is full."""
EARLY_LEVEL = 0.98
"""Coverage of the interval that must lie below the floor for that."""


@dataclass(frozen=True)
class Accuracy:
    """How a rater did on gold. Contests that were upheld do not count."""

    judged: int
    passed: int
    interval: Interval | None
    """Wilson's; None without a single outcome."""


@dataclass(frozen=True)
class KeyRow:
    """A gold item on the lead's page."""

    key: GoldKey
    accuracy: Accuracy
    """Of all raters together."""
    waiting: int
    """Contests without an answer."""


def promote(
    item: Item, acceptable: Sequence[Any], reason: str, *, actor: Account, adjudication: Adjudication | None = None
) -> GoldKey:
    """Make an item gold: no judgment of it is exported for training any more, those from before included.

    Its free places close; whoever has it open may finish. An item of a
    qualification or calibration batch gets its key and stays what it is.

    Args:
        item: pairwise, ranking or attributes.
        acceptable: patterns, see `heedful.feedback.payloads.matches`.
        reason: why; raters read it.
        actor: who promotes it.
        adjudication: the decided one that it rests on, if any.

    Raises:
        HeedfulError: the item is gold already, withdrawn, or of a kind without right answers; a pattern that is wrong;
            no reason; an adjudication of another item, or one that is not decided.
    """
    if FieldIntake.objects.filter(batch=item.batch_id).exists():
        raise HeedfulError(
            "an end user's conversation is shown to no rater.",
            where="item",
            mend="They consented to its use for training; write a question like it.",
        )
    checked = _checked(item, acceptable, reason)
    if adjudication is not None and (adjudication.item_id != item.pk or adjudication.decided is None):
        raise HeedfulError("the adjudication is of another item, or has no verdict yet.", where="adjudication")
    with transaction.atomic():
        locked = Item.objects.select_for_update(no_key=True).get(pk=item.pk)
        if locked.state == ItemState.WITHDRAWN:
            raise HeedfulError("a withdrawn item cannot be gold.", where="item")
        if GoldKey.objects.filter(item=locked).exists():
            raise HeedfulError("the item has a key already.", where="item", mend="Change that one.")
        key = GoldKey.objects.create(
            item=locked, acceptable=checked, reason=reason.strip(), adjudication=adjudication, active_from=clock.now()
        )
        if locked.purpose not in (Purpose.QUALIFICATION, Purpose.CALIBRATION):
            locked.purpose, locked.state = Purpose.GOLD, ItemState.DONE
            locked.save(update_fields=["purpose", "state"])
            places.close_free(locked)
        _tell("gold.promoted", key, actor)
    item.refresh_from_db(fields=["purpose", "state"])
    return key


def _checked(item: Item, acceptable: Sequence[Any], reason: str) -> list[dict[str, Any]]:
    clean(reason, "reason", longest=LONGEST_TEXT, empty=False)
    attributes = item.batch.guideline.attributes
    return patterns.check(item.kind, acceptable, completions=item.entries.count(), attributes=attributes)


def _tell(kind: str, key: GoldKey, actor: Account | None) -> None:
    digest = events.digest_of({"acceptable": key.acceptable, "reason": key.reason})
    events.record(kind, programme=key.item.programme_id, actor=actor, digest=digest, item=key.item_id, gold_key=key)


def patterns_of(item: Item, verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """Acceptable answers that follow from a verdict on an item, for the lead to correct before promoting it."""
    return patterns.suggest(item.kind, verdict, item.batch.guideline.attributes)


def revise(key: GoldKey, acceptable: Sequence[Any], reason: str, *, actor: Account) -> GoldKey:
    """Correct a key that was wrong, and show it again if it was retired: what it scored is scored anew.

    Raises:
        HeedfulError: a pattern that is wrong; no reason.
    """
    checked = _checked(key.item, acceptable, reason)
    with transaction.atomic():
        key = GoldKey.objects.select_for_update(no_key=True).get(pk=key.pk)
        key.acceptable, key.reason, key.retired = checked, reason.strip(), None
        key.save(update_fields=["acceptable", "reason", "retired"])
        for outcome in key.outcomes.select_related("judgment"):
            outcome.passed = matches(key.item.kind, outcome.judgment.payload, checked)
            outcome.save(update_fields=["passed"])
        _tell("gold.revised", key, actor)
    return key


def retire(key: GoldKey, *, actor: Account) -> GoldKey:
    """Show a gold item no more. It stays gold: raters know it, so it never returns to training."""
    with transaction.atomic():
        key = GoldKey.objects.select_for_update(no_key=True).get(pk=key.pk)
        if key.retired is None:
            key.retired = clock.now()
            key.save(update_fields=["retired"])
            if key.item.purpose == Purpose.GOLD:
                item = Item.objects.select_for_update(no_key=True).get(pk=key.item_id)
                places.close_free(item, purpose=Purpose.GOLD)
            _tell("gold.retired", key, actor)
    return key


def keys(programme: Programme) -> list[KeyRow]:
    """Every item of a programme that has a key: those in use first, the newest first."""
    counts = Q(outcomes__isnull=False) & (Q(outcomes__upheld__isnull=True) | Q(outcomes__upheld=False))
    rows = (
        GoldKey.objects.filter(item__programme=programme)
        .select_related("item__batch", "item__prompt")
        .annotate(
            judged=Count("outcomes", filter=counts),
            right=Count("outcomes", filter=counts & Q(outcomes__passed=True)),
            waiting=Count("outcomes", filter=Q(outcomes__contested__isnull=False, outcomes__upheld__isnull=True)),
        )
        .order_by("-created", "-pk")
    )
    found = [KeyRow(key, _accuracy(key.right, key.judged), key.waiting) for key in rows]
    return sorted(found, key=lambda row: row.key.retired is not None)


def score(judgment: Judgment) -> GoldOutcome | None:
    """Write how a rater did on a gold item, once; None where there is nothing to write.

    A rater corrects a slip before they are told: the correction is scored, an undone answer is not. In training
    mode the first answer stands, for the right one was shown with it. A contested outcome stays as it is.
    """
    key = GoldKey.objects.filter(item=judgment.item_id).first()
    if key is None or judgment.purpose != Purpose.GOLD:
        return None
    programme = judgment.programme_id
    outcome = GoldOutcome.objects.filter(gold_key=key, rater=judgment.rater_id).first()
    if outcome is not None and (judgment.rater.training_mode or outcome.contested is not None):
        return None
    if judgment.retracts:
        if outcome is not None:
            events.record("gold.unscored", programme=programme, actor=judgment.rater_id, judgment=judgment)
            outcome.delete()
        return None
    if key.retired is not None and outcome is None:
        return None
    passed = matches(judgment.kind, judgment.payload, key.acceptable)
    outcome = outcome or GoldOutcome(gold_key=key, rater=judgment.rater)
    outcome.judgment, outcome.passed = judgment, passed
    outcome.save()
    events.record("gold.scored", programme=programme, actor=judgment.rater_id, judgment=judgment, gold_key=key)
    return outcome


def feedback_for(judgment: Judgment) -> dict[str, Any] | None:
    """What to tell a rater of a judgment just given, or None when gold is silent, as it is in production.

    Returns:
        "passed"; "reason"; "acceptable", sentences in the letters that the rater saw; "outcome", its id.
    """
    if judgment.purpose != Purpose.GOLD or not judgment.rater.training_mode:
        return None
    found = GoldOutcome.objects.filter(gold_key__item=judgment.item_id, rater=judgment.rater_id)
    outcome = found.select_related("gold_key").first()
    return None if outcome is None else explain(outcome, judgment.order)


def explain(outcome: GoldOutcome, order: Sequence[int] = ()) -> dict[str, Any]:
    """An outcome in words: see `feedback_for`."""
    key, judgment = outcome.gold_key, outcome.judgment
    letters = order or judgment.order
    return {
        "passed": outcome.passed,
        "reason": key.reason,
        "acceptable": [patterns.words(judgment.kind, pattern, letters) for pattern in key.acceptable],
        "outcome": outcome.pk,
    }


def visible_outcomes(rater: Rater) -> QuerySet[GoldOutcome]:
    """The outcomes that a rater's own page may show, the newest first.

    All in training mode; those they contested, always; else what failed, while they are paused for it.
    """
    own = rater.gold_outcomes.select_related("gold_key__item__prompt", "judgment").order_by("-created", "-pk")
    if rater.training_mode:
        return own
    if rater.paused is not None and drifted(rater):
        return own.filter(Q(passed=False) | Q(contested__isnull=False))
    return own.filter(contested__isnull=False)


def contest(outcome: GoldOutcome, text: str) -> GoldOutcome:
    """A rater says that the key is wrong, or that their answer is as good. Once an outcome.

    Raises:
        HeedfulError: no text; a contest was made; the answer was right; the outcome was never shown to the rater.
    """
    clean(text, "text", longest=LONGEST_TEXT, empty=False)
    with transaction.atomic():
        outcome = GoldOutcome.objects.select_for_update(no_key=True).get(pk=outcome.pk)
        if outcome.contested is not None:
            raise HeedfulError("this outcome is contested already.", where="outcome")
        if outcome.passed:
            raise HeedfulError("the answer was accepted; there is nothing to contest.", where="outcome")
        if not visible_outcomes(outcome.rater).filter(pk=outcome.pk).exists():
            raise HeedfulError("this outcome cannot be contested now.", where="outcome", mend="Ask the manager.")
        outcome.contest, outcome.contested = text.strip(), clock.now()
        outcome.save(update_fields=["contest", "contested"])
        events.record(
            "gold.contested", programme=outcome.rater.programme_id, actor=outcome.rater_id, gold_outcome=outcome
        )
    return outcome


def answer_contest(outcome: GoldOutcome, upheld: bool, answer: str, actor: Account) -> GoldOutcome:
    """Answer a contest; one that is upheld no longer counts in the rater's accuracy.

    Raises:
        HeedfulError: nobody contested it, it is answered, or the answer is empty.
    """
    clean(answer, "answer", longest=LONGEST_TEXT, empty=False)
    with transaction.atomic():
        outcome = GoldOutcome.objects.select_for_update(no_key=True).get(pk=outcome.pk)
        if outcome.contested is None or outcome.upheld is not None:
            raise HeedfulError("there is no contest to answer.", where="outcome")
        outcome.upheld, outcome.contest_answer = upheld, answer.strip()
        outcome.save(update_fields=["upheld", "contest_answer"])
        programme = outcome.rater.programme_id
        events.record("gold.contest_answered", programme=programme, actor=actor, gold_outcome=outcome, upheld=upheld)
    return outcome


def open_contests(programme: Programme) -> QuerySet[GoldOutcome]:
    """Contests that wait for an answer, the oldest first."""
    waiting = GoldOutcome.objects.filter(rater__programme=programme, contested__isnull=False, upheld__isnull=True)
    return waiting.select_related("gold_key__item__prompt", "rater__account", "judgment").order_by("contested", "pk")


def accuracy(rater: Rater, window: int | None = None) -> Accuracy:
    """How often a rater's answer to gold was acceptable.

    Args:
        rater: whose.
        window: only their last so many outcomes; None: all.
    """
    return _over(rater.gold_outcomes.all(), window)


def _over(outcomes: QuerySet[GoldOutcome], window: int | None) -> Accuracy:
    counted = outcomes.filter(Q(upheld__isnull=True) | Q(upheld=False)).order_by("-created", "-pk")
    passed = list(counted.values_list("passed", flat=True)[:window])
    return _accuracy(sum(passed), len(passed))


def _accuracy(passed: int, judged: int) -> Accuracy:
    return Accuracy(judged, passed, wilson(passed, judged) if judged else None)


def drifted(rater: Rater) -> Accuracy | None:
    """The accuracy that asks for a re-calibration, or None while all is well.

    Looked at are the last `gold_window` outcomes since the rater was last let back to work: see `below`.
    """
    rules = rules_of(rater.programme.settings)
    if rules.gold_floor <= 0:
        return None
    outcomes = rater.gold_outcomes.all()
    again = AuditEvent.objects.filter(programme=rater.programme_id, kind=RESUMED, ids__rater=str(rater.pk))
    since = again.order_by("-seq").values_list("at", flat=True).first()
    if since is not None:
        outcomes = outcomes.filter(created__gt=since)
    found = _over(outcomes, rules.gold_window)
    return found if below(found.passed, found.judged, rules.gold_floor, rules.gold_window) else None


def below(passed: int, judged: int, floor: float, window: int) -> bool:
    """Whether so many acceptable answers of so many ask for a re-calibration.

    A full window is taken as it is: its share lies below the floor. Before, a few failures prove nothing: there must
    be `EARLIEST` answers, and the whole of Wilson's interval at `EARLY_LEVEL` must lie below the floor.

    Args:
        passed: acceptable ones of the last answers.
        judged: of how many, at most the window.
        floor: accuracy asked for, 0 to 1.
        window: answers that are looked at together.
    """
    if judged >= window:
        return passed / judged < floor
    return judged >= EARLIEST and wilson(passed, judged, level=EARLY_LEVEL).high < floor


def pause_if_drifted(rater: Rater) -> bool:
    """Withhold work from a rater whose gold accuracy fell below the floor; whether that was done now.

    Machines are not paused: their accuracy is for whoever runs them to see.
    """
    works = rater.paused is None and rater.kind in (RaterKind.PERSON, RaterKind.SIMULATED)
    found = drifted(rater) if works else None
    if found is None:
        return False
    rater.paused = clock.now()
    rater.pause_reason = str(_drift(found.passed, found.judged))
    rater.save(update_fields=["paused", "pause_reason"])
    events.record("rater.paused", programme=rater.programme_id, rater=rater, passed=found.passed, judged=found.judged)
    return True


def _drift(passed: int, judged: int) -> Sentence:
    return Sentence(
        "{passed} of the last {judged} answers with a known verdict were acceptable.", passed=passed, judged=judged
    )


def pause_reason(rater: Rater) -> str:
    """Why a rater is paused: the words of who did it, or a Sentence where their answers to gold did."""
    trail = AuditEvent.objects.filter(programme=rater.programme_id, kind="rater.paused", ids__rater=str(rater.pk))
    ids: dict[str, Any] = trail.order_by("-seq").values_list("ids", flat=True).first() or {}
    return _drift(ids["passed"], ids["judged"]) if "passed" in ids else rater.pause_reason


def pause(rater: Rater, reason: str, actor: Account) -> Rater:
    """Withhold work from a rater, with a reason that they read.

    Raises:
        HeedfulError: no reason, or one of more than 200 characters.
    """
    clean(reason, "reason", longest=200, empty=False)
    with transaction.atomic():
        rater = Rater.objects.select_for_update(no_key=True).get(pk=rater.pk)
        rater.paused, rater.pause_reason = rater.paused or clock.now(), reason.strip()
        rater.save(update_fields=["paused", "pause_reason"])
        events.record("rater.paused", programme=rater.programme_id, actor=actor, rater=rater)
    return rater


def resume(rater: Rater, actor: Account) -> Rater:
    """Let a paused rater work again; their gold outcomes so far pause them no more."""
    with transaction.atomic():
        rater = Rater.objects.select_for_update(no_key=True).get(pk=rater.pk)
        if rater.paused is not None:
            rater.paused, rater.pause_reason = None, ""
            rater.save(update_fields=["paused", "pause_reason"])
            events.record(RESUMED, programme=rater.programme_id, actor=actor, rater=rater)
    return rater


def set_training(rater: Rater, on: bool, actor: Account) -> Rater:
    """Explain gold to a rater at once, or be silent."""
    with transaction.atomic():
        rater = Rater.objects.select_for_update(no_key=True).get(pk=rater.pk)
        if rater.training_mode != on:
            rater.training_mode = on
            rater.save(update_fields=["training_mode"])
            events.record("rater.training", programme=rater.programme_id, actor=actor, rater=rater, on=on)
    return rater
