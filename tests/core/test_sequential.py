"""Always-valid intervals of a win rate: literal figures, and error rates over all looks by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heedful.core.sequential import (
    SequentialTest,
    cluster_spread,
    confidence_sequence,
    mixture_radius,
)

REPLAYS, LOOKS, BLOCK = 160, 10, 30


def simulated(
    rate_shift: float, raters: int, seed: int, tastes: float = 0.25
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes of LOOKS * BLOCK pairs: three raters judge each prompt, who have tastes and prompts have leanings."""
    random = np.random.default_rng(seed)
    n = LOOKS * BLOCK
    prompts = np.arange(n) // 3
    who = np.array([random.choice(raters, 3, replace=False) for _ in range(n // 3)]).ravel()
    leaning = random.normal(0, 0.8, n // 3)[prompts]
    taste = random.normal(0, tastes, raters)[who]
    chance = 1 / (1 + np.exp(-(leaning + taste + rate_shift)))
    return (random.random(n) < chance).astype(float), prompts, who


def verdicts(rate_shift: float, raters: int, seed: int, tastes: float = 0.25) -> list[tuple[str, int]]:
    """What the test says in each replay, and after how many pairs."""
    test, said = SequentialTest(most=LOOKS * BLOCK), []
    for replay in range(REPLAYS):
        won, prompts, who = simulated(rate_shift, raters, seed * 10_000 + replay, tastes)
        for stop in range(BLOCK, len(won) + 1, BLOCK):
            looked = test.look(won[:stop], prompts[:stop].tolist(), who[:stop].tolist())
            if looked.stop:
                break
        said.append((looked.verdict, looked.pairs))
    return said


@pytest.mark.parametrize("raters", [5, 12])
def test_a_tie_is_seldom_called_at_any_of_ten_looks(raters: int) -> None:
    wrong = sum(verdict != "undecided" for verdict, _ in verdicts(0.0, raters=raters, seed=1))
    assert wrong / REPLAYS <= 0.05


@pytest.mark.parametrize("raters", [3, 4])
def test_a_tie_is_seldom_called_where_few_raters_have_strong_tastes(
    raters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = sum(verdict != "undecided" for verdict, _ in verdicts(0.0, raters=raters, seed=5, tastes=0.6))
    assert wrong / REPLAYS <= 0.05
    monkeypatch.setattr("heedful.core.sequential.FEW_RATERS", 0)
    alone = sum(verdict != "undecided" for verdict, _ in verdicts(0.0, raters=raters, seed=5, tastes=0.6))
    assert alone > 1.5 * wrong  # what the others' say without each of them is there for


def test_what_few_raters_say_has_to_hold_without_any_one_of_them() -> None:
    who = [i % 3 for i in range(90)]
    prompts = [i // 3 for i in range(90)]
    one_alone = [1.0 if rater == 0 else float(i % 2) for i, rater in enumerate(who)]
    found = confidence_sequence(one_alone, prompts, who)
    others = [i for i in range(90) if who[i] != 0]
    alone = confidence_sequence([one_alone[i] for i in others], [prompts[i] for i in others])
    assert found.low <= alone.low < 0.5
    assert found.mean == pytest.approx(2 / 3)
    together = confidence_sequence([1.0] * 90, prompts, who)
    assert together.low > 0.5  # where all say the same nobody is missed


def test_degrees_of_freedom_follow_whatever_varies() -> None:
    prompts, who = [i // 5 for i in range(200)], [i % 5 for i in range(200)]
    agreed = cluster_spread([float(p % 2) for p in prompts], prompts, who)
    assert agreed[1] == pytest.approx(39)  # raters say the same of each prompt: 40 prompts
    split = cluster_spread([float(rater < 2) for rater in who], prompts, who)
    assert split[1] == pytest.approx(4, abs=0.5)  # each says the same of all prompts: 5 raters
    assert split[0] > 5 * cluster_spread([float(rater < 2) for rater in who], prompts)[0]


def test_a_clear_winner_is_called_and_the_asking_stops_early() -> None:
    said = verdicts(1.1, raters=12, seed=2)
    assert sum(verdict == "better" for verdict, _ in said) / REPLAYS > 0.9
    assert sum(verdict == "worse" for verdict, _ in said) == 0
    assert np.mean([pairs for _, pairs in said]) < 0.6 * LOOKS * BLOCK


def test_an_interval_for_one_look_peeked_at_would_have_erred_often() -> None:
    """The reason for all this: the ordinary 95% interval, looked at as often, errs far more than one time in twenty."""
    wrong = 0
    for replay in range(REPLAYS):
        won, prompts, _ = simulated(0.0, 12, 10_000 + replay)
        for stop in range(BLOCK, len(won) + 1, BLOCK):
            spread = math.sqrt(cluster_spread(won[:stop], prompts[:stop].tolist())[0])
            if abs(won[:stop].mean() - 0.5) > 1.96 * spread:
                wrong += 1
                break
    assert wrong / REPLAYS > 0.15


def test_the_radius_of_a_known_case() -> None:
    # v = 0.0025, τ = 0.1: v + τ² = 0.0125; (v + τ²) / τ² = 1.25; 2 log 20 + log 5 = 7.600902
    expected = 0.05 * math.sqrt(1.25 * 7.600902)
    assert mixture_radius(0.0025, 10**9) == pytest.approx(expected, rel=1e-5)
    assert mixture_radius(0.0025, 11) > 1.2 * expected  # few clusters are paid for
    assert mixture_radius(0.0025, 10**9, level=0.8) < expected


def test_the_variance_of_pairs_without_clusters_and_with() -> None:
    won = [1.0, 0.0] * 10
    alone = cluster_spread(won, list(range(20)))[0]
    assert alone == pytest.approx(0.25 / 22)  # 22 with the two that are added
    assert cluster_spread(won, [i // 2 for i in range(20)])[0] == pytest.approx(2 * 0.25 / 22**2)  # wins cancel losses
    together = cluster_spread([1.0] * 10 + [0.0] * 10, [i // 2 for i in range(20)])[0]
    assert together == pytest.approx((10 * 1.0 + 2 * 0.25) / 22**2)


def test_raters_who_always_say_the_same_widen_the_interval() -> None:
    won = [1.0, 0.0, 1.0] * 20
    prompts = [i // 3 for i in range(60)]
    alone = confidence_sequence(won, prompts)
    told_apart = confidence_sequence(won, prompts, [i % 3 for i in range(60)])
    assert told_apart.high - told_apart.low > alone.high - alone.low


def test_pairs_that_all_went_one_way_are_not_certain_and_few_prompts_say_nothing() -> None:
    few = confidence_sequence([1.0] * 9, list(range(9)))
    assert (few.low, few.high) == (0.0, 1.0)
    some = SequentialTest().look([1.0] * 30, list(range(30)))
    assert some.verdict == "better"
    assert 0.5 < some.rate.low < 0.95
    one_rater = SequentialTest().look([1.0] * 30, list(range(30)), ["ann"] * 30)
    assert (one_rater.verdict, one_rater.stop) == ("undecided", False)


def test_a_pair_that_decided_itself_is_no_rater() -> None:
    won, prompts = [1.0] * 40 + [0.5] * 10, list(range(50))
    two = SequentialTest().look(won, prompts, ["ann", "bob"] * 20 + [None] * 10)
    assert (two.raters, two.verdict) == (2, "undecided")  # two raters do not show how raters differ
    three = SequentialTest().look(won, prompts, [("ann", "bob", "cas")[i % 3] for i in range(40)] + [None] * 10)
    assert (three.raters, three.verdict) == (3, "better")
    who = [i % 5 for i in range(200)]
    split, along = [float(rater < 2) for rater in who], list(range(200))
    alone = cluster_spread(split, along, who)
    beside = cluster_spread([*split, *[0.5] * 20], list(range(220)), [*who, *[None] * 20])
    assert beside[1] == pytest.approx(alone[1], rel=0.05)  # as many degrees of freedom as there are raters


def test_alike_and_the_end_of_the_money() -> None:
    won, prompts = [1.0, 0.0] * 1000, list(range(2000))
    assert SequentialTest(margin=0.06, most=5000).look(won, prompts).verdict == "alike"
    looked = SequentialTest(most=2000).look(won, prompts)
    assert (looked.verdict, looked.stop) == ("undecided", True)
    assert SequentialTest().look([0.0] * 40, list(range(40))).verdict == "worse"


@pytest.mark.parametrize(
    "call",
    [
        lambda: SequentialTest(level=1.0),
        lambda: SequentialTest(margin=0.5),
        lambda: SequentialTest(most=0),
        lambda: confidence_sequence([1.0, 2.0], [0, 1]),
        lambda: confidence_sequence([1.0, 0.0], [0]),
        lambda: mixture_radius(0.0, 5),
    ],
)
def test_what_means_nothing_is_refused(call: object) -> None:
    with pytest.raises(ValueError):
        call()  # type: ignore[operator]
