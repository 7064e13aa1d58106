"""How far a judge can be trusted: with people, with gold, with itself, and what its labels are worth.

A pair is two answers to one prompt that a judge scored; people may have voted on it. Everything is measured where
people did, with intervals by prompt. Works without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from heedful.core.crowd import Floats, length_difference
from heedful.core.judge_correction import Correction, Overlap, cross_fitted, feature_bias, fit_correction
from heedful.core.label_worth import MOST, Worth, label_worth
from heedful.core.statistics import Interval, cluster_bootstrap
from heedful.evaluation.style import STYLE, style_differences

FEWEST = 30
"""Pairs that people judged, from which a correction is fitted."""
FAMILY = "own family"
FEW = 10
"""Pairs that a feature must differ in, where people judged, for anything to be told of it."""


@dataclass(frozen=True)
class Votes:
    """What people said of a pair: how many, their mean for a (ties half), summed squared deviations."""

    count: float = 0.0
    mean: float = 0.5
    squares: float = 0.0

    @staticmethod
    def of(votes: Sequence[float]) -> Votes:
        """From votes of 1, 0 and one half."""
        if not votes:
            return Votes()
        mean = sum(votes) / len(votes)
        return Votes(len(votes), mean, sum((vote - mean) ** 2 for vote in votes))


@dataclass(frozen=True)
class ScoredPair:
    """A pair with a judge's score for a over b, in units of the judge's own.

    `firsts` has, for each look, what it said for whichever answer was shown first: a score in the same units, or the
    side (1, 0, -1) where the way knows no more. `family` is 1 where the judge's own family wrote a alone, -1 where b.
    `gold` is 1, 0 or one half where the truth is known.
    """

    prompt: str
    a: str
    b: str
    score: float
    firsts: tuple[float, ...] = ()
    people: Votes = field(default_factory=Votes)
    family: float = 0.0
    gold: float | None = None


@dataclass(frozen=True)
class JudgeCard:
    """What is known of a judge. Intervals are 95% by prompt; None where there is nothing to tell it from."""

    pairs: int
    with_people: int
    agreement: Interval | None
    """Share of one person's votes that it agrees with, ties half."""
    people: Interval | None
    """The same of one person with another."""
    gold: Interval | None
    gold_pairs: int
    consistency: Interval | None
    """Share of pairs in which both orders gave the same side."""
    first: Interval | None
    """Share of looks in which the answer shown first was preferred, ties half; one half has no bias."""
    position: Interval | None
    """What being shown first adds to its score, in its own units."""
    bias: dict[str, Interval | None]
    """What a feature adds to its score beyond what people think of the pair, in its own units; see
    `core.judge_correction.feature_bias`. None where no two people voted on one pair."""
    correction: Correction | None
    names: tuple[str, ...]
    """The features that differ in enough pairs, in the correction's order."""
    error: float | None
    """Mean squared distance of the corrected label from people's votes, out of fold."""
    uncorrected: float | None
    """The same where only the scores' scale is fitted."""
    worth: Worth | None
    power: float | None
    """Squared correlation of the corrected label with people's votes."""
    advice: tuple[str, ...] = ()


def features(pairs: Sequence[ScoredPair], spread: float | None = None) -> tuple[Floats, tuple[str, ...]]:
    """[n, F] of a less of b: length, headings, list items, bold and own family, those that differ anywhere; and names.

    Length is the squashed difference of characters (`core.crowd.length_difference`), whose scale is `spread` or that of
    these pairs.
    """
    first, second = [pair.a for pair in pairs], [pair.b for pair in pairs]
    sizes = [len(text) for text in first], [len(text) for text in second]
    columns: list[tuple[str, Floats]] = [("length", length_difference(*sizes, spread=spread))]
    columns += list(zip(STYLE[1:], style_differences(first, second).T[1:], strict=True))
    columns.append((FAMILY, np.array([pair.family for pair in pairs], dtype=np.float64)))
    kept = [(name, column) for name, column in columns if np.any(column != 0)]
    if not kept:
        return np.zeros((len(pairs), 0)), ()
    return np.column_stack([column for _, column in kept]), tuple(name for name, _ in kept)


