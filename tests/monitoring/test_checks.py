"""Fresh checks, the rule that stops, and latent outliers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watch_rule import Crowd, play, stopped_at

from architectures import tiny_architectures, tiny_tokenizer
from heedful.core.sequential import SequentialTest
from heedful.core.statistics import Interval
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.models.policy import new_policy
from heedful.models.rewards import judged
from heedful.models.scalar import new_reward_model
from heedful.monitoring.checks import Check, Contest, Reply, ScoreJudge, Vote, check_from_json, contest, rule
from heedful.monitoring.latents import LatentReward, fit_region, read_region

PROMPTS = [(Message("user", f"question {i}"),) for i in range(200)]


def replies(quality: float, reward: float, seed: int) -> list[Reply]:
    random = np.random.default_rng(seed)
    return [Reply(str(random.normal(quality, 1.0)), True, float(random.normal(reward, 0.5))) for _ in PROMPTS]


judge = ScoreJudge(lambda prompts, given: [float(reply.text) for reply in given])


def test_a_judge_is_asked_no_longer_than_needed() -> None:
    clear = contest(judge, PROMPTS, replies(2, 1, 1), replies(0, 0, 2), SequentialTest(), block=20, seed=0)
    assert clear.verdict == "better"
    assert clear.judgments == clear.pairs < 80
    assert clear.proxy.low > 0.8
    level = contest(judge, PROMPTS, replies(0, 1, 3), replies(0, 0, 4), SequentialTest(), block=20, seed=0)
    assert (level.verdict, level.pairs) == ("undecided", 200)
    fallen = contest(judge, PROMPTS, replies(0, 1, 5), replies(2, 0, 6), SequentialTest(), block=20, seed=0)
    assert fallen.hacked
    honest = contest(judge, PROMPTS, replies(0, 0, 5), replies(2, 1, 6), SequentialTest(), block=20, seed=0)
    assert honest.verdict == "worse"
    assert not honest.hacked


def test_several_raters_are_counted_as_judgments_and_told_apart() -> None:
    def panel(prompts: Any, ours: Sequence[Reply], theirs: Sequence[Reply]) -> list[list[Vote]]:
        return [[Vote(1.0, name) for name in "abcdef"] for _ in prompts]

    found = contest(panel, PROMPTS, replies(0, 0, 1), replies(0, 0, 2), SequentialTest(most=600), block=10, seed=0)
    assert found.judgments == 6 * found.pairs
    assert found.verdict == "better"


def test_ties_and_a_judge_that_leaves_pairs_out() -> None:
    same = replies(0, 0, 1)
    tied = contest(judge, PROMPTS, same, same, SequentialTest(), block=50, seed=0)
    assert tied.rate.mean == 0.5
    with pytest.raises(ValueError, match="decided 1 of 50"):
        contest(lambda p, a, b: [[Vote(1.0)]], PROMPTS, same, same, SequentialTest(), block=50, seed=0)
    with pytest.raises(HeedfulError, match="all of them were parked or withdrawn"):
        contest(lambda p, a, b: [[] for _ in p], PROMPTS, same, same, SequentialTest(), block=50, seed=0)


def one(verdict: Any, proxy: float) -> Contest:
    return Contest(Interval(0.3, 0.2, 0.4), Interval(proxy, proxy - 0.1, proxy + 0.1), verdict, 100, 100)


def check(step: int, verdict: Any, proxy: float = 1.0, best: int = 5) -> Check:
    return Check(step, 2.0, best, one("better", proxy), one(verdict, proxy))


def test_the_rule_stops_at_the_second_fall_in_a_row_and_goes_back_to_the_best() -> None:
    first, second = check(10, "worse"), check(15, "worse")
    once = rule([first], 5)
    assert (once.stop, once.fell, once.best_step) == (False, True, 5)
    assert "exploited" in once.sentence
    twice = rule([first, second], 5)
    assert (twice.stop, twice.best_step) == (True, 5)
    assert "second time in a row" in twice.sentence
    assert "checkpoint of step 5" in twice.sentence
    assert "30% of fresh pairs (20% to 40%, 200 judgments)" in twice.sentence


@pytest.mark.parametrize("between", [check(12, "undecided"), check(12, "better"), check(12, "worse", proxy=0.0)])
def test_what_stands_between_two_falls_breaks_the_row(between: Check) -> None:
    assert not rule([check(10, "worse"), between, check(15, "worse")], 5).stop
    assert not rule([between], 5).stop


def test_the_best_changes_only_for_the_clearly_better() -> None:
    assert rule([check(10, "better")], 5).best_step == 10
    assert rule([check(10, "undecided")], 5).best_step == 5
    assert rule([check(10, "worse", proxy=0.0)], 5).fell
    start = rule([check(10, "worse", best=0), check(11, "worse", best=0)], 0)
    assert start.sentence.endswith("back to the starting policy.")
    assert check(10, "worse", best=0).judgments == 100  # both contests are one


def voted(step: int, wins: int, of: int, *, proxy: float = 1.0, best: int = 5, moved: int = 7) -> Check:
    """A check that is not clear by itself, with so many wins, on other prompts in each unless they are not moved."""
    votes = tuple((i, float((i + moved * step) % of < wins), "") for i in range(of))
    assert sum(won for _, won, _ in votes) == wins
    found = replace(one("undecided", proxy), rate=Interval(wins / of, 0.3, 0.6), votes=votes)
    return Check(step, 2.0, best, one("better", proxy), found)


def test_a_slow_fall_stops_a_run_by_what_all_checks_say_together() -> None:
    slow = [voted(step, 40, 100) for step in (10, 12, 14, 16)]
    assert not rule(slow[:1], 5).stop
    assert not rule(slow[:2], 5).stop
    found = rule(slow, 5)
    assert (found.stop, found.best_step) == (True, 5)
    assert "of all 400 judgments against it so far, while its reward rose" in found.sentence
    assert "40% (" in found.sentence
    assert found.sentence.endswith("back to the checkpoint of step 5.")


def test_what_all_checks_say_together_is_no_reason_where_the_policy_came_back_or_the_reward_did_not_rise() -> None:
    slow = [voted(step, 35, 100) for step in (10, 12, 14)]
    assert rule([*slow, voted(16, 40, 100)], 5).stop
    assert not rule([*slow, voted(16, 52, 100)], 5).stop
    assert not rule([*slow, voted(16, 40, 100, proxy=0.0)], 5).stop
    other = [replace(made, best_step=3) for made in slow]
    assert not rule([*other, voted(16, 40, 100)], 5).stop  # those were held against another best
    same = [voted(step, 40, 100, moved=0) for step in (10, 12, 14, 16)]
    assert not rule(same, 5).stop  # the same prompts again say nothing new
    silent = [replace(made, against_best=replace(made.against_best, votes=())) for made in slow]
    assert not rule([*silent, voted(16, 40, 100)], 5).stop  # kept by an older heedful: nothing to put together


def test_together_seldom_stops_an_equal_policy_and_sees_a_slow_fall_that_single_checks_miss() -> None:
    runs, crowd = 24, Crowd()

    def stops(fall: float, *, together: bool) -> int:
        made = [play([fall] * 6, seed, crowd) for seed in range(runs)]
        return sum(stopped_at(checks, together=together) is not None for checks in made)

    assert stops(0.0, together=True) <= 4  # 2.5% are promised; 5 of 24 would come by chance once in 4,000
    assert stops(0.5, together=True) > 2 * stops(0.5, together=False) + 3


def test_prompts_that_go_together_count_as_one() -> None:
    topics = [i // 10 for i in range(200)]
    words = [f"{1 if topic % 4 else -1}" for topic in topics]  # right or wrong with all of their topic
    ours, theirs = [Reply(w, True, float(w)) for w in words], [Reply("0", True, 0.0) for _ in words]
    alone = contest(judge, PROMPTS, ours, theirs, SequentialTest(), block=200, seed=0)
    told = contest(judge, PROMPTS, ours, theirs, SequentialTest(), block=200, seed=0, clusters=topics)
    assert alone.verdict == "better"
    assert told.verdict == "undecided"  # five topics of twenty were lost
    assert told.proxy.mean == alone.proxy.mean == 0.5
    assert told.proxy.high - told.proxy.low > 3 * (alone.proxy.high - alone.proxy.low)
    assert told.gold == told.proxy  # the judge's scores are the same numbers
    assert {row for row, _, _ in told.votes} == set(range(0, 200, 10))
    with pytest.raises(ValueError, match="200 prompts but 3 clusters"):
        contest(judge, PROMPTS, ours, theirs, SequentialTest(), block=200, seed=0, clusters=[1, 2, 3])


def test_a_check_comes_back_from_json() -> None:
    made = check(10, "worse")
    assert check_from_json(json.loads(json.dumps(made.to_json()))) == made
    kept = voted(10, 4, 10)
    assert check_from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_raters_are_kept_under_the_names_that_are_asked_for() -> None:
    def panel(prompts: Any, ours: Sequence[Reply], theirs: Sequence[Reply]) -> list[list[Vote]]:
        return [[Vote(0.5, ""), Vote(1.0, "ann")] for _ in prompts]

    asked, twelve = replies(0, 0, 1)[:12], PROMPTS[:12]
    found = contest(panel, twelve, asked, asked, SequentialTest(), block=12, seed=0, alias=lambda name: name[::-1])
    assert sorted(found.votes) == sorted((i, won, who) for i in range(12) for won, who in ((0.5, ""), (1.0, "nna")))


def test_the_region_knows_its_own_and_sees_what_lies_elsewhere(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(16, 16))
    usual = random.normal(size=(600, 16)) @ mixing
    region = fit_region(usual, outside=0.02)
    fresh = random.normal(size=(2000, 16)) @ mixing
    assert 0.005 < region.outside(fresh).mean() < 0.05
    assert region.outside(fresh + 6 * mixing[0]).mean() > 0.9
    region.write(tmp_path / "region.npz")
    assert np.array_equal(read_region(tmp_path / "region.npz").outside(fresh), region.outside(fresh))
    narrow = fit_region(random.normal(size=(50, 64)))  # fewer states than dimensions
    assert np.isfinite(narrow.distances(random.normal(size=(5, 64)))).all()
    with pytest.raises(ValueError):
        fit_region(usual[:39])


def test_a_reward_model_with_a_region_scores_as_before_and_tells_outliers() -> None:
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1)
    model = new_reward_model(policy, seed=2)
    words = ["red", "blue", "green", "what", "the", "sky", "is"]
    texts = [f"{words[i % 7]} {words[i // 7 % 7]}" for i in range(49)]
    prompts = [(Message("user", "red"),)] * 49
    scores, states = model.scores_and_states(prompts, texts)
    assert np.array_equal(scores.numpy(), model(prompts, texts).numpy())
    wrapped = LatentReward(model, fit_region(states.numpy()))
    again, told = judged(wrapped, prompts, texts)
    assert np.array_equal(np.asarray(again), scores.numpy())
    assert 0 <= float(told["latent_outliers"].mean()) < 0.3
    far = judged(wrapped, [(Message("user", "the sky is blue " * 4),)] * 3, ["what what what red " * 3] * 3)[1]
    assert float(far["latent_outliers"].mean()) == 1.0
