"""Signs, limits and calibration on figures that are written out here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heedful.errors import HeedfulError
from heedful.monitoring.calibrate import Thresholds, calibrate, extremes, read_thresholds
from heedful.monitoring.monitor import Alarm, Monitor, replay
from heedful.monitoring.signs import SIGNS, Limits, Tier, limits_of_run


def rows(metric: str, values: list[float], **more: float) -> list[dict[str, float]]:
    return [{"step": i, metric: value, **more} for i, value in enumerate(values, 1)]


def alarms(name: str, values: list[float], limits: Limits | None = None, **more: float) -> list[tuple[int, str]]:
    monitor = Monitor({name: limits or SIGNS[name].limits}, window=2, baseline_steps=2)
    found = replay(rows(SIGNS[name].metric, values, **more), monitor)
    return [(alarm.step, alarm.tier.name) for alarm in found]


@pytest.mark.parametrize(
    ("name", "good", "bad", "more"),
    [
        ("kl", [1.0] * 6, [1.0, 1.0, 9.0, 9.0], {}),
        ("entropy", [2.0, 2.0, 1.2, 1.2], [2.0, 2.0, 0.9, 0.9], {}),
        ("length", [20, 20, 29, 29], [20, 20, 31, 31], {}),
        ("reward_length", [0.6, 0.6, 0.65, 0.65], [0.3, 0.3, 0.55, 0.55], {}),
        ("ending", [0.9, 0.9, 0.9, 0.9], [0.99, 0.99, 0.94, 0.94], {}),
        ("truncation", [0.9, 0.9, 0.86, 0.86], [0.9, 0.9, 0.84, 0.84], {}),
        ("variety", [0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.34, 0.34], {}),
        ("opening", [0.25, 0.25, 0.3, 0.3], [0.05, 0.05, 0.25, 0.25], {}),
        ("repetition", [0.1, 0.1, 0.15, 0.15], [0.0, 0.0, 0.15, 0.15], {}),
        ("reward", [0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 7.0, 7.0], {"reward_spread": 2.0}),
        ("reward_range", [1.0, 1.0, 1.9, 1.9], [1.0, 1.0, 2.1, 2.1], {}),
        ("disagreement", [0.2, 0.2, 0.28, 0.28], [0.2, 0.2, 0.4, 0.4], {}),
        ("latents", [0.02, 0.02, 0.06, 0.06], [0.02, 0.02, 0.1, 0.1], {}),
        ("clipping", [0.1, 0.1, 0.2, 0.2], [0.1, 0.1, 0.4, 0.4], {}),
        ("critic", [0.1] * 24, [0.5] * 20 + [-0.3] * 4, {}),
        ("mismatch", [1.0, 1.0, 0.99995, 0.99995], [1.0, 1.0, 0.999, 0.999], {}),
    ],
)
def test_every_sign_sees_what_it_is_for_and_is_quiet_otherwise(
    name: str, good: list[float], bad: list[float], more: dict[str, float]
) -> None:
    limits = limits_of_run(kl_target=None, kl_budget=5.0, reward_high=2.0, low_precision=False)[name]
    assert alarms(name, good, limits, **more) == []
    assert alarms(name, bad, limits, **more) != []


def test_the_table_above_knows_every_sign() -> None:
    tested = test_every_sign_sees_what_it_is_for_and_is_quiet_otherwise.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {row[0] for row in tested} == set(SIGNS)


def test_an_alarm_rises_by_tiers_falls_silent_and_may_come_again() -> None:
    lengths = [20, 20, 32, 32, 50, 50, 20, 20, 20, 20, 32, 32]
    found = replay(
        rows("length", [float(n) for n in lengths]),
        Monitor({"length": SIGNS["length"].limits}, window=1, baseline_steps=2),
    )
    assert [(alarm.step, alarm.tier.name) for alarm in found] == [(3, "WARN"), (5, "ACT"), (11, "WARN")]


def test_the_sentence_holds_the_figures_and_a_mend() -> None:
    monitor = Monitor({"length": Limits(1.5)}, window=1, baseline_steps=1)
    (alarm,) = replay(rows("length", [20.0, 40.0]), monitor)
    assert alarm.sentence.startswith(
        "Answers are 2 times as long as they were (40 tokens, 20 at first); the limit is 1.5."
    )
    assert "score.length_penalty" in alarm.sentence
    assert alarm.to_json()["tier"] == "warn"
    assert (alarm.value, alarm.baseline, alarm.statistic, alarm.threshold) == (40.0, 20.0, 2.0, 1.5)


def test_a_monitor_that_was_put_away_goes_on_as_if_it_had_not_been() -> None:
    random = np.random.default_rng(0)
    lengths = (20 + np.arange(40) + random.normal(0, 3, 40)).tolist()
    given = rows("length", lengths)
    whole = replay(given, Monitor({"length": SIGNS["length"].limits}))
    first = Monitor({"length": SIGNS["length"].limits})
    early = replay(given[:17], first)
    second = Monitor({"length": SIGNS["length"].limits})
    second.restore(json.loads(json.dumps(first.to_json())))
    assert early + replay(given[17:], second) == whole
    assert whole


def test_missing_figures_and_a_baseline_of_nought_raise_nothing() -> None:
    monitor = Monitor(dict.fromkeys(SIGNS, Limits(0.0, 0.0, 0.0)), window=1, baseline_steps=1)
    assert replay([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}], monitor) == []
    assert alarms("length", [0.0] * 6) == []
    assert monitor.statistic("length") is None


def test_a_budget_passed_in_the_first_steps_is_told_of_at_once() -> None:
    limits = {"kl": Limits(4.0, 5.0, 6.25), "length": Limits(1.5)}
    found = replay(
        [{"step": i, "kl": 10.0 * i, "length": 20.0 * i} for i in range(1, 4)],
        Monitor(limits, window=1, baseline_steps=5),
    )
    assert [(alarm.step, alarm.sign, alarm.tier.name) for alarm in found] == [(1, "kl", "STOP")]


def test_the_tier_of_the_moment_falls_with_the_figure() -> None:
    monitor = Monitor({"length": Limits(1.5, 2.0)}, window=1, baseline_steps=1)
    seen = []
    for row in rows("length", [20.0, 41.0, 33.0, 33.0, 41.0, 20.0]):
        told = [alarm.tier.name for alarm in monitor.see(int(row["step"]), row)]
        seen.append((monitor.tiers["length"].name, told))
    # what was told of once is not told of again while the sign has not been quiet; what it is now is another thing
    assert seen == [("NONE", []), ("ACT", ["ACT"]), ("WARN", []), ("WARN", []), ("ACT", []), ("NONE", [])]


def good_run(seed: int, steps: int = 40) -> list[dict[str, float]]:
    random = np.random.default_rng(seed)
    grows = random.normal(1.0, 0.2)
    return [
        {
            "step": i,
            "length": 20 + grows * i / 10 + random.normal(0, 0.5),
            "kl": max(0.0, grows * i / 10 + random.normal(0, 0.1)),
            "entropy": 2 - i / 100 + random.normal(0, 0.05),
            "reward": i / 20 + random.normal(0, 0.1),
            "reward_spread": 1.0,
            "finished": 1.0,
        }
        for i in range(1, steps + 1)
    ]


def test_calibrated_limits_alarm_on_good_runs_as_seldom_as_they_say() -> None:
    thresholds = calibrate([good_run(seed) for seed in range(40)])
    assert set(thresholds.rates) == {"warn", "act"}
    assert thresholds.notes == ("stop: 40 runs cannot show a rate of 0.01; it needs 99. No limits.",)
    reached = {Tier.WARN: 0, Tier.ACT: 0}
    for seed in range(1000, 1200):
        found = replay(good_run(seed), Monitor(thresholds.limits))
        for tier in reached:
            reached[tier] += any(alarm.tier >= tier for alarm in found)
    assert 0.1 < reached[Tier.WARN] / 200 < 0.3
    assert reached[Tier.ACT] / 200 < 0.1


def test_calibrated_limits_catch_what_good_runs_do_not_do() -> None:
    limits = calibrate([good_run(seed) for seed in range(20)]).limits
    bad = [{**row, "length": row["length"] + row["step"]} for row in good_run(77)]
    first = replay(bad, Monitor(limits))[0]
    assert first.sign == "length"
    assert first.step < 30
    assert limits["entropy"].act is not None
    assert limits["entropy"].warn is not None
    assert limits["entropy"].act < limits["entropy"].warn  # it alarms below


def test_thresholds_come_back_as_they_were_written(tmp_path: Path) -> None:
    made = calibrate([good_run(seed) for seed in range(20)], signs=["length", "entropy"])
    made = Thresholds(**{**vars(made), "kl_budget": 4.5, "step_cap": 60})
    made.write(tmp_path / "limits.yaml")
    assert read_thresholds(tmp_path / "limits.yaml") == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("signs: {lenght: {warn: 1}}", "Did you mean 'length'"),
        ("signs: {length: {warn: 2, act: 1}}", "must grow"),
        ("signs: {entropy: {warn: 0.5, act: 0.9}}", "must shrink"),
        ("signs: {length: {worn: 2}}", "not numbers"),
        ("signs: {length: 2}", "not numbers"),
        ("sings: {}", "no block"),
        ("signs: {}\nwindow: 0", "above 0"),
        ("signs: {}\nwindows: 3", "Did you mean 'window'"),
        ("signs: [", "not YAML"),
    ],
)
def test_thresholds_that_mean_nothing_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(HeedfulError, match=said):
        read_thresholds(tmp_path / "limits.yaml")


def test_calibration_refuses_few_runs_and_figures_that_are_not_there() -> None:
    with pytest.raises(HeedfulError, match="do not show how good runs differ"):
        calibrate([good_run(0)] * 3)
    with pytest.raises(HeedfulError, match="'clipping'"):
        calibrate([good_run(seed) for seed in range(5)], signs=["clipping"])
    with pytest.raises(HeedfulError, match="no sign"):
        calibrate([good_run(seed) for seed in range(5)], signs=["lenght"])


def test_the_extreme_of_a_run_is_the_worst_smoothed_statistic() -> None:
    found = extremes(rows("length", [10, 10, 40, 10, 10]), window=1, baseline_steps=2)
    assert found == {"length": pytest.approx(4.0)}
    assert extremes(rows("entropy", [2, 2, 1, 3]), 1, 2)["entropy"] == pytest.approx(0.5)


def test_limits_that_hang_on_the_run() -> None:
    plain: dict[str, Any] = {"kl_target": None, "kl_budget": None, "reward_high": None, "low_precision": False}
    assert limits_of_run(**plain)["kl"] == Limits()
    assert limits_of_run(**{**plain, "kl_target": 6.0})["kl"] == Limits(9.0)
    assert limits_of_run(**{**plain, "kl_target": 6.0, "kl_budget": 10.0})["kl"] == Limits(8.0, 10.0, 12.5)
    assert limits_of_run(**{**plain, "low_precision": True})["mismatch"].warn == 1e-2
    with pytest.raises(ValueError):
        Monitor({"nothing": Limits()})
    assert math.isnan(SIGNS["length"].statistic(1.0, 0.0, 1.0))
    assert isinstance(Alarm(1, "length", Tier.WARN, 1, 1, 1, 1, "x").to_json()["step"], int)
