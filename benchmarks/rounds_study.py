"""Three rounds on the embedded world against one round of the same labels and optimiser steps: make rounds.

    .venv/bin/python benchmarks/rounds_study.py               # seeds 0, 1 and 2
    .venv/bin/python benchmarks/rounds_study.py --seeds 7     # another seed
    .venv/bin/python benchmarks/rounds_study.py --fast        # small: shows that it works, says nothing

Each seed is a world of its own. `heedful round` carries the recipe of `heedful init` through three rounds; the control
is the same recipe with one round, which gets all pairs (those of the two checks that it does not make, too), all PPO
steps and as many steps of its reward model at once. Both go on from one base and one SFT model. All policies then
answer prompts of unseen wordings and of facts never judged, and the world's truth says whose answer is better.

What is finished is kept, so the command goes on where it was stopped. OUT/rounds.json and .md are written anew after
every seed.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

ROUNDS = 3
SPLITS = ("phrasing", "fact")
PURPOSE = 90
FAST = {
    "world": {"documents": 600, "demonstrations": 60},
    "sample": {"pairs": 60},
    "ppo": {"steps": 3, "rollout": {"prompts_per_step": 16}},
    "check": {"pairs": 20},
}


def begin(folder: Path, over: dict[str, Any]) -> None:
    """A programme's folder with the shipped recipe and what the study changes in it."""
    from heedful.pipeline.merging import merge
    from heedful.pipeline.rounds.starting import start_programme

    recipe = folder / "heedful.yaml"
    if not recipe.exists():
        start_programme(folder, model=None, prompts=None, demonstrations=None)
    shipped = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    recipe.write_text(yaml.safe_dump(merge(shipped, over), sort_keys=False), encoding="utf-8")


def carry_out(folder: Path, rounds: int) -> dict[str, Any]:
    """All rounds of a programme, and how long this call took over it."""
    from heedful.pipeline.rounds.programme import Going, run_rounds
    from heedful.training.progress import Display

    return run_rounds(folder, Going(rounds), Display(interval=60))


def manifest(folder: Path, number: int, stage: str) -> dict[str, Any]:
    """Of a stage's result."""
    from heedful.files import read_manifest

    return read_manifest(folder / "rounds" / str(number) / stage) or {}


def spent(folder: Path, rounds: int) -> dict[str, float]:
    """Labels, optimiser steps and seconds of a programme, its base model apart."""
    every = range(1, rounds + 1)
    found: dict[str, float] = {"training_judgments": sum(
        manifest(folder, k, "judge")["judgments"]["simulated"] for k in every
    )}  # fmt: skip
    found["check_judgments"] = sum(manifest(folder, k, "check")["judgments"]["simulated"] for k in every)
    for stage in ("reward", "policy"):
        found[f"{stage}_steps"] = sum(manifest(folder, k, stage)["steps"] for k in every)
    places = [path.parent for path in (folder / "rounds").glob("*/*/manifest.json")]
    found["seconds"] = sum(manifest(folder, int(p.parent.name), p.name)["record"]["seconds"] for p in places)
    return found


def control_of(folder: Path, over: dict[str, Any]) -> dict[str, Any]:
    """What the control is told: the rounds' labels, the checks' that it does not make among them, and their steps."""
    from heedful.pipeline.merging import merge
    from heedful.pipeline.rounds.recipe import read_programme

    recipe, whole = read_programme(folder).base, spent(folder, ROUNDS)
    pairs = ROUNDS * recipe.sample.pairs + round((ROUNDS - 1) * whole["check_judgments"] / ROUNDS / recipe.judge.votes)
    learnt = manifest(folder, ROUNDS, "reward")["data"]["records"] / (ROUNDS * recipe.sample.pairs)
    learnt *= (1 - recipe.reward.records.held_out) * pairs
    epochs = whole["reward_steps"] * recipe.reward.batch_size / learnt
    told = {"rounds": 1, "sample": {"pairs": pairs}, "reward": {"epochs": round(epochs, 3)}}
    return merge(merge(over, told), {"ppo": {"steps": int(whole["policy_steps"])}})


def contenders(main: Path, control: Path) -> dict[str, Path]:
    """The SFT model, the policy that stood after each round, and the control's."""
    found = {"SFT": main / "rounds" / "0" / "sft"}
    for number in range(1, ROUNDS + 1):
        stage = manifest(main, number, "decide")["kept"]
        found[f"round {number}"] = main / "rounds" / str(stage[0]) / stage[1]
    return found | {"control": control / "rounds" / "1" / "policy"}


