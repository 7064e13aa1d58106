"""A programme whose raters' habits and groups are known, written straight into the store."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from feedback_factories import batch, item, programme, rater
from heedful.feedback.models import (
    CurrentJudgment,
    GoldKey,
    GoldOutcome,
    GroupAnswer,
    Item,
    Judgment,
    Programme,
    Purpose,
    Rater,
    RaterKind,
)

BEGIN = datetime(2026, 5, 4, 9, tzinfo=UTC)
PEOPLE, ITEMS = 14, 60
FLIPPER, LEFT = 12, 13
_keys = itertools.count(1)


def say(
    one: Item, who: Rater, payload: dict[str, Any], *, at: datetime = BEGIN, order: list[int] | None = None, **over: Any
) -> Judgment:
    """A judgment that holds, given at a time of one's choice."""
    own = {"purpose": Purpose.TRAIN, "pass_number": 1, "guideline": one.batch.guideline, **over}
    made = Judgment.objects.create(
        programme=one.programme,
        batch=one.batch,
        item=one,
        rater=who,
        kind=one.kind,
        payload=payload,
        order=order if order is not None else [0, 1],
        active_ms=20_000,
        idempotency_key=f"key-{next(_keys)}",
        request_sha256="0" * 64,
        **own,
    )
    held = CurrentJudgment.objects.create(judgment=made, item=one, rater=who, **own)
    CurrentJudgment.objects.filter(pk=held.pk).update(created=at)
    return made


def people(of: Programme, count: int) -> list[Rater]:
    """Raters with accounts."""
    return [rater(of) for _ in range(count)]


def crowded(seed: int = 0) -> Programme:
    """60 comparisons by four of 14 people each and an AI judge; a flipper, one who takes the first, two groups.

    The young like the longer answer, the old the better one. Also rankings, points, gold and repeats.
    """
    random = np.random.default_rng(seed)
    of = programme()
    raters = people(of, PEOPLE)
    judge = rater(of, kind=RaterKind.AI, name="judge-7b")
    for place, who in enumerate(raters):
        GroupAnswer.objects.create(rater=who, question="age", answer="young" if place < 6 else "old")
        GroupAnswer.objects.create(rater=who, question="place", answer=f"town {place}")
    first, second = batch(of, name="first", quota=4), batch(of, name="second", quota=4)
    for number in range(ITEMS):
        better, longer = (int(n) for n in random.integers(0, 2, 2))
        answers = [f"answer {number} " + "x" * (40 if side == longer else 5) for side in (0, 1)]
        one = item(first if number < 30 else second, answers=answers, policies=["base", "tuned"])
        at = BEGIN + timedelta(days=number // 5)
        for place in random.permutation(PEOPLE)[:4].tolist():
            order = [int(n) for n in random.permutation(2)]
            liked = longer if place < 6 else better
            side = liked if random.random() < 0.9 else 1 - liked
            side = 1 - side if place == FLIPPER else order[0] if place == LEFT else side
            say(one, raters[place], {"strength": 2 if side else -2}, at=at, order=order)
        say(one, judge, {"strength": 1 if better else -1}, at=at)
        if number < 12:
            again = raters[number % 3]
            had = Judgment.objects.filter(item=one, rater=again).first()
            if had is not None:
                say(one, again, had.payload, at=at, purpose=Purpose.CHECK, pass_number=2)
    graded(of, raters)
    _gold(of, raters)
    return of


def graded(of: Programme, raters: list[Rater]) -> None:
    """A few rankings, all alike but one, and a few scores."""
    made = batch(of, name="graded", quota=3)
    for number in range(6):
        one = item(made, kind="ranking", completions=3)
        for place in range(3):
            say(one, raters[place], {"ranks": [1, 2, 3] if number or place else [3, 2, 1]}, order=[0, 1, 2])
        scored = item(made, kind="attributes", completions=1)
        for place in range(3):
            helpful = 1 + (number + (place == 2)) % 5
            say(scored, raters[place], {"scores": [{"helpful": helpful, "honest": 3}]}, order=[0])


def _gold(of: Programme, raters: list[Rater]) -> None:
    made = batch(of, name="gold", purpose=Purpose.GOLD)
    for number in range(8):
        one = item(made)
        key = GoldKey.objects.create(item=one, acceptable=[{"strength": [1, 3]}], reason="b")
        for place in (0, FLIPPER):
            passed = place == 0
            said = say(one, raters[place], {"strength": 1 if passed else -1}, purpose=Purpose.GOLD)
            upheld = True if number == 7 and place == 0 else None
            GoldOutcome.objects.create(gold_key=key, judgment=said, rater=raters[place], passed=passed, upheld=upheld)
