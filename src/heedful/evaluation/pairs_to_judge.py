"""Which pairs of sampled answers people should compare: by chance, or where a judgment teaches reward models most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np

from heedful.core.selection import Chance, Disagreement, ModelInformation, Score, candidates, choose
from heedful.data.features import hashed_ngrams
from heedful.data.records import Conversation
from heedful.evaluation.compare import Answer
from heedful.evaluation.winrate import Floats

Selection: TypeAlias = Literal["random", "disagreement", "information"]
Members: TypeAlias = Callable[[Sequence[Conversation], Sequence[str]], Floats]
"""Scores [M, B] of B completions by M reward models, in logits of a vote."""


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, by their places, and what a judgment of them is worth (for chance a draw)."""

    prompt: int
    a: int
    b: int
    score: float = 0.0


def pairs_of(answers: Sequence[Sequence[Answer]]) -> list[Pair]:
    """All pairs of answers to one prompt that people can tell apart: neither empty, not both of the same text.

    Of two pairs of the same two texts the first is kept.
    """
    found = []
    for prompt, drawn in enumerate(answers):
        texts = [answer.text.strip() for answer in drawn]
        first = {text: place for place, text in reversed(list(enumerate(texts))) if text}
        found += [Pair(prompt, a, b) for a, b in combinations(sorted(first.values()), 2)]
    return found


def pairs_to_judge(
    prompts: Sequence[Conversation],
    answers: Sequence[Sequence[Answer]],
    count: int,
    *,
    by: Selection,
    members: Members | None = None,
    diversity: float = 0.0,
    seed: int = 0,
) -> list[Pair]:
    """So many of the answers' pairs, the first choice first; fewer, where there are no more.

    Args:
        prompts: P prompts.
        answers: answers to each.
        count: pairs wanted.
        by: "random"; "disagreement" of reward models, the variance of their score differences; "information" that a
            vote has about which of them is right. See `heedful.core.selection`.
        members: the reward models; random needs none.
        diversity: weight of how unlike the prompts chosen are, 0 to 1, by their words and pairs of words.
        seed: of the draw.

    Raises:
        ValueError: no reward models where they are needed, or only one.
    """
    pairs = pairs_of(answers)
    margins = None
    if by != "random":
        if members is None:
            raise ValueError(f"{by} needs reward models")
        margins = _margins(prompts, answers, pairs, members)
    scorers: dict[Selection, Score] = {
        "random": Chance(seed),
        "disagreement": Disagreement(),
        "information": ModelInformation(),
    }
    worth = scorers[by].score(candidates(np.arange(len(pairs)), margins=margins))
    features = None
    if diversity:
        vectors = hashed_ngrams([" ".join(message.content for message in prompt) for prompt in prompts])
        features = vectors[[pair.prompt for pair in pairs]]
    chosen = choose(worth, count, features=features, diversity=diversity)
    return [Pair(pairs[at].prompt, pairs[at].a, pairs[at].b, float(worth[at])) for at in chosen]


def _margins(
    prompts: Sequence[Conversation], answers: Sequence[Sequence[Answer]], pairs: Sequence[Pair], members: Members
) -> Floats:
    """[M, pairs] each answer that stands in a pair is scored once."""
    wanted = sorted({(pair.prompt, side) for pair in pairs for side in (pair.a, pair.b)})
    place = {key: at for at, key in enumerate(wanted)}
    scores = np.asarray(members([prompts[p] for p, _ in wanted], [answers[p][k].text for p, k in wanted]), dtype=float)
    first = [place[pair.prompt, pair.a] for pair in pairs]
    second = [place[pair.prompt, pair.b] for pair in pairs]
    return scores[:, first] - scores[:, second]
