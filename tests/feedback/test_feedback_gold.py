"""Gold: promoted, shown like any other item, scored, contested; drift."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_factories import account, item, open_batch, programme, rater
from feedback_quality import answer, judge, take
from heedful.errors import HeedfulError
from heedful.feedback import agreement, gold, patterns, payloads, progress, special
from heedful.feedback.assignment import next_assignment, release, skip, why_none
from heedful.feedback.export_select import selection
from heedful.feedback.models import (
    Adjudication,
    Assignment,
    AuditEvent,
    GoldKey,
    GoldOutcome,
    Item,
    Programme,
    Purpose,
    Rater,
    Slot,
)
from heedful.feedback.payloads import matches, stored
from heedful.feedback.replay import difference, replay
from heedful.feedback.rules import Rules
from heedful.feedback.submission import correct, undo

B_BETTER = [{"strength": [1, 3]}]
ALWAYS = {"gold_rate": 1.0}


def golden(of: Programme, count: int = 1, kind: str = "pairwise", **over: Any) -> list[GoldKey]:
    """Gold items of a batch that is over."""
    made = open_batch(of, count, kind=kind, state="closed", **over)
    lead = account()
    acceptable: list[dict[str, Any]] = B_BETTER if kind == "pairwise" else [{"best": [0]}]
    return [gold.promote(one, acceptable, "b is right", actor=lead) for one in made.items.order_by("position")]


def trained(of: Programme) -> set[Any]:
    """What a training export reads."""
    return set(selection(of).judgments().values_list("pk", flat=True))


@pytest.mark.django_db
def test_promotion_takes_earlier_judgments_out_of_training_and_closes_what_is_free() -> None:
    of = programme()
    made = open_batch(of, 2, quota=3)
    first = judge(rater(of))
    assert trained(of) == {first.pk}
    lead = account()
    key = gold.promote(first.item, B_BETTER, " b answers the question ", actor=lead)
    assert trained(of) == set()
    promoted = Item.objects.get(pk=first.item_id)
    assert (promoted.purpose, promoted.state) == (Purpose.GOLD, "done")
    assert sorted(promoted.slots.values_list("state", flat=True)) == ["closed", "closed", "done"]
    assert Item.objects.get(batch=made, purpose=Purpose.TRAIN).slots.filter(state="free").count() == 3
    assert key.reason == "b answers the question"
    told = AuditEvent.objects.get(kind="gold.promoted")
    assert (told.actor, told.ids["item"]) == (lead.pk, str(promoted.pk))
    assert "question" not in str(told.ids)
    with pytest.raises(HeedfulError, match="key already"):
        gold.promote(promoted, B_BETTER, "again", actor=lead)


@pytest.mark.django_db
def test_what_was_open_at_the_promotion_is_finished_as_gold_and_the_place_never_comes_back() -> None:
    of = programme()
    open_batch(of, 1, quota=2)
    busy, other = take(rater(of)), rater(of)
    gold.promote(busy.item, B_BETTER, "b", actor=account())
    assert next_assignment(other) is None
    late = answer(busy, strength=2)
    assert late.purpose == Purpose.GOLD
    assert trained(of) == set()
    assert GoldOutcome.objects.get(judgment=late).passed
    assert next_assignment(other) is None


@pytest.mark.django_db
def test_a_lease_that_is_given_back_after_the_promotion_opens_no_ordinary_place() -> None:
    of = programme()
    open_batch(of, 1)
    busy = take(rater(of))
    gold.promote(busy.item, B_BETTER, "b", actor=account())
    release(busy)
    assert next_assignment(rater(of)) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("acceptable", "reason", "field"),
    [
        ([], "b", "acceptable"),
        ([{"strength": [-3, 3]}], "b", "strength"),
        ([{"strength": [2, 1]}], "b", "strength"),
        ([{"strength": [1, 3], "both_bad": True}], "b", "acceptable"),
        ([{"best": [0]}], "b", "best"),
        (B_BETTER, "  ", "reason"),
    ],
)
def test_a_wrong_key_is_refused_with_its_field_and_changes_nothing(
    acceptable: list[Any], reason: str, field: str
) -> None:
    made = item(open_batch(programme(), 0))
    with pytest.raises(HeedfulError) as caught:
        gold.promote(made, acceptable, reason, actor=account())
    assert field in caught.value.where
    made.refresh_from_db()
    assert made.purpose == Purpose.TRAIN
    assert not GoldKey.objects.exists()


@pytest.mark.django_db
def test_an_adjudication_behind_a_key_must_be_of_the_item_and_decided() -> None:
    of = programme()
    made = open_batch(of, 2)
    mine, other = made.items.all()
    said = judge(rater(of))
    undecided = Adjudication.objects.create(item=said.item, judgment=said, adjudicator=account())
    for one in (mine, other):
        with pytest.raises(HeedfulError, match="adjudication"):
            gold.promote(one, B_BETTER, "b", actor=account(), adjudication=undecided)


@pytest.mark.django_db
def test_gold_is_shown_once_to_a_rater_the_least_shown_first_and_only_among_ordinary_work() -> None:
    of = programme(**ALWAYS)
    keys = {key.item_id for key in golden(of, 2)}
    anna, binh = rater(of), rater(of)
    assert next_assignment(anna) is None  # nothing to hide among
    open_batch(of, 3)
    first = take(anna)
    assert first.item_id in keys
    assert first.purpose == Purpose.GOLD
    answer(first, strength=1)
    assert take(binh).item_id == (keys - {first.item_id}).pop()
    assert take(anna).item_id == (keys - {first.item_id}).pop()
    answer(take(anna), strength=1)
    seen = [judge(anna).purpose for _ in range(3)]
    assert seen == ["train"] * 3
    assert next_assignment(anna) is None


@pytest.mark.django_db
def test_gold_never_goes_to_who_wrote_adjudicated_judged_or_passed_it_nor_to_who_does_not_read_it() -> None:
    of = programme(**ALWAYS)
    wrote, adjudicated, judged, passed, spoken, optout = golden(of, 6)
    anna = rater(of, languages=["en"], excluded_categories=["violence"])
    wrote.item.entries.first().completion.__class__.objects.filter(entries__item=wrote.item).update(author=anna)
    said = judge_directly(rater(of), adjudicated.item)
    Adjudication.objects.create(item=adjudicated.item, judgment=said, adjudicator=anna.account)
    judge_directly(anna, judged.item)
    Item.objects.filter(pk=spoken.item_id).update(language="vi")
    optout.item.prompt.categories = ["violence"]
    optout.item.prompt.save()
    open_batch(of, 2)
    got = take(anna)
    assert got.item_id == passed.item_id
    skip(got, "unclear")
    assert take(anna).purpose == Purpose.TRAIN


def judge_directly(who: Rater, one: Item) -> Any:
    """A judgment made on the item while it was still for training."""
    return one.judgments.model.objects.create(
        programme=one.programme,
        batch=one.batch,
        item=one,
        rater=who,
        kind=one.kind,
        purpose="train",
        guideline=one.batch.guideline,
        payload={"strength": 1},
        idempotency_key=f"direct-{one.pk}",
        request_sha256="0" * 64,
    )


@pytest.mark.django_db
def test_gold_that_was_given_back_comes_again_unless_its_key_was_retired() -> None:
    of = programme(**ALWAYS)
    (key,) = golden(of)
    open_batch(of, 1)
    anna = rater(of)
    first = take(anna)
    release(first)
    assert take(anna).item_id == key.item_id
    release(take(anna))
    gold.retire(key, actor=account())
    assert take(anna).purpose == Purpose.TRAIN
    assert not Slot.objects.filter(item=key.item, state="free").exists()


@pytest.mark.django_db
def test_gold_that_was_retired_while_it_was_open_does_not_come_again() -> None:
    of = programme(**ALWAYS)
    (key,) = golden(of)
    open_batch(of, 1)
    anna = rater(of)
    busy = take(anna)
    gold.retire(key, actor=account())
    release(busy)
    assert take(anna).purpose == Purpose.TRAIN
    assert not Slot.objects.filter(item=key.item, state="free").exists()


@pytest.mark.django_db
def test_gold_of_another_kind_than_the_work_at_hand_stays_away() -> None:
    of = programme(**ALWAYS)
    golden(of, kind="ranking")
    open_batch(of, 1)
    assert take(rater(of)).purpose == Purpose.TRAIN


@pytest.mark.django_db
def test_the_share_of_gold_is_the_rate() -> None:
    of = programme(gold_rate=0.25)
    golden(of, 20)
    open_batch(of, 40)
    anna = rater(of)
    got = [judge(anna).purpose for _ in range(40)]
    gaps = [special.gap(0.25, "gold", anna.pk, number) for number in range(20)]
    expected: list[str] = []
    for wait in gaps:
        expected += ["train"] * wait + ["gold"]
    assert got == expected[:40]
    assert "gold" in got


@given(rate=st.floats(0.05, 0.9), seed=st.integers())
def test_gaps_have_the_mean_that_gives_the_rate(rate: float, seed: int) -> None:
    found = [special.gap(rate, seed, i) for i in range(2000)]
    assert min(found) >= 0
    mean, wanted = sum(found) / len(found), (1 - rate) / rate
    assert abs(mean - wanted) < 6 * (wanted * (wanted + 1) / 2000) ** 0.5 + 0.01


@pytest.mark.django_db
def test_in_production_gold_is_silent_and_a_correction_counts() -> None:
    of = programme(**ALWAYS)
    golden(of)
    open_batch(of, 1)
    anna = rater(of)
    slip = judge(anna, -1)
    assert gold.feedback_for(slip) is None
    assert not GoldOutcome.objects.get(rater=anna).passed
    assert not gold.visible_outcomes(anna).exists()
    mended = correct(slip, payloads.to_shown("pairwise", {"strength": 2}, slip.order), key="mend")
    outcome = GoldOutcome.objects.get(rater=anna)
    assert (outcome.passed, outcome.judgment_id) == (True, mended.pk)
    undo(mended, key="undo")
    assert not GoldOutcome.objects.filter(rater=anna).exists()
    assert gold.accuracy(anna) == gold.Accuracy(0, 0, None)


@pytest.mark.django_db
def test_in_training_mode_the_answer_is_explained_in_the_raters_letters_and_the_first_one_stands() -> None:
    of = programme(**ALWAYS)
    golden(of)
    open_batch(of, 1)
    anna = gold.set_training(rater(of), True, account())
    slip = judge(anna, -1)
    told = gold.feedback_for(slip)
    letter = "B" if slip.order == [0, 1] else "A"
    assert told is not None
    assert (told["passed"], told["reason"], told["acceptable"]) == (False, "b is right", [f"{letter} better"])
    mended = correct(slip, payloads.to_shown("pairwise", {"strength": 2}, slip.order), key="mend")
    assert not GoldOutcome.objects.get(pk=told["outcome"]).passed
    again = gold.feedback_for(mended)
    assert again is not None
    assert not again["passed"]
    assert gold.feedback_for(judge(anna)) is None  # an ordinary item


@pytest.mark.django_db
def test_a_contest_is_made_once_and_an_upheld_one_leaves_the_accuracy() -> None:
    of = programme(**ALWAYS)
    golden(of, 2)
    open_batch(of, 1)
    anna = gold.set_training(rater(of), True, account())
    outcome = GoldOutcome.objects.get(judgment=judge(anna, -1))
    passed = GoldOutcome.objects.get(judgment=judge(anna, 1))
    with pytest.raises(HeedfulError, match="nothing to contest"):
        gold.contest(passed, "really?")
    with pytest.raises(HeedfulError, match="empty"):
        gold.contest(outcome, "  ")
    gold.contest(outcome, "a answers it too")
    with pytest.raises(HeedfulError, match="already"):
        gold.contest(outcome, "again")
    assert list(gold.open_contests(of)) == [outcome]
    assert gold.keys(of)[0].waiting + gold.keys(of)[1].waiting == 1
    before = gold.accuracy(anna)
    assert (before.judged, before.passed) == (2, 1)
    gold.answer_contest(outcome, True, "you are right", account())
    assert (gold.accuracy(anna).judged, gold.accuracy(anna).passed) == (1, 1)
    assert not gold.open_contests(of).exists()
    with pytest.raises(HeedfulError, match="no contest"):
        gold.answer_contest(outcome, False, "no", account())
    assert "answers it too" not in str(list(AuditEvent.objects.values_list("ids", flat=True)))


@pytest.mark.django_db
def test_a_silent_outcome_cannot_be_contested() -> None:
    of = programme(**ALWAYS)
    golden(of)
    open_batch(of, 1)
    outcome = GoldOutcome.objects.get(judgment=judge(rater(of), -1))
    with pytest.raises(HeedfulError, match="cannot be contested"):
        gold.contest(outcome, "why?")


@pytest.mark.django_db
def test_a_rater_who_drifts_is_paused_told_what_failed_and_starts_afresh_when_let_back() -> None:
    of = programme(gold_rate=1.0, gold_window=4, gold_floor=0.75)
    golden(of, 9)
    open_batch(of, 3)
    anna = rater(of)
    for strength in (1, -1, 1):
        judge(anna, strength)
    assert not Rater.objects.get(pk=anna.pk).paused  # three outcomes are no window
    judge(anna, -1)
    anna.refresh_from_db()
    assert anna.paused is not None
    assert "2 of the last 4" in anna.pause_reason
    assert why_none(anna) == "paused"
    assert next_assignment(anna) is None
    assert gold.visible_outcomes(anna).count() == 2
    gold.resume(anna, account())
    anna.refresh_from_db()
    assert anna.paused is None
    for strength in (-1, 1, 1):
        judge(anna, strength)
        assert Rater.objects.get(pk=anna.pk).paused is None
    judge(anna, 1)  # three of four since: exactly the floor
    assert Rater.objects.get(pk=anna.pk).paused is None
    assert gold.accuracy(anna).judged == 8
    judge(anna, -1)
    assert Rater.objects.get(pk=anna.pk).paused is None  # last four: 1, 1, 1, -1
    assert gold.accuracy(anna, 4).passed == 3


@pytest.mark.django_db
def test_who_fails_the_first_four_is_paused_before_the_window_is_full() -> None:
    of = programme(gold_rate=1.0)  # floor 0.7, window 20
    golden(of, 14)
    open_batch(of, 3)
    anna, binh = rater(of), rater(of)
    for _ in range(3):
        judge(anna, -1)
        assert Rater.objects.get(pk=anna.pk).paused is None
    judge(anna, -1)
    anna.refresh_from_db()
    assert anna.paused is not None
    assert "0 of the last 4" in anna.pause_reason
    assert next_assignment(anna) is None
    assert gold.visible_outcomes(anna).count() == 4  # they see what failed, as with a full window
    gold.resume(anna, account())
    judge(anna, -1)
    assert Rater.objects.get(pk=anna.pk).paused is None  # afresh: one answer proves nothing
    for strength in (-1, 1, -1, 1, 1, 1):  # five of seven would be no doubt either way
        judge(binh, strength)
        assert Rater.objects.get(pk=binh.pk).paused is None


def test_the_fewest_failures_that_pause_early() -> None:
    """With floor 0.7 and window 10: the most acceptable answers of n that still pause, by hand from Wilson's bound."""
    found = [max((k for k in range(n + 1) if gold.below(k, n, 0.7, 10)), default=None) for n in range(1, 12)]
    assert found == [None, None, None, 0, 1, 1, 2, 2, 3, 6, 7]
    assert not any(gold.below(k, n, 0.0, 10) for n in range(1, 10) for k in range(n + 1))


