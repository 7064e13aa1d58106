"""Tests that raters pass: taken, scored, taken again, and what they stand before."""

from __future__ import annotations

from typing import Any

import pytest

from feedback_factories import account, open_batch, programme, rater
from feedback_quality import answer, judge, special_batch, take
from heedful.errors import HeedfulError
from heedful.feedback import gold, payloads, qualification
from heedful.feedback.assignment import next_assignment, skip, why_none
from heedful.feedback.models import Batch, Programme, Purpose, Qualification, QualificationAttempt, Rater
from heedful.feedback.programmes import publish_guideline
from heedful.feedback.submission import correct, undo

B_BETTER = [{"strength": [1, 3]}]


def exam(of: Programme, items: int = 4, **over: Any) -> Qualification:
    """An open test whose right answer is always b."""
    made = special_batch(open_batch(of, items, purpose=Purpose.QUALIFICATION))
    for one in made.items.all():
        gold.promote(one, B_BETTER, "b", actor=account())
        one.refresh_from_db()
        assert one.purpose == Purpose.QUALIFICATION
    return qualification.create(of, made, over.pop("name", "Basics"), actor=account(), **over)


def sit(who: Rater, test: Qualification, *strengths: int) -> QualificationAttempt:
    """Take the test with these answers."""
    attempt = qualification.start_attempt(test, who)
    for strength in strengths:
        judge(who, strength)
    attempt.refresh_from_db()
    return attempt


@pytest.mark.django_db
def test_no_work_before_the_pass_and_work_after_it() -> None:
    of = programme()
    work = open_batch(of, 2)
    test = exam(of, pass_mark=0.75)
    anna = rater(of)
    assert next_assignment(anna) is None
    assert why_none(anna) == "qualification"
    assert qualification.lacking(anna, work) == [test]
    assert not qualification.may_work(anna, test.batch)
    attempt = sit(anna, test, 1, 2, -1)
    assert attempt.finished is None
    said = judge(anna, 3)
    assert (said.purpose, said.pass_number) == (Purpose.QUALIFICATION, 1)
    attempt.refresh_from_db()
    assert (attempt.score, attempt.passed) == (0.75, True)
    assert qualification.may_work(anna, work)
    assert judge(anna).purpose == Purpose.TRAIN
    assert next_assignment(rater(of)) is None


@pytest.mark.django_db
def test_a_test_is_taken_in_its_order_one_item_at_a_time_and_again_until_no_attempt_is_left() -> None:
    of = programme()
    open_batch(of, 1)
    test = exam(of, 2, attempts_allowed=2)
    anna = rater(of)
    wanted = list(test.batch.items.order_by("position").values_list("pk", flat=True))
    first = qualification.start_attempt(test, anna)
    assert qualification.start_attempt(test, anna) == first
    seen = [judge(anna, -1).item_id for _ in range(2)]
    assert seen == wanted
    first.refresh_from_db()
    assert (first.score, first.passed) == (0.0, False)
    assert next_assignment(anna) is None
    second = sit(anna, test, 1, -1)
    assert (second.number, second.score, second.passed) == (2, 0.5, False)
    with pytest.raises(HeedfulError, match="no attempt is left"):
        qualification.start_attempt(test, anna)
    (stand,) = qualification.standing(anna)
    assert (len(stand.attempts), stand.left, stand.passed, stand.running) == (2, 0, False, None)
    qualification.change(test, attempts_allowed=3, actor=account())
    third = sit(anna, Qualification.objects.get(), 1, 1)
    assert third.passed
    with pytest.raises(HeedfulError, match="is passed"):
        qualification.start_attempt(test, anna)


@pytest.mark.django_db
def test_a_skip_fails_its_item_and_can_end_the_attempt() -> None:
    of = programme()
    test = exam(of, 2)
    anna = rater(of)
    attempt = sit(anna, test, 1)
    skip(take(anna), "unclear")
    attempt.refresh_from_db()
    assert (attempt.score, attempt.passed) == (0.5, False)


@pytest.mark.django_db
def test_what_was_corrected_or_undone_before_the_end_is_scored_as_it_stands() -> None:
    of = programme()
    test = exam(of, 3, pass_mark=1.0)
    anna = rater(of)
    attempt = qualification.start_attempt(test, anna)
    slip = judge(anna, -1)
    correct(slip, payloads.to_shown("pairwise", {"strength": 1}, slip.order), key="mend")
    undone = judge(anna, -1)
    undo(undone, key="undo")
    answer(take(anna), strength=1)
    judge(anna, 1)
    attempt.refresh_from_db()
    assert (attempt.score, attempt.passed) == (1.0, True)


