"""A tiny programme on files of its own: a model with random weights, 78 prompts, a function as the AI judge."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from architectures import WORDS
from heedful.data.records import Conversation
from stage_runs import write_model

SMALL = {"memory": {"micro_batch_tokens": 256}, "run": {"checkpoint_every": 1, "sample_every": 0, "tensorboard": False}}
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "rounds": 2,
    "model": "model",
    "demonstrations": "demonstrations.jsonl",
    "prompts": {"data": "prompts.jsonl", "reward": 0.4, "check": 0.3},
    "sample": {"pairs": 16, "temperatures": [0.8, 1.2], "older": 1, "older_share": 0.5, "max_new_tokens": 6},
    "judge": {"ai": 1.0},
    "ai": {"judge": "rounds_programme:likes_yes"},
    "learn": {"optimise": "rloo", "start": "last"},
    "check": {"pairs": 12, "judge": {"ai": 1.0}, "bound": "mean", "above": 0.3},
    "sft": {"epochs": 1, "batch_size": 8, "records": {"max_length": 64}, **SMALL},
    "reward": {"epochs": 1, "batch_size": 8, "records": {"max_length": 64, "held_out": 0.2}, **SMALL},
    "rloo": {
        "steps": 2,
        "optimiser": {"learning_rate": 1e-3},
        "rollout": {"prompts_per_step": 4, "samples_per_prompt": 2, "max_new_tokens": 6},
        "records": {"max_length": 64, "held_out": 0.0},
        "watch": {"mode": "off"},
        **SMALL,
    },
}


def likes_yes(prompts: Sequence[Conversation], completions: Sequence[str]) -> list[float]:
    """A judge of little taste."""
    return [float(text.count("yes")) + len(text) / 1000 for text in completions]


def write_recipe(folder: Path, **over: Any) -> None:
    """The recipe with some blocks changed."""
    from heedful.pipeline.merging import merge

    (folder / "heedful.yaml").write_text(yaml.safe_dump(merge(RECIPE, over), sort_keys=False))


def write_programme(folder: Path, **over: Any) -> Path:
    """A programme's folder, with all that its recipe names."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / "model")
    write_recipe(folder, **over)
    prompts = [
        f"{WORDS[i % 40]} {WORDS[(7 * i + 3) % 40]} {WORDS[(11 * i + 5) % 38]} {WORDS[i % 39]}" for i in range(78)
    ]
    rows = [{"prompt": prompt, "completion": f"yes {WORDS[i]}"} for i, prompt in enumerate(prompts[:10])]
    for name, some in (("prompts", [{"prompt": one} for one in prompts]), ("demonstrations", rows)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return folder


def go(folder: Path, **going: Any) -> dict[str, Any]:
    """`heedful round`, quietly."""
    from rich.console import Console

    from heedful.pipeline.rounds.programme import Going, run_rounds
    from heedful.training.progress import Display

    return run_rounds(folder, Going(**going), Display(Console(file=io.StringIO())))


def go_in_child(folder: Path) -> None:
    """The same, for a process that will be killed."""
    import torch

    torch.set_num_threads(1)
    go(folder)