def judge_card(
    pairs: Sequence[ScoredPair], *, one_order: bool = False, samples: int = 1000, seed: int = 0
) -> JudgeCard:
    """Measure a judge.

    Args:
        pairs: those that were judged in every order, one judge's.
        one_order: whether each pair was shown in one order only, so that the place cannot be told from the answer.
        samples, seed: of the bootstrap.

    Raises:
        ValueError: no pairs.
    """
    if not pairs:
        raise ValueError("nothing was judged")
    seen = [row for row, pair in enumerate(pairs) if pair.people.count > 0]
    voted = [pairs[row] for row in seen]
    table, names = features(pairs)
    told = [at for at in range(len(names)) if np.count_nonzero(table[seen or slice(None), at]) >= FEW]
    names = tuple(names[at] for at in told)
    found = _beside_people(voted, table[seen][:, told], names, samples, seed)
    card = JudgeCard(
        pairs=len(pairs),
        with_people=len(voted),
        agreement=_agreement(voted, seed),
        people=_among_people(voted, seed),
        gold=_with_gold(pairs, seed),
        gold_pairs=sum(pair.gold is not None for pair in pairs),
        consistency=_consistency(pairs, seed),
        first=_first(pairs, seed),
        position=None if one_order else _position(pairs, seed),
        names=names,
        **vars(found),
    )
    return replace(card, advice=tuple(_advice(card)))


@dataclass(frozen=True)
class _BesidePeople:
    """The part of a card that needs people's votes."""

    bias: dict[str, Interval | None]
    correction: Correction | None = None
    error: float | None = None
    uncorrected: float | None = None
    worth: Worth | None = None
    power: float | None = None


def _beside_people(
    voted: Sequence[ScoredPair], table: Floats, names: tuple[str, ...], samples: int, seed: int
) -> _BesidePeople:
    nothing: dict[str, Interval | None] = dict.fromkeys(names)
    if len(voted) < FEWEST or len({pair.prompt for pair in voted}) < 2:
        return _BesidePeople(nothing)
    data = overlap_of(voted, table)
    corrected = cross_fitted(data, seed=seed)
    bare = Overlap(data.score, table[:, :0], data.label, data.votes, data.squares, data.cluster)
    measured = feature_bias(data, samples=samples, seed=seed)
    return _BesidePeople(
        nothing if measured is None else dict(zip(names, measured, strict=True)),
        fit_correction(data),
        _missed(corrected, data),
        _missed(cross_fitted(bare, seed=seed), data),
        label_worth(corrected, data.label, data.votes, data.squares, data.cluster, samples=samples, seed=seed),
        _power(corrected, data),
    )


def overlap_of(voted: Sequence[ScoredPair], table: Floats) -> Overlap:
    """Pairs that people voted on, as the core reads them."""
    _, member = np.unique([pair.prompt for pair in voted], return_inverse=True)
    return Overlap(
        np.array([pair.score for pair in voted], dtype=np.float64),
        table,
        np.array([pair.people.mean for pair in voted], dtype=np.float64),
        np.array([pair.people.count for pair in voted], dtype=np.float64),
        np.array([pair.people.squares for pair in voted], dtype=np.float64),
        member.reshape(-1).astype(np.int64),
    )


def _interval(values: Sequence[float], clusters: Sequence[str], seed: int) -> Interval | None:
    if not values:
        return None
    if len(set(clusters)) < 2:
        mean = float(np.mean(values))
        return Interval(mean, float("nan"), float("nan"))
    return cluster_bootstrap(values, clusters, samples=2000, seed=seed)


def _agreement(voted: Sequence[ScoredPair], seed: int) -> Interval | None:
    """With one vote drawn from a pair's: m where it prefers a, 1 - m where b, one half where it ties."""
    values = [0.5 + float(np.sign(pair.score)) * (pair.people.mean - 0.5) for pair in voted]
    return _interval(values, [pair.prompt for pair in voted], seed)


def _among_people(voted: Sequence[ScoredPair], seed: int) -> Interval | None:
    """The chance that a second vote on a pair is like a first: 1 less the mean squared difference of two."""
    twice = [pair for pair in voted if pair.people.count >= 2]
    values = [1 - 2 * pair.people.squares / (pair.people.count - 1) for pair in twice]
    return _interval(values, [pair.prompt for pair in twice], seed)