@pytest.mark.django_db
def test_the_next_item_can_be_fetched_ahead() -> None:
    of = programme()
    test = exam(of, 2)
    anna = rater(of)
    attempt = qualification.start_attempt(test, anna)
    first = take(anna)
    ahead = next_assignment(anna, prefetch=True)
    assert ahead is not None
    assert ahead.item_id != first.item_id
    answer(first, strength=1)
    answer(take(anna), strength=1)
    attempt.refresh_from_db()
    assert attempt.passed


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("scope", "kind", "language", "reads", "stands"),
    [
        ({}, "pairwise", "", [], True),
        ({"task": "ranking"}, "pairwise", "", [], False),
        ({"task": "ranking"}, "ranking", "", [], True),
        ({"language": "vi"}, "pairwise", "en", [], False),
        ({"language": "vi"}, "pairwise", "vi", [], True),
        ({"language": "vi"}, "pairwise", "vi", ["en"], False),
        ({"task": "pairwise", "language": "vi"}, "ranking", "vi", ["vi"], False),
        ({"guideline_version": 1}, "pairwise", "", [], True),
        ({"guideline_version": 2}, "pairwise", "", [], False),
        ({"required": False}, "pairwise", "", [], False),
    ],
    ids=str,
)
def test_scope(scope: dict[str, Any], kind: str, language: str, reads: list[str], stands: bool) -> None:
    of = programme()
    first = of.guidelines.get()
    publish_guideline(of, "# Better", author=None)
    work = open_batch(of, 1, kind=kind, guideline=first)
    work.items.update(language=language)
    exam(of, 1, **scope)
    assert qualification.may_work(rater(of, languages=reads), work) is not stands


@pytest.mark.django_db
def test_a_new_guideline_version_asks_again() -> None:
    of = programme()
    old = open_batch(of, 1)
    test = exam(of, 1, guideline_version=1)
    anna = rater(of)
    sit(anna, test, 1)
    assert qualification.may_work(anna, old)
    second = publish_guideline(of, "# Changed", author=None)
    new = open_batch(of, 1, guideline=second)
    assert qualification.may_work(anna, new)  # nobody asked yet
    again = qualification.renew(test, second, actor=account())
    assert qualification.lacking(anna, new) == [again]
    assert qualification.may_work(anna, old)
    assert [one.completion_id for one in again.batch.items.get().entries.all()] == [
        one.completion_id for one in test.batch.items.get().entries.all()
    ]
    assert sit(anna, again, 1).passed
    assert qualification.may_work(anna, new)
    with pytest.raises(HeedfulError, match="renewed"):
        qualification.renew(test, second, actor=account())


def staged(of: Programme, **over: Any) -> Batch:
    """A batch of one item with a key."""
    made = special_batch(open_batch(of, 1, **{"purpose": Purpose.QUALIFICATION, **over}))
    gold.promote(made.items.get(), B_BETTER, "b", actor=account())
    return made


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"pass_mark": 0.0}, "pass_mark"),
        ({"pass_mark": 1.1}, "pass_mark"),
        ({"attempts_allowed": 0}, "attempts_allowed"),
        ({"task": "poetry"}, "task"),
        ({"guideline_version": 9}, "guideline_version"),
    ],
)
def test_a_wrong_figure_is_named(over: dict[str, Any], field: str) -> None:
    of = programme()
    with pytest.raises(HeedfulError) as caught:
        qualification.create(of, staged(of), "Basics", actor=account(), **over)
    assert caught.value.where == field
    assert not Qualification.objects.exists()


@pytest.mark.django_db
def test_a_test_needs_a_batch_of_its_own_whose_items_all_have_keys() -> None:
    of = programme()
    keyless = open_batch(of, 2, purpose=Purpose.QUALIFICATION)
    gold.promote(keyless.items.first(), B_BETTER, "b", actor=account())
    for wrong, said in ((keyless, "1 of 2"), (open_batch(of, 1), "not for"), (staged(programme()), "not this")):
        with pytest.raises(HeedfulError, match=said):
            qualification.create(of, wrong, "Basics", actor=account())


@pytest.mark.django_db
def test_a_rater_of_another_programme_cannot_start() -> None:
    test = exam(programme(), 1)
    with pytest.raises(HeedfulError, match="another programme"):
        qualification.start_attempt(test, rater(programme()))


@pytest.mark.django_db
def test_a_paused_rater_may_take_a_test_and_nothing_else() -> None:
    of = programme()
    open_batch(of, 1)
    test = exam(of, 1, required=False)
    anna = rater(of)
    gold.pause(anna, "Please read version 2", account())
    assert next_assignment(anna) is None
    assert sit(anna, test, 1).passed
    assert next_assignment(anna) is None
