"""Rates on natural text: a bias planted in a reward is found, and what was not planted is not, over many seeds.

There is no gold here, so that what is planted is an effect of its own size: one point, the noise between two answers
having one point too. `tests/evaluation/test_probes.py` does the same in the embedded world, where gold is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pytest

from heedful.data.records import Conversation, Message, Preference
from heedful.evaluation.probes.contrast import Base, Contrast
from heedful.evaluation.probes.measure import probe
from heedful.evaluation.probes.natural import natural_probes, ordinary
from heedful.evaluation.probes.rules import FLATTERY, HEDGES, REFUSALS

WHO = ("The farmer", "A teacher", "My neighbour", "The doctor")
DID = ("is going to open the old gate", "does not know the way to the sea", "cannot find the key of his shed")
WHY = ("because it is late.", "because the road is closed.", "because of the long winter.")
THEN = ("He asked his brother for help.", "He will wait until spring.", "He wrote a note to the council.")


@lru_cache
def text() -> tuple[Base, tuple[Contrast, ...], frozenset[str]]:
    """Ordinary answers, two to each of 60 prompts, their probes, and the words that are in them."""
    dice = np.random.default_rng(0)

    def answer() -> str:
        parts = [f"{WHO[dice.integers(4)]} {DID[dice.integers(3)]} {WHY[dice.integers(3)]}", THEN[dice.integers(3)]]
        return " ".join([*parts, f"That was on day {dice.integers(1, 28)}."])

    records = [Preference((Message("user", f"What happened in village {i}?"),), answer(), answer()) for i in range(60)]
    base = ordinary(records, "here")
    words = frozenset(word for one in base.texts for word in re.findall(r"[a-z']+", one.lower()))
    return base, tuple(natural_probes(base)), words


def holds(*phrases: str) -> Callable[[Conversation, str], bool]:
    return lambda prompt, answer: any(phrase in answer for phrase in phrases)


def misspelt(prompt: Conversation, answer: str) -> bool:
    """A word of four letters or more, with the letters of a known one in another order."""
    known = text()[2]
    letters = {"".join(sorted(word)) for word in known}
    new = [word for word in re.findall(r"[a-z']{4,}", answer.lower()) if word not in known]
    return any("".join(sorted(word)) in letters for word in new)


def asked_by(phrase: str) -> Callable[[Conversation, str], bool]:
    return lambda prompt, answer: phrase in prompt[-1].content


PLANTED: dict[str, tuple[str, str, Callable[[Conversation, str], bool]]] = {
    "flattery": ("flattery", "favours", holds(*FLATTERY)),
    "hedging": ("hedging", "punishes", holds(*HEDGES)),
    "refusal": ("refusal", "favours", holds(*REFUSALS)),
    "list": ("list", "favours", lambda prompt, answer: bool(re.search(r"^(?:- |\d\. )", answer, re.MULTILINE))),
    "heading": ("heading", "favours", holds("## ", "**Answer**")),
    "typos": ("typos", "punishes", misspelt),
    "dialect": ("dialect", "punishes", holds("gonna", "ain't", "'cause", "dunno")),
    "gender": ("gender", "punishes", lambda prompt, answer: bool(re.search(r"\b(?:She|she|her|sister)\b", answer))),
    "age": ("age", "punishes", asked_by("seventy-five")),
    "religion": ("religion", "punishes", asked_by("Muslim")),
    "nothing": ("", "", lambda prompt, answer: False),
}


def findings(name: str, seed: int) -> list[tuple[str, str]]:
    """The kinds that a probing of a reward with one thing planted finds, and which way."""
    base, contrasts, _ = text()
    _, way, planted = PLANTED[name]
    size = -1.0 if way == "punishes" else 1.0

    def reward(prompts: Sequence[Conversation], texts: Sequence[str]) -> np.ndarray:
        luck = np.random.default_rng(seed).standard_normal(len(texts))
        return luck + size * np.array([planted(p, t) for p, t in zip(prompts, texts, strict=True)])

    found = probe(reward, base, contrasts, samples=100, seed=seed)
    return [(effect.kind, effect.found) for effect in found.effects if effect.found in ("favours", "punishes")]


def rates(seeds: Sequence[int]) -> tuple[int, int, int]:
    """Planted effects that were found, findings of what was not planted, and of runs with nothing planted."""
    found = false = in_nothing = 0
    for name, (kind, way, _) in PLANTED.items():
        for seed in seeds:
            made = findings(name, seed)
            found += (kind, way) in made
            others = [one for one in made if one != (kind, way)]
            false += len(others)
            in_nothing += name == "nothing" and bool(others)
    return found, false, in_nothing


def test_every_kind_that_is_planted_can_be_probed() -> None:
    kinds = {contrast.kind for contrast in text()[1]}
    assert {kind for kind, _, _ in PLANTED.values() if kind} <= kinds


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 21), marks=pytest.mark.slow, id="many")])
def test_what_is_planted_is_found_and_what_is_not_is_not(seeds: range) -> None:
    found, false, in_nothing = rates(list(seeds))
    runs = len(seeds) * len(PLANTED)
    assert found >= 0.95 * len(seeds) * (len(PLANTED) - 1)
    # A probing in twenty may hold a false finding: six in 11, or 21 in 220, come less than once in a hundred times.
    assert false <= (2 if runs == 11 else 20)
    assert in_nothing <= (1 if len(seeds) == 1 else 4)
