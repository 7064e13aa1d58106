"""Nine ways to learn from the same preferences, side by side on the embedded world: make methods.

    .venv/bin/python benchmarks/methods_study.py             # three seeds, three strengths each
    .venv/bin/python benchmarks/methods_study.py --seeds 24  # another seed

Every method starts from the same SFT model and the same 4,000 judged pairs (the online ones by way of the same
reward model) and gets the same search: three learning rates at its middle strength on a seed apart (--tune), of which
the one with the best gold win rate on *training* prompts is kept; then three strengths of its leash on every seed.
PPO, RLOO and GRPO see equally many samples in equally many updates; the offline methods one pass over the pairs;
best-of-n samples from the SFT model and trains nothing.

Each run has a process and one thread of its own, --jobs of them at a time. What is finished is kept, so the command
goes on where it was stopped. OUT/methods.md, .json and .png are written anew after every run.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SPLITS = ("phrasing", "fact")
POOL, MANY = 71, 64
"""What the seed of best-of-n's answers is mixed with, and how many there are to a prompt."""
ONLINE_RATES, OFFLINE_RATES = (1e-4, 3e-4, 6e-4), (1e-4, 2e-4, 4e-4)
ONLINE = {
    "steps": 60,
    "optimiser": {"schedule": "linear", "final_share": 0.2, "warmup": 0.0, "epsilon": 1e-5},
    "score": {"missing_eos_penalty": 1.0},
    "update": {"epochs": 2, "minibatches": 2},
    "memory": {"micro_batch_tokens": 1200},
    "records": {"max_length": 128, "held_out": 0.0},
    "run": {"checkpoint_every": 20, "sample_every": 0, "tensorboard": False},
}