def paused(answers: int, window: int = 10) -> list[tuple[int, ...]]:
    """Every row of so many right and wrong answers after which, or in the midst of which, its rater is paused."""
    stops = {(k, n): gold.below(k, n, 0.7, window) for n in range(1, answers + 1) for k in range(n + 1)}
    rows = itertools.product((0, 1), repeat=answers)
    return [row for row in rows if any(stops[sum(row[:n]), n] for n in range(1, answers + 1))]


def chance(accuracy: float, rows: Iterable[tuple[int, ...]]) -> float:
    """How likely a rater of this accuracy gives one of these rows of answers."""
    return sum(accuracy ** sum(row) * (1 - accuracy) ** (len(row) - sum(row)) for row in rows)


@pytest.mark.parametrize(
    ("accuracy", "least", "most"),
    [(0.95, 0, 0.0001), (0.9, 0, 0.001), (0.85, 0, 0.0031), (0.7, 0, 0.0503), (0.3, 0.77, 1), (0.1, 0.99, 1)],
)
def test_before_the_window_is_full_the_good_are_hardly_ever_paused_and_the_bad_mostly(
    accuracy: float, least: float, most: float
) -> None:
    assert least <= chance(accuracy, paused(9)) <= most


def test_with_a_window_of_ten_early_pauses_whom_the_full_window_would_pause_and_nobody_else() -> None:
    rows = paused(10)
    assert all(sum(row) <= 6 for row in rows)
    assert len(rows) == 848  # of 1024: all with six right at most
    assert round(chance(0.85, rows), 3) == 0.05


