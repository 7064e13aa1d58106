"""What a TRL user holds, trained as it is: a loaded model and tokenizer, a Dataset, a function as the judge.

python examples/objects.py Qwen/Qwen2.5-0.5B-Instruct trl-lib/ultrafeedback_binarized runs/objects
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

import heedful


def concise(prompts: Any, completions: list[str]) -> list[float]:
    """A reward is any function: here the shorter answer wins."""
    return [-float(len(text.split())) for text in completions]


def main(model_id: str, preferences: Dataset, out: Path, *, prompts: int = 100, **settings: Any) -> heedful.Run:
    """DPO on a dataset in memory, and how often its answers beat those of the model that it began with."""
    model = AutoModelForCausalLM.from_pretrained(model_id)
    tokenizer = AutoTokenizer.from_pretrained(model_id)

    run = heedful.dpo((model, tokenizer), preferences, out=out, **settings)
    print(f"loss {run.figures['loss']:.3f}; made from {run.manifest['parents']['model']['fingerprint'][:12]}")

    found = heedful.compare(
        {"before": (model, tokenizer), "after": run},
        preferences.select(range(min(prompts, len(preferences)))),
        reward=concise,
        max_new_tokens=32,
    )
    for duel in found.duels:
        print(f"{duel.a} beats {duel.b}: {duel.rate.mean:.1%} ({duel.rate.low:.1%} to {duel.rate.high:.1%})")

    trained, tokenizer = run.load()  # plain transformers again
    print(type(trained).__name__, "with", trained.num_parameters(), "weights")
    return run


if __name__ == "__main__":
    name, dataset, folder = sys.argv[1:4]
    main(name, load_dataset(dataset, split="train"), Path(folder), lora_rank=16)
