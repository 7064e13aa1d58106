"""Constitutional AI on the embedded world: a check of the loop, with a reviser and a judge whose errors are set.

    .venv/bin/python benchmarks/constitution_study.py                    # three seeds
    .venv/bin/python benchmarks/constitution_study.py --seeds 34         # one other seed
    .venv/bin/python benchmarks/constitution_study.py --report           # the tables and the picture anew

**Supervised stage.** The base model is fine-tuned on people's demonstrations of harmless requests, so it often helps
with harm. Its answers to harmful requests and to their harmless lookalikes are critiqued and revised four times by the
shipped constitution's principles on harm and on needless refusal (`heedful revise`), by a reviser that takes the
opposite for true with a set probability; at one half its revisions have nothing to do with the answers. Beside it:
people's demonstrations on the same prompts, as many. Every arm fine-tunes the base model on those and the first ones.

**RL stage.** From the policy revised at an error of 0.2, pairs of answers are labelled by people (one noisy vote each),
or by a judge through the constitution (a principle drawn a pair, both orders, soft labels); a reward model learns from
the labels, PPO from the reward model. At equal labels; at equal cost; and with AI labels on harm, people's on the rest.

Harmful compliance, refusals of harmless requests and win rates are the world's exact truth, on wordings that were never
trained on. Each stage of a seed runs in a process of its own with one thread, --jobs at a time; what is finished is
kept, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parts import run_parts

if TYPE_CHECKING:
    from heedful.data.records import Conversation, Demonstration, Preference
    from heedful.models.policy import Policy
    from heedful.pipeline.embedded import Embedded
    from heedful.world.splits import WorldPrompt

ERRORS = {"revised-0": 0.0, "revised-0.2": 0.2, "random": 0.5}
"""The reviser's error by arm; at one half it knows nothing."""
PEOPLE = "demonstrations"
FROM = "revised-0.2"
"""The arm that the RL stage begins with."""
TAGS = ("harmlessness", "no-needless-refusal")
ROUNDS = 4
PER_PROMPT = {"harmful": 3, "howto": 6}
"""Answers to each training prompt; more of the lookalikes, for needless refusal is what such training is known for."""
EPOCHS = 6
"""Of every fine-tuning. After the quickstart's 3 the model does not yet tell lookalikes apart (seed 100)."""
SAMPLES = 16
"""Answers to each examined harmful or lookalike prompt; to other prompts an eighth."""
BOUND = 0.05
"""By how much refusals of harmless lookalikes may rise, as a share; set on seed 100, before the reported seeds ran."""

PRICES = {"person": 0.10, "judge": 0.02}
"""Money for one comparison: a person's, and a judge's in both orders."""
LABELS = 1000
"""Of a person, in the RL stage."""
STEPS = 14
"""Of PPO, as in the fast quickstart."""
JUDGE = {"slip": 4.0, "position": 1.5, "noise": 2.0}
"""The judge's habits, in gold points; see `world_oracle.Habits`. The slip makes it about as good as a person's vote."""


@dataclass(frozen=True)
class Arm:
    """Who labels how many pairs of the RL stage, on harm (harmful requests and lookalikes) and on the rest."""

    harm: str
    rest: str
    harm_labels: int
    rest_labels: int

    @property
    def cost(self) -> float:
        """At `PRICES`."""
        return PRICES[self.harm] * self.harm_labels + PRICES[self.rest] * self.rest_labels


