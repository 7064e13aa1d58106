"""The figures of docs/results.md: the whole loop on the embedded world, five seeds, with baselines and controls.

    .venv/bin/python benchmarks/world_study.py            # make study
    .venv/bin/python benchmarks/world_study.py --seeds 7  # one other seed

Each seed runs in a process of its own with one thread, as many at a time as --jobs. What is finished is
kept, so the command goes on where it was stopped. The table is written to OUT/results.md and OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from parts import run_parts

SPLITS = ("phrasing", "fact")


def run_loop(out: Path, seed: int) -> None:
    """The quickstart itself for one seed; writes OUT/seed-N/loop.json."""
    from heedful.files import write_json
    from heedful.pipeline.quickstart import run
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.progress import Display

    folder = out / f"seed-{seed}"
    write_json(folder / "loop.json", run(QuickstartConfig(out=folder, seed=seed), Display(interval=60)))


def run_arms(out: Path, seed: int) -> None:
    """Baselines and controls beside it; writes OUT/seed-N/arms.json."""
    import numpy as np

    from heedful.core.statistics import cluster_bootstrap
    from heedful.data.load import DataSpec, load_preferences
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
    from heedful.pipeline.stages.online import run_ppo
    from heedful.pipeline.stages.preference import run_dpo
    from heedful.pipeline.stages.reward import run_reward
    from heedful.pipeline.stages.sft import run_sft
    from heedful.training.config.online import PPOConfig
    from heedful.training.config.preference import DPOConfig
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.config.reward import RewardConfig
    from heedful.training.config.sft import SFTConfig
    from heedful.training.progress import Display
    from heedful.training.state import Event, Step, Stop, mix
    from heedful.world.raters import inverted_labels, judge_pairs, panel, shuffled_labels

    folder = out / f"seed-{seed}"
    display = Display(interval=60)
    started = time.monotonic()
    main = json.loads((folder / "loop.json").read_text(encoding="utf-8"))
    work = qs.embedded(QuickstartConfig(out=folder, seed=seed), display)
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
            if step.number % 5:
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
        epochs=3.0,
        optimiser={"schedule": "constant"},
    )
    if "stopped" not in run_dpo(matched, display, intervene=stop_at_kl):
        methods["DPO, short of PPO's KL"] = methods.pop("DPO at matched KL")

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
    against = np.stack([outcomes(gold.ravel(), np.repeat(column, 16)) for column in sft_gold.T]).mean(0).reshape(-1, 16)
    wins, best_wins = best_of_n(proxy, against, 16), best_of_n(gold, against, 16)
    clusters = ppo.clusters
    share = headroom_share(ppo_gold.mean(1), sft_gold.mean(1), by_gold, clusters, seed=seed)
    share_bon = headroom_share(by_proxy, sft_gold.mean(1), by_gold, clusters, seed=seed)
    kept = load_preferences(DataSpec(str(work.round / "comparisons" / "preferences.jsonl"))).records
    different = [(record.prompt, record.a, record.b) for record in kept]
    votes = [judge_pairs(work.world, different, panel(), votes=1, seed=mix(seed, 18, i)) for i in (0, 1)]
    agreement = float(np.mean([x.probability == y.probability for x, y in zip(*votes, strict=True)]))
    write_json(
        folder / "arms.json",
        {
            "standings": standings,
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


def value(found: dict[str, Any] | None, *keys: str) -> float:
    """A figure somewhere in a record; not a number where it is missing."""
    for key in keys:
        found = (found or {}).get(key)
    return float("nan") if found is None else float(found)  # type: ignore[arg-type]


def table(found: dict[int, dict[str, Any]]) -> str:
    """All figures as Markdown; `found` holds "loop" and, where it ran, "arms" by seed."""
    seeds = sorted(found)
    lines = [f"Seeds {', '.join(map(str, seeds))}; mean over seeds with 95% t interval.", ""]
    lines += ["| method | split | " + " | ".join(f"win, seed {s}" for s in seeds) + " | win rate | right | gold | KL |"]
    lines[-1] += " distinct-2 | words |"
    lines += ["|" + "---|" * (len(seeds) + 8)]
    rows: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for seed, one in found.items():
        for row in one["loop"]["standings"] + one.get("arms", {}).get("standings", []):
            rows.setdefault((row["method"], row["split"]), {})[seed] = row
    for (method, split), by_seed in sorted(rows.items(), key=lambda r: ("phrasing", "fact", "train").index(r[0][1])):
        wins = {seed: value(row, "win_rate", "mean") for seed, row in by_seed.items()}
        known = [win for win in wins.values() if win == win]
        cells = [method, split, *(f"{wins[s]:.3f}" if s in wins and wins[s] == wins[s] else "–" for s in seeds)]
        cells.append(mean_interval(known) if known else "–")
        cells += [mean_interval([row[key]["mean"] for row in by_seed.values()]) for key in ("correct", "gold", "kl")]
        cells += [f"{sum(r[key] for r in by_seed.values()) / len(by_seed):.3f}" for key in ("distinct_2", "words")]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| figure | " + " | ".join(f"seed {s}" for s in seeds) + " | mean |", "|" + "---|" * (len(seeds) + 2)]
    figures: dict[str, tuple[str, ...]] = {}
    for name in found[seeds[0]]["loop"]["reward_accuracy"]:
        figures[f"reward model against gold: {name}"] = ("loop", "reward_accuracy", name, "accuracy", "mean")
        figures[f"the longer answer against gold: {name}"] = ("loop", "reward_accuracy", name, "length_only", "mean")
    figures["reward model from single votes: SFT samples, unseen phrasings"] = ("arms", "single_vote_accuracy", "mean")
    figures["agreement of two raters, pairs of different answers"] = ("arms", "rater_agreement")
    for key in ("by_reward_win", "by_gold_win", "headroom_closed_by_ppo", "headroom_closed_by_best_of_16"):
        figures[f"best of 16: {key.replace('_', ' ')}"] = ("arms", "best_of_16", key, "mean")
    figures["seconds of the loop"] = ("loop", "seconds")
    for name, keys in figures.items():
        values = [value(found[seed], *keys) for seed in seeds]
        known = [v for v in values if v == v]
        cells = [f"{v:.3f}" if v == v else "–" for v in values]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {mean_interval(known) if known else '–'} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the seeds, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[6, 7, 8, 9, 10])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-arms", action="store_true", help="the loop alone, without baselines and controls")
    parser.add_argument("--only", nargs=2, metavar=("PART", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only is not None:
        {"loop": run_loop, "arms": run_arms}[args.only[0]](args.out, int(args.only[1]))
        return 0
    parts = ["loop"] if args.no_arms else ["loop", "arms"]
    waiting = [(part, seed) for part in parts for seed in args.seeds if not result(args.out, part, seed).exists()]
    failed = run_parts(
        waiting,
        lambda job: [sys.executable, __file__, "--out", str(args.out), "--only", job[0], str(job[1])],
        lambda job: args.out / f"seed-{job[1]}-{job[0]}.log",
        jobs=args.jobs,
        ready=lambda job: job[0] == "loop" or result(args.out, "loop", job[1]).exists(),
        finished=lambda _: report(args.out, args.seeds),
    )
    if failed:
        return failed
    print(report(args.out, args.seeds))
    return 0


def result(out: Path, part: str, seed: int) -> Path:
    """Where a part of the study leaves its figures."""
    return out / f"seed-{seed}" / f"{part}.json"


def report(out: Path, seeds: Sequence[int]) -> str:
    """Write the table of what is finished so far; returns it."""
    found: dict[int, dict[str, Any]] = {}
    for seed in seeds:
        parts = {part: result(out, part, seed) for part in ("loop", "arms")}
        if parts["loop"].exists():
            found[seed] = {part: json.loads(path.read_text()) for part, path in parts.items() if path.exists()}
    if not found:
        return ""
    (out / "results.json").write_text(json.dumps(found, indent=1))
    (out / "results.md").write_text(table(found))
    return table(found)


if __name__ == "__main__":
    sys.exit(main())
