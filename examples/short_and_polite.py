"""A reward in Python: short answers that end politely (`--reward examples.short_and_polite:score`).

A reward is any function of prompts and completions, in text, that returns one number per completion.
"""

from __future__ import annotations

from collections.abc import Sequence

from heedful.data.records import Conversation


def score(prompts: Sequence[Conversation], completions: Sequence[str]) -> list[float]:
    """One point for a polite ending, less a hundredth for each word beyond twenty."""
    scores = []
    for completion in completions:
        words = completion.split()
        polite = completion.rstrip(" .!").lower().endswith(("thank you", "you are welcome", "please ask"))
        scores.append(float(polite) - 0.01 * max(0, len(words) - 20))
    return scores
