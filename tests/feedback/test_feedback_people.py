"""Raters: the lead's table, a rater's own page, pay, groups that tell of nobody."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feedback_factories import account, item, open_batch, programme, rater
from feedback_quality import answer, at, at_work, days, judge, take
from heedful.feedback import gold, people, submission
from heedful.feedback.assignment import skip
from heedful.feedback.models import GroupAnswer, PayRate, Programme, Rater, RaterKind
from heedful.feedback.payloads import to_shown
from heedful.feedback.programmes import agent

NOW = datetime(2031, 5, 20, 12, tzinfo=UTC)


@pytest.mark.django_db
def test_the_table_by_hand() -> None:
    of = programme(gold_rate=1.0)
    key = gold.promote(item(open_batch(of, 0)), [{"strength": [1, 3]}], "b", actor=account())
    open_batch(of, 2, quota=3)
    PayRate.objects.create(programme=of, per_judgment=Decimal(1), begins=NOW - days(9))
    anna, binh, chi = rater(of), rater(of), rater(of)
    idle = rater(of)
    with at(NOW - days(2)):
        for who in (anna, binh):
            first = judge(who, 1 if who == anna else -1, active_ms=10_000)
            assert first.item_id == key.item_id
            judge(who, 1, active_ms=20_000)
            judge(who, 2 if who == anna else -2, active_ms=60_000)
    with at(NOW):
        judge(chi, 1)
        passed = take(chi)
        at_work(passed, 3_600_000)
        skip(passed, "language", active_ms=3_600_000)
    rows = {row.rater: row for row in people.table(of)}
    order = [row.rater for row in people.table(of)]
    assert (order[0], order[-1]) == (chi, idle)
    assert (rows[anna].judgments, rows[anna].median_seconds, rows[anna].skips) == (3, 20.0, 0)
    assert rows[anna].cost == {"USD": Decimal("3.00")}
    assert (rows[anna].gold.judged, rows[anna].gold.passed) == (1, 1)
    assert (rows[binh].gold.judged, rows[binh].gold.passed) == (1, 0)
    assert rows[anna].agreement is not None
    assert (rows[anna].agreement.share, rows[anna].agreement.of) == (0.5, 2)  # gold is not compared
    assert (rows[chi].skips, rows[chi].last_seen) == (1, NOW)
    assert rows[chi].hours == pytest.approx(3601 / 3600)
    assert (rows[idle].judgments, rows[idle].last_seen, rows[idle].agreement) == (0, None, None)
    assert people.gold_accuracies(of)[anna.pk] == gold.accuracy(anna)


@pytest.mark.django_db
def test_the_table_has_machines_whose_time_is_nobodys() -> None:
    of = programme()
    made = open_batch(of, 1)
    machine = agent(of, RaterKind.AI, "judge")
    submission.record(made.items.get(), machine, {"strength": 1}, key="m", active_ms=5000)
    (row,) = people.table(of)
    assert (row.rater, row.judgments, row.hours, row.cost) == (machine, 1, 0, {})


@pytest.mark.django_db
def test_a_raters_history_speaks_in_their_letters_and_does_not_tell_gold_from_the_rest() -> None:
    of = programme(gold_rate=1.0)
    gold.promote(item(open_batch(of, 0)), [{"strength": [1, 3]}], "b", actor=account())
    open_batch(of, 3)
    anna = rater(of)
    said = [judge(anna, 2) for _ in range(2)]
    got = take(anna)
    slip = answer(got, strength=1)
    mended = submission.correct(
        slip, to_shown("pairwise", {"strength": -3}, slip.order), key="mend", rationale="I misread"
    )
    submission.undo(said[1], key="undo")
    rows = people.history(anna)
    assert [(row.judgment, row.holds) for row in rows] == [
        (mended.pk, True),
        (slip.pk, False),
        (said[1].pk, False),
        (said[0].pk, True),
    ]
    assert rows[0].rationale == "I misread"
    assert rows[0].shown["strength"] == (-3 if got.order == [0, 1] else 3)
    assert said[0].purpose == "gold"
    assert set(vars(rows[-1])) == set(vars(rows[0]))
    assert "gold" not in str(vars(rows[-1]))
    assert [row.judgment for row in people.history(anna, limit=2, before=slip.created)] == [said[1].pk, said[0].pk]


@pytest.mark.django_db
def test_a_demonstration_in_the_history_is_its_text() -> None:
    of = programme()
    item(open_batch(of, 0), kind="demonstration", completions=0)
    anna = rater(of)
    got = take(anna)
    submission.submit(got, {}, key="k", item_version=1, text="Because it is Tuesday.")
    assert people.history(anna)[0].shown == {"text": "Because it is Tuesday."}


@pytest.mark.django_db
def test_pay_by_month_and_the_rate_in_force() -> None:
    of = programme()
    open_batch(of, 4, quota=2)
    anna, binh = rater(of), rater(of)
    general = PayRate.objects.create(programme=of, per_hour=Decimal(30), begins=NOW - days(100))
    own = PayRate.objects.create(programme=of, rater=anna, per_judgment=Decimal("2.5"), begins=NOW - days(1))
    PayRate.objects.create(programme=of, per_hour=Decimal(99), begins=NOW + days(1))
    with at(datetime(2031, 4, 30, 23, 59, tzinfo=UTC)):
        judge(anna, active_ms=1_200_000)
    with at(datetime(2031, 5, 1, 0, 1, tzinfo=UTC)):
        judge(anna, active_ms=600_000)
    with at(NOW):
        judge(anna, active_ms=3_600_000)
        judge(binh, active_ms=3_600_000)
    assert people.pay_rate(anna, NOW) == own
    assert people.pay_rate(anna, NOW - days(2)) == general
    assert people.pay_rate(binh, NOW) == general
    assert people.pay_rate(binh, NOW - days(200)) is None
    may, april = people.pay_by_month(anna)
    assert (may.month, may.judgments, may.pay) == (date(2031, 5, 1), 2, {"USD": Decimal("7.50")})
    assert may.hours == pytest.approx(7 / 6)
    assert (april.month, april.judgments, april.pay) == (date(2031, 4, 1), 1, {"USD": Decimal("10.00")})
    assert people.pay_by_month(rater(of)) == []


@pytest.mark.django_db
def test_an_undone_judgment_that_is_given_again_is_paid_once() -> None:
    of = programme()
    open_batch(of, 1)
    PayRate.objects.create(programme=of, per_judgment=Decimal(1), per_hour=Decimal(1), begins=NOW - days(5000))
    anna = rater(of)
    said = judge(anna, active_ms=1_800_000)
    submission.undo(said, key="undo")
    answer(take(anna), strength=-1, active_ms=3_600_000)  # the page's count goes on
    (month,) = people.pay_by_month(anna)
    assert (month.judgments, month.hours, month.pay) == (1, 1.0, {"USD": Decimal("2.00")})


@pytest.mark.django_db
def test_what_was_imported_under_a_persons_name_is_not_paid_again() -> None:
    of = programme()
    made = open_batch(of, 1)
    PayRate.objects.create(programme=of, per_judgment=Decimal(1), begins=NOW - days(5000))
    anna = rater(of)
    submission.record(made.items.get(), anna, {"strength": 1}, key="from a file", active_ms=60_000)
    assert people.pay_by_month(anna) == []
    assert people.table(of)[0].judgments == 1


def asked(of: Programme, counts: dict[str, int]) -> None:
    """So many raters with each answer."""
    for text, count in counts.items():
        for _ in range(count):
            made = Rater.objects.create(programme=of, kind="simulated", name=f"{text}-{Rater.objects.count()}")
            GroupAnswer.objects.create(rater=made, question="age", answer=text)


QUESTION = {"name": "age", "question": "How old are you?", "answers": ["young", "middle", "old"]}


@pytest.mark.django_db
def test_groups_hide_small_cells_and_one_more_and_zeros_as_well() -> None:
    of = programme(group_questions=[QUESTION])
    asked(of, {"young": 9, "middle": 6, "": 3})
    (table,) = people.groups(of)
    assert [(row.answer, row.raters) for row in table.rows] == [
        ("young", 9),
        ("middle", None),  # else the two that are hidden would be three together
        ("old", None),
        ("", None),
    ]
    assert table.total == 18
    assert table.rows[0].share == 0.5
    erased = Rater.objects.filter(groups__answer="young")[0]
    erased.erased = NOW
    erased.save()
    assert people.groups(of)[0].total == 17


@pytest.mark.django_db
def test_groups_of_a_small_programme_say_nothing_at_all() -> None:
    of = programme(group_questions=[QUESTION])
    asked(of, {"young": 4})
    (table,) = people.groups(of)
    assert table.total is None
    assert [row.raters for row in table.rows] == [None] * 4
    assert people.groups(programme()) == []


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=1), st.integers(0, 12), min_size=1))
@example({"a": 12, "b": 10, "c": 0, "d": 3})
@example({"a": 4, "b": 9})
@example({"a": 3})
def test_no_small_cell_is_shown_or_can_be_worked_out(counts: dict[str, int]) -> None:
    shown, total = people.suppress(counts)
    hidden = [answer for answer, count in shown.items() if count is None]
    assert all(count is None or count >= 5 for count in shown.values())
    assert {answer: count for answer, count in counts.items() if answer not in hidden} == {
        answer: count for answer, count in shown.items() if count is not None
    }
    if total is not None:
        assert total == sum(counts.values())
        rest = total - sum(count for count in shown.values() if count is not None)
        assert not hidden or (len(hidden) >= 2 and rest >= 5)
    if min(counts.values()) >= 5:
        assert not hidden


@pytest.mark.django_db
def test_pseudonyms_are_one_to_one_under_a_key_and_others_under_another() -> None:
    of = programme()
    ids = [rater(of).pk for _ in range(5)]
    first, again, other = (people.pseudonyms(ids, key) for key in (b"1" * 32, b"1" * 32, b"2" * 32))
    assert first == again
    assert len(set(first.values())) == 5
    assert not set(first.values()) & set(other.values())
    assert not {str(one) for one in ids} & set(first.values())
