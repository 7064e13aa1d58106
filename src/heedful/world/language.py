"""Writers: who writes replies in the embedded world, and how.

Replies come from authors of three sorts. As on the real web, care goes with care: a careful author is
right more often and politer, too, but the tie is loose, and every sort is right and wrong in every manner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from heedful.world.phrases import CERTAIN, CLOSERS, HEDGES, IGNORANCE, OPENERS, PADS, REFUSALS, RUDE
from heedful.world.topics import FACTUAL, MISCONCEPTION_WEIGHTS, Reply, Topic

T = TypeVar("T")


class Dice:
    """Uniform numbers drawn from a generator in blocks: many small draws, quickly."""

    def __init__(self, seed: list[int]) -> None:
        self._rng = np.random.default_rng(seed)
        self._block: list[float] = []

    def roll(self) -> float:
        """A number in [0, 1)."""
        if not self._block:
            self._block = self._rng.random(4096).tolist()
        return self._block.pop()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.roll() < probability

    def any(self, options: Sequence[T]) -> T:
        """One of the options, each as likely."""
        return options[int(self.roll() * len(options))]


@dataclass(frozen=True)
class Author:
    """A sort of writer: the chance of each habit, per reply.

    `right`: of answering rightly; `evade`: of giving no answer instead of a wrong one; `pads`: chances
    of each further padding sentence; the rest are named after the attributes of `gold`.
    """

    right: float
    opened: float
    closed: float
    extra: float
    certain: float
    hedge: float
    pads: tuple[float, ...]
    rude: float
    repeat: float
    off_topic: float
    evade: float


CAREFUL = Author(0.86, 0.6, 0.45, 0.4, 0.2, 0.1, (0.2,), 0.0, 0.05, 0.02, 0.1)
CASUAL = Author(0.64, 0.3, 0.2, 0.2, 0.12, 0.2, (0.3, 0.3), 0.06, 0.1, 0.05, 0.15)
CARELESS = Author(0.42, 0.15, 0.1, 0.08, 0.25, 0.12, (0.5, 0.4), 0.3, 0.15, 0.1, 0.2)


def pick(dice: Dice, shares: tuple[float, ...]) -> int:
    """An index drawn by shares that sum to one."""
    roll = dice.roll()
    for index, share in enumerate(shares):
        roll -= share
        if roll < 0:
            return index
    return len(shares) - 1


def answer(dice: Dice, topic: Topic, is_right: bool, evade: float) -> Reply:
    """The sentences of a right or wrong answer; a wrong one may be an evasion or a needless refusal."""
    if is_right:
        return dice.any(topic.right)
    if topic.kind not in ("unknown", "harmful") and dice.chance(evade):
        return (dice.any(IGNORANCE),)
    if topic.kind == "howto" and dice.chance(0.5):
        return (dice.any(REFUSALS),)
    return dice.any(topic.wrong[pick(dice, MISCONCEPTION_WEIGHTS)])


def reply(dice: Dice, topic: Topic, others: tuple[Topic, ...], author: Author, is_right: bool) -> list[str]:
    """A reply in one author's manner, as sentences.

    Args:
        dice: randomness.
        topic: what was asked about.
        others: topics that an answer may stray to.
        author: whose manner.
        is_right: whether the answer is right.
    """
    said = answer(dice, topic, is_right, author.evade)
    before: list[str] = []
    after: list[str] = []
    if dice.chance(author.opened):
        before.append(dice.any(OPENERS))
    if dice.chance(author.rude):
        before.append(dice.any(RUDE))
    if topic.kind in FACTUAL and dice.chance(author.certain):
        after.append(dice.any(CERTAIN))
    elif dice.chance(author.hedge):
        (before if dice.chance(0.3) else after).append(dice.any(HEDGES))
    if dice.chance(author.extra):
        after.append(dice.any(topic.extras))
    for chance in author.pads:
        if dice.chance(chance):
            (before if dice.chance(0.4) else after).append(dice.any(PADS))
    if dice.chance(author.off_topic):
        after.extend(dice.any(others).right[0])
    if dice.chance(author.repeat):
        after.extend(said)
    if dice.chance(author.closed):
        after.append(dice.any(CLOSERS))
    return [*before, *said, *after]
