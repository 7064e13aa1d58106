"""Cards find what was planted, and leave careful raters alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from heedful.core.rater_cards import Gold, Judged, RaterCard, Repeats, cards

CAREFUL = 40
FLIPPER, COIN, FIRST, HASTY, STUCK, TIRED = range(CAREFUL, CAREFUL + 6)


def crowd(seed: int = 0, *, planted: bool = True, items: int = 2500) -> Judged:
    """Three raters an item, each right 85% of the time; six of them with a habit of their own."""
    random = np.random.default_rng(seed)
    raters = CAREFUL + 6
    item = np.repeat(np.arange(items), 3)
    rater = np.argsort(random.random((items, raters)), 1)[:, :3].ravel()
    truth = random.choice([-1, 1], items)[item]
    first = random.choice([-1, 1], len(item))  # which answer is shown first
    right = random.random(len(item)) < 0.85
    seconds = np.exp(random.normal(3, 0.4, len(item)))
    if planted:
        right = np.where(rater == FLIPPER, random.random(len(item)) < 0.1, right)
        right = np.where(rater == COIN, random.random(len(item)) < 0.5, right)
    value = np.where(right, truth, -truth)
    if planted:
        value[rater == FIRST] = first[rater == FIRST]
        seconds[rater == HASTY] /= 8
        stretch = np.flatnonzero(rater == STUCK)[30:55]
        value[stretch] = first[stretch]
        late = np.flatnonzero(rater == TIRED)[-80:]
        value[late] = np.where(random.random(80) < 0.25, truth[late], -truth[late])
    return Judged(
        item,
        rater,
        value,
        np.arange(len(item), dtype=float),
        seconds,
        np.zeros(len(item)),
        (value == first).astype(float),
        np.full(len(item), 2),
    )


def by_rater(found: list[RaterCard]) -> dict[Any, RaterCard]:
    return {card.rater: card for card in found}


def test_what_was_planted_is_found() -> None:
    found = by_rater(cards(crowd()))
    about = {rater: {one.about for one in found[rater].findings} for rater in range(CAREFUL, CAREFUL + 6)}
    assert "others" in about[FLIPPER]
    assert found[FLIPPER].weight == "act"
    assert "less often than a guess" in found[FLIPPER].findings[0].says
    assert about[COIN] == {"others"}
    assert found[COIN].weight == "look"
    assert {"others", "position"} <= about[FIRST]
    assert "Prefers what is shown first in 100% of comparisons." in [one.says for one in found[FIRST].findings]
    assert found[FIRST].do.startswith("Talk to them now: nearly every answer goes to one place")
    assert about[HASTY] == {"speed"}
    assert found[HASTY].speed_factor == pytest.approx(1 / 8, rel=0.2)
    assert "runs" in about[STUCK]
    assert "drift" in about[TIRED]
    assert not [rater for rater in range(CAREFUL) if found[rater].findings]


@pytest.mark.parametrize("seed", range(3))
def test_careful_raters_are_left_alone(seed: int) -> None:
    found = cards(crowd(seed + 100, planted=False, items=1500))
    assert [card.weight for card in found] == ["fine"] * 46
    assert found[0].do == "Nothing stands out: carry on."


def test_the_gravest_come_first_and_say_what_to_do_next() -> None:
    found = cards(crowd())
    weights = [card.weight for card in found]
    assert weights == sorted(weights, key=["act", "look", "fine", "few"].index)
    for card in found:
        assert card.do == (card.findings[0].do if card.findings else "Nothing stands out: carry on.")


def test_gold_repeats_and_raters_without_ordinary_judgments() -> None:
    judged = crowd(1, planted=False, items=800)
    random = np.random.default_rng(4)
    gold_rater = np.repeat([0, 1, 99], [20, 20, 4])
    passed = np.array([1] * 19 + [0] + [1] * 6 + [0] * 14 + [0, 0, 1, 1])
    twice = np.repeat([2, 3, 4, 5], 30)
    again = np.ones(120, dtype=int)
    again[30:60] = random.integers(0, 2, 30)  # rater 3 tosses a coin
    found = by_rater(
        cards(judged, Gold(gold_rater, passed, np.arange(44.0)), Repeats(twice, np.ones(120, dtype=int), again))
    )
    assert found[0].gold is not None
    assert (found[0].gold.share.mean, found[0].gold.of, found[0].weight) == (0.95, 20, "fine")
    assert found[1].findings[0].about == "gold"
    assert found[1].findings[0].says == "Right on 30% of 20 gold items; 70% is asked for."
    assert found[1].weight == "act"
    assert [one.about for one in found[3].findings] == ["self"]
    assert not found[2].findings
    assert (found[99].judgments, found[99].weight, found[99].others) == (0, "few", None)
    assert found[99].do.startswith("Too few judgments to compare")


def test_a_rater_who_shares_no_item_cannot_be_judged() -> None:
    one = crowd(2, planted=False, items=300)
    alone = Judged(*(getattr(one, f.name)[one.rater == 0] for f in dataclasses.fields(one)))
    (card,) = cards(alone)
    assert (card.weight, card.others) == ("few", None)


def test_times_that_nobody_measured_are_no_finding() -> None:
    judged = dataclasses.replace(crowd(), seconds=np.full(7500, np.nan), when=np.full(7500, np.nan))
    found = by_rater(cards(judged))
    assert found[HASTY].speed_factor is None
    assert found[TIRED].drift is None
