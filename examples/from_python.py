"""The stages from Python: a small model from nothing learns to answer, then to say please.

    python examples/from_python.py runs/from-python

Interrupt it and run it again: finished stages are kept, the one at work goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import heedful
from heedful.training.config.common import OptimiserConfig, RecordsConfig, RunConfig
from heedful.training.config.online import KLConfig, RolloutConfig

HERE = Path(__file__).parent
THINGS = ("door", "window", "lamp", "book", "kettle", "gate", "drawer", "radio")


def comparisons() -> list[dict[str, str]]:
    """Comparisons as a person might make them: of two answers, the one that says please is preferred."""
    return [
        {
            "prompt": f"how do i {verb} the {thing}",
            "chosen": f"please {verb} the {thing} slowly",
            "rejected": f"{verb} the {thing}",
        }
        for thing in THINGS
        for verb in ("open", "find", "clean", "sell")
    ]


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def says_please(prompts: object, completions: list[str]) -> list[float]:
    """A reward in Python, instead of a reward model: `--reward from_python:says_please`."""
    return [float("please" in completion) for completion in completions]


def main(out: Path, *, sft_epochs: float = 30, ppo_steps: int = 20) -> dict[str, float]:
    """SFT on polite and curt answers alike, a reward model on the comparisons, PPO on it; returns its figures."""
    data, demonstrations = out / "comparisons.jsonl", out / "demonstrations.jsonl"
    write_rows(data, comparisons())
    both = [(row["prompt"], row[answer]) for row in comparisons() for answer in ("chosen", "rejected")]
    write_rows(demonstrations, [{"prompt": prompt, "completion": answer} for prompt, answer in both])

    fast = OptimiserConfig(learning_rate=3e-3)
    records = RecordsConfig(max_length=64, held_out=0.1)
    quiet = RunConfig(sample_every=0, tensorboard=False)

    heedful.run_sft(
        heedful.SFTConfig(
            model=str(HERE / "small_model.yaml"),
            data=str(demonstrations),
            out=out / "sft",
            epochs=sft_epochs,
            batch_size=8,
            optimiser=fast,
            records=records,
            run=quiet,
        )
    )
    heedful.run_reward(
        heedful.RewardConfig(
            model=str(out / "sft"),
            data=str(data),
            out=out / "reward",
            epochs=4,
            batch_size=8,
            optimiser=OptimiserConfig(learning_rate=1e-3),
            records=records,
            run=quiet,
        )
    )
    ppo = heedful.run_ppo(
        heedful.PPOConfig(
            model=str(out / "sft"),
            reward=str(out / "reward"),
            data=str(data),
            out=out / "ppo",
            steps=ppo_steps,
            optimiser=OptimiserConfig(learning_rate=3e-4, schedule="constant", epsilon=1e-5),
            critic_learning_rate=3e-4,
            rollout=RolloutConfig(prompts_per_step=32, max_new_tokens=16),
            kl=KLConfig(coefficient=0.05),
            records=records,
            run=quiet,
        )
    )
    return ppo["figures"]


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/from-python")))
