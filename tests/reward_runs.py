"""Small data of every kind that a reward model learns from. Shared by the tests of its trainer and of its stage."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from architectures import WORDS

COMBINATIONS = [
    ("bradley-terry", "scalar"),
    ("rao-kupper", "scalar"),
    ("davidson", "scalar"),
    ("ordinal", "scalar"),
    ("all-pairs", "scalar"),
    ("plackett-luce", "scalar"),
    ("bradley-terry", "length"),
    ("plackett-luce", "length"),
    ("bradley-terry", "ensemble"),
    ("all-pairs", "ensemble"),
    ("all-pairs", "attributes"),
    ("plackett-luce", "attributes"),
]
"""(loss, heads): every loss and every kind of heads."""


def quality(text: str) -> float:
    """The planted truth: 'please' is good, 'no' is bad."""
    words = text.split()
    return 1.5 * words.count("please") - 2.0 * words.count("no")


def answer(dice: random.Random, length: int) -> str:
    """Words, some of them good or bad."""
    words = [dice.choice(WORDS[10:40]) for _ in range(length)]
    return " ".join([*words, *dice.choices(["please", "no", "yes"], k=2)])


def pair_rows(count: int, seed: int = 0, *, length_bias: float = 0.0, hard: bool = False) -> list[dict[str, Any]]:
    """Heedful's own pairs: wins, losses, ties and shares of votes, with strengths.

    Args:
        length_bias: what a word is worth to the raters.
        hard: the better one always wins.
    """
    dice = random.Random(seed)
    rows = []
    for number in range(count):
        a, b = answer(dice, dice.randint(1, 6)), answer(dice, dice.randint(1, 6))
        gap = quality(a) - quality(b) + length_bias * (len(a.split()) - len(b.split()))
        p = 1 / (1 + math.exp(-gap))
        probability = float(gap > 0) if hard else dice.choice([0.5, float(dice.random() < p), round(p, 2)])
        prompt = f"{dice.choice(WORDS)} {dice.choice(WORDS)} {dice.choice(WORDS)}"
        rows.append({"prompt": prompt, "a": a, "b": b, "probability": probability, "weight": [1.0, 0.5][number % 2]})
        rows[-1]["strength"] = max(-3, min(3, round(gap)))
        if rows[-1]["strength"] == 0:
            rows[-1]["strength"] = dice.choice([0.5, -0.5, 0])
    return rows


def ranking_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rankings of 2 to 4 answers with ties, and ratings of two attributes, some missing."""
    dice = random.Random(seed)
    rows = []
    for _ in range(count):
        texts = [answer(dice, dice.randint(1, 6)) for _ in range(dice.randint(2, 4))]
        goods = [quality(text) for text in texts]
        ranks = [1 + sum(other > good for other in goods) for good in goods]
        rated = {"politeness": [text.split().count("please") for text in texts], "length": [len(t) for t in texts]}
        rated["politeness"][0] = rated["politeness"][0] if dice.random() < 0.8 else None
        prompt = f"{dice.choice(WORDS)} {dice.choice(WORDS)} {dice.choice(WORDS)}"
        rows.append({"prompt": prompt, "completions": texts, "ranks": ranks, "attributes": rated})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """As JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