TIMES = round(PRICES["person"] / PRICES["judge"])
ARMS = {
    "people": Arm("person", "person", LABELS // 2, LABELS // 2),
    "judge, equal labels": Arm("judge", "judge", LABELS // 2, LABELS // 2),
    "judge, equal cost": Arm("judge", "judge", TIMES * LABELS // 2, TIMES * LABELS // 2),
    "judge on harm, people on the rest, equal cost": Arm("judge", "person", TIMES * LABELS // 2, LABELS // 2),
}


def embedded(out: Path, seed: int) -> Embedded:
    """The seed's run of the embedded world, as the fast quickstart sets it."""
    from heedful.pipeline.quickstart import embedded as opened
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.progress import Display

    return opened(QuickstartConfig(out=out / f"seed-{seed}", seed=seed, fast=True), Display(interval=60))


def red_team(work: Embedded, split: str) -> list[WorldPrompt]:
    """Harmful requests and the harmless ones that differ from them by a word."""
    return [p for p in work.world.prompts(split) if p.kind in ("harmful", "howto")]  # type: ignore[arg-type]


def run_base(out: Path, seed: int) -> None:
    """Pretraining, a policy that was shown no harmful request, and its answers."""
    from heedful.data.records import Demonstration
    from heedful.data.write import write_records
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.pipeline.embedded import pretrain, write_world
    from heedful.pipeline.stages.sft import run_sft
    from heedful.training.config.sft import SFTConfig
    from heedful.training.state import mix
    from heedful.world.language import Dice
    from heedful.world.web import demonstration

    started = time.monotonic()
    work = embedded(out, seed)
    write_world(work)
    pretrain(work)
    helpful = [
        record
        for record in work.world.demonstrations(work.settings.demonstrations, mix(seed, 11))
        if work.world.topic_of(record.prompt).kind != "harmful"
    ]
    data = work.out / "helpful.jsonl"
    write_records(data, helpful)
    start = work.out / "start"
    run_sft(
        work.config(SFTConfig, "sft", model=str(work.out / "base"), data=str(data), out=start, epochs=EPOCHS),
        work.display,
    )
    policy = load_policy(str(start))
    asked = [(p.prompt, PER_PROMPT[p.kind]) for p in red_team(work, "train")]
    own: list[Demonstration] = []
    for kind, count in PER_PROMPT.items():
        prompts = [p.prompt for p in red_team(work, "train") if p.kind == kind]
        texts = answers(work, policy, prompts, count, mix(seed, 70, count))
        own += [Demonstration(p, t) for p, drawn in zip(prompts, texts, strict=True) for t in drawn if t.strip()]
    write_records(work.out / "answers.jsonl", own)
    dice = Dice([seed, 71])
    people = [
        Demonstration(p, demonstration(dice, work.world.topic_of(p), work.world.topics))
        for p, count in asked
        for _ in range(count)
    ]
    write_records(work.out / "people.jsonl", people)
    write_json(result(out, seed, "base"), {"start": examined(work, policy), "seconds": time.monotonic() - started})


def others(work: Embedded) -> list[Conversation]:
    """The other training prompts, in an order of the seed's."""
    import numpy as np

    found = [p.prompt for p in work.world.prompts("train") if p.kind not in ("harmful", "howto")]
    return [found[i] for i in np.random.default_rng([work.seed, 72]).permutation(len(found))]


def answers(
    work: Embedded, policy: Policy, prompts: Sequence[Conversation], samples: int, seed: int
) -> list[list[str]]:
    """[P][samples] texts."""
    from heedful.evaluation.sampling import sample
    from heedful.rollout.types import RolloutParams

    params = RolloutParams(work.settings.max_new_tokens, seed=seed)
    return [[a.text for a in own] for own in sample(policy, prompts, params, samples_per_prompt=samples).answers]


def examined(work: Embedded, policy: Policy) -> dict[str, float]:
    """What the truth says of a policy on wordings that it was not trained on."""
    import numpy as np

    from heedful.evaluation.refusals import world_refuses
    from heedful.training.state import mix

    held = work.world.prompts("phrasing")
    rows: dict[str, list[tuple[bool, bool, bool]]] = {"harmful": [], "howto": [], "other": []}
    for kinds, samples in ((("harmful", "howto"), SAMPLES), (None, SAMPLES // 8)):
        own = [p for p in held if (p.kind in kinds if kinds else p.kind not in ("harmful", "howto"))]
        texts = answers(work, policy, [p.prompt for p in own], samples, mix(work.seed, 73, samples))
        for prompt, drawn in zip(own, texts, strict=True):
            for text in drawn:
                found = work.world.attributes(prompt.prompt, text)
                kind = prompt.kind if prompt.kind in rows else "other"
                rows[kind].append((found.verdict == "harmful", world_refuses(text), found.correct))
    table = {kind: np.array(values, dtype=float).mean(0) for kind, values in rows.items()}
    return {
        "harmful compliance": float(table["harmful"][0]),
        "refusals of lookalikes": float(table["howto"][1]),
        "refusals of the rest": float(table["other"][1]),
        "lookalikes right": float(table["howto"][2]),
        "rest right": float(table["other"][2]),
    }


def run_supervised(out: Path, seed: int, name: str) -> None:
    """One arm of the supervised stage: its demonstrations, fine-tuning on them, what the truth says."""
    from heedful.data.load import DataSpec, load_demonstrations
    from heedful.data.write import write_records
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.pipeline.stages.sft import run_sft
    from heedful.training.config.sft import SFTConfig

    started = time.monotonic()
    work = embedded(out, seed)
    told: dict[str, Any] = {}
    if name == PEOPLE:
        source = work.out / "people.jsonl"
    else:
        source, told = revised(work, name)
    folder = work.out / "arms" / name
    folder.mkdir(parents=True, exist_ok=True)
    mixed = [
        record
        for path in (work.out / "helpful.jsonl", source)
        for record in load_demonstrations(DataSpec(str(path))).records
    ]
    helpful = len(load_demonstrations(DataSpec(str(work.out / "helpful.jsonl"))).records)
    write_records(folder / "mixed.jsonl", mixed)
    run = {
        "model": str(work.out / "base"),
        "data": str(folder / "mixed.jsonl"),
        "out": folder / "sft",
        "epochs": EPOCHS,
    }
    run_sft(work.config(SFTConfig, "sft", **run), work.display)
    told |= {"demonstrations": len(mixed) - helpful, "after": examined(work, load_policy(str(folder / "sft")))}
    write_json(result(out, seed, name), told | {"seconds": time.monotonic() - started})


def revised(work: Embedded, name: str) -> tuple[Path, dict[str, Any]]:
    """`heedful revise` with the oracle behind it: the file of demonstrations, and what the revisions themselves are."""
    from world_oracle import Habits, WorldOracle

    from heedful.data.load import DataSpec, load_demonstrations
    from heedful.feedback.ai.answering import Sampling
    from heedful.feedback.ai.constitution import load_constitution
    from heedful.feedback.ai.revising import Revising
    from heedful.pipeline.revise import DEMONSTRATIONS, Work, held, items_of, run_revise

    loaded = load_demonstrations(DataSpec(str(work.out / "answers.jsonl")))
    constitution = load_constitution()
    oracle = WorldOracle(work.world, constitution, Habits(error=ERRORS[name]))
    replies = Sampling(300, 1.0, work.seed)
    how = Revising(constitution.only("revising", TAGS), ROUNDS, work.seed, replies, replies)
    out = work.out / "revised" / name
    settings = StudySettings(name, work.seed)
    with held(out, settings, work.display, again=False) as done:
        if done is None:
            items = items_of(loaded.records, oracle, replies, 0, work.display)
            plan = Work(items, loaded.describe(), constitution)
            done = run_revise(out, settings, plan, how, oracle, work.display)
    before = verdicts(work, loaded.records)
    after = verdicts(work, load_demonstrations(DataSpec(str(out / DEMONSTRATIONS))).records)
    return out / DEMONSTRATIONS, {
        "revisions": {"before": before, "after": after, "changed": done["figures"]["changed"]},
        "spent": done["spent"],
    }


@dataclass(frozen=True)
class StudySettings:
    """What makes one revise run of the study that run."""

    arm: str
    seed: int
    rounds: int = ROUNDS
    tags: tuple[str, ...] = TAGS


def verdicts(work: Embedded, records: Sequence[Demonstration]) -> dict[str, float]:
    """Of answers themselves: harmful compliance, and refusals of lookalikes."""
    from heedful.evaluation.refusals import world_refuses

    harmful = [
        work.world.attributes(r.prompt, r.completion).verdict == "harmful"
        for r in records
        if work.world.topic_of(r.prompt).kind == "harmful"
    ]
    refused = [world_refuses(r.completion) for r in records if work.world.topic_of(r.prompt).kind == "howto"]
    return {"harmful compliance": sum(harmful) / len(harmful), "refusals of lookalikes": sum(refused) / len(refused)}


def run_pairs(out: Path, seed: int) -> None:
    """Pairs of different answers of the policy that the RL stage begins with: enough for every arm."""
    from heedful.data.records import Preference
    from heedful.data.write import write_records
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.training.state import mix

    started = time.monotonic()
    work = embedded(out, seed)
    policy = load_policy(str(work.out / "arms" / FROM / "sft"))
    wanted = {"harm": max(a.harm_labels for a in ARMS.values()), "rest": max(a.rest_labels for a in ARMS.values())}
    prompts = {"harm": [p.prompt for p in red_team(work, "train")], "rest": others(work)}
    counts = {}
    for name, own in prompts.items():
        found: list[Preference] = []
        turn = 0
        while len(found) < wanted[name]:
            texts = answers(work, policy, own, 4, mix(seed, 74, turn))
            for prompt, drawn in zip(own, texts, strict=True):
                for a, b in ((drawn[0], drawn[1]), (drawn[2], drawn[3])):
                    if a.strip() and b.strip() and a.strip() != b.strip():
                        found.append(Preference(prompt, a, b, probability=0.5))
            turn += 1
        write_records(work.out / f"pairs-{name}.jsonl", found[: wanted[name]])
        counts[name] = len(found)
    write_json(result(out, seed, "pairs"), counts | {"seconds": time.monotonic() - started})


def labelled(work: Embedded, who: str, part: str, count: int) -> list[Preference]:
    """The first pairs of a part, labelled by people or by the judge."""
    from world_oracle import Habits, WorldOracle

    from heedful.data.load import DataSpec, load_preferences
    from heedful.feedback.ai.constitution import load_constitution
    from heedful.feedback.ai.judging import judge
    from heedful.feedback.ai.principled import PrincipledWay, cases_of
    from heedful.feedback.ai.ways import Manner
    from heedful.training.state import mix
    from heedful.world.raters import judge_pairs, panel

    records = load_preferences(DataSpec(str(work.out / f"pairs-{part}.jsonl"))).records[:count]
    if who == "person":
        pairs = [(r.prompt, r.a, r.b) for r in records]
        return judge_pairs(work.world, pairs, panel(), votes=1, seed=mix(work.seed, 75))
    constitution = load_constitution()
    oracle = WorldOracle(work.world, constitution, Habits(**JUDGE))
    way = PrincipledWay(constitution, TAGS if part == "harm" else (), manner=Manner(ties=False, seed=work.seed))
    cases = cases_of(records)
    opinions = dict(judge(oracle, way, cases))
    found = [way.preference(case, opinions[number], "world oracle") for number, case in enumerate(cases)]
    return [record for record in found if record is not None]


def accuracy(work: Embedded, records: Sequence[Preference]) -> float:
    """Share of labels on the side of the truth, ties of either left out."""
    import numpy as np

    prompts = [r.prompt for r in records]
    gap = work.world.golds(prompts, [r.a for r in records]) - work.world.golds(prompts, [r.b for r in records])
    side = np.array([r.probability for r in records]) - 0.5
    kept = (gap != 0) & (side != 0)
    return float(((gap > 0) == (side > 0))[kept].mean())


def run_rl(out: Path, seed: int, name: str) -> None:
    """One arm of the RL stage."""
    from heedful.data.write import write_records
    from heedful.files import write_json
    from heedful.models.policy import load_policy
    from heedful.models.rewards import load_reward
    from heedful.pipeline.embedded_evaluation import examine, proxy_accuracy, stand
    from heedful.pipeline.stages.online import run_ppo
    from heedful.pipeline.stages.reward import run_reward
    from heedful.training.config.online import PPOConfig
    from heedful.training.config.reward import RewardConfig

    started = time.monotonic()
    work, arm = embedded(out, seed), ARMS[name]
    folder = work.out / "rl" / name.replace(", ", "-").replace(" ", "-")
    data = folder / "labels"  # a folder of files is read as one: how AI and human preferences are mixed
    data.mkdir(parents=True, exist_ok=True)
    parts = {"harm": (arm.harm, arm.harm_labels), "rest": (arm.rest, arm.rest_labels)}
    right = {}
    for part, (who, count) in parts.items():
        records = labelled(work, who, part, count)
        right[part] = accuracy(work, records)
        write_records(data / f"{part}.jsonl", records)
    base, sft = str(work.out / "base"), str(work.out / "arms" / FROM / "sft")
    reward = {"model": base, "data": str(data), "out": folder / "reward", "batch_size": 64}
    run_reward(work.config(RewardConfig, "reward", **reward), work.display)
    ppo = {"model": sft, "reward": str(folder / "reward"), "data": str(work.data("prompts-train")), "steps": STEPS}
    run_ppo(work.config(PPOConfig, "ppo", **ppo, out=folder / "ppo"), work.display)
    reference, policy = load_policy(sft), load_policy(str(folder / "ppo"))
    baseline, own = examine(work, reference, "phrasing", purpose=0), examine(work, policy, "phrasing", purpose=1)
    standing = stand(work, name, "phrasing", policy, reference, own, baseline)
    assert standing.comparison is not None
    figures: dict[str, Any] = {
        "labels": arm.harm_labels + arm.rest_labels,
        "cost": arm.cost,
        "right": right,
        "accuracy": proxy_accuracy(work, load_reward(str(folder / "reward")), baseline).accuracy.mean,
        "win rate": standing.comparison.verdict.win_rate.rate.mean,
        "kl": standing.divergence.kl.mean,
        "after": examined(work, policy),
    }
    write_json(result(out, seed, name), figures | {"seconds": time.monotonic() - started})


STAGES = {"supervised": ("base", *ERRORS, PEOPLE), "rl": ("pairs", *ARMS)}
"""The parts of each stage, in the order in which they run; the second stage goes on from the first."""


def run_stage(out: Path, seed: int, stage: str) -> None:
    """Those parts of a stage that are not finished."""
    for part in STAGES[stage]:
        if not result(out, seed, part).exists():
            run_part(out, seed, part)


def run_part(out: Path, seed: int, part: str) -> None:
    """One part of one seed."""
    if part == "base":
        run_base(out, seed)
    elif part == "pairs":
        run_pairs(out, seed)
    elif part in ARMS:
        run_rl(out, seed, part)
    else:
        run_supervised(out, seed, part)


def result(out: Path, seed: int, part: str) -> Path:
    """Where a part leaves its figures."""
    return out / f"seed-{seed}" / f"constitution-{part.replace(', ', '-').replace(' ', '-')}.json"


def finished(out: Path, seed: int, stage: str) -> bool:
    """Whether every part of a stage has left its figures."""
    return all(result(out, seed, part).exists() for part in STAGES[stage])


def cell(values: Sequence[float], percent: bool = True) -> str:
    """Mean over seeds with half its 95% t interval."""
    from heedful.core.statistics import t_interval

    scale, digits = (100.0, 1) if percent else (1.0, 2)
    if len(values) < 2:
        return f"{values[0] * scale:.{digits}f}"
    found = t_interval([value * scale for value in values])
    return f"{found.mean:.{digits}f} ±{found.high - found.mean:.{digits}f}"


def table(found: dict[int, dict[str, Any]]) -> str:
    """All figures as Markdown; `found` holds parts by seed."""
    names = list(next(iter(found.values()))["base"]["start"])
    lines = [f"Seeds {', '.join(map(str, found))}; mean with half the 95% t interval, shares in %.", ""]
    lines += [f"| supervised stage | demonstrations | {' | '.join(names)} |", "|" + "---|" * (len(names) + 2)]
    rows = {"before": [one["base"]["start"] for one in found.values()]}
    counts = {"before": "–"}
    for arm in (*ERRORS, PEOPLE):
        own = [one[arm] for one in found.values() if arm in one]
        if own:
            rows[arm], counts[arm] = [one["after"] for one in own], str(own[0]["demonstrations"])
    for arm, own in rows.items():
        lines.append(f"| {arm} | {counts[arm]} | {' | '.join(cell([one[name] for one in own]) for name in names)} |")
    lines += ["", "The revisions themselves, on training prompts: before and after four rounds.", ""]
    lines += [
        "| error | harmful compliance | refusals of lookalikes | answers changed | replies |",
        "|---|---|---|---|---|",
    ]
    for arm, error in ERRORS.items():
        own = [one[arm] for one in found.values() if arm in one]
        if own:
            both = [
                " to ".join(cell([o["revisions"][when][name] for o in own]) for when in ("before", "after"))
                for name in ("harmful compliance", "refusals of lookalikes")
            ]
            changed = cell([o["revisions"]["changed"] for o in own], percent=False)
            lines.append(f"| {error} | {' | '.join(both)} | {changed} | {own[0]['spent']['replies']} |")
    lines += ["", f"RL stage from {FROM}; a person's label costs {PRICES['person']}, a judge's {PRICES['judge']}.", ""]
    heads = ["labels right, harm", "rest", "reward model right", "win rate", "KL, nats", *names[:2], names[4]]
    lines += [f"| labels by | labels | cost | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 3)]
    for name, arm in ARMS.items():
        own = [one[name] for one in found.values() if name in one]
        if own:
            cells = [cell([o["right"][part] for o in own]) for part in ("harm", "rest")]
            cells += [cell([o[key] for o in own]) for key in ("accuracy", "win rate")]
            cells += [cell([o["kl"] for o in own], percent=False)]
            cells += [cell([o["after"][n] for o in own]) for n in (*names[:2], names[4])]
            lines.append(f"| {name} | {own[0]['labels']} | {arm.cost:.0f} | {' | '.join(cells)} |")
    seconds = [sum(part["seconds"] for part in one.values()) for one in found.values()]
    return "\n".join([*lines, "", f"Seconds of one thread a seed: {cell(seconds, percent=False)}."]) + "\n"


def picture(found: dict[int, dict[str, Any]], path: Path) -> None:
    """Refusals of harmless lookalikes against harmful compliance: every seed small, means large."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    arms: dict[str, list[dict[str, float]]] = {"before": [one["base"]["start"] for one in found.values()]}
    for arm in (*ERRORS, PEOPLE, *ARMS):
        own = [one[arm]["after"] for one in found.values() if arm in one]
        if own:
            arms[arm] = own
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, names, title in zip(
        figure.subplots(1, 2, sharey=True),
        (("before", *ERRORS, PEOPLE), ("before", FROM, *ARMS)),
        ("supervised stage", f"RL stage, from {FROM}"),
        strict=True,
    ):
        for number, name in enumerate(n for n in names if n in arms):
            points = 100 * np.array([[o["harmful compliance"], o["refusals of lookalikes"]] for o in arms[name]])
            colour = f"C{number}"
            axes.scatter(*points.T, s=14, color=colour, alpha=0.5)
            axes.scatter(*points.mean(0), s=90, color=colour, label=name, edgecolor="white", zorder=3)
        bound = 100 * (np.mean([o["refusals of lookalikes"] for o in arms["before"]]) + BOUND)
        told = f"bound: before + {100 * BOUND:.0f} points"
        axes.axhline(bound, color="grey", linestyle="--", linewidth=1, label=told)
        axes.set(title=title, xlabel="harmful requests complied with, %", ylim=(-2, None), xlim=(-2, None))
        axes.legend(fontsize=8, frameon=False)
        axes.grid(alpha=0.25)
    figure.axes[0].set_ylabel("harmless lookalikes refused, %")
    figure.savefig(path, dpi=130)


def report(out: Path, seeds: Sequence[int]) -> str:
    """Write the tables and the picture of what is finished so far; returns the tables."""
    found: dict[int, dict[str, Any]] = {}
    for seed in seeds:
        paths = {part: result(out, seed, part) for parts in STAGES.values() for part in parts}
        if paths["base"].exists():
            found[seed] = {part: json.loads(path.read_text()) for part, path in paths.items() if path.exists()}
    if not found:
        return ""
    (out / "constitution.json").write_text(json.dumps(found, indent=1))
    (out / "constitution.md").write_text(table(found))
    picture(found, out / "constitution.png")
    return table(found)


def main() -> int:
    """Run the parts, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/constitution"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 52, 53])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--only", nargs=2, metavar=("STAGE", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only is not None:
        run_stage(args.out, int(args.only[1]), args.only[0])
        return 0
    waiting = [(stage, seed) for stage in STAGES for seed in args.seeds if not finished(args.out, seed, stage)]
    waiting = [] if args.report else waiting
    failed = run_parts(
        waiting,
        lambda job: [sys.executable, __file__, "--out", str(args.out), "--only", job[0], str(job[1])],
        lambda job: args.out / f"seed-{job[1]}.log",
        jobs=args.jobs,
        ready=lambda job: job[0] == "supervised" or finished(args.out, job[1], "supervised"),
    )
    if failed:
        return failed
    print(report(args.out, args.seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
