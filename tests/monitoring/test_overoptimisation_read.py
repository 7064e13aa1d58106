"""The study of over-optimisation reads runs back: KL of a check, gains at equal KL, and runs that follow each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import overoptimisation_runs as runs
import pytest
from overoptimisation_read import Track, kl_near, over_seeds, read_track, stop_at_budget
from overoptimisation_tables import counted, stopped

from heedful.core.statistics import Interval
from heedful.monitoring.checks import Check, Contest
from heedful.world.world import World

WORLD = World(0)


def row(step: int, kl: float) -> dict[str, float]:
    return {"step": step, "kl": kl, "reward": 0.0, "reward_spread": 1.0}


def track(kl: list[float], gold: list[float], proxy: list[float]) -> Track:
    rows = [row(i + 1, kl[min(i, len(kl) - 1)]) for i in range(2 * len(kl))]
    return Track(1, rows, [2 * i for i in range(len(kl))], kl, gold, proxy, 2.0, 0.5, [], {})


def test_the_kl_of_a_check_is_that_of_the_rollouts_around_it() -> None:
    rows = [row(i + 1, kl) for i, kl in enumerate([0.0, 1.0, 2.0, 6.0])]
    assert kl_near(rows, 0) == 0
    assert kl_near(rows, 1) == 1.0  # of the policies that 0, 1 and 2 steps left
    assert kl_near(rows, 2) == 3.0
    assert kl_near(rows, 4) == 6.0  # after the last step nobody sampled: the rollout before it


def test_gains_are_read_between_checks_and_never_beyond_the_last() -> None:
    found = track([0.0, 1.0, 0.8, 3.0], [5.0, 7.0, 6.0, 3.0], [0.0, 1.0, 1.5, 2.0])
    gains = found.gain("gold", [0.0, 0.5, 2.0, 3.0, 3.1])
    assert gains[:2].tolist() == [0.0, 1.0]
    assert gains[2] == pytest.approx(-0.5)  # half-way from 6 - 5 to 3 - 5
    assert gains[3] == -2.0
    assert np.isnan(gains[4])
    assert found.gain("proxy", [3.0]).tolist() == [2.0]


def test_a_stop_is_held_against_the_peak() -> None:
    found = track([0.0, 1.0, 2.0, 4.0], [5.0, 7.0, 6.0, 3.0], [0.0, 1.0, 1.5, 2.0])
    said = stopped(found, 6, 2)
    assert (said["steps_after_peak"], said["lost"]) == (4, 0.0)
    assert said["nats_after_peak"] == found.kl_at(6) - found.kl_at(2)
    assert stopped(found, None, 6) == {"stopped": None, "kept": 6, "lost": 2.0}
    assert stopped(found, 6, 0)["lost"] == 1.0  # back to the starting policy


def test_the_budget_stops_where_the_watch_of_a_run_would() -> None:
    rows = [row(i, 0.5 * i) for i in range(1, 21)]
    found = Track(1, rows, [0], [0.0], [0.0], [0.0], 1.0, 1.0, [], {})
    # The watch averages over five steps: step 12 is the first whose average, 5, passes 1.25 times 3.9.
    assert stop_at_budget(found, 3.9) == 12
    assert stop_at_budget(found, 100.0) is None


def test_seeds_make_an_interval_and_one_alone_none() -> None:
    found = over_seeds([1.0, 2.0, 3.0, float("nan")])
    assert found is not None
    assert (found.mean, found.high - 2.0) == (2.0, pytest.approx(4.3027 / np.sqrt(3), abs=1e-4))
    assert over_seeds([float("nan")]) is None
    assert counted([1.0, 2.0, 3.0], 3) == "2.00 (-0.48 to 4.48)"
    assert counted([1.0, 2.0, float("nan")], 3) == "1.00, 2.00, 2 of 3"
    assert counted([1.0], 1) == "1.00"
    assert counted([float("nan")] * 3, 3) == "–"


def write_run(folder: Path, kl: list[float], texts: dict[int, str]) -> None:
    (folder / "watch").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row(i + 1, k)) + "\n" for i, k in enumerate(kl)))
    contest = Contest(Interval(0.5, 0.4, 0.6), Interval(0.0, -1.0, 1.0), "undecided", 10, 10)
    count = len(WORLD.prompts("phrasing")[:: runs.CHECK_EVERY])
    for step, text in texts.items():
        check = None if step == 0 else Check(step, 1.0, 0, contest, contest).to_json()
        replies = [{"text": text, "finished": True, "reward": step + i % 2} for i in range(count)]
        (folder / "watch" / f"check-{step:08d}.json").write_text(json.dumps({"check": check, "replies": replies}))


def test_two_runs_that_follow_each_other_are_one(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [0.0, 1.0], {0: "hello !", 2: "hello ! hello !"})
    write_run(tmp_path / "b", [1.5, 2.5, 3.5], {0: "never read", 2: "no", 3: "no . no"})
    found = read_track(WORLD, 0, [tmp_path / "a", tmp_path / "b"])
    assert found is not None
    assert found.steps == [0, 2, 4, 5]
    assert found.kl == [0.0, pytest.approx((1.0 + 1.5 + 2.5) / 3), 3.0, 3.5]
    assert found.proxy == pytest.approx([0.5, 2.5, 2.5, 3.5], abs=0.01)
    prompts = [prompt.prompt for prompt in WORLD.prompts("phrasing")][:: runs.CHECK_EVERY]
    for place, text in enumerate(["hello !", "hello ! hello !", "no", "no . no"]):
        assert found.gold[place] == pytest.approx(WORLD.golds(prompts, [text] * len(prompts)).mean())
    assert len(found.checks) == 3
    assert read_track(WORLD, 0, []) is None