@dataclass(frozen=True)
class Method:
    """One way to learn: its command, the strengths of its leash, and what else it is told.

    `strength` names the setting that takes the strengths; `learning_rates` is what the search tries.
    """

    stage: str
    strength: str
    strengths: tuple[float, ...]
    learning_rates: tuple[float, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def rollout(prompts: int, samples: int) -> dict[str, Any]:
    """64 samples a step, in groups of `samples`."""
    return {"rollout": {"prompts_per_step": prompts, "samples_per_prompt": samples, "max_new_tokens": 56}}


METHODS = {
    "PPO": Method("ppo", "kl.coefficient", (0.05, 0.1, 0.2), ONLINE_RATES, ONLINE | rollout(64, 1)),
    "RLOO": Method("rloo", "kl.coefficient", (0.05, 0.1, 0.2), ONLINE_RATES, ONLINE | rollout(16, 4)),
    "GRPO": Method("grpo", "kl.coefficient", (0.05, 0.1, 0.2), ONLINE_RATES, ONLINE | rollout(8, 8)),
    "DPO": Method("dpo", "beta", (0.03, 0.1, 0.3), OFFLINE_RATES, {"loss": "sigmoid"}),
    "IPO": Method("dpo", "beta", (0.03, 0.1, 0.3), OFFLINE_RATES, {"loss": "ipo"}),
    "KTO": Method("dpo", "beta", (0.03, 0.1, 0.3), OFFLINE_RATES, {"loss": "kto"}),
    "ORPO": Method("dpo", "settings.weight", (0.1, 0.3, 1.0), OFFLINE_RATES, {"loss": "orpo", "beta": None}),
    "SimPO": Method("dpo", "beta", (1.0, 2.0, 5.0), OFFLINE_RATES, {"loss": "simpo"}),
    "best-of-n": Method("none", "n", (4, 16, 64)),
}


@dataclass(frozen=True, order=True)
class Job:
    """One run of the study."""

    seed: int
    method: str
    strength: float
    learning_rate: float

    @property
    def name(self) -> str:
        """Of its files and its folder."""
        return f"{self.method}-{self.strength:g}-{self.learning_rate:g}".lower()

    def result(self, out: Path) -> Path:
        """Where its figures go."""
        return out / f"seed-{self.seed}" / "results" / f"{self.name}.json"


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """{"kl": {"coefficient": value}} of "kl.coefficient"."""
    for key in reversed(dotted.split(".")):
        value = {key: value}
    return value


def prepare(out: Path, seed: int, splits: Sequence[str], pool: bool) -> None:
    """What all methods of a seed share: base, SFT model, judged pairs, reward model, answers of the SFT model.

    Writes OUT/seed-N/shared.json last.

    Args:
        splits: of the answers that methods are held to.
        pool: answer as best-of-n needs it, too.
    """
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.pipeline import quickstart as qs
    from heedful.pipeline.embedded import judged_comparisons, pretrain, write_world
    from heedful.pipeline.stages.reward import run_reward
    from heedful.pipeline.stages.sft import run_sft
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.config.reward import RewardConfig
    from heedful.training.config.sft import SFTConfig
    from heedful.training.progress import Display

    work = qs.embedded(QuickstartConfig(out=out / f"seed-{seed}", seed=seed), Display(interval=60))
    write_world(work)
    pretrain(work)
    base, sft = str(work.out / "base"), work.round / "sft"
    run_sft(work.config(SFTConfig, "sft", model=base, data=str(work.data("demonstrations")), out=sft), work.display)
    pairs = str(judged_comparisons(work, sft))
    reward = work.config(RewardConfig, "reward", model=base, data=pairs, out=work.round / "reward")
    accuracy = run_reward(reward, work.display)["held_out"]
    policy = load_policy(str(sft))
    for split in splits:
        answered(work, policy, split, purpose=0)
        if pool:
            answered(work, policy, split, purpose=POOL, samples=MANY)
    write_json(work.out / "shared.json", {"reward": accuracy})


def carry_out(out: Path, job: Job, splits: Sequence[str]) -> None:
    """Train one method at one strength and hold it to the SFT model on some splits; writes the job's result."""
    from heedful.errors import HeedfulError
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.pipeline import quickstart as qs
    from heedful.pipeline.embedded_evaluation import examine, stand
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.optimiser import Diverged
    from heedful.training.progress import Display

    work = qs.embedded(QuickstartConfig(out=out / f"seed-{job.seed}", seed=job.seed), Display(interval=60))
    method = METHODS[job.method]
    if method.stage == "none":
        rows, figures = best_of_n_rows(work, int(job.strength))
    else:
        try:
            manifest = train(work, method, job)
        except HeedfulError as error:
            if not isinstance(error.__cause__, Diverged):
                raise
            write_json(job.result(out), {"job": asdict(job), "given": given(job), "rows": [], "diverged": str(error)})
            return
        figures = {"seconds": manifest["seconds"], "peak_memory_bytes": manifest["peak_memory_bytes"]}
        reference, policy = (load_policy(str(path)) for path in (work.round / "sft", work.out / "methods" / job.name))
        rows = []
        for split in splits:
            baseline = answered(work, reference, split, purpose=0).found
            own = examine(work, policy, split, purpose=70)
            standing = stand(work, job.method, split, policy, reference, own, baseline)
            assert standing.comparison is not None
            win = asdict(standing.comparison.verdict.win_rate.rate)
            rows.append(
                {"split": split, "win_rate": win, "correct": standing.correct.mean, "gold": standing.gold.mean}
                | {"kl": standing.divergence.kl.mean, "words": standing.text.mean_words}
                | {"distinct_2": standing.text.distinct_2}
            )
    write_json(job.result(out), {"job": asdict(job), "given": given(job), "rows": rows, **figures})


def given(job: Job) -> dict[str, Any]:
    """All that a method is told, for a result to be known again by."""
    return json.loads(json.dumps(asdict(METHODS[job.method]) | {"learning_rates": [job.learning_rate]}))


def configure(work: Any, method: Method, job: Job) -> Any:
    """The settings of a method's stage."""
    from heedful.training.config.online import GRPOConfig, PPOConfig, RLOOConfig
    from heedful.training.config.preference import DPOConfig
    from heedful.training.settings import from_mapping

    told: dict[str, Any] = {"model": str(work.round / "sft"), "out": work.out / "methods" / job.name}
    told |= method.settings | nested(method.strength, job.strength)
    told["optimiser"] = told.get("optimiser", {}) | {"learning_rate": job.learning_rate}
    if method.stage == "dpo":
        told |= {"data": str(work.round / "comparisons" / "preferences.jsonl"), "run": {"sample_every": 0}}
        return work.config(DPOConfig, "dpo", **told)
    told |= {"data": str(work.data("prompts-train")), "reward": str(work.round / "reward"), "seed": work.seed}
    told["records"] = told["records"] | {"split_seed": work.seed}
    if method.stage == "ppo":
        told["critic_learning_rate"] = 3e-4
    classes: dict[str, Any] = {"ppo": PPOConfig, "rloo": RLOOConfig, "grpo": GRPOConfig}
    return from_mapping(classes[method.stage], told, f"methods ({job.name})")


def train(work: Any, method: Method, job: Job) -> dict[str, Any]:
    """Run the method's stage; returns its manifest."""
    from heedful.pipeline.stages.online import run_grpo, run_ppo, run_rloo
    from heedful.pipeline.stages.preference import run_dpo

    runners: dict[str, Any] = {"ppo": run_ppo, "rloo": run_rloo, "grpo": run_grpo, "dpo": run_dpo}
    return runners[method.stage](configure(work, method, job), work.display)


class Answers(NamedTuple):
    """What the SFT model answered to a split, and what that took."""

    found: Any
    seconds: float
    memory: int


def answered(work: Any, policy: Any, split: str, purpose: int, samples: int | None = None) -> Answers:
    """A split's prompts with the SFT model's answers, kept beside the seed's models."""
    from heedful.files import atomic_write
    from heedful.pipeline.embedded_evaluation import examine
    from heedful.pipeline.stages.common import peak_memory

    path = work.out / f"answers-{split}-{purpose}.pickle"
    if not path.exists():
        started = time.monotonic()
        found = examine(work, policy, split, purpose, samples)
        with atomic_write(path, "wb") as file:
            pickle.dump(tuple(Answers(found, time.monotonic() - started, peak_memory())), file)
    with open(path, "rb") as file:
        return Answers(*pickle.load(file))


def best_of_n_rows(work: Any, n: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Best of n by the reward model, from 64 samples of the SFT model for each unseen prompt."""
    import numpy as np

    from heedful.core.statistics import cluster_bootstrap
    from heedful.evaluation.best_of_n import best_of_n, best_of_n_kl
    from heedful.evaluation.winrate import outcomes
    from heedful.models.rewards import load_reward
    from heedful.pipeline.embedded import gold_judge

    reward, judge, rows, many = load_reward(str(work.round / "reward")), gold_judge(work.world), [], MANY
    seconds, memory = 0.0, 0
    for split in SPLITS:
        pool, sampling, held = answered(work, None, split, purpose=POOL, samples=many)
        baseline, memory = answered(work, None, split, purpose=0).found, max(memory, held)
        started = time.monotonic()
        prompts, _, answers = pool.flat()
        texts = [answer.text for answer in answers]

        def table(values: Any) -> Any:
            return np.asarray(values, dtype=float).reshape(-1, many)

        proxy, gold = table(reward(prompts, texts)), table(judge(prompts, answers))
        seconds += (sampling + time.monotonic() - started) * n / many  # of the 64 it would need n
        right = table([work.world.correct(p, text) for p, text in zip(prompts, texts, strict=True)])
        words = table([len(text.split()) for text in texts])
        of_sft = np.array(judge(baseline.flat()[0], baseline.flat()[2])).reshape(len(pool.prompts), -1)
        won = [outcomes(gold.ravel(), np.repeat(column, many)) for column in of_sft.T]
        wins = best_of_n(proxy, np.stack(won).mean(0).reshape(-1, many), n)
        rows.append(
            {"split": split, "win_rate": asdict(cluster_bootstrap(wins, np.array(pool.clusters), seed=work.seed))}
            | {"correct": float(best_of_n(proxy, right, n).mean()), "gold": float(best_of_n(proxy, gold, n).mean())}
            | {"kl": best_of_n_kl(n), "words": float(best_of_n(proxy, words, n).mean()), "distinct_2": None}
        )
    return rows, {"seconds": seconds, "peak_memory_bytes": memory}


def tuning(seed: int) -> list[Job]:
    """The search: every learning rate at the middle strength."""
    return [Job(seed, name, m.strengths[1], rate) for name, m in METHODS.items() for rate in m.learning_rates]


def chosen_rates(out: Path, seed: int) -> dict[str, float]:
    """For each method the learning rate of the best win rate on training prompts; 0 where nothing trains."""
    best: dict[str, tuple[float, float]] = {}
    for job in tuning(seed):
        row = next((r for r in read(out, job)["rows"] if r["split"] == "train"), None)
        if row is None:  # it diverged
            continue
        best[job.method] = max(best.get(job.method, (-1.0, 0.0)), (row["win_rate"]["mean"], job.learning_rate))
    return {name: best[name][1] if name in best else 0.0 for name in METHODS}


def read(out: Path, job: Job) -> dict[str, Any]:
    """A result.

    Raises:
        SystemExit: it was made with other settings than this file has.
    """
    found = json.loads(job.result(out).read_text(encoding="utf-8"))
    if found["given"] != given(job):
        raise SystemExit(f"{job.result(out)} was made with other settings: delete it, or choose another --out")
    return found


def work_through(out: Path, seeds: Sequence[int], jobs: Sequence[Job], parallel: int, tune: int) -> Iterator[None]:
    """Run what is not finished, --jobs at a time, a seed's shared models first; yields after each run.

    Raises:
        SystemExit: a run failed; the others are stopped, and what is finished stays.
    """
    parts: list[tuple[list[str], Path, Path | None]] = [
        (["--only", "prepare", str(seed)], out / f"seed-{seed}" / "shared.json", None) for seed in seeds
    ]
    for job in jobs:
        needs = out / f"seed-{job.seed}" / "shared.json"
        words = [job.method, str(job.seed), repr(job.strength), repr(job.learning_rate)]
        parts.append((["--only", *words], job.result(out), needs))
    waiting = [part for part in parts if not part[1].exists()]
    running: dict[subprocess.Popen[bytes], str] = {}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        while waiting or running:
            ready = next((p for p in waiting if p[2] is None or p[2].exists()), None)
            if ready and len(running) < parallel:
                waiting.remove(ready)
                with open(out / "runs.log", "ab") as log:
                    command = [sys.executable, __file__, "--out", str(out), "--tune", str(tune), *ready[0]]
                    running[subprocess.Popen(command, env=environment, stdout=log, stderr=log)] = " ".join(ready[0][1:])
                continue
            time.sleep(0.5)
            for process in [p for p in running if p.poll() is not None]:
                name = running.pop(process)
                if process.returncode:
                    raise SystemExit(f"{name} failed: see {out}/runs.log")
                print(f"{name}: done, {len(waiting) + len(running)} to go", flush=True)
                yield
    finally:
        for process in running:
            process.terminate()


def report(out: Path, seeds: Sequence[int], rates: dict[str, float]) -> str:
    """The table and the plot of what is finished so far; returns the table."""
    from heedful.files import write_json

    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    diverged: list[str] = []
    for seed in seeds:
        for name, method in METHODS.items():
            for strength in method.strengths:
                job = Job(seed, name, strength, rates[name])
                result = read(out, job) if job.result(out).exists() else {}
                if "diverged" in result:
                    diverged.append(f"{name} {strength:g} of seed {seed}")
                elif result:
                    found.setdefault((name, strength), []).append(result)
    lines = [f"Seeds {', '.join(map(str, seeds))}; mean over seeds, with its 95% t interval for win rates.", ""]
    lines += [
        "| method | strength | learning rate | win, unseen phrasings | win, facts never judged | right | KL | words |"
    ]
    lines[-1] += " seconds | peak memory, MiB | seeds |"
    lines += ["|" + "---|" * 11]
    points = []
    for (name, strength), results in found.items():
        by_split = {split: [next(r for r in one["rows"] if r["split"] == split) for one in results] for split in SPLITS}
        phrasing = by_split["phrasing"]
        wins = [interval([row["win_rate"]["mean"] for row in by_split[split]]) for split in SPLITS]
        right, kl, words = (sum(row[key] for row in phrasing) / len(phrasing) for key in ("correct", "kl", "words"))
        seconds = sum(one["seconds"] for one in results) / len(results)
        memory = max(one["peak_memory_bytes"] for one in results) / 2**20
        cells = [name, f"{METHODS[name].strength} {strength:g}", f"{rates[name]:g}" if rates[name] else "–"]
        cells += [shown(win) for win in wins] + [
            f"{right:.1%}",
            f"{'≤ ' if name == 'best-of-n' else ''}{kl:.2f}",
            f"{words:.1f}",
        ]
        lines.append("| " + " | ".join([*cells, f"{seconds:.0f}", f"{memory:.0f}", str(len(results))]) + " |")
        points.append({"method": name, "strength": strength, "kl": kl, "wins": wins, "seeds": len(results)})
    if diverged:
        lines += ["", f"Diverged, and in no mean: {', '.join(diverged)}."]
    text = "\n".join(lines) + "\n"
    (out / "methods.md").write_text(text, encoding="utf-8")
    write_json(out / "methods.json", {"seeds": list(seeds), "learning_rates": rates, "points": points})
    if points:
        plot(out / "methods.png", points)
    return text


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95% t interval over seeds; of one seed the mean alone, three times."""
    from heedful.core.statistics import t_interval

    if len(values) < 2:
        return values[0], values[0], values[0]
    found = t_interval(values)
    return found.mean, found.low, found.high


def shown(win: tuple[float, float, float]) -> str:
    """78.9% (77.2 to 80.5)."""
    mean, low, high = win
    return f"{mean:.1%}" if low == high else f"{mean:.1%} ({100 * low:.1f} to {100 * high:.1f})"


def plot(path: Path, points: Sequence[dict[str, Any]]) -> None:
    """Gold win rate over KL, a line a method through its strengths, both kinds of unseen prompts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    titles = ("unseen phrasings", "facts never judged")
    colours = ("#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7", "#7f3c8d", "#8c6d31", "#444444")
    axes = figure.subplots(1, 2, sharey=True)
    for place, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        for colour, name in zip(colours, METHODS, strict=True):
            own = sorted((p["kl"], *p["wins"][place]) for p in points if p["method"] == name)
            if not own:
                continue
            kl, mean, low, high = zip(*own, strict=True)
            error = [[m - x for m, x in zip(mean, low, strict=True)], [x - m for m, x in zip(mean, high, strict=True)]]
            style = {"linestyle": "--" if name == "best-of-n" else "-", "marker": "o", "markersize": 4}
            axis.errorbar(kl, mean, yerr=error, color=colour, label=name, capsize=2, linewidth=1.4, **style)
        axis.axhline(0.5, color="#999999", linewidth=0.8)
        axis.set_ylim(0.45, 1.0)
        axis.set_title(title)
        axis.set_xlabel("KL to the SFT model, nats a completion (best-of-n: at most)")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("gold win rate over the SFT model")
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes[1].legend(frameon=False, ncols=2, fontsize=9)
    figure.savefig(path, dpi=130)


def main() -> int:
    """Search, run, write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--tune", type=int, default=100, help="the seed of the search")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only:
        name, seed, *rest = args.only
        if name == "prepare":
            tuned = int(seed) == args.tune
            prepare(args.out, int(seed), (*SPLITS, "train") if tuned else SPLITS, pool=not tuned)
        else:
            splits = (*SPLITS, "train") if int(seed) == args.tune else SPLITS
            carry_out(args.out, Job(int(seed), name, *map(float, rest)), splits)
        return 0
    for _ in work_through(args.out, [args.tune], tuning(args.tune), args.jobs, args.tune):
        pass
    rates = chosen_rates(args.out, args.tune)
    print("learning rates:", ", ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate), flush=True)
    jobs = [Job(s, name, x, rates[name]) for s in args.seeds for name, m in METHODS.items() for x in m.strengths]
    for _ in work_through(args.out, args.seeds, jobs, args.jobs, args.tune):
        report(args.out, args.seeds, rates)
    print(report(args.out, args.seeds, rates))
    return 0


if __name__ == "__main__":
    sys.exit(main())