def _with_gold(pairs: Sequence[ScoredPair], seed: int) -> Interval | None:
    known = [(pair, pair.gold) for pair in pairs if pair.gold is not None]
    values = [_right(pair.score, gold) for pair, gold in known]
    return _interval(values, [pair.prompt for pair, _ in known], seed)


def _right(score: float, gold: float) -> float:
    """1 for the right side, one half for a tie where there is a better one, and for a side where there is none."""
    if gold == 0.5:
        return 1.0 if score == 0 else 0.5
    return 0.5 + float(np.sign(score)) * (gold - 0.5)


def _consistency(pairs: Sequence[ScoredPair], seed: int) -> Interval | None:
    """In both orders the same side: what is said for the first in one is said against it in the other."""
    twice = [pair for pair in pairs if len(pair.firsts) == 2]
    values = [float(np.sign(pair.firsts[0]) == -np.sign(pair.firsts[1])) for pair in twice]
    return _interval(values, [pair.prompt for pair in twice], seed)


def _first(pairs: Sequence[ScoredPair], seed: int) -> Interval | None:
    rows = [((float(np.sign(one)) + 1) / 2, pair.prompt) for pair in pairs for one in pair.firsts]
    return _interval([value for value, _ in rows], [prompt for _, prompt in rows], seed)


def _position(pairs: Sequence[ScoredPair], seed: int) -> Interval | None:
    twice = [pair for pair in pairs if len(pair.firsts) == 2]
    return _interval([sum(pair.firsts) / 2 for pair in twice], [pair.prompt for pair in twice], seed)


def _missed(prediction: Floats, data: Overlap) -> float:
    return float(np.average((prediction - data.label) ** 2 + data.squares / data.votes, weights=data.votes))


def _power(prediction: Floats, data: Overlap) -> float:
    """The squared correlation with a single person's vote."""
    mean = np.average(data.label, weights=data.votes)
    spread = np.average((data.label - mean) ** 2 + data.squares / data.votes, weights=data.votes)
    off = prediction - np.average(prediction, weights=data.votes)
    own = np.average(off**2, weights=data.votes)
    both = np.average(off * (data.label - mean), weights=data.votes)
    return float(np.clip(both**2 / (own * spread), 0, 1)) if own > 0 and spread > 0 else 0.0


def _advice(card: JudgeCard) -> list[str]:
    said = [_on_worth(card.worth, card.with_people)]
    if card.power is not None:
        times = min(1 / max(1 - card.power, 1 / MOST), MOST)
        said.append(
            f"For a win rate over many pairs that it judged, one person's label does as much as {times:.1f} would"
            " without it, and the estimate stays free of its bias (prediction-powered inference)."
        )
    if card.consistency is not None and card.consistency.mean < 0.9:
        said.append(
            f"With the order of the answers it changed its mind on {1 - card.consistency.mean:.0%} of the pairs: keep"
            " showing it both orders."
        )
    for name, found in card.bias.items():
        if found is not None and (found.low > 0 or found.high < 0):
            more = "more" if found.mean > 0 else "less"
            said.append(f"It likes {name} {more} than people do; labels that are corrected have that taken out.")
    if card.agreement is not None and card.people is not None:
        said.append(
            f"It agrees with a person on {card.agreement.mean:.0%} of votes; people agree with each other on"
            f" {card.people.mean:.0%}."
        )
    return said


def _on_worth(worth: Worth | None, with_people: int) -> str:
    if with_people < FEWEST:
        return (
            f"People judged {with_people} of these pairs, too few to tell how far to trust it: have them judge 200,"
            " some of them twice, and name the file with --people."
        )
    if worth is None:
        return "No two people judged the same pair, so nobody can tell what its label is worth: have some judged twice."
    w = worth.labels
    many = f"{w.mean:.1f}" if w.mean < MOST else f"more than {min(w.low, MOST):.0f}"
    bounds = f"95%: {w.low:.1f} to {w.high:.1f}" if w.high < MOST else f"95%: at least {w.low:.1f}"
    head = f"One label of this judge is worth {many} labels of one person ({bounds})."
    if w.high < 1:
        return f"{head} Prefer people where you have them."
    if w.low >= 1:
        return f"{head} It may stand in for people on pairs like these; keep having a sample judged."
    return f"{head} Whether it is better than a person is not settled: have more pairs judged by people."