def head_to_head(out: Path, seed: int, policies: dict[str, Path]) -> dict[str, Any]:
    """Gold win rates of the pairs of policies that the study asks about, by split and over both."""
    from heedful.core.statistics import cluster_bootstrap
    from heedful.evaluation.winrate import outcomes
    from heedful.models.policy import load_policy
    from heedful.pipeline.embedded import gold_judge
    from heedful.pipeline.embedded_evaluation import correctness, examine
    from heedful.pipeline.quickstart import embedded
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.progress import Display

    work = embedded(QuickstartConfig(out=out, seed=seed), Display(interval=60))
    gold: dict[str, dict[str, list[float]]] = {}
    clusters: dict[str, list[str]] = {}
    right: dict[str, dict[str, float]] = {}
    for place, (name, path) in enumerate(policies.items()):
        policy = load_policy(str(path))
        for split in SPLITS:
            found = examine(work, policy, split, PURPOSE + place)  # type: ignore[arg-type]
            prompts, clusters[split], answers = found.flat()
            gold.setdefault(name, {})[split] = list(gold_judge(work.world)(prompts, answers))
            right.setdefault(name, {})[split] = correctness(work, found).mean

    def rate(a: str, b: str) -> dict[str, Any]:
        rows = {split: outcomes(gold[a][split], gold[b][split]) for split in SPLITS}
        whole = [value for split in SPLITS for value in rows[split]]
        topics = [topic for split in SPLITS for topic in clusters[split]]
        made = {split: asdict(cluster_bootstrap(rows[split], clusters[split], seed=seed)) for split in SPLITS}
        return made | {"both": asdict(cluster_bootstrap(whole, topics, seed=seed)), "same": policies[a] == policies[b]}

    names = ["SFT", *(f"round {number}" for number in range(1, ROUNDS + 1))]
    asked = [*zip(names[1:], names, strict=False), ("round 3", "round 1"), ("round 3", "control")]
    asked += [(name, "SFT") for name in ("round 2", "round 3", "control")]
    return {"win_rates": {f"{a} over {b}": rate(a, b) for a, b in asked}, "correct": right}


def one_seed(out: Path, seed: int, fast: bool) -> dict[str, Any]:
    """Both programmes of a seed, and what the truth says of their policies."""
    main, control = out / f"seed-{seed}" / "rounds", out / f"seed-{seed}" / "single"
    over: dict[str, Any] = {"seed": seed, "world": {"seed": seed}, "rounds": ROUNDS}
    if fast:
        over = {**FAST, **over, "world": {**FAST["world"], "seed": seed}}
    started, worked = time.monotonic(), time.process_time()
    begin(main, over)
    ended = carry_out(main, ROUNDS)
    seconds = {"wall": time.monotonic() - started, "processor": time.process_time() - worked}
    begin(control, control_of(main, over))
    if not (control / "rounds" / "0").exists():
        shutil.copytree(main / "rounds" / "0", control / "rounds" / "0")
    single = carry_out(control, 1)
    found = {"seed": seed, "rounds": ended["rounds"], "single": single["rounds"], "seconds_of_this_call": seconds}
    found |= {"spent": spent(main, ROUNDS), "spent_by_control": spent(control, 1)}
    return found | head_to_head(out / f"seed-{seed}", seed, contenders(main, control))


def table(results: list[dict[str, Any]]) -> str:
    """The seeds side by side, and their mean with Student's interval where there are three or more."""
    from heedful.core.statistics import t_interval

    lines = ["| gold win rate | " + " | ".join(f"seed {one['seed']}" for one in results) + " | mean of seeds |"]
    lines.append("|---|" + "---|" * (len(results) + 1))
    for name in results[0]["win_rates"]:
        rates = [one["win_rates"][name] for one in results]
        cells = [
            f"{one['both']['mean']:.3f} [{one['both']['low']:.3f}, {one['both']['high']:.3f}]"
            + (" (same policy)" if one["same"] else "")
            for one in rates
        ]
        means = [one["both"]["mean"] for one in rates]
        whole = t_interval(means) if len(means) > 2 else None
        mean = f"{sum(means) / len(means):.3f}" + (f" [{whole.low:.3f}, {whole.high:.3f}]" if whole else "")
        lines.append(f"| {name} | {' | '.join(cells)} | {mean} |")
    for name in ("training_judgments", "check_judgments", "reward_steps", "policy_steps", "seconds"):
        pairs = [f"{one['spent'][name]:.0f} / {one['spent_by_control'][name]:.0f}" for one in results]
        lines.append(f"| {name.replace('_', ' ')}, rounds / control | {' | '.join(pairs)} | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the seeds one after another."""
    from heedful.files import atomic_write, write_json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/rounds-study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    results = []
    for seed in given.seeds:
        results.append(one_seed(given.out, seed, given.fast))
        write_json(given.out / "rounds.json", results)
        with atomic_write(given.out / "rounds.md") as file:
            file.write(table(results))
        print(table(results), flush=True)


if __name__ == "__main__":
    main()