@pytest.mark.parametrize(
    ("accuracy", "by"),
    [
        (0.95, {4: 0.0, 9: 0.0, 20: 0.0, 50: 0.0}),
        (0.9, {4: 0.0, 9: 0.001, 20: 0.003, 50: 0.018}),
        (0.85, {4: 0.001, 9: 0.003, 20: 0.024, 50: 0.125}),
        (0.7, {4: 0.008, 9: 0.05, 20: 0.397, 50: 0.853}),
        (0.5, {4: 0.062, 9: 0.324, 20: 0.943, 50: 1.0}),
        (0.3, {4: 0.24, 9: 0.775, 20: 1.0, 50: 1.0}),
        (0.1, {4: 0.656, 9: 0.994, 20: 1.0, 50: 1.0}),
    ],
)
def test_what_chance_does_as_the_documentation_tells_it(accuracy: float, by: dict[int, float]) -> None:
    """The table of docs/judgment-quality.md, exact: the chance of every row of the last answers, a bit an answer."""
    window = Rules().gold_window
    right = np.array([row.bit_count() for row in range(1 << window)], dtype=np.int8)
    stays = np.ones(1)
    for n in range(1, 51):
        if len(stays) == 1 << window:
            stays = stays.reshape(2, -1).sum(0)  # the oldest answer, the highest bit, is looked at no more
        stays = np.stack([stays * (1 - accuracy), stays * accuracy], 1).reshape(-1)
        seen = min(n, window)
        kept = np.array([not gold.below(k, seen, 0.7, window) for k in range(seen + 1)])
        stays = stays * kept[right[: len(stays)]]
        if n in by:
            assert round(float(1 - stays.sum()), 3) == pytest.approx(by[n]), n


