"""The figures of docs/results.md: the whole loop on the embedded world, five seeds, with baselines and controls.

    .venv/bin/python benchmarks/world_study.py            # make study
    .venv/bin/python benchmarks/world_study.py --seeds 7  # one other seed

Each seed runs in a process of its own with one thread, as many at a time as --jobs. What is finished is
kept, so the command goes on where it was stopped. The table is written to OUT/results.md and OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

SPLITS = ("phrasing", "fact")


def one_seed(out: Path, seed: int) -> None:
    """Everything for one seed; writes OUT/seed-N/study.json."""
    import numpy as np

    from heedful.core.statistics import cluster_bootstrap
    from heedful.data.records import Demonstration
    from heedful.data.write import write_records
    from heedful.evaluation.best_of_n import best_of_n, headroom_share
    from heedful.evaluation.winrate import outcomes
    from heedful.files import write_json
    from heedful.models.policy import Policy, load_policy
    from heedful.models.rewards import load_reward
    from heedful.pipeline import quickstart as qs
    from heedful.pipeline.embedded import gold_judge, sample_pairs
    from heedful.pipeline.embedded_evaluation import examine, proxy_accuracy, stand
    from heedful.pipeline.stages import run_dpo, run_ppo, run_reward, run_sft
    from heedful.training.config import DPOConfig, PPOConfig, RewardConfig, SFTConfig
    from heedful.training.progress import Display
    from heedful.training.state import Event, Step, Stop, mix
    from heedful.world.raters import inverted_labels, judge_pairs, panel, shuffled_labels

    folder = out / f"seed-{seed}"
    display = Display(interval=60)
    started = time.monotonic()
    main = qs.run(qs.QuickstartConfig(out=folder, seed=seed), display)
    work = qs.embedded(qs.QuickstartConfig(out=folder, seed=seed), display)
    sft, base = work.round / "sft", work.out / "base"
    reference = load_policy(str(sft))
    prompts = str(work.data("prompts-train"))
    arms = work.out / "arms"
    labels = work.out / "labels"
    labels.mkdir(exist_ok=True)

    pairs = sample_pairs(work, reference)
    judged = judge_pairs(work.world, pairs, panel(), votes=work.settings.votes, seed=mix(seed, 14))
    variants = {
        "single-vote": judge_pairs(work.world, pairs, panel(), votes=1, seed=mix(seed, 15)),
        "shuffled": shuffled_labels(judged, seed=mix(seed, 16)),
        "inverted": inverted_labels(judged),
    }
    rewards = {}
    for name, records in variants.items():
        write_records(labels / f"{name}.jsonl", records)
        config = work.config(
            RewardConfig,
            "reward",
            model=str(base),
            data=str(labels / f"{name}.jsonl"),
            out=arms / f"reward-{name}",
        )
        run_reward(config, display)
        rewards[name] = str(arms / f"reward-{name}")
    methods: dict[str, Path] = {}
    for name in ("shuffled", "inverted"):
        methods[f"PPO, {name} labels"] = arms / f"ppo-{name}"
        ppo = {"model": str(sft), "reward": rewards[name], "data": prompts, "out": arms / f"ppo-{name}"}
        run_ppo(work.config(PPOConfig, "ppo", **ppo), display)

    chosen = [Demonstration(r.prompt, r.a if r.probability > 0.5 else r.b) for r in judged if r.probability != 0.5]
    more = work.world.demonstrations(work.settings.pairs, mix(seed, 17))
    for name, records in (("preferred answers", chosen), ("as many demonstrations as pairs", more)):
        key = name.split()[0]
        write_records(labels / f"sft-{key}.jsonl", records)
        methods[f"SFT on {name}"] = arms / f"sft-{key}"
        config = work.config(
            SFTConfig, "sft", model=str(sft), data=str(labels / f"sft-{key}.jsonl"), out=arms / f"sft-{key}"
        )
        run_sft(replace(config, epochs=1.0), display)

    ppo_kl = next(r["kl"]["mean"] for r in main["standings"] if (r["method"], r["split"]) == ("PPO", "train"))

    def stop_at_kl(policy: Policy) -> Callable[[Step], Sequence[Event]]:
        def look(step: Step) -> Sequence[Event]:
            if step.number % 10:
                return ()
            own = examine(work, policy, "train", purpose=30, samples=1)
            kl = stand(work, "DPO", "train", policy, reference, own, own).divergence.kl.mean
            policy.model.train()
            return [Stop(f"KL {kl:.2f} reached that of PPO, {ppo_kl:.2f}")] if kl >= ppo_kl else ()

        return look

    methods["DPO at matched KL"] = arms / "dpo-matched"
    matched = work.config(
        DPOConfig,
        "dpo",
        model=str(sft),
        data=str(work.round / "comparisons" / "preferences.jsonl"),
        out=arms / "dpo-matched",
        beta=0.02,
        epochs=6,
        optimiser={"schedule": "constant"},
    )
    run_dpo(matched, display, intervene=stop_at_kl)

    standings = []
    baselines = {split: examine(work, reference, split, purpose=0) for split in SPLITS}
    for number, (name, path) in enumerate(methods.items()):
        policy = load_policy(str(path))
        for split in SPLITS:
            own = examine(work, policy, split, purpose=40 + number)
            standing = stand(work, name, split, policy, reference, own, baselines[split])
            assert standing.comparison is not None
            standings.append(
                {
                    "method": name,
                    "split": split,
                    "win_rate": asdict(standing.comparison.verdict.win_rate.rate),
                    "correct": asdict(standing.correct),
                    "gold": asdict(standing.gold),
                    "kl": asdict(standing.divergence.kl),
                    "distinct_2": standing.text.distinct_2,
                    "words": standing.text.mean_words,
                }
            )

    reward = load_reward(str(work.round / "reward"))
    single = proxy_accuracy(work, load_reward(rewards["single-vote"]), baselines["phrasing"])
    many = examine(work, reference, "phrasing", purpose=60, samples=16)
    flat_prompts, _, answers = many.flat()
    gold = np.array(gold_judge(work.world)(flat_prompts, answers)).reshape(-1, 16)
    proxy = np.asarray(reward(flat_prompts, [a.text for a in answers])).reshape(-1, 16)
    ppo = examine(work, load_policy(str(work.round / "ppo")), "phrasing", purpose=1)
    ppo_gold = np.array(gold_judge(work.world)(*[ppo.flat()[i] for i in (0, 2)])).reshape(len(ppo.prompts), -1)
    sft_gold = np.array(gold_judge(work.world)(*[baselines["phrasing"].flat()[i] for i in (0, 2)])).reshape(
        len(ppo.prompts), -1
    )
    by_proxy, by_gold = best_of_n(proxy, gold, 16), best_of_n(gold, gold, 16)
    wins = outcomes(np.take_along_axis(gold, proxy.argmax(1)[:, None], 1)[:, 0], sft_gold[:, 0])
    best_wins = outcomes(gold.max(1), sft_gold[:, 0])
    clusters = ppo.clusters
    share = headroom_share(ppo_gold.mean(1), sft_gold.mean(1), by_gold, clusters, seed=seed)
    share_bon = headroom_share(by_proxy, sft_gold.mean(1), by_gold, clusters, seed=seed)
    votes = [judge_pairs(work.world, pairs, panel(), votes=1, seed=mix(seed, 18, i)) for i in (0, 1)]
    agreement = float(np.mean([x.probability == y.probability for x, y in zip(*votes, strict=True)]))
    write_json(
        folder / "study.json",
        {
            "seed": seed,
            "main": main,
            "arms": standings,
            "single_vote_accuracy": asdict(single.accuracy),
            "rater_agreement": agreement,
            "best_of_16": {
                "by_reward_win": asdict(cluster_bootstrap(wins, np.array(clusters), seed=seed)),
                "by_gold_win": asdict(cluster_bootstrap(best_wins, np.array(clusters), seed=seed)),
                "by_reward_gold": float(by_proxy.mean()),
                "by_gold_gold": float(by_gold.mean()),
                "headroom_closed_by_ppo": asdict(share) if share else None,
                "headroom_closed_by_best_of_16": asdict(share_bon) if share_bon else None,
            },
            "seconds": time.monotonic() - started,
        },
    )


def mean_interval(values: Sequence[float]) -> str:
    """Mean over seeds with its 95% t interval."""
    from heedful.core.statistics import t_interval

    if len(values) < 2:
        return f"{values[0]:.3f}"
    found = t_interval(values)
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def table(found: list[dict[str, Any]]) -> str:
    """All figures as Markdown."""
    seeds = [one["seed"] for one in found]
    lines = [f"Seeds {', '.join(map(str, seeds))}; mean over seeds with 95% t interval.", ""]
    heading = "| method | split | " + " | ".join(f"win, seed {s}" for s in seeds)
    lines += [heading + " | win rate | right | gold | KL (nats) | distinct-2 | words |"]
    lines += ["|" + "---|" * (len(seeds) + 8)]
    keys: list[tuple[str, str]] = []
    for one in found:
        for row in one["main"]["standings"] + one["arms"]:
            if (row["method"], row["split"]) not in keys:
                keys.append((row["method"], row["split"]))
    for method, split in sorted(keys, key=lambda k: ("phrasing", "fact", "train").index(k[1])):
        rows = [
            next(r for r in one["main"]["standings"] + one["arms"] if (r["method"], r["split"]) == (method, split))
            for one in found
        ]
        wins = [r["win_rate"]["mean"] for r in rows if "win_rate" in r]
        cells = [method, split, *([f"{w:.3f}" for w in wins] or ["–"] * len(seeds))]
        cells.append(mean_interval(wins) if wins else "–")
        cells += [mean_interval([r[key]["mean"] for r in rows]) for key in ("correct", "gold", "kl")]
        cells += [f"{sum(r[key] for r in rows) / len(rows):.3f}" for key in ("distinct_2", "words")]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| figure | " + " | ".join(f"seed {s}" for s in seeds) + " | mean |",
        "|" + "---|" * (len(seeds) + 2),
    ]
    figures: dict[str, Callable[[dict[str, Any]], float]] = {}
    for name in found[0]["main"]["reward_accuracy"]:
        figures[f"reward model against gold: {name}"] = lambda o, n=name: o["main"]["reward_accuracy"][n]["accuracy"][
            "mean"
        ]
        figures[f"the longer answer against gold: {name}"] = lambda o, n=name: o["main"]["reward_accuracy"][n][
            "length_only"
        ]["mean"]
    figures["reward model from single votes, unseen phrasings"] = lambda o: o["single_vote_accuracy"]["mean"]
    figures["agreement of two raters"] = lambda o: o["rater_agreement"]
    for key in ("by_reward_win", "by_gold_win", "headroom_closed_by_ppo", "headroom_closed_by_best_of_16"):
        figures[f"best of 16: {key.replace('_', ' ')}"] = lambda o, k=key: (o["best_of_16"][k] or {}).get(
            "mean", float("nan")
        )
    figures["seconds, quickstart"] = lambda o: o["main"]["seconds"]
    for name, get in figures.items():
        values = [get(one) for one in found]
        lines.append(f"| {name} | " + " | ".join(f"{v:.3f}" for v in values) + f" | {mean_interval(values)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the seeds, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only is not None:
        one_seed(args.out, args.only)
        return 0
    waiting = [seed for seed in args.seeds if not (args.out / f"seed-{seed}" / "study.json").exists()]
    running: dict[int, subprocess.Popen[bytes]] = {}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    while waiting or running:
        while waiting and len(running) < args.jobs:
            seed = waiting.pop(0)
            with open(args.out / f"seed-{seed}.log", "ab") as log:
                command = [sys.executable, __file__, "--out", str(args.out), "--only", str(seed)]
                running[seed] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        time.sleep(1)
        for seed, process in list(running.items()):
            if process.poll() is not None:
                del running[seed]
                if process.returncode:
                    print(f"seed {seed} failed: see {args.out / f'seed-{seed}.log'}", file=sys.stderr)
                    return 1
    found = [json.loads((args.out / f"seed-{s}" / "study.json").read_text()) for s in args.seeds]
    (args.out / "results.json").write_text(json.dumps(found, indent=1))
    (args.out / "results.md").write_text(table(found))
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
