"""Whether bfloat16 trains as well as float32: PPO on the embedded world from the same SFT model and reward model.

    python benchmarks/precision_study.py --seeds 0 1 2 --out runs/precision

For each seed the quickstart's loop runs; then its PPO again, once in float32 and once with the policy, critic,
reference, reward model and sampler in bfloat16. Printed: the gold reward of both on unseen phrasings, how far apart
their curves are, and the interval of the difference over seeds. `--emulate` is for processors without bfloat16 units,
which would take days.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from emulated_bfloat16 import EmulatedBfloat16

from heedful.core.statistics import t_interval
from heedful.models.policy import load_policy
from heedful.pipeline import quickstart as qs
from heedful.pipeline.embedded import Embedded, gold_judge
from heedful.pipeline.embedded_evaluation import examine
from heedful.pipeline.stages.online import run_ppo
from heedful.training.config.online import PPOConfig
from heedful.training.config.quickstart import QuickstartConfig
from heedful.training.folders import METRICS
from heedful.training.progress import Display


def gold(work: Embedded, folder: Path) -> float:
    """Mean gold reward of a policy's answers to unseen phrasings; the same random numbers for every policy."""
    prompts, _, answers = examine(work, load_policy(str(folder)), "phrasing", purpose=70, samples=8).flat()
    return float(np.mean(gold_judge(work.world)(prompts, answers)))


def proxy(folder: Path) -> list[float]:
    """Mean reward of each step's samples, by the reward model."""
    return [json.loads(line)["reward"] for line in (folder / METRICS).read_text().splitlines()]


def one(out: Path, seed: int, emulate: bool) -> dict[str, Any]:
    """Both precisions at one seed."""
    display = Display(interval=60)
    config = QuickstartConfig(out=out / f"seed-{seed}", seed=seed)
    qs.run(config, display)
    work = qs.embedded(config, display)
    folders = {}
    for precision in ("float32", "bfloat16"):
        folders[precision] = config.out / f"ppo-{precision}"
        given = {
            "model": str(work.round / "sft"), "reward": str(work.round / "reward"),
            "data": str(work.data("prompts-train")), "out": folders[precision],
        }  # fmt: skip
        made = work.config(PPOConfig, "ppo", **given)
        with EmulatedBfloat16() if emulate and precision == "bfloat16" else nullcontext():
            run_ppo(replace(made, loading=replace(made.loading, precision=precision)), display)
    found: dict[str, Any] = {name: {"gold": gold(work, path), "proxy": proxy(path)} for name, path in folders.items()}
    return found | {"sft": gold(work, work.round / "sft")}


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    parser.add_argument("--emulate", action="store_true", help="products of bfloat16 in float32, rounded")
    options = parser.parse_args()
    differences = []
    print("| seed | SFT | PPO float32 | PPO bfloat16 | largest gap of the reward curves, 10 steps' means |")
    print("|---|---|---|---|---|")
    for seed in options.seeds:
        found = one(options.out, seed, options.emulate)
        curves = [np.array(found[name]["proxy"]) for name in ("float32", "bfloat16")]
        steps = len(curves[0]) // 10 * 10
        gap = np.abs(np.diff([curve[:steps].reshape(-1, 10).mean(1) for curve in curves], axis=0)).max()
        low, high = (found[name]["gold"] for name in ("float32", "bfloat16"))
        differences.append(high - low)
        print(f"| {seed} | {found['sft']:.3f} | {low:.3f} | {high:.3f} | {gap:.3f} |", flush=True)
    if len(differences) > 1:
        span = t_interval(differences)
        print(f"\nbfloat16 less float32, final gold: {span.mean:+.3f} ({span.low:+.3f} to {span.high:+.3f})")


if __name__ == "__main__":
    main()
