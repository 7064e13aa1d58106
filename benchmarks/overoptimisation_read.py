"""The runs of `overoptimisation.py` read back: gold and proxy against KL, and what the watch makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import overoptimisation_prevention as prevention
import overoptimisation_runs as runs
from watch_replay import GoldCurve, Recorded, Ruled, ruled

from heedful.core.overoptimisation import Curve, fit_curve, kl_budget
from heedful.core.statistics import Interval, t_interval

if TYPE_CHECKING:
    from heedful.monitoring.checks import Check, Reply
    from heedful.world.world import World

Floats = np.ndarray
REPLAYS = 40
LEAST_SEEDS = 3
"""For an interval: that of two would be 18 of their standard deviations wide."""


@dataclass(frozen=True)
class Track:
    """One PPO run, or several that follow each other, at its checks; the first is the starting policy at step 0.

    Gold and proxy are means over the prompts of the checks. The KL of a step is the mean over three rollouts: that of
    the policy which the step left, the one before and the one after; at the end of a run those that there are.
    """

    seed: int
    rows: list[dict[str, float]]
    steps: list[int]
    kl: list[float]
    gold: list[float]
    proxy: list[float]
    gold_spread: float
    proxy_spread: float
    checks: list[Check]
    replies: dict[int, list[Reply]]

    @property
    def curve(self) -> GoldCurve:
        """Gold by step."""
        return GoldCurve(self.steps, self.gold, self.gold_spread)

    @cached_property
    def ruled(self) -> Ruled:
        """Where the rule, with the world's truth as the judge, would have stopped it."""
        return ruled(self.checks)

    def kl_at(self, step: int) -> float:
        """The KL of a step."""
        return kl_near(self.rows, step)

    def gain(self, of: str, at: Sequence[float]) -> Floats:
        """Gold or proxy less the starting policy's, between checks by straight lines; not a number beyond the last."""
        values = np.array(getattr(self, of)) - getattr(self, of)[0]
        reached = np.maximum.accumulate(self.kl)
        return np.interp(at, reached, values, right=np.nan)


def kl_near(rows: Sequence[Mapping[str, float]], step: int) -> float:
    """The KL of the policy that a step left; row i is of the rollout of the policy that i steps left."""
    near = rows[max(0, step - 1) : step + 2]
    return float(np.mean([row["kl"] for row in near])) if step else 0.0


def read_track(world: World, seed: int, folders: Sequence[Path]) -> Track | None:
    """A run's checks; None where it is not there. Runs that follow each other are one, their steps counted on."""
    from heedful.monitoring.checks import Reply, check_from_json

    steps, gold, proxy, checks, replies, every = [], [], [], [], {}, []
    spreads = (1.0, 1.0)
    prompts = [prompt.prompt for prompt in world.prompts("phrasing")][:: runs.CHECK_EVERY]
    before = 0
    for folder in folders:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for path in sorted((folder / "watch").glob("check-*.json")):
            step, kept = int(path.stem[-8:]), json.loads(path.read_text())
            if step == 0 and before:
                continue  # the policy that the first part ended with
            told = [Reply(**reply) for reply in kept["replies"]]
            values = world.golds(prompts, [r.text for r in told], [r.finished for r in told])
            if step == 0:
                spreads = (float(values.std()), float(np.std([r.reward for r in told])))
            else:
                checks.append(check_from_json(kept["check"]))
            steps.append(before + step)
            gold.append(float(values.mean()))
            proxy.append(float(np.mean([r.reward for r in told])))
            replies[before + step] = told
        every += rows
        before = len(every)
    kl = [kl_near(every, step) for step in steps]
    return Track(seed, every, steps, kl, gold, proxy, *spreads, checks, replies) if steps else None


@dataclass(frozen=True)
class Study:
    """All that is finished: best-of-n by crowd, data and seed; PPO by crowd, arm and seed; prevention by arm."""

    worlds: dict[int, World]
    pools: dict[tuple[str, str], dict[int, dict[str, Any]]]
    ppo: dict[tuple[str, str, float], list[Track]]
    prevention: dict[str, list[Track]]
    ends: dict[str, dict[int, dict[str, float]]]