def test_of_a_long_window_a_good_rater_is_paused_early_in_three_of_a_thousand() -> None:
    """Forty-nine answers, too many for every row: by how many were right, those paused taken out at each step."""
    stays, gone = {0: 1.0}, 0.0
    for n in range(1, 50):
        after: dict[int, float] = {}
        for right, share in stays.items():
            after[right + 1] = after.get(right + 1, 0.0) + share * 0.85
            after[right] = after.get(right, 0.0) + share * 0.15
        stays = {right: share for right, share in after.items() if not gold.below(right, n, 0.7, 50)}
        gone += sum(share for right, share in after.items() if right not in stays)
    assert 0.003 < gone < 0.0034


@pytest.mark.django_db
def test_a_revised_key_scores_again_what_it_scored() -> None:
    of = programme(**ALWAYS)
    (key,) = golden(of)
    open_batch(of, 1)
    anna = rater(of)
    judge(anna, -1)
    assert gold.accuracy(anna).passed == 0
    gold.revise(key, [{"strength": [-3, 0]}], "a is right", actor=account())
    assert gold.accuracy(anna).passed == 1
    (row,) = gold.keys(of)
    assert (row.accuracy.judged, row.accuracy.passed) == (1, 1)


@pytest.mark.django_db
def test_a_repeat_comes_after_ten_others_once_and_is_for_checking_alone() -> None:
    of = programme(repeat_rate=1.0)
    made = open_batch(of, 14)
    anna = rater(of)
    first = [judge(anna, 1) for _ in range(11)]
    again = judge(anna, -1)
    assert (again.item_id, again.purpose, again.pass_number) == (first[0].item_id, Purpose.CHECK, 2)
    assert trained(of) == {judgment.pk for judgment in first}
    assert Item.objects.get(pk=again.item_id).state == "done"
    following = [judge(anna) for _ in range(3)]
    assert {judgment.purpose for judgment in following} >= {"train"}
    seen = [judgment.item_id for judgment in following if judgment.purpose == "check"]
    assert again.item_id not in seen
    (row,) = progress.overview(of).batches
    assert row.wanted == 14
    assert row.counted == 11 + sum(judgment.purpose == "train" for judgment in following)
    assert made.slots.filter(reserved_for=None).count() == 14
    consistency = agreement.with_self(of)[anna.pk]
    assert (consistency.share, consistency.of) == ((len(seen)) / (1 + len(seen)), 1 + len(seen))


