"""Who may judge what is checked: raters without training judgments alone while there are enough, then anybody."""

from __future__ import annotations

from typing import Any

import pytest

from feedback_factories import batch, item, open_batch, programme, rater
from heedful.feedback import assignment, freshness, services, submission
from heedful.feedback.models import Batch, Item, Judgment, Membership, Programme, Purpose, Rater

pytestmark = pytest.mark.django_db


def judge(who: Rater, of: Batch) -> Judgment:
    held = assignment.next_assignment(who, batch=of)
    assert held is not None
    assignment.show(held)
    key = f"{held.pk}"
    found: Any = submission.submit(held, {"strength": 2}, key=key, item_version=held.item_version, active_ms=30_000)
    return found


def crowd(of: Programme, count: int) -> list[Rater]:
    return [rater(of) for _ in range(count)]


def gives(who: Rater, of: Batch) -> bool:
    return assignment.next_assignment(who, batch=of) is not None


@pytest.fixture
def of() -> Programme:
    return programme()


def test_checks_go_to_fresh_raters_alone_while_there_are_enough(of: Programme) -> None:
    least = freshness.needed(1)
    people = crowd(of, least + 1)
    training = open_batch(of, items=1)
    judge(people[0], training)
    check = open_batch(of, items=3, purpose=Purpose.CHECK)
    assert freshness.look(of) == freshness.Freshness(fresh=least, raters=least + 1, wanted=True)
    assert not gives(people[0], check)
    assert assignment.why_none(people[0]) == "fresh"
    assert gives(people[1], check)
    status = services.batch_status(check)
    assert (status.fresh_raters, status.fresh_only, status.held) == (least, True, 1)
    assert services.batch_status(training).fresh_raters is None


def test_one_too_few_and_anybody_may(of: Programme) -> None:
    people = crowd(of, freshness.needed(1))
    judge(people[0], open_batch(of, items=1))
    check = open_batch(of, items=3, purpose=Purpose.CHECK)
    assert gives(people[0], check)
    status = services.batch_status(check)
    assert (status.fresh_raters, status.fresh_only) == (freshness.needed(1) - 1, False)


def test_the_judgments_of_an_item_may_need_more_raters_than_a_verdict(of: Programme) -> None:
    people = crowd(of, freshness.needed(1) + 1)
    judge(people[0], open_batch(of, items=1))
    many = batch(of, purpose=Purpose.CHECK, quota=freshness.needed(1) + 1)
    item(many)
    assert gives(people[0], many)  # one fresh rater too few for so many judgments


def test_who_is_paused_gone_or_took_their_judgment_back(of: Programme) -> None:
    people = crowd(of, freshness.needed(1) + 3)
    given = judge(people[0], open_batch(of, items=1))
    submission.undo(given, key="back")
    assert freshness.look(of).fresh == len(people)
    Rater.objects.filter(pk=people[1].pk).update(paused=people[1].created)
    Rater.objects.filter(pk=people[2].pk).update(erased=people[2].created)
    Membership.objects.filter(account=people[3].account).update(ended=people[3].created)
    assert freshness.look(of) == freshness.Freshness(len(people) - 3, len(people) - 3, wanted=True)


def test_the_rule_can_be_turned_off_and_training_is_for_all(of: Programme) -> None:
    people = crowd(of, freshness.needed(1) + 1)
    training = open_batch(of, items=2)
    judge(people[0], training)
    assert gives(people[0], training)
    Item.objects.filter(batch=training).update(state="withdrawn")
    check = open_batch(of, items=1, purpose=Purpose.CHECK)
    of.settings = {"fresh_checks": False}
    of.save()
    assert gives(people[0], check)
    assert not services.batch_status(check).fresh_only
