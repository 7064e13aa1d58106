"""What PPO takes from a model's knowledge of other text, and what PPO-ptx gives back: the embedded world.

    .venv/bin/python benchmarks/ptx_tax.py --out runs/ptx                # seeds 0, 1 and 2
    .venv/bin/python benchmarks/ptx_tax.py --out runs/ptx --seeds 3 4

Every run starts from one SFT model and one reward model of its seed and differs in one thing only: how much PPO-ptx
(Ouyang et al. 2022, equation 2) is mixed in, or how dear the KL is. The other text is the web that the base model
read: 3,000 of its answers are mixed in, 1,000 others that stand nowhere among these are held out. The tax is how many
more bits per byte the policy needs than the SFT model for the held-out ones. Beside it stand the gold win rate over
the SFT model on unseen phrasings and the KL. What is finished is kept; OUT/ptx.json and OUT/ptx.md are written after
every run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MIXED, HELD_OUT = 3_000, 500
SETTINGS: dict[str, Any] = {
    "steps": 40,
    "optimiser": {"learning_rate": 5e-4},
    "rollout": {"prompts_per_step": 32},
    "kl": {"coefficient": 0.05},
}
CONDITIONS: dict[str, dict[str, Any]] = {
    "PPO": {},
    "PPO-ptx, γ 0.5": {"ptx": {"weight": 0.5, "sequences": 32}},
    "PPO, three times the β": {"kl": {"coefficient": 0.15}},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ptx"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args(arguments)
    kept = given.out / "ptx.json"
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    works = {seed: prepared(given.out / f"seed-{seed}", seed) for seed in given.seeds}
    for name, settings in CONDITIONS.items():
        for seed, work in works.items():
            key = f"{seed}: {name}"
            if key not in found:
                found[key] = measured(work, name, settings)
                write(given.out, found)


def prepared(out: Path, seed: int) -> Any:
    """A base model, an SFT model and a reward model of a seed, and the web's answers in two files."""
    from heedful.pipeline.embedded import judged_comparisons, pretrain, write_world
    from heedful.pipeline.quickstart import embedded
    from heedful.pipeline.stages.reward import run_reward
    from heedful.pipeline.stages.sft import run_sft
    from heedful.training.config.quickstart import QuickstartConfig
    from heedful.training.config.reward import RewardConfig
    from heedful.training.config.sft import SFTConfig
    from heedful.training.progress import Display

    work = embedded(QuickstartConfig(out=out, seed=seed, fast=True), Display())
    write_world(work)
    pretrain(work)
    base, sft = work.out / "base", work.round / "sft"
    run_sft(work.config(SFTConfig, "sft", model=str(base), data=str(work.data("demonstrations")), out=sft))
    preferences = str(judged_comparisons(work, sft))
    run_reward(work.config(RewardConfig, "reward", model=str(base), data=preferences, out=work.round / "reward"))
    web_answers(work)
    return work


def web_answers(work: Any) -> None:
    """OUT/mixed.jsonl and OUT/held-out.jsonl: questions and answers of the web, none in both."""
    from heedful.training.state import mix

    rows: list[tuple[str, str]] = []
    for text in work.world.pretraining_documents(12 * (MIXED + HELD_OUT), mix(work.seed, 30)):
        asked, _, rest = text.removeprefix("<bos><user> ").partition(" <end><assistant> ")
        rows.append((asked, rest.partition(" <end>")[0]))
    different = list(dict.fromkeys(rows))
    for name, part in (("mixed", different[:MIXED]), ("held-out", different[MIXED : MIXED + HELD_OUT])):
        lines = [json.dumps({"prompt": asked, "completion": answer}) + "\n" for asked, answer in part]
        (work.out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def measured(work: Any, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Train one policy, and what it is like."""
    from heedful.evaluation.perplexity import predict, read_documents, tax
    from heedful.models.policy import load_policy
    from heedful.pipeline.embedded_evaluation import examine, stand
    from heedful.pipeline.stages.online import run_ppo
    from heedful.training.config.online import PPOConfig

    given = {**SETTINGS, **settings}
    if "ptx" in settings:
        given["ptx"] = {"data": str(work.out / "mixed.jsonl"), **settings["ptx"]}
    out = work.round / name.replace(" ", "-").replace(",", "")
    sft, rewards, prompts = (str(p) for p in (work.round / "sft", work.round / "reward", work.data("prompts-train")))
    run_ppo(work.config(PPOConfig, "ppo", model=sft, reward=rewards, data=prompts, out=out, **given))
    policy, start = load_policy(str(out)), load_policy(sft)
    documents = read_documents(str(work.out / "held-out.jsonl"))
    cost = tax(predict(policy, documents), predict(start, documents))
    own, baseline = examine(work, policy, "phrasing", purpose=1), examine(work, start, "phrasing", purpose=0)
    standing = stand(work, name, "phrasing", policy, start, own, baseline)
    assert standing.comparison is not None
    return {
        "condition": name,
        "seed": work.seed,
        "tax": cost.mean,
        "win_rate": standing.comparison.verdict.win_rate.rate.mean,
        "kl": standing.divergence.kl.mean,
    }


def write(out: Path, found: dict[str, Any]) -> None:
    """The figures as JSON, and the table of means over seeds with t intervals."""
    from heedful.core.statistics import t_interval
    from heedful.files import atomic_write, write_json

    write_json(out / "ptx.json", found)
    lines = [
        "| run | tax, bits per byte | gold win rate over SFT | KL, nats | seeds |",
        "|---|---|---|---|---|",
    ]
    for name in CONDITIONS:
        rows = [row for row in found.values() if row["condition"] == name]
        if len(rows) > 1:
            tax, rate, kl = (t_interval([row[key] for row in rows]) for key in ("tax", "win_rate", "kl"))
            lines.append(
                f"| {name} | {tax.mean:.3f} ({tax.low:.3f} to {tax.high:.3f}) | {rate.mean:.1%} "
                f"({rate.low:.1%} to {rate.high:.1%}) | {kl.mean:.1f} | {len(rows)} |"
            )
    with atomic_write(out / "ptx.md") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
