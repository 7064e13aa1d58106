"""The run whose gold falls, once more with each thing that might keep it from falling; see `overoptimisation.py`.

All arms take the biased crowd's few pairs and a KL coefficient of 0, but for what an arm names. Members of the ensemble
and of the average are the same three reward models, from one start and with other orders of the data, as averaging
asks. A refresh is what docs/watch.md describes: half of the steps, pairs of the policy's own answers judged by the
same crowd, the reward model goes on learning with old and new, and the policy goes on under it, its KL still to the SFT
model. Its control does the same with as many further pairs of the SFT model's answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import overoptimisation_runs as runs

if TYPE_CHECKING:
    from heedful.pipeline.embedded import Embedded

CROWD, DATA, BETA = "biased", "few", 0.0
MEMBERS = 3
FRESH = 150
"""Pairs that a refresh has judged."""

Arm = Callable[["Embedded", Path], list[Path]]
"""Runs an arm in a folder; the folders of its PPO runs, one after the other."""


def plain(reward: str | None = None, **over: Any) -> Arm:
    """One PPO run; `reward` names the reward models of the arm with {0}, {1} ..., None the base run's."""

    def run(work: Embedded, folder: Path) -> list[Path]:
        given = str(base_reward(work)) if reward is None else reward.format(*members(work))
        return [runs.ppo_run(work, given, folder / "ppo", beta=BETA, **over)]

    return run


def base_reward(work: Embedded) -> Path:
    """The reward model of the run whose gold falls."""
    return work.out / CROWD / f"reward-{DATA}"


def members(work: Embedded) -> list[Path]:
    """Reward models on the same pairs: one start, other orders."""
    from heedful.training.state import mix

    data, folder = runs.judged(work, CROWD, DATA), work.out / "prevention" / "members"
    own = {"head_seed": work.seed}
    return [
        runs.reward_model(work, data, folder / str(number), seed=mix(work.seed, 72, number), **own)
        for number in range(MEMBERS)
    ]


def averaged(work: Embedded, folder: Path) -> list[Path]:
    """PPO on the mean of the members' weights."""
    from heedful.cli.average import AverageConfig
    from heedful.cli.average import averaged as write_average
    from heedful.files import read_manifest

    mean = folder / "reward"
    if read_manifest(mean) is None:
        write_average(AverageConfig(tuple(members(work)), mean))
    return [runs.ppo_run(work, str(mean), folder / "ppo", beta=BETA)]


def length_head(work: Embedded, folder: Path) -> list[Path]:
    """PPO on a quality head from which length was taken apart (ODIN)."""
    reward = runs.reward_model(work, runs.judged(work, CROWD, DATA), folder / "reward", heads={"kind": "length"})
    return [runs.ppo_run(work, str(reward), folder / "ppo", beta=BETA)]


def refreshed(own: bool) -> Arm:
    """PPO, then the reward model goes on with pairs of the policy's own answers (or, the control, of the SFT model's),
    then PPO goes on under it."""

    def run(work: Embedded, folder: Path) -> list[Path]:
        from heedful.data.load import DataSpec, load_preferences
        from heedful.data.write import write_records

        half = runs.PPO["steps"] // 2
        begun = runs.ppo_run(work, str(base_reward(work)), folder / "ppo-1", beta=BETA, steps=half)
        old, path = runs.judged(work, CROWD, DATA), folder / "preferences.jsonl"
        if not path.exists():
            if own:
                pairs = policy_pairs(work, begun)
            else:
                more = load_preferences(DataSpec(str(work.out / "pairs.jsonl"))).records[runs.DATA[DATA] :]
                pairs = [(record.prompt, record.a, record.b) for record in more[:FRESH]]
            fresh = runs.votes(work, CROWD, pairs, purpose=74)
            write_records(path, [*load_preferences(DataSpec(str(old))).records, *fresh])
        reward = runs.reward_model(work, path, folder / "reward", model=str(base_reward(work)))
        on = {"model": str(begun), "reference": str(runs.sft(work)), "steps": runs.PPO["steps"] - half}
        return [begun, runs.ppo_run(work, str(reward), folder / "ppo-2", beta=BETA, seed=work.seed + 1000, **on)]

    return run


def policy_pairs(work: Embedded, policy: Path) -> list[Any]:
    """Two answers of a policy to each of some training prompts."""
    from heedful.models.policy import load_policy
    from heedful.pipeline.embedded import sample_pairs

    return sample_pairs(replace(work, settings=replace(work.settings, pairs=FRESH)), load_policy(str(policy)))


GROUPS: Mapping[str, Mapping[str, Arm]] = {
    "prevention-1": {
        "watch stepping in": plain(mode="act"),
        "reward refresh": refreshed(own=True),
        "ensemble, worst": plain("worst:{0},{1},{2}"),
        "averaged weights": averaged,
        "length head": length_head,
    },
    "prevention-2": {
        "refresh on SFT answers (control)": refreshed(own=False),
        "ceiling at the 0.99 quantile": plain(score={"ceiling_quantile": 0.99}),
        "bounded, sigmoid": plain(score={"bound": "sigmoid", "normalise": "reference"}),
        "ensemble, mean": plain("mean:{0},{1},{2}"),
        "ensemble, mean - 0.1 variance": plain("penalised=0.1:{0},{1},{2}"),
        "clipped at 1": plain(score={"clip": 1.0}),
    },
}
"""What is tried, in the parts that run it: those that matter most first."""

ALREADY = {"nothing": ("few", 0.0), "KL coefficient 0.1": ("few", 0.1), "more pairs (1,000)": ("many", 0.0)}
"""Arms that are runs of the curves."""


def folders(work: Embedded, name: str) -> list[Path]:
    """The PPO runs of an arm, where they are finished; else nothing."""
    from heedful.files import read_manifest

    if name in ALREADY:
        found = [runs.ppo_folder(work, CROWD, *ALREADY[name])]
    else:
        home = work.out / "prevention" / slug(name)
        found = [home / "ppo-1", home / "ppo-2"] if "refresh" in name else [home / "ppo"]
    return found if all(read_manifest(one) is not None for one in found) else []


def slug(name: str) -> str:
    """An arm's folder."""
    return "".join(c if c.isalnum() else "-" for c in name)


def run_group(out: Path, seed: int, group: str) -> None:
    """Some arms of one seed, and what their policies are worth at the end, asked afresh."""
    from heedful.files import write_json

    started = time.monotonic()
    work = runs.embedded(out, seed)
    ends: dict[str, Any] = {}
    arms = dict(GROUPS[group]) if group != next(iter(GROUPS)) else {**dict.fromkeys(ALREADY), **GROUPS[group]}
    for name, arm in arms.items():
        if arm is not None:
            arm(work, work.out / "prevention" / slug(name))
        ends[name] = runs.end_of(work, folders(work, name)[-1])
        write_json(work.out / "prevention" / f"{slug(name)}.json", ends[name])
    write_json(
        work.out / f"{group}.json",
        {"ends": ends, "seconds": time.monotonic() - started, "cpu_seconds": time.process_time()},
    )
