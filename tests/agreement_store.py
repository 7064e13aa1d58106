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


class Said:
    """Judgments that hold, given at times of one's choice, written together."""

    def __init__(self) -> None:
        self.judgments: list[Judgment] = []
        self.times: list[datetime] = []

    def add(
        self, one: Item, who: Rater, payload: dict[str, Any], *, at: datetime = BEGIN, order: Any = (0, 1), **over: Any
    ) -> Judgment:
        """One more; it stands in the store after `write`."""
        own = {"purpose": Purpose.TRAIN, "pass_number": 1, "guideline": one.batch.guideline, **over}
        made = Judgment(
            programme=one.programme,
            batch=one.batch,
            item=one,
            rater=who,
            kind=one.kind,
            payload=payload,
            order=list(order),
            active_ms=20_000,
            idempotency_key=f"key-{next(_keys)}",
            request_sha256="0" * 64,
            **own,
        )
        self.judgments.append(made)
        self.times.append(at)
        return made

    def write(self) -> None:
        """Put all into the store."""
        Judgment.objects.bulk_create(self.judgments)
        names = ("item", "rater", "purpose", "pass_number", "guideline", "judge_template", "judge_order")
        held = [CurrentJudgment(judgment=one, **{name: getattr(one, name) for name in names}) for one in self.judgments]
        CurrentJudgment.objects.bulk_create(held)
        for current, at in zip(held, self.times, strict=True):
            current.created = at
        CurrentJudgment.objects.bulk_update(held, ["created"])


def say(one: Item, who: Rater, payload: dict[str, Any], **over: Any) -> Judgment:
    """A judgment that holds."""
    said = Said()
    made = said.add(one, who, payload, **over)
    said.write()
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
    first, second = batch(of, name="first"), batch(of, name="second")
    said = Said()
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
            said.add(one, raters[place], {"strength": 2 if side else -2}, at=at, order=order)
        said.add(one, judge, {"strength": 1 if better else -1}, at=at)
        if number < 12:
            again = raters[number % 3]
            had = next((old for old in said.judgments if old.item == one and old.rater == again), None)
            if had is not None:
                said.add(one, again, had.payload, at=at, purpose=Purpose.CHECK, pass_number=2)
    _graded(of, raters, said)
    _gold(of, raters, said)
    return of


def _graded(of: Programme, raters: list[Rater], said: Said) -> None:
    """A few rankings, all alike but one, and a few scores."""
    made = batch(of, name="graded")
    for number in range(6):
        one = item(made, kind="ranking", completions=3)
        for place in range(3):
            said.add(one, raters[place], {"ranks": [1, 2, 3] if number or place else [3, 2, 1]}, order=[0, 1, 2])
        scored = item(made, kind="attributes", completions=1)
        for place in range(3):
            helpful = 1 + (number + (place == 2)) % 5
            said.add(scored, raters[place], {"scores": [{"helpful": helpful, "honest": 3}]}, order=[0])


def _gold(of: Programme, raters: list[Rater], said: Said) -> None:
    made = batch(of, name="gold", purpose=Purpose.GOLD)
    keys = [GoldKey.objects.create(item=item(made), acceptable=[{"strength": [1, 3]}], reason="b") for _ in range(8)]
    answers = [
        (key, raters[place], said.add(key.item, raters[place], {"strength": side}, purpose=Purpose.GOLD))
        for key in keys
        for place, side in ((0, 1), (FLIPPER, -1))
    ]
    said.write()
    for key, who, one in answers:
        upheld = True if key == keys[7] and who == raters[0] else None
        passed = one.payload["strength"] > 0
        GoldOutcome.objects.create(gold_key=key, judgment=one, rater=who, passed=passed, upheld=upheld)
