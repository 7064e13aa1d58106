"""How accurate a reward model can be against labels of people who agree so often, and what others have measured."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Ceiling:
    """The range in which the best possible accuracy lies."""

    low: float
    high: float


def accuracy_ceiling(agreement: float) -> Ceiling:
    """The range of the best accuracy that any predictor of single labels can have, from how often raters agree.

    Let a share p of raters prefer the first answer of a pair, and d = |2p - 1|. Two raters drawn at random agree with
    probability p² + (1 - p)² = (1 + d²) / 2, and the best guess (what most prefer) is right about one rater with
    probability max(p, 1 - p) = (1 + d) / 2. Over pairs of differing difficulty the agreement is a = (1 + E d²) / 2 and
    the ceiling (1 + E d) / 2. So the agreement tells E d², not E d, and

    - d² <= d gives E d >= 2a - 1: the ceiling is at least a, reached where every pair is unanimous or a coin toss;
    - (E d)² <= E d² gives E d <= sqrt(2a - 1): it is at most (1 + sqrt(2a - 1)) / 2, reached where all pairs are alike.

    Ties are not preferences: take the agreement over decided comparisons. It holds for raters of one population who
    judge independently. Against a majority of several raters a reward model can be more accurate than this.

    Args:
        agreement: a, the share of pairs of raters who agree, 0 to 1. Below one half, which independent raters
            cannot have but a sample can, it counts as one half.

    Raises:
        ValueError: it lies outside 0 to 1.
    """
    if not 0 <= agreement <= 1:
        raise ValueError(f"an agreement lies between 0 and 1, got {agreement}")
    a = max(agreement, 0.5)
    return Ceiling(a, (1 + math.sqrt(2 * a - 1)) / 2)


@dataclass(frozen=True)
class Anchor:
    """An agreement that others published, between people unless it says otherwise."""

    name: str
    agreement: float
    margin: float | None
    """Plus or minus, as published."""
    source: str
    of_people: bool = True


ANCHORS = (
    Anchor("InstructGPT, raters who made the training data", 0.726, 0.015, "Ouyang et al. 2022, section 3.4"),
    Anchor("InstructGPT, raters held out", 0.773, 0.013, "Ouyang et al. 2022, section 3.4"),
    Anchor("Helpful and Harmless", 0.63, None, "Bai et al. 2022, section 2.1"),
    Anchor("AlpacaFarm, each person against the others", 0.657, None, "AlpacaEval, annotators"),
    Anchor("AlpacaFarm, always the longer answer", 0.622, None, "AlpacaEval, annotators", of_people=False),
)
"""Published agreements, to stand beside one's own. The last is a rule that reads nothing but the length."""
