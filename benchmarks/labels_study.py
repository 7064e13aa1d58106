"""What labels are worth on the embedded world: one label, majorities, rater-aware labels; active selection and chance.

    .venv/bin/python benchmarks/labels_study.py                          # three seeds
    .venv/bin/python benchmarks/labels_study.py --seeds 34 --out runs/x  # one other seed
    .venv/bin/python benchmarks/labels_study.py --fast --seeds 0         # small, to see that it runs

**Labels.** A crowd of twenty (`heedful.world.raters.CROWD`: honest ones of unequal care, position-biased ones,
coin-tossers, adversaries) gives equally many labels in every arm: many pairs judged once, or fewer pairs judged by 2, 3
or 5. Reward models are fitted to hard majorities, to shares of votes or to the rater-aware `probability`; a policy is
trained on each by PPO. Gold accuracy of the reward model and gold win rate of the policy, on prompts never trained on.

**Selection.** Honest raters, one label a pair; reward models are ensembles of heads. Each doubling of the labels is
chosen from one pool of pairs by chance, by disagreement, by information, or by information with diversity; all arms
begin with the same labels. Labels needed for the accuracy that chance reaches with all of its labels.

Each part runs in a process of its own with one thread, --jobs of them at a time. What is finished is kept, so the same
command goes on where it was stopped. OUT/labels.md and OUT/labels.json are written anew after every part.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from parts import run_parts

if TYPE_CHECKING:
    from heedful.data.records import Preference
    from heedful.pipeline.embedded import Embedded
    from heedful.world.raters import Pair, Verdicts

SPLITS = ("phrasing", "fact")


@dataclass(frozen=True)
class Arm:
    """How the labels are spent, and what is made of them."""

    votes: int
    labels: str
    """A method of `heedful.core.consensus.METHODS`."""
    kl_times: float = 1.0
    """PPO's KL coefficient, times the quickstart's."""


ARMS = {
    "one-label": Arm(1, "share"),
    "majority-3": Arm(3, "majority"),
    "majority-5": Arm(5, "majority"),
    "share-3": Arm(3, "share"),
    "rater-aware-2": Arm(2, "rater-aware"),
    "rater-aware-3": Arm(3, "rater-aware"),
    "rater-aware-5": Arm(5, "rater-aware"),
    # How far PPO goes depends on the reward's scale, which labels set: a tighter leash for the first, a longer one for
    # the last, so that each has a neighbour in KL.
    "one-label, 3β": Arm(1, "share", 3.0),
    "rater-aware-3, β/3": Arm(3, "rater-aware", 1 / 3),
}
SELECTIONS = {
    "random": ("random", 0.0),
    "disagreement": ("disagreement", 0.0),
    "information": ("information", 0.0),
    "information-diverse": ("information", 0.3),
}
BEGIN = 16
"""Every selection begins with one pair in so many of the pool; labels double from there, to half of it."""
MEMBERS = 4


def embedded(out: Path, seed: int, fast: bool) -> Embedded:
    """The seed's run of the embedded world."""
    from heedful.pipeline.quickstart import embedded as opened
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.progress import Display

    return opened(QuickstartConfig(out=out / f"seed-{seed}", seed=seed, fast=fast), Display(interval=60))


def run_base(out: Path, seed: int, fast: bool) -> None:
    """The base model, the SFT model and its pairs of different answers."""
    from heedful.data.records import Preference
    from heedful.data.write import write_records
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.pipeline.embedded import pretrain, sample_pairs, write_world
    from heedful.pipeline.stages.sft import run_sft
    from heedful.training.config.sft import SFTConfig

    started = time.monotonic()
    work = embedded(out, seed, fast)
    write_world(work)
    pretrain(work)
    sft = work.round / "sft"
    data = str(work.data("demonstrations"))
    run_sft(work.config(SFTConfig, "sft", model=str(work.out / "base"), data=data, out=sft), work.display)
    pairs = [pair for pair in sample_pairs(work, load_policy(str(sft))) if pair[1].strip() != pair[2].strip()]
    write_records(work.out / "pairs.jsonl", [Preference(*pair, probability=0.5) for pair in pairs])
    write_json(result(out, seed, "base"), {"pairs": len(pairs), "seconds": time.monotonic() - started})