@pytest.mark.django_db
def test_events_tell_all_that_happened_to_places_made_for_one_rater() -> None:
    of = programme(gold_rate=0.5, repeat_rate=0.3, skips_to_park=1, gold_floor=0.0)
    open_batch(of, 16, quota=2)
    keys = golden(of, 4)
    anna, binh = rater(of), rater(of)
    for _ in range(14):
        judge(anna)
        judge(binh, -1)
    skip(take(binh), "unclear")
    release(take(anna))
    undo(judge(anna), key="undo")
    gold.promote(of.items.filter(purpose="train", state="open")[0], B_BETTER, "b", actor=account())
    for key in keys:
        gold.retire(key, actor=account())
    assert Slot.objects.filter(reserved_for__isnull=False).exists()
    assert difference(replay(of)) == []


@pytest.mark.django_db
def test_the_share_of_repeats_is_the_rate() -> None:
    of = programme()
    open_batch(of, 36)
    anna = rater(of)
    for _ in range(22):  # twelve of them are long enough ago
        judge(anna)
    of.settings = {"repeat_rate": 0.5}
    of.save()
    anna = Rater.objects.get(pk=anna.pk)
    got = [judge(anna).purpose for _ in range(12)]
    expected = ["check"]
    for number in range(1, 12):
        expected += ["train"] * special.gap(0.5, "repeat", anna.pk, number) + ["check"]
    assert got == expected[:12]