def read_study(out: Path, seeds: Sequence[int]) -> Study:
    """What is finished of some seeds."""
    from heedful.files import read_manifest
    from heedful.world.world import World

    worlds = {seed: World(seed) for seed in seeds if (out / f"seed-{seed}" / "base.json").exists()}
    study = Study(worlds, {}, {}, {}, {})
    for seed, world in worlds.items():
        work = runs.embedded(out, seed)
        for crowd in runs.CROWDS:
            for data in runs.DATA:
                if (pool := runs.pool_file(work, crowd, data)).exists():
                    study.pools.setdefault((crowd, data), {})[seed] = json.loads(pool.read_text(encoding="utf-8"))
            for data, beta in runs.ARMS:
                folder = runs.ppo_folder(work, crowd, data, beta)
                if read_manifest(folder) is not None and (track := read_track(world, seed, [folder])) is not None:
                    study.ppo.setdefault((crowd, data, beta), []).append(track)
        for name in [*prevention.ALREADY, *(name for group in prevention.GROUPS.values() for name in group)]:
            end = work.out / "prevention" / f"{prevention.slug(name)}.json"
            if end.exists() and (track := read_track(world, seed, prevention.folders(work, name))) is not None:
                study.prevention.setdefault(name, []).append(track)
                study.ends.setdefault(name, {})[seed] = json.loads(end.read_text())
    return study


def over_seeds(values: Sequence[float]) -> Interval | None:
    """Mean with a t interval over three seeds or more; fewer have none, and no seed gives None."""
    known = [float(value) for value in values if np.isfinite(value)]
    if len(known) < LEAST_SEEDS:
        return Interval(float(np.mean(known)), float("nan"), float("nan")) if known else None
    return t_interval(known)


def simulated(study: Study, track: Track) -> list[Ruled]:
    """The rule replayed on a run with raters of no bias, one vote a pair."""
    from heedful.world.raters import panel

    world = study.worlds[track.seed]
    prompts = [prompt.prompt for prompt in world.prompts("phrasing")][:: runs.CHECK_EVERY]
    kl = {step: track.kl_at(step) for step in track.steps[1:]}
    recorded = Recorded(world, prompts, track.replies, kl, panel())
    return [recorded.replay([track.seed, 75, number]) for number in range(REPLAYS)]


def gao(points: Sequence[tuple[int, float, float]], form: Any) -> Curve | str:
    """Gao's form fitted to (seed, KL, gain), clustered by seed; or why it cannot be."""
    kept = [point for point in points if point[1] > 0.01]
    try:
        return fit_curve([p[1] for p in kept], [p[2] for p in kept], form, runs=[p[0] for p in kept], level=0.8)
    except ValueError as error:
        return str(error)


def points_of(tracks: Sequence[Track]) -> list[tuple[int, float, float]]:
    """(seed, KL, gold gain in spreads) of all checks but the first."""
    return [
        (track.seed, kl, (gold - track.gold[0]) / track.gold_spread)
        for track in tracks
        for kl, gold in zip(track.kl[1:], track.gold[1:], strict=True)
    ]


def budget_from_others(study: Study, crowd: str, seed: int) -> tuple[float | None, str]:
    """The KL budget that the other seeds' PPO runs of a crowd give, each run a cluster of its own; and why."""
    points, names = [], []
    for (of, data, beta), tracks in study.ppo.items():
        for track in tracks:
            if of == crowd and track.seed != seed:
                found = [p for p in points_of([track]) if p[1] > 0.01]
                points += found
                names += [(track.seed, data, beta)] * len(found)
    try:
        curve = fit_curve([p[1] for p in points], [p[2] for p in points], "rl", runs=names, level=0.8)
    except ValueError as error:
        return None, str(error)
    budget = kl_budget(curve)
    return budget.kl, budget.reason


def stop_at_budget(track: Track, budget: float) -> int | None:
    """The step at which the watch's sign of the KL stops a run that has a budget; None where it does not."""
    from heedful.monitoring.monitor import Monitor, replay
    from heedful.monitoring.signs import Tier, limits_of_run

    limits = limits_of_run(kl_target=None, kl_budget=budget, reward_high=None, low_precision=False)
    alarms = replay(track.rows, Monitor({"kl": limits["kl"]}))
    return next((alarm.step for alarm in alarms if alarm.tier == Tier.STOP), None)


def best_until(track: Track, step: int) -> int:
    """Whose weights the rule has kept by a step."""
    return ruled([check for check in track.checks if check.step <= step]).best