def all_pairs(work: Embedded) -> list[Pair]:
    """What `run_base` left."""
    from heedful.data.load import DataSpec, load_preferences

    found = load_preferences(DataSpec(str(work.out / "pairs.jsonl"))).records
    return [(record.prompt, record.a, record.b) for record in found]


def labelled(pairs: Sequence[Pair], said: Verdicts, method: str) -> tuple[list[Preference], dict[str, Any]]:
    """Preferences of a method, and what is to be told of it. Columns of `said` are votes of different raters."""
    from heedful.core.consensus import consensus
    from heedful.core.crowd import judgments, length_difference
    from heedful.data.records import Preference

    n, votes = said.for_a.shape
    item = np.repeat(np.arange(n), votes)
    length = length_difference([len(a) for _, a, _ in pairs], [len(b) for _, _, b in pairs])
    data = judgments(
        item,
        said.rater.ravel(),
        np.where(said.for_a.ravel(), 1, -1),
        order=np.where(said.a_first.ravel(), 1, -1),
        length=length[item],
    )
    found = consensus(data, method)
    records = [
        Preference(*pair, probability=float(p), votes=votes)
        for pair, p in zip(pairs, found.probability, strict=True)
        if p != 0.5
    ]
    told = {"pairs": len(records), "converged": found.converged, "caveats": [c.code for c in found.caveats]}
    return records, told


def label_accuracy(work: Embedded, records: Sequence[Preference]) -> float:
    """Share of labels on the side of the truth, gold ties left out."""
    prompts = [r.prompt for r in records]
    gap = work.world.golds(prompts, [r.a for r in records]) - work.world.golds(prompts, [r.b for r in records])
    side = np.array([r.probability for r in records]) - 0.5
    return float(((gap > 0) == (side > 0))[gap != 0].mean())


