"""`heedful quickstart`: the whole loop on the embedded world, from a base model to a win that is measured.

Read `loop` from top to bottom: it is the table of contents of reinforcement learning from human feedback.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from heedful.evaluation.sampling import sample
from heedful.files import atomic_write, read_manifest, write_json
from heedful.models.policy import Policy, load_policy
from heedful.models.rewards import Reward, load_reward
from heedful.pipeline.embedded import (
    Embedded,
    gold_judge,
    judged_comparisons,
    pretrain,
    read_settings,
    write_world,
)
from heedful.pipeline.embedded_evaluation import SPLITS, Examined, Standing, examine, proxy_accuracy, stand
from heedful.pipeline.quickstart_report import assemble
from heedful.pipeline.report import build_report, render_terminal
from heedful.pipeline.run_folder import claim, locked
from heedful.pipeline.stages.online import run_ppo
from heedful.pipeline.stages.preference import run_dpo
from heedful.pipeline.stages.reward import run_reward
from heedful.pipeline.stages.sft import run_sft
from heedful.rollout.types import RolloutParams
from heedful.training.config.online import PPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.quickstart import QuickstartConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.ppo import PPOModels
from heedful.training.progress import Display
from heedful.training.run import Watch
from heedful.training.state import mix
from heedful.world.world import World

WATCHED_PROMPTS = 64


@dataclass(frozen=True)
class Results:
    """What the loop found."""

    standings: tuple[Standing, ...]
    accuracy: Mapping[str, Any]
    examined: Mapping[tuple[str, str], Examined]
    reward: Reward
    seconds: float


def embedded(config: QuickstartConfig, display: Display) -> Embedded:
    """The run that a configuration asks for."""
    settings, stages = read_settings(config.fast)
    return Embedded(World(config.seed), config.folder, config.seed, settings, stages, display)


def run(config: QuickstartConfig, display: Display | None = None) -> dict[str, Any]:
    """Run or go on with the loop, write its report, and return the figures."""
    display = display or Display()
    started = time.monotonic()
    with locked(config.folder):
        claim(config.folder, "quickstart", config)
        work = embedded(config, display)
        loop(work)
        results = evaluate(work, started)
        data = assemble(work, results, fast=config.fast)
        path = work.out / "report" / "index.html"
        with atomic_write(path) as file:
            file.write(build_report(data))
    render_terminal(data, Console())
    display.say(f"report: {path}")
    return summary(work, results) | {"report": str(path)}


def loop(work: Embedded) -> None:
    """From web text to a policy that was trained on what raters prefer. Every stage is skipped once it is done."""
    write_world(work)
    pretrain(work)
    base, sft, rewards = work.out / "base", work.round / "sft", work.round / "reward"
    say = work.display
    demonstrations, prompts = str(work.data("demonstrations")), str(work.data("prompts-train"))
    run_sft(work.config(SFTConfig, "sft", model=str(base), data=demonstrations, out=sft), say)
    preferences = str(judged_comparisons(work, sft))
    run_reward(work.config(RewardConfig, "reward", model=str(base), data=preferences, out=rewards), say)
    ppo = work.config(PPOConfig, "ppo", model=str(sft), reward=str(rewards), data=prompts, out=work.round / "ppo")
    run_ppo(ppo, say, watch=lambda models: gold_watch(work, models))
    run_dpo(work.config(DPOConfig, "dpo", model=str(sft), data=preferences, out=work.round / "dpo"), say)


def gold_watch(work: Embedded, models: PPOModels) -> Watch:
    """The truth beside the proxy while PPO goes: mean gold score of fresh answers to training prompts."""
    found = work.world.prompts("train")
    prompts = [p.prompt for p in found[:: max(1, len(found) // WATCHED_PROMPTS)][:WATCHED_PROMPTS]]
    params = RolloutParams(work.settings.max_new_tokens, seed=mix(work.seed, 21))

    def gold() -> dict[str, float]:
        answers = [row[0] for row in sample(models.policy, prompts, params).answers]
        scores = gold_judge(work.world)(prompts, answers)
        return {"gold": sum(scores) / len(scores)}

    return Watch(evaluate=gold)


def evaluate(work: Embedded, started: float) -> Results:
    """Hold every policy to the SFT model on prompts of each kind, and the reward model to the truth."""
    reference = load_policy(str(work.round / "sft"))
    reward = load_reward(str(work.round / "reward"))
    policies: dict[str, Policy] = {"SFT": reference}
    for name in ("ppo", "dpo"):
        policies[name.upper()] = load_policy(str(work.round / name))
    policies["base"] = load_policy(str(work.out / "base"))
    examined: dict[tuple[str, str], Examined] = {}
    standings: list[Standing] = []
    with work.display.task("evaluate", len(SPLITS) * len(policies)) as task:
        for split in SPLITS:
            for number, (name, policy) in enumerate(policies.items()):
                examined[name, split] = examine(work, policy, split, purpose=number)
                own, baseline = examined[name, split], examined["SFT", split]
                standings.append(stand(work, name, split, policy, reference, own, baseline))
                task.update(len(standings), {})
    accuracy = {
        "SFT samples, unseen phrasings": proxy_accuracy(work, reward, examined["SFT", "phrasing"]),
        "SFT samples, facts never judged": proxy_accuracy(work, reward, examined["SFT", "fact"]),
        "PPO's own samples, unseen phrasings": proxy_accuracy(work, reward, examined["PPO", "phrasing"]),
    }
    results = Results(tuple(standings), accuracy, examined, reward, time.monotonic() - started)
    write_json(work.round / "evaluation" / "summary.json", summary(work, results))
    for standing in standings:
        if standing.comparison:
            standing.comparison.write(work.round / "evaluation" / f"{standing.method}-{standing.split}.json".lower())
    return results


def summary(work: Embedded, results: Results) -> dict[str, Any]:
    """The figures of a run as plain JSON."""
    rows = []
    for standing in results.standings:
        row: dict[str, Any] = {"method": standing.method, "split": standing.split}
        if standing.comparison:
            row["win_rate"] = asdict(standing.comparison.verdict.win_rate.rate)
        row |= {"correct": asdict(standing.correct), "gold": asdict(standing.gold)}
        row |= {"kl": asdict(standing.divergence.kl), "entropy": standing.divergence.entropy}
        row |= {"distinct_2": standing.text.distinct_2, "words": standing.text.mean_words}
        rows.append(row)
    stages = {}
    for name, folder in stage_folders(work).items():
        manifest = read_manifest(folder) or {}
        stages[name] = {"seconds": manifest.get("seconds"), "figures": manifest.get("figures")}
    accuracy = {
        name: {
            "accuracy": asdict(found.accuracy),
            "length_only": asdict(found.length_only),
            "pairs": found.pairs,
        }
        for name, found in results.accuracy.items()
    }
    return {
        "seed": work.seed,
        "standings": rows,
        "reward_accuracy": accuracy,
        "stages": stages,
        "seconds": results.seconds,
    }


def stage_folders(work: Embedded) -> dict[str, Path]:
    """Where each stage's result stands, in the order in which they run."""
    return {"pretrain": work.out / "base"} | {name: work.round / name for name in ("sft", "reward", "ppo", "dpo")}
