"""Calibration sessions: everybody judges the same, then the answers open."""

from __future__ import annotations

import pytest

from feedback_factories import account, item, open_batch, programme, rater
from feedback_quality import answer, judge, special_batch, take
from heedful.errors import HeedfulError
from heedful.feedback import calibration, gold, verdicts
from heedful.feedback.assignment import next_assignment, skip
from heedful.feedback.models import Batch, Completion, Judgment, Programme, Purpose


def session(of: Programme, items: int = 2, kind: str = "pairwise") -> Batch:
    """An open calibration session."""
    return special_batch(open_batch(of, items, purpose=Purpose.CALIBRATION, kind=kind))


@pytest.mark.django_db
def test_every_member_judges_every_item_in_the_same_order_before_other_work() -> None:
    of = programme()
    open_batch(of, 1, quota=3)
    made = session(of, 3)
    order = list(made.items.order_by("position").values_list("pk", flat=True))
    for who in (rater(of), rater(of), rater(of)):
        assert [judge(who).item_id for _ in range(3)] == order
        assert take(who).purpose == Purpose.TRAIN
    assert Judgment.objects.filter(purpose=Purpose.CALIBRATION).count() == 9
    assert set(made.items.values_list("state", flat=True)) == {"open"}


@pytest.mark.django_db
def test_answers_are_closed_until_opened_and_then_stand_beside_each_other_with_their_agreement() -> None:
    of = programme()
    made = session(of)
    anna, binh, chi = rater(of), rater(of), rater(of)
    for who, first, second in ((anna, 1, 0), (binh, 3, -1), (chi, -2, 2)):
        judge(who, first)
        judge(who, second)
    with pytest.raises(HeedfulError, match="not open yet"):
        calibration.answers(made)
    made = calibration.open_for_discussion(made, account())
    first, second = calibration.answers(made)
    assert [answer.payload["strength"] for answer in first.answers] == [-2, 1, 3]
    assert [answer.rater for answer in first.answers] == [chi, anna, binh]
    assert first.agreement == pytest.approx(1 / 3)  # of three pairs one agrees
    assert second.agreement == 0.0  # a, tie, b
    with pytest.raises(HeedfulError, match="open already"):
        calibration.open_for_discussion(made, account())


@pytest.mark.django_db
def test_once_open_nobody_is_given_its_items_and_late_work_is_not_among_the_answers() -> None:
    of = programme()
    made = session(of)
    anna, binh, chi = rater(of), rater(of), rater(of)
    judge(anna)
    busy = take(binh)
    calibration.open_for_discussion(made, account())
    made.refresh_from_db()
    assert next_assignment(chi) is None
    Batch.objects.filter(pk=made.pk).update(state="open")  # by mistake
    assert next_assignment(chi) is None
    answer(busy, strength=1)
    assert [len(one.answers) for one in calibration.answers(made)] == [1, 0]
    assert [one.agreement for one in calibration.answers(made)] == [None, None]


@pytest.mark.django_db
def test_attendance_names_who_is_missing_first() -> None:
    of = programme()
    made = session(of)
    anna, binh, chi = rater(of), rater(of), rater(of)
    judge(anna)
    judge(anna)
    skip(take(binh), "unclear")
    rows = calibration.attendance(made)
    assert [(row.rater, row.answered, row.skipped, row.items) for row in rows] == [
        (chi, 0, 0, 2),
        (binh, 0, 1, 2),
        (anna, 2, 0, 2),
    ]


@pytest.mark.django_db
def test_a_rater_is_not_given_what_they_wrote_or_opted_out_of() -> None:
    of = programme()
    made = special_batch(open_batch(of, 0, purpose=Purpose.CALIBRATION))
    own, grim, plain = (item(made) for _ in range(3))
    special_batch(made)
    anna = rater(of, excluded_categories=["violence"])
    Completion.objects.filter(pk=own.entries.all()[0].completion_id).update(author=anna)
    grim.prompt.categories = ["violence"]
    grim.prompt.save()
    assert judge(anna).item_id == plain.pk
    assert next_assignment(anna) is None


@pytest.mark.django_db
def test_a_paused_rater_may_calibrate_again() -> None:
    of = programme()
    open_batch(of, 1)
    session(of, 1)
    anna = rater(of)
    gold.pause(anna, "drift", account())
    assert judge(anna).purpose == Purpose.CALIBRATION
    assert next_assignment(anna) is None


@pytest.mark.django_db
def test_only_a_calibration_batch_that_somebody_judged_is_opened() -> None:
    of = programme()
    with pytest.raises(HeedfulError, match="only a calibration"):
        calibration.open_for_discussion(open_batch(of, 1), account())
    with pytest.raises(HeedfulError, match="nobody has judged"):
        calibration.open_for_discussion(session(of), account())


@pytest.mark.django_db
def test_rankings_agree_in_part() -> None:
    of = programme()
    made = special_batch(open_batch(of, 0, purpose=Purpose.CALIBRATION))
    item(made, completions=3, kind="ranking")
    special_batch(made)
    for ranks in ([1, 2, 3], [1, 3, 2]):
        answer(take(rater(of)), ranks=ranks)
    made = calibration.open_for_discussion(made, account())
    assert calibration.answers(made)[0].agreement == pytest.approx(2 / 3)


def test_classes_and_tau_by_hand() -> None:
    assert verdicts.classes("pairwise", {"strength": -2}) == (-1,)
    assert verdicts.classes("ranking", {"ranks": [1, 2, 2]}) == (-1, -1, 0)
    assert verdicts.classes("attributes", {"scores": [{"b": 2, "a": 1}, {"a": 3, "b": 4}]}) == (1, 2, 3, 4)
    assert verdicts.tau([1, 2, 3, 4], [1, 2, 3, 4]) == 1.0
    assert verdicts.tau([1, 2, 3], [3, 2, 1]) == -1.0
    assert verdicts.tau([1, 2, 3], [2, 1, 3]) == pytest.approx(1 / 3)
    assert verdicts.tau([1, 1, 3], [1, 1, 3]) == 1.0
    assert verdicts.tau([1, 1, 3], [1, 2, 3]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        ("pairwise", [{"strength": 1}, {"strength": 3}], False),
        ("pairwise", [{"strength": 1}, {"strength": 0}], False),
        ("pairwise", [{"strength": 1}, {"strength": 0}, {"strength": -1}], True),
        ("ranking", [{"ranks": [1, 2, 3]}, {"ranks": [2, 1, 3]}], True),
        ("ranking", [{"ranks": [1, 2, 3]}, {"ranks": [1, 1, 3]}], False),
        ("attributes", [{"scores": [{"a": 1}]}, {"scores": [{"a": 3}]}], False),
        ("attributes", [{"scores": [{"a": 1}]}, {"scores": [{"a": 4}]}], True),
        ("attributes", [{"scores": [{"a": 1, "old": 5}]}, {"scores": [{"a": 1, "new": 1}]}], False),
        ("demonstration", [{"completion": "x", "sha256": "y"}] * 2, False),
    ],
)
def test_disagreement(kind: str, said: list[dict[str, object]], expected: bool) -> None:
    assert verdicts.disagree(kind, said, 0.5) is expected
