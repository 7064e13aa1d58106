"""The loop from Python: a small model from nothing learns to answer, then to say please.

    python examples/from_python.py runs/from-python

Interrupt it and run it again: finished stages are kept, the one at work goes on from its last checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import heedful

HERE = Path(__file__).parent
THINGS = ("door", "window", "lamp", "book", "kettle", "gate", "drawer", "radio")


def comparisons() -> list[dict[str, str]]:
    """Comparisons as a person might make them: of two answers, the one that says please is preferred."""
    tasks = [f"{verb} the {thing}" for thing in THINGS for verb in ("open", "find", "clean", "sell")]
    return [{"prompt": f"how do i {task}", "chosen": f"please {task} slowly", "rejected": task} for task in tasks]


def main(out: Path, *, sft_epochs: float = 30, ppo_steps: int = 20) -> Mapping[str, float]:
    """SFT on polite and curt answers alike, a reward model on the comparisons, PPO on it; returns its figures."""
    judged = comparisons()
    both = [{"prompt": row["prompt"], "completion": row[side]} for row in judged for side in ("chosen", "rejected")]
    quick: dict[str, Any] = {"max_length": 64, "held_out": 0.1, "sample_every": 0, "tensorboard": False}
    model = HERE / "small_model.yaml"  # or a folder, a hub id, (model, tokenizer)

    sft = heedful.sft(model, both, out=out / "sft", epochs=sft_epochs, batch_size=8, learning_rate=3e-3, **quick)
    reward = heedful.reward_model(sft, judged, out=out / "reward", epochs=4, batch_size=8, learning_rate=1e-3, **quick)
    ppo = heedful.ppo(
        sft,
        judged,
        reward=reward,
        out=out / "ppo",
        steps=ppo_steps,
        prompts_per_step=32,
        max_new_tokens=16,
        critic_learning_rate=3e-4,
        optimiser={"learning_rate": 3e-4, "schedule": "constant", "epsilon": 1e-5},
        kl={"coefficient": 0.05},
        **quick,
    )
    return ppo.figures


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/from-python")))