def run_arm(out: Path, seed: int, name: str, fast: bool) -> None:
    """Labels of one arm, a reward model on them, PPO on that, and what the truth says of both."""
    from heedful.data.write import write_records
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.models.rewards import load_reward
    from heedful.pipeline.embedded_evaluation import examine, proxy_accuracy, stand
    from heedful.pipeline.stages.online import run_ppo
    from heedful.pipeline.stages.reward import run_reward
    from heedful.training.config.online import PPOConfig
    from heedful.training.config.reward import RewardConfig
    from heedful.training.state import mix
    from heedful.world.raters import CROWD, judge

    started = time.monotonic()
    work, arm = embedded(out, seed, fast), ARMS[name]
    every = all_pairs(work)
    pairs = every[: len(every) // arm.votes]  # equally many labels in every arm
    said = judge(work.world, pairs, CROWD, votes=arm.votes, seed=mix(seed, 50, arm.votes))
    records, told = labelled(pairs, said, arm.labels)
    (work.out / "labels").mkdir(exist_ok=True)
    data = work.out / "labels" / f"{name}.jsonl"
    write_records(data, records)
    folder = work.out / "arms" / name
    base, sft = str(work.out / "base"), str(work.round / "sft")
    reward = {"model": base, "data": str(data), "out": folder / "reward"}
    run_reward(work.config(RewardConfig, "reward", **reward), work.display)
    ppo = {"model": sft, "reward": str(folder / "reward"), "data": str(work.data("prompts-train"))}
    settings: PPOConfig = work.config(PPOConfig, "ppo", **ppo, out=folder / "ppo")
    run_ppo(
        replace(settings, kl=replace(settings.kl, coefficient=settings.kl.coefficient * arm.kl_times)), work.display
    )
    reference, policy = load_policy(sft), load_policy(str(folder / "ppo"))
    figures: dict[str, Any] = {"labels": len(pairs) * arm.votes, **told, "right": label_accuracy(work, records)}
    for split in SPLITS:
        baseline, own = examine(work, reference, split, purpose=0), examine(work, policy, split, purpose=1)
        standing = stand(work, name, split, policy, reference, own, baseline)
        assert standing.comparison is not None
        accuracy = proxy_accuracy(work, load_reward(str(folder / "reward")), baseline)
        figures[split] = {
            "accuracy": accuracy.accuracy.mean,
            "win_rate": standing.comparison.verdict.win_rate.rate.mean,
            "kl": standing.divergence.kl.mean,
        }
    write_json(result(out, seed, name), figures | {"seconds": time.monotonic() - started})


def run_selection(out: Path, seed: int, name: str, fast: bool) -> None:
    """One way to select: its labels doubled again and again, an ensemble fitted anew each time."""
    from heedful.core.selection import Chance, Disagreement, ModelInformation, Score, candidates, choose
    from heedful.data.features import hashed_ngrams
    from heedful.data.records import Preference
    from heedful.data.write import write_records
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.models.rewards import EnsembleReward, load_reward
    from heedful.pipeline.embedded_evaluation import examine, proxy_accuracy
    from heedful.pipeline.stages.reward import run_reward
    from heedful.training.config.reward import RewardConfig
    from heedful.training.state import mix
    from heedful.world.raters import judge, panel

    started = time.monotonic()
    work = embedded(out, seed, fast)
    by, diversity = SELECTIONS[name]
    pairs = all_pairs(work)
    said = judge(work.world, pairs, panel(), votes=1, seed=mix(seed, 60)).for_a[:, 0]  # the same in every arm
    features = hashed_ngrams([" ".join(m.content for m in prompt) for prompt, _, _ in pairs])
    examined = {split: examine(work, load_policy(str(work.round / "sft")), split, purpose=0) for split in SPLITS}
    taken = choose(Chance(mix(seed, 61)).score(candidates(np.arange(len(pairs)))), len(pairs) // BEGIN).tolist()
    folder = work.out / "selection" / name
    folder.mkdir(parents=True, exist_ok=True)
    curve: list[dict[str, float]] = []
    while True:
        data = folder / f"{len(taken)}.jsonl"
        write_records(data, [Preference(*pairs[i], probability=float(said[i])) for i in taken])
        run = {"model": str(work.out / "base"), "data": str(data), "out": folder / f"reward-{len(taken)}"}
        heads = {"kind": "ensemble", "members": MEMBERS}
        run_reward(work.config(RewardConfig, "reward", **run, heads=heads), work.display)
        reward = load_reward(f"mean:{run['out']}")
        assert isinstance(reward, EnsembleReward)
        accuracy = {split: proxy_accuracy(work, reward, examined[split]).accuracy.mean for split in SPLITS}
        curve.append({"labels": len(taken), **accuracy})
        if 2 * len(taken) > len(pairs) // 2:  # beyond half of the pool there is little left to select
            break
        left = np.setdiff1d(np.arange(len(pairs)), taken)
        texts = [(pairs[i][0], pairs[i][side]) for side in (1, 2) for i in left]
        scores = reward.members([p for p, _ in texts], [t for _, t in texts]).double().numpy()
        margins = scores[:, : len(left)] - scores[:, len(left) :]
        kinds: dict[str, Score] = {
            "random": Chance(mix(seed, 62, len(taken))),
            "disagreement": Disagreement(),
            "information": ModelInformation(),
        }
        worth = kinds[by].score(candidates(left, margins=margins))
        taken += left[choose(worth, len(taken), features=features[left], diversity=diversity)].tolist()
    figures = {"curve": curve, "seconds": time.monotonic() - started}
    write_json(result(out, seed, f"select-{name}"), figures)


def needed(curve: Sequence[dict[str, float]], split: str, target: float) -> float:
    """Labels at which a curve first reaches an accuracy, straight lines between its points over log labels.

    Infinite where it never does.
    """
    before: dict[str, float] | None = None
    for point in curve:
        if point[split] >= target:
            if before is None:
                return point["labels"]
            share = (target - before[split]) / (point[split] - before[split])
            return float(before["labels"] * (point["labels"] / before["labels"]) ** share)
        before = point
    return math.inf


def mean_of(values: Sequence[float], digits: int = 3) -> str:
    """Mean over seeds with half its 95% t interval."""
    from heedful.core.statistics import t_interval

    if len(values) < 2 or not np.isfinite(values).all():
        return ", ".join(f"{value:.{digits}f}" if np.isfinite(value) else "never" for value in values) or "–"
    found = t_interval(values)
    return f"{found.mean:.{digits}f} ±{found.high - found.mean:.{digits}f}"


def table(found: dict[int, dict[str, Any]]) -> str:
    """All figures as Markdown, of what has been run so far; `found` holds parts by seed."""
    seeds = ", ".join(map(str, sorted(found)))
    lines = [f"Seeds {seeds}; mean over seeds with half the 95% t interval.", ""]
    names = ("accuracy", "win_rate", "kl")
    heads = [f"{name.replace('_', ' ')}, {split}" for split in SPLITS for name in names]
    lines += ["| labels | pairs | labels right | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 3)]
    for arm in ARMS:
        rows = [one[arm] for one in found.values() if arm in one]
        if rows:
            cells = [arm, f"{np.mean([row['pairs'] for row in rows]):.0f}", mean_of([row["right"] for row in rows])]
            cells += [mean_of([row[split][name] for row in rows]) for split in SPLITS for name in names]
            lines.append("| " + " | ".join(cells) + " |")
    curves = [one["select-random"]["curve"] for one in found.values() if "select-random" in one]
    if not curves:
        return "\n".join(lines) + "\n"
    counts = [int(point["labels"]) for point in curves[0]]
    lines += ["", "Gold accuracy on unseen phrasings by labels, and labels needed for the last accuracy of chance.", ""]
    lines += ["| selection | " + " | ".join(map(str, counts)) + " | needed, phrasing | needed, fact |"]
    lines += ["|" + "---|" * (len(counts) + 3)]
    for name in SELECTIONS:
        both = [one for one in found.values() if f"select-{name}" in one and "select-random" in one]
        if both:
            own = [one[f"select-{name}"]["curve"] for one in both]
            cells = [mean_of([curve[at]["phrasing"] for curve in own]) for at in range(len(counts))]
            for split in SPLITS:
                targets = [one["select-random"]["curve"][-1][split] for one in both]
                wanted = [needed(curve, split, target) for curve, target in zip(own, targets, strict=True)]
                cells.append(mean_of(wanted, 0))
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def parts() -> list[str]:
    """Every part of a seed; the first is what the others build on."""
    return ["base", *ARMS, *(f"select-{name}" for name in SELECTIONS)]


def run_part(out: Path, seed: int, part: str, fast: bool) -> None:
    """One part of one seed."""
    if part == "base":
        run_base(out, seed, fast)
    elif part in ARMS:
        run_arm(out, seed, part, fast)
    else:
        run_selection(out, seed, part.removeprefix("select-"), fast)


def result(out: Path, seed: int, part: str) -> Path:
    """Where a part leaves its figures."""
    return out / f"seed-{seed}" / f"labels-{part}.json"


def report(out: Path, seeds: Sequence[int]) -> str:
    """Write the table of what is finished so far; returns it."""
    found: dict[int, dict[str, Any]] = {}
    for seed in seeds:
        paths = {part: result(out, seed, part) for part in parts()}
        done = {part: json.loads(path.read_text()) for part, path in paths.items() if path.exists()}
        if done:
            found[seed] = done
    if not found:
        return ""
    (out / "labels.json").write_text(json.dumps(found, indent=1))
    (out / "labels.md").write_text(table(found))
    return table(found)


def main() -> int:
    """Run the parts, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/labels"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fast", action="store_true", help="a small world: to see that it runs")
    parser.add_argument("--parts", nargs="+", default=parts(), choices=parts(), help="only these, base always")
    parser.add_argument("--only", nargs=2, metavar=("PART", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only is not None:
        run_part(args.out, int(args.only[1]), args.only[0], args.fast)
        return 0
    wanted = [part for part in parts() if part == "base" or part in args.parts]
    waiting = [(s, part) for s in args.seeds for part in wanted if not result(args.out, s, part).exists()]
    more = ["--fast"] if args.fast else []
    failed = run_parts(
        waiting,
        lambda job: [sys.executable, __file__, "--out", str(args.out), "--only", job[1], str(job[0]), *more],
        lambda job: args.out / f"seed-{job[0]}-{job[1]}.log",
        jobs=args.jobs,
        ready=lambda job: job[1] == "base" or result(args.out, job[0], "base").exists(),
        finished=lambda _: report(args.out, args.seeds),
    )
    if failed:
        return failed
    print(report(args.out, args.seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
