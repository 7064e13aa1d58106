"""The overview's figures, each reckoned by hand; the forecast against simulated batches."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from feedback_factories import account, open_batch, programme, rater
from feedback_quality import answer, at, at_work, days, judge, take
from heedful.core.statistics import wilson
from heedful.errors import HeedfulError
from heedful.feedback import gold, progress, submission
from heedful.feedback.assignment import release, skip
from heedful.feedback.content import withdraw_item
from heedful.feedback.forecast import forecast
from heedful.feedback.models import Assignment, PayRate, Programme, RaterKind
from heedful.feedback.programmes import agent
from heedful.feedback.ratios import share
from heedful.feedback.rules import Rules

NOW = datetime(2031, 5, 20, 12, tzinfo=UTC)


def pays(of: Programme, per_hour: int = 0, per_judgment: str = "0", **over: Any) -> PayRate:
    """A rate that began long ago."""
    given = {"begins": NOW - days(1000), **over}
    return PayRate.objects.create(programme=of, per_hour=per_hour, per_judgment=Decimal(per_judgment), **given)


@pytest.mark.django_db
def test_counts_leave_gold_and_withdrawn_items_out() -> None:
    of = programme(skips_to_park=1)
    made = open_batch(of, 5, quota=2)
    done, parked, withdrawn, promoted, waiting = made.items.order_by("position")
    anna, binh, chi = rater(of), rater(of), rater(of)
    assert {judge(anna).item_id, judge(binh).item_id} == {done.pk}
    assert judge(anna).item_id == parked.pk
    got = take(chi)
    assert got.item_id == parked.pk
    skip(got, "broken")
    withdraw_item(withdrawn)
    submission.record(promoted, agent(of, RaterKind.AI, "judge"), {"strength": 1}, key="m")
    gold.promote(promoted, [{"strength": [1, 3]}], "b", actor=account())
    (row,) = progress.overview(of).batches
    assert (row.items, row.done, row.parked) == (3, 1, 1)
    assert (row.counted, row.wanted, row.remaining) == (3, 5, 2)
    assert waiting.slots.count() == 2
    whole = progress.overview(of)
    assert (whole.items, whole.counted, whole.wanted) == (3, 3, 5)


@pytest.mark.django_db
def test_an_empty_programme_has_an_overview() -> None:
    of = programme()
    assert progress.overview(of).batches == ()
    open_batch(of, 2)
    (row,) = progress.overview(of).batches
    assert (row.forecast, row.median_seconds, row.agreement, row.first_shown) == (None, None, None, None)
    assert (row.hours, row.cost, row.per_day) == (0, {}, 0)
    assert row.hours_to_go == pytest.approx(2 * 60 / 3600)  # the rules' seconds, until there are better
    assert row.cost_to_go == {}


@pytest.mark.django_db
def test_pace_and_forecast_come_from_the_last_whole_days() -> None:
    of = programme()
    made = open_batch(of, 40, deadline=NOW + days(1))
    anna = rater(of)
    for before, count in ((3.5, 1), (2.5, 4), (1.5, 2), (0.5, 6)):
        with at(NOW - days(before)):
            for _ in range(count):
                judge(anna)
    (row,) = progress.overview(of, NOW).batches
    assert row.per_day == 4.0  # 6, 2 and 4; the part of a day before them is left out
    assert row.remaining == 27
    ahead = row.forecast
    assert ahead is not None
    assert ahead.finish == NOW + days(27 / 4)
    assert ahead.early is not None
    assert ahead.early < ahead.finish
    assert row.misses_deadline
    made.deadline = NOW + days(30)
    made.save()
    assert not progress.overview(of, NOW).batches[0].misses_deadline
    made.state = "paused"
    made.save()
    assert progress.overview(of, NOW).batches[0].forecast is None


@pytest.mark.django_db
def test_hours_and_money_count_skips_corrections_and_unfinished_work_at_the_rate_of_their_time() -> None:
    of = programme()
    open_batch(of, 10)
    anna, binh = rater(of), rater(of)
    pays(of, 10, "0.5")
    pays(of, 20, begins=NOW - days(5))
    pays(of, 100, begins=NOW + days(5))
    pays(of, 40, rater=binh, currency="EUR", begins=NOW - days(2))
    hour = 3_600_000
    with at(NOW - days(10)):
        said = judge(anna, active_ms=hour)  # 10 + 0.5
        judge(binh, active_ms=hour)  # 10 + 0.5
    with at(NOW - days(1)):
        submission.correct(
            said, {"strength": 0}, key="mend", active_ms=hour // 2
        )  # half of 20; its judgment moves here
        passed = take(binh)
        at_work(passed, hour)
        skip(passed, "unclear", active_ms=hour)  # 40 EUR
        left = take(anna)
        Assignment.objects.filter(pk=left.pk).update(active_ms=hour // 4)  # a quarter of 20
        release(left)
    (row,) = progress.overview(of, NOW).batches
    assert row.hours == pytest.approx(3.75)
    assert row.cost == {"EUR": Decimal("40.00"), "USD": Decimal("35.50")}
    assert row.counted == 2
    assert row.hours_to_go == pytest.approx(8 * 60 / 3600)  # two judgments are too few to go by
    # Of the active time 1.75 hours are Anna's, at 20 USD, 2 are Binh's, at 40 EUR.
    assert row.cost_to_go["USD"] == (Decimal(8 * 60 * 20) / 3600 * Decimal("1.75") / Decimal("3.75")).quantize(
        Decimal("0.01")
    )
    assert row.cost_to_go["EUR"] == Decimal("2.84")


@pytest.mark.django_db
def test_what_remains_takes_the_time_that_was_taken_so_far() -> None:
    of = programme()
    open_batch(of, 8)
    anna = rater(of)
    for seconds in (10, 20, 30, 40, 100):
        judge(anna, active_ms=seconds * 1000)
    (row,) = progress.overview(of).batches
    assert row.median_seconds == 30
    assert row.hours_to_go == pytest.approx(3 * 40 / 3600)


@pytest.mark.django_db
def test_agreement_over_pairs_with_ties_as_their_own_answer() -> None:
    of = programme()
    made = open_batch(of, 3, quota=3)
    items = list(made.items.order_by("position"))
    votes = {items[0].pk: [1, 2, 3], items[1].pk: [1, 0, -1], items[2].pk: [0, 0]}
    for who in [rater(of) for _ in range(3)]:
        for _ in range(3):
            got = take(who)
            left = votes[got.item_id]
            if not left:
                release(got)
                break
            answer(got, strength=left.pop())
    (row,) = progress.overview(of).batches
    assert row.agreement is not None
    assert (row.agreement.share, row.agreement.of, row.agreement.clusters) == (pytest.approx(4 / 7), 7, 3)
    assert row.agreement.interval.low < 0.2  # three items that differ: hardly anything is known
    assert progress.overview(of).agreement == row.agreement


@pytest.mark.django_db
def test_position_bias_counts_what_stood_first_among_decided_comparisons_of_people() -> None:
    of = programme()
    made = open_batch(of, 12, quota=2)
    anna = rater(of)
    for place in range(8):
        got = take(anna)
        first = got.order[0] == 0  # a stood first
        prefer = -1 if first else 1
        answer(got, strength=prefer if place < 6 else -prefer)
    answer(take(anna), strength=0)
    machine = agent(of, RaterKind.AI, "judge")
    for one in made.items.all()[:3]:
        submission.record(one, machine, {"strength": -3}, key=f"m{one.pk}", order=[0, 1])
    (row,) = progress.overview(of).batches
    assert row.first_shown is not None
    assert (row.first_shown.share, row.first_shown.of) == (0.75, 8)
    assert row.first_shown.interval.low == pytest.approx(wilson(6, 8).low)


@pytest.mark.django_db
def test_the_overview_asks_no_more_of_the_database_when_there_is_more_in_it() -> None:
    of = programme()
    open_batch(of, 3, quota=2)
    open_batch(of, 3, quota=2)

    def asked() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            progress.overview(of)
        return len(seen)

    for _ in range(2):
        judge(rater(of))
    few = asked()
    for who in [rater(of) for _ in range(3)]:
        for _ in range(2):
            judge(who)
    assert asked() <= few + 4  # the second batch is judged now
    assert few <= 20


@pytest.mark.django_db
def test_series_by_day() -> None:
    of = programme()
    open_batch(of, 3, quota=2)
    anna, binh = rater(of), rater(of)
    with at(NOW - days(2)):
        judge(anna, 1, active_ms=10_000)
        judge(anna, 1, active_ms=20_000)
        old = judge(anna, 1, active_ms=60_000)
    with at(NOW):
        judge(binh, 1, active_ms=5_000)
        judge(binh, -1, active_ms=7_000)
    machine = agent(of, RaterKind.AI, "judge")
    with at(NOW - days(1)):
        submission.record(old.item, machine, {"strength": 0}, key="m")
    found = progress.series(of, 3, NOW)
    assert [day.day for day in found.days] == [18, 19, 20]
    assert found.judgments == {"ai": (0, 1, 0), "person": (3, 0, 2)}
    assert found.median_seconds == (20.0, None, 6.0)
    shares = [one and (one.share, one.of) for one in found.agreement]
    assert shares == [None, (0.0, 1), (0.5, 2)]
    with pytest.raises(HeedfulError):
        progress.series(of, 0)


def test_an_estimate_by_hand() -> None:
    rules = Rules(gold_rate=0.1, repeat_rate=0.1, seconds_per_judgment=90.0)
    rate = PayRate(per_hour=Decimal(20), per_judgment=Decimal("0.10"), currency="EUR")
    found = progress.estimate(100, 2, rules, rate, quota_cap=4)
    assert (found.judgments, found.most, found.special) == (200, 400, 50)
    assert found.hours == pytest.approx(6.25)
    assert found.hours_most == pytest.approx(12.5)
    assert (found.cost, found.cost_most, found.currency) == (Decimal("150.00"), Decimal("300.00"), "EUR")
    assert progress.estimate(100, 2, rules, None).cost is None
    with pytest.raises(HeedfulError, match="no room"):
        progress.estimate(1, 1, Rules(gold_rate=0.5, repeat_rate=0.5), None)


def test_a_forecast_says_nothing_where_there_is_nothing_to_say() -> None:
    assert forecast(0, [5], days(1), NOW) is None
    assert forecast(10, [0, 0, 0], days(3), NOW) is None


def test_a_young_batch_has_no_late_bound() -> None:
    found = forecast(100, [50], timedelta(hours=2), NOW)
    assert found is not None
    assert found.finish == NOW + days(2)
    assert found.early == NOW + days(100 / 600)  # round the clock at the pace of two hours
    assert found.late is None
    assert forecast(100, [50, 20], days(2.5), NOW).late is None  # type: ignore[union-attr]


def test_a_rate_that_may_be_nothing_has_no_late_bound_and_a_steady_one_a_near_one() -> None:
    shaky = forecast(100, [30, 0, 0, 0], days(4), NOW)
    assert shaky is not None
    assert shaky.late is None
    steady = forecast(1000, [100] * 14, days(20), NOW)
    assert steady is not None
    assert steady.late is not None
    assert steady.early is not None
    assert days(10) < steady.late - NOW < days(11.5)
    assert days(9) < steady.early - NOW < days(10)


def test_the_interval_holds_the_finish_four_times_in_five() -> None:
    draw = random.Random(4)
    held = 0
    for _ in range(400):
        mean = draw.uniform(20, 80)

        def day(mean: float = mean) -> int:
            return max(0, round(draw.gauss(mean, mean / 3)))

        left = remaining = 400
        found = forecast(remaining, [day() for _ in range(7)], days(7), NOW)
        assert found is not None
        took = 0.0
        while left > 0:
            today = day()
            took += min(1.0, left / today) if today else 1.0
            left -= today
        early = found.early is None or NOW + days(took) >= found.early
        held += early and (found.late is None or NOW + days(took) <= found.late)
    assert 0.74 <= held / 400 <= 0.92


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)).map(lambda p: (min(p), p[1])), min_size=1, max_size=30))
def test_a_share_lies_in_its_interval_which_is_never_narrower_than_for_independent_cases(
    rows: list[tuple[int, int]],
) -> None:
    found = share(rows)
    assert found is not None
    hits, cases = sum(row[0] for row in rows), sum(row[1] for row in rows)
    assert found.share == pytest.approx(hits / cases)
    assert 0 <= found.interval.low <= found.share <= found.interval.high <= 1
    plain = wilson(hits, cases)
    assert found.interval.high - found.interval.low >= plain.high - plain.low - 1e-9


def test_cases_that_hang_together_widen_the_interval() -> None:
    together = share([(10, 10), (0, 10)] * 10)
    mixed = share([(5, 10)] * 20)
    assert together is not None
    assert mixed is not None
    width = together.interval.high - together.interval.low
    assert width == pytest.approx(wilson(9.5, 19).high - wilson(9.5, 19).low)  # 19 by the formula, of 200 cases
    uneven = share([(7, 10), (3, 10)] * 10)
    assert uneven is not None
    assert uneven.interval == wilson(59.5, 119)
    assert mixed.interval == wilson(10, 20)
    assert share([]) is None
