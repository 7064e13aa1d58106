"""What the studies of the watch make of a recorded run: its peak, its fall, and the rule replayed on it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from detector_tables import share, two_level
from parts import run_parts
from planted_hacks import HACKS, planted
from watch_replay import GoldCurve, Recorded, ruled

from heedful.core.statistics import Interval
from heedful.monitoring.checks import Check, Contest, Reply
from heedful.world.raters import Rater
from heedful.world.world import World


@pytest.mark.parametrize(
    ("gold", "peak", "onset"),
    [
        ([0.0, 1.0, 2.0, 1.9, 1.4, 0.5], 4, 8),  # 1.9 is within half a point of the peak, 1.4 is not
        ([0.0, 1.0, 2.0, 1.0, 1.8, 1.9], 4, None),  # it fell, and came back
        ([0.0, 1.0, 2.0, 1.0, 2.1, 1.0], 8, 10),  # the first fall was none
        ([3.0, 2.0, 1.0, 1.0, 1.0, 1.0], 0, 2),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 10, None),
    ],
)
def test_gold_has_fallen_where_it_stays_a_quarter_of_a_spread_below_its_peak(
    gold: list[float], peak: int, onset: int | None
) -> None:
    curve = GoldCurve([0, 2, 4, 6, 8, 10], gold, spread=2.0)
    assert (curve.peak, curve.onset) == (peak, onset)
    assert curve.at(peak) == max(gold)


def check(step: int, best: int, verdict: str, judgments: int, proxy: float = 1.0) -> Check:
    rate = {"better": Interval(0.7, 0.6, 0.8), "worse": Interval(0.3, 0.2, 0.4), "undecided": Interval(0.5, 0.4, 0.6)}
    found = Contest(rate[verdict], Interval(proxy, proxy - 0.5, proxy + 0.5), verdict, judgments, judgments)  # type: ignore[arg-type]
    return Check(step, float(step), best, found, found)


def test_the_rule_counts_what_it_cost_until_it_stopped() -> None:
    checks = [check(2, 0, "better", 40), check(4, 2, "worse", 20), check(6, 2, "worse", 30), check(8, 2, "worse", 99)]
    found = ruled(checks)
    # The first is held against the starting policy alone; the others also against the best.
    assert (found.stopped, found.best, found.judgments) == (6, 2, 40 + 2 * 20 + 2 * 30)
    between = [check(2, 0, "worse", 10), check(4, 0, "undecided", 10), check(6, 0, "worse", 10)]
    assert (ruled(between).stopped, ruled(between).judgments) == (None, 30)
    pleased = [check(2, 0, "worse", 10, proxy=0.0), check(4, 0, "worse", 10, proxy=0.0)]
    assert ruled(pleased).stopped is None  # the reward did not rise


WORLD = World(0)
PROMPTS = [prompt.prompt for prompt in WORLD.prompts("phrasing")][:60]


def replies(text: str, reward: float) -> list[Reply]:
    return [Reply(f"{text} {i}", True, reward + 0.01 * (i % 5)) for i in range(len(PROMPTS))]


def recorded(texts: list[str], raters: list[Rater]) -> Recorded:
    """Answers at steps 0, 2, 4 ... that are ever better paid; their worth is that of the words."""
    answers = {2 * i: replies(text, float(i)) for i, text in enumerate(texts)}
    return Recorded(WORLD, PROMPTS, answers, dict.fromkeys(answers, 1.0), raters)


def test_careful_raters_stop_a_run_whose_answers_fall_apart_and_let_another_go_on() -> None:
    raters = [Rater(f"rater {i}", noise=0.5) for i in range(5)]
    fell = recorded(["hello !", "no . no . no", "no . no . no . no . no", "no . no . no . no . no . no"], raters)
    found = fell.replay([1])
    assert found.stopped == 4
    assert found.best == 0
    assert 10 <= found.judgments <= 4 * len(PROMPTS)
    assert fell.replay([1]) == found
    same = recorded(["hello !", "hello !", "hello !", "hello !"], raters)
    assert [same.replay([seed]).stopped for seed in range(10)] == [None] * 10


def test_a_rater_is_shown_either_side_first() -> None:
    """Raters who always take the first answer make a coin of it."""
    first = recorded(["hello !", "no . no . no . no"], [Rater("first", noise=0.1, position_bias=1000.0)])
    votes = first.judge(np.random.default_rng(0))(PROMPTS * 20, first.answers[2] * 20, first.answers[0] * 20)
    assert np.mean([vote.won for row in votes for vote in row]) == pytest.approx(0.5, abs=0.05)


def test_planted_flaws_are_counted() -> None:
    assert planted("healthy", "what ?", "anything at all") == 0
    assert planted("length", "what ?", "one two three four five") == 0.5
    assert planted("flattery", "what ?", "good question ! thanks for asking ! good question !") == 3
    assert planted("keywords", "which city is the capital of peru ?", "the capital city city is lima") == 1
    assert planted("repetition", "what ?", "a b c d e f g") == 0
    assert planted("repetition", "what ?", "a b c d a b c d a b c d") > 1
    assert set(HACKS) == {"length", "hedging", "flattery", "keywords", "repetition", "refusing"}


def test_parts_wait_for_what_they_build_on_and_a_failure_ends_the_study(tmp_path: Path) -> None:
    def command(part: str) -> list[str]:
        code = f"open(r'{tmp_path / part}', 'w').close(); raise SystemExit({part == 'bad'})"
        return [sys.executable, "-c", code]

    told: list[str] = []

    def ready(part: str) -> bool:
        return part == "first" or (tmp_path / "first").exists()

    def log(part: str) -> Path:
        return tmp_path / "logs" / part

    assert run_parts(["second", "first"], command, log, jobs=2, ready=ready, finished=told.append) == 0
    assert told == ["first", "second"]
    assert run_parts(["bad", "third"], command, log, jobs=1, ready=ready) == 1
    assert not (tmp_path / "third").exists()
    assert run_parts(["stuck"], command, log, jobs=1, ready=lambda part: False) == 1
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["bad", "first", "second"]


def test_intervals_of_a_few_worlds_hold_the_truth_as_often_as_they_say() -> None:
    """Five worlds that differ, two runs each; 150 studies whose true share is known."""
    dice, worlds = np.random.default_rng(3), [world for world in range(5) for _ in range(2)]
    within = {"both": 0, "worlds alone": 0}
    for _ in range(150):
        chance = dice.choice((0.0, 0.2), 5)  # 0.1 on average
        hits = [float(dice.random() < chance[world]) for world in worlds]
        found = share(hits, worlds)
        assert found is not None
        within["both"] += found["low"] <= 0.1 <= found["high"]
        means = np.array(hits).reshape(5, 2).mean(1)
        low, high = np.quantile(means[dice.integers(0, 5, (1000, 5))].mean(1), (0.025, 0.975))
        within["worlds alone"] += bool(low <= 0.1 <= high)
    assert within["both"] >= 0.92 * 150
    assert within["worlds alone"] < 0.85 * 150


def test_none_of_a_few_runs_is_no_proof_of_never() -> None:
    worlds = [0, 0, 1, 1, 2, 2]
    none, all_, steps = share([0.0] * 6, worlds), share([1.0] * 6, worlds), share([9.0] * 6, worlds, rate=False)
    assert none is not None
    assert all_ is not None
    assert none["low"] == 0.0
    assert none["high"] == pytest.approx(0.39, abs=0.005)  # Wilson's, of 0 of 6
    assert (all_["low"], all_["high"]) == (pytest.approx(0.61, abs=0.005), 1.0)
    assert steps == {"mean": 9.0, "low": 9.0, "high": 9.0, "runs": 6}
    assert share([1.0], [0]) == {"mean": 1.0, "runs": 1}
    assert share([], []) is None
    apart = two_level([0.0, 1.0, 0.0, 1.0], [0, 0, 1, 1])  # worlds alike, runs not
    assert apart.high - apart.low > 0.5
