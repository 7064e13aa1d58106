"""Simulated raters: they see which answer is better, through noise, habit and taste.

A rater's worth of an answer is its gold score plus the rater's biases. Shown two answers, the rater
prefers the first with probability sigmoid((worth_first - worth_second + position_bias) / noise): the
Bradley-Terry model (Bradley & Terry 1952) with a scale and an order effect. The default panel is unbiased,
and its noise is such that two raters agree on about two pairs in three, as people do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from heedful.data.records import Conversation, Preference
from heedful.errors import HeedfulError, nearest
from heedful.world.gold import LIMIT, Attributes, score

if TYPE_CHECKING:
    from heedful.world.world import World

NOISE = 2.0
"""The panel's noise, in gold points. Frozen: two raters agree on about 68% of pairs of SFT answers."""

Pair: TypeAlias = tuple[Conversation, str, str]
"""A prompt and two finished answers."""


@dataclass(frozen=True)
class Rater:
    """One simulated rater. All biases are in gold points and 0 by default.

    Attributes:
        name: whose verdicts these are.
        noise: scale of the logistic noise; 0 always picks the better one (a coin when equal).
        position_bias: in favour of the answer shown first.
        length_bias: per ten words of an answer.
        confidence_bias: in favour of claiming certainty, and against each hedge.
        warmth: taste: in favour of politeness at the beginning and at the end, each.
        brevity: taste: against each padding or repeated sentence, beyond the gold score's own cost.
    """

    name: str = "rater"
    noise: float = NOISE
    position_bias: float = 0.0
    length_bias: float = 0.0
    confidence_bias: float = 0.0
    warmth: float = 0.0
    brevity: float = 0.0

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ValueError(f"a rater's noise is not negative, got {self.noise}")

    def worth(self, found: Attributes) -> float:
        """What an answer is worth to this rater, in gold points, noise apart."""
        return (
            score(found)
            + self.length_bias * found.words / 10
            + self.confidence_bias * (float(found.certain) - min(found.hedges, LIMIT))
            + self.warmth * (float(found.opened) + float(found.closed))
            - self.brevity * (min(found.pads, LIMIT) + min(found.repeats, LIMIT))
        )

    def prefers_first(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """[n] probabilities of preferring the answer shown first, from the worth [n] of either."""
        gap = np.asarray(first, dtype=np.float64) - second + self.position_bias
        if self.noise == 0:
            return np.where(gap == 0, 0.5, gap > 0).astype(np.float64)
        return 1 / (1 + np.exp(-np.clip(gap / self.noise, -500, 500)))


PANELS: dict[str, tuple[Rater, ...]] = {
    "unbiased": tuple(Rater(f"rater {i}") for i in range(1, 6)),
    "position": tuple(Rater(f"first {i}", position_bias=1.5) for i in range(1, 6)),
    "length": tuple(Rater(f"long {i}", length_bias=1.5) for i in range(1, 6)),
    "confidence": tuple(Rater(f"bold {i}", confidence_bias=2.0) for i in range(1, 6)),
    "groups": (
        *(Rater(f"warm {i}", warmth=1.0) for i in range(1, 4)),
        *(Rater(f"brisk {i}", warmth=-0.7, brevity=1.0) for i in range(1, 4)),
    ),
}
"""Raters by what is planted in them. "unbiased" is the yardstick's; "groups" are two with opposite tastes."""


@dataclass(frozen=True)
class Adversary(Rater):
    """A rater who prefers what is worth less to them."""

    def prefers_first(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """[n] as a rater's, of the two worths exchanged; the position draws as ever."""
        return super().prefers_first(second, first)


CROWD: tuple[Rater, ...] = (
    *(Rater(f"honest {i}", noise=noise) for i, noise in enumerate((1.0, 1.4, 2.0, 2.0, 2.0, 2.8, 2.8, 4.0), 1)),
    *(Rater(f"first {i}", position_bias=1.5) for i in range(1, 5)),
    *(Rater(f"spammer {i}", noise=1e9) for i in range(1, 6)),
    *(Adversary(f"adversary {i}") for i in range(1, 4)),
)
"""Twenty, of whom eight are honest and of unequal care, four look at the position, five toss coins, three say the
opposite. No panel of the yardstick."""


class Verdicts(NamedTuple):
    """What raters said of n pairs, some votes each."""

    for_a: np.ndarray
    """[n, votes] bool, True for the first answer of the pair (`a`)."""
    rater: np.ndarray
    """[n, votes] int, which rater."""
    a_first: np.ndarray
    """[n, votes] bool, True where the rater was shown `a` first."""


def panel(name: str = "unbiased", *, noise: float | None = None) -> tuple[Rater, ...]:
    """A panel of raters by name, at another noise if one is given.

    Raises:
        HeedfulError: no such panel.
    """
    if name not in PANELS:
        known = ", ".join(PANELS)
        raise HeedfulError(
            f"there is no panel {name!r} of simulated raters.", mend=f"{nearest(name, list(PANELS))} Known: {known}."
        )
    raters = PANELS[name]
    return raters if noise is None else tuple(replace(rater, noise=noise) for rater in raters)


def judge(world: World, pairs: Sequence[Pair], raters: Sequence[Rater], *, votes: int, seed: int) -> Verdicts:
    """Have raters vote on pairs of answers. Each vote sees the two in an order of its own.

    Args:
        world: whose truth the raters see through their noise.
        pairs: n prompts with two answers each.
        raters: who votes; the raters of one pair are distinct when there are enough.
        votes: votes per pair.
        seed: fixes the raters drawn, the orders and the noise.

    Raises:
        ValueError: no raters, or fewer than one vote.
    """
    if not raters or votes < 1:
        raise ValueError(f"judging needs raters and votes, got {len(raters)} and {votes}")
    rng = np.random.default_rng([seed, 6])
    n = len(pairs)
    read_a = [world.attributes(prompt, a) for prompt, a, _ in pairs]
    read_b = [world.attributes(prompt, b) for prompt, _, b in pairs]
    if votes <= len(raters):
        who = rng.random((n, len(raters))).argsort(1)[:, :votes]
    else:
        who = rng.integers(len(raters), size=(n, votes))
    a_first = rng.random((n, votes)) < 0.5
    luck = rng.random((n, votes))
    for_a = np.zeros((n, votes), dtype=bool)
    for index, rater in enumerate(raters):
        rows, columns = np.nonzero(who == index)
        worth_a = np.array([rater.worth(read_a[row]) for row in rows])
        worth_b = np.array([rater.worth(read_b[row]) for row in rows])
        shown = a_first[rows, columns]
        first = np.where(shown, worth_a, worth_b)
        second = np.where(shown, worth_b, worth_a)
        picks_first = luck[rows, columns] < rater.prefers_first(first, second)
        for_a[rows, columns] = picks_first == shown
    return Verdicts(for_a, who, a_first)


def judge_pairs(
    world: World, pairs: Sequence[Pair], raters: Sequence[Rater], *, votes: int = 3, seed: int
) -> list[Preference]:
    """Judged comparisons: `probability` is the share of votes for `a`. Arguments as for `judge`."""
    shares = judge(world, pairs, raters, votes=votes, seed=seed).for_a.mean(1)
    return [
        Preference(prompt, a, b, probability=float(share), votes=votes)
        for (prompt, a, b), share in zip(pairs, shares, strict=True)
    ]


def shuffled_labels(records: Sequence[Preference], seed: int) -> list[Preference]:
    """The same comparisons with every label turned over or not by a coin: a control that teaches nothing."""
    coins = np.random.default_rng([seed, 7]).random(len(records)) < 0.5
    return [
        replace(record, probability=1 - record.probability) if coin else record
        for record, coin in zip(records, coins, strict=True)
    ]


def inverted_labels(records: Sequence[Preference]) -> list[Preference]:
    """The same comparisons with every label turned over: a control that teaches the opposite."""
    return [replace(record, probability=1 - record.probability) for record in records]