STRENGTHS = [{"strength": s} for s in range(-3, 4)] + [
    {"strength": 0, "both_bad": True},
    {"strength": 0, "both_good": True},
]


@pytest.mark.parametrize("verdict", STRENGTHS, ids=str)
def test_what_is_suggested_from_a_comparison_accepts_it_and_refuses_the_other_side(verdict: dict[str, Any]) -> None:
    found = patterns.suggest("pairwise", verdict)
    assert patterns.check("pairwise", found, completions=2) == found
    assert matches("pairwise", verdict, found)
    opposite = {"strength": -verdict["strength"] or 1}
    assert not matches("pairwise", opposite, found)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=5))
def test_what_is_suggested_from_a_ranking_accepts_it(points: list[int]) -> None:
    ranks = [1 + sum(other > own for other in points) for own in points]
    found = patterns.suggest("ranking", {"ranks": ranks})
    if len(set(ranks)) == 1:
        assert found == []
    else:
        checked = patterns.check("ranking", found, completions=len(ranks))
        assert matches("ranking", stored(payloads.Ranking(tuple(ranks))), checked)
        assert not matches("ranking", {"ranks": [1 + sum(o < own for o in points) for own in points]}, checked)


@pytest.mark.parametrize(
    "pattern",
    [{"above": [[0, 1], [1, 2], [2, 0]]}, {"best": [0], "above": [[1, 0]]}, {"best": [0, 1, 2]}, {"best": []}],
)
def test_a_ranking_that_nobody_could_give_is_no_pattern(pattern: dict[str, Any]) -> None:
    with pytest.raises(HeedfulError):
        patterns.check("ranking", [pattern], completions=3)


@pytest.mark.parametrize(
    ("pattern", "order", "words"),
    [
        ({"strength": [1, 3]}, [0, 1], "B better"),
        ({"strength": [1, 3]}, [1, 0], "A better"),
        ({"strength": [-3, 0]}, [0, 1], "A better or a tie"),
        ({"strength": [2, 3]}, [1, 0], "A better by 2 to 3"),
        ({"strength": [0, 0], "both_bad": True}, [0, 1], "a tie, both bad"),
        ({"strength": [-1, 2]}, [], "A better by 1 to 1 or B better by 1 to 2 or a tie"),
    ],
)
def test_a_pattern_is_said_in_the_letters_that_were_seen(pattern: Any, order: list[int], words: str) -> None:
    assert patterns.words("pairwise", pattern, order) == words


def test_rankings_and_points_are_said_in_the_letters_that_were_seen() -> None:
    ranking = {"best": [2], "above": [[2, 0]]}
    assert patterns.words("ranking", ranking, [2, 0, 1]) == "best is one of: A; A above B"
    points = {"scores": {"1": {"helpful": [4, 5]}}}
    assert patterns.words("attributes", points, [1, 0]) == "A: helpful 4 to 5"


@pytest.mark.django_db
def test_gold_slots_look_like_any_other_to_a_rater() -> None:
    """What a page may read of an assignment differs in nothing but its content."""
    of = programme(**ALWAYS)
    golden(of)
    open_batch(of, 1)
    anna = rater(of)
    special_one = take(anna)
    answer(special_one, strength=1)
    plain = take(anna)
    assert special_one.item_version == plain.item_version == 1
    assert special_one.slot.guideline_id == plain.slot.guideline_id
    assert (special_one.lease_until - special_one.created).seconds == (plain.lease_until - plain.created).seconds
    assert Assignment.objects.filter(rater=anna).count() == 2
