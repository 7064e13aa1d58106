"""A reward in Python: short answers that end politely.

    heedful grpo --model runs/sft --data prompts.jsonl --reward examples.short_and_polite:score --out runs/polite
    python examples/short_and_polite.py runs/sft runs/polite

A reward is any function of prompts and completions, in text, that returns one number per completion.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import heedful

PROMPTS = [f"how do i {verb} the {thing} ?" for verb in ("open", "clean", "mend") for thing in ("door", "lamp", "gate")]


def score(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    """One point for a polite ending, less a hundredth for each word beyond twenty."""
    scores = []
    for completion in completions:
        words = completion.split()
        polite = completion.rstrip(" .!").lower().endswith(("thank you", "you are welcome", "please ask"))
        scores.append(float(polite) - 0.01 * max(0, len(words) - 20))
    return scores


def main(policy: str, out: Path, **settings: Any) -> heedful.Run:
    """GRPO on the function, and a few answers of the result."""
    run = heedful.grpo(policy, PROMPTS, reward=score, out=out, **settings)
    for row in heedful.sample(run, PROMPTS[:3], max_new_tokens=32):
        print(row["prompt"][0]["content"], "->", row["completion"][0]["content"])
    return run


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), steps=50, max_new_tokens=64)
