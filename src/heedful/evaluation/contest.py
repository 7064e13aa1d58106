"""Several models against each other: win rates of each pair, strengths of all, at equal length and in equal style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from heedful.core.logistic import sigmoid
from heedful.core.statistics import Interval
from heedful.errors import HeedfulError
from heedful.evaluation.judgments import Judged
from heedful.evaluation.style import STYLE, bootstrap_strengths, style_differences
from heedful.evaluation.winrate import cluster_index, length_controlled_win_rate, rate_interval, sign_test

NOTEWORTHY = 30
"""Characters by which answers must differ for one to count as the longer, as AlpacaEval has it."""


@dataclass(frozen=True)
class Duel:
    """Two models on the prompts that both were judged on. Rates are a's; ties count half.

    Attributes:
        rate: with an interval that resamples clusters. standard_error: of the mean over pairs taken for independent,
            as leaderboards print it.
        wins, ties, losses: pairs above, at and below one half.
        sign_p: the exact sign test with one vote a cluster, for the side that won more of it.
        length_controlled, style_controlled: the rate at equal length, and in equal style (length, headings, list items,
            bold).
        by: the rate by topic ("topic: ...") and rater group ("group: ..."), of those with two clusters at least.
    """

    a: str
    b: str
    pairs: int
    clusters: int
    rate: Interval
    standard_error: float
    wins: int
    ties: int
    losses: int
    sign_p: float
    length_controlled: Interval
    style_controlled: Interval
    by: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """One model among all: its strength in logits, centred at 0, raw and in equal style; and its mean length."""

    model: str
    strength: Interval
    in_equal_style: Interval
    words: float


@dataclass(frozen=True)
class LengthPreference:
    """How the judge takes to length.

    Attributes:
        longer: share of pairs whose longer answer (by more than 30 characters) was preferred; pairs that were no ties.
        pairs: how many those are.
        excess: by how much the preferred answer is longer than the other, in shares of the other, on average.
        worth: what each style difference is worth to the judge in logits, beside the models' strengths.
    """

    longer: float | None
    pairs: int
    excess: float
    worth: Mapping[str, Interval]


@dataclass(frozen=True)
class Contest:
    """Everything that judgments say of some models, strongest first.

    `connected` is False where the models fall into sets that were never judged against each other: strengths of
    different sets then cannot be compared.
    """

    models: tuple[Standing, ...]
    duels: tuple[Duel, ...]
    length: LengthPreference
    judgments: int
    clusters: int
    connected: bool


def contest(judgments: Sequence[Judged], *, samples: int = 300, seed: int = 0, level: float = 0.95) -> Contest:
    """What judged pairs say of the models.

    Args:
        judgments: of two models or more. samples: bootstrap refits of strengths and controlled rates; the plain rates
            are resampled 10,000 times. seed: theirs.

    Raises:
        HeedfulError: no judgments, or prompts of fewer than two clusters.
    """
    rows = list(judgments)
    if len({row.cluster for row in rows}) < 2:
        raise HeedfulError("a comparison needs judgments on two prompts at least.", mend="Give more prompts.")
    names = list(dict.fromkeys(name for row in rows for name in (row.model_a, row.model_b)))
    number = {name: i for i, name in enumerate(names)}
    index = cluster_index([row.cluster for row in rows], len(rows))
    first = np.array([number[row.model_a] for row in rows])
    second = np.array([number[row.model_b] for row in rows])
    won = np.array([row.won for row in rows])
    features = style_differences([row.a for row in rows], [row.b for row in rows])
    raw = bootstrap_strengths(first, second, won, len(names), index, samples=samples, seed=seed)
    styled = bootstrap_strengths(first, second, won, len(names), index, features=features, samples=samples, seed=seed)

    def interval(whole: float, many: NDArray[np.float64]) -> Interval:
        low, high = np.quantile(many, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(whole), float(low), float(high))

    def words(name: str) -> float:
        texts = [row.a for row in rows if row.model_a == name] + [row.b for row in rows if row.model_b == name]
        return float(np.mean([len(text.split()) for text in texts]))

    standings = [
        Standing(
            name,
            interval(raw.whole[i], raw.resampled[:, i]),
            interval(styled.whole[i], styled.resampled[:, i]),
            words(name),
        )
        for i, name in enumerate(names)
    ]
    worth = {
        name: interval(styled.whole[len(names) + i], styled.resampled[:, len(names) + i])
        for i, name in enumerate(STYLE)
    }
    return Contest(
        models=tuple(sorted(standings, key=lambda found: -found.strength.mean)),
        duels=_duels(rows, names, samples, seed, level),
        length=replace(length_preference(rows), worth=worth),
        judgments=len(rows),
        clusters=int(index.max()) + 1,
        connected=_connected(number, rows),
    )


def _duels(rows: Sequence[Judged], names: Sequence[str], samples: int, seed: int, level: float) -> tuple[Duel, ...]:
    found = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = [row if row.model_a == a else row.turned() for row in rows if {row.model_a, row.model_b} == {a, b}]
            if len({row.cluster for row in both}) >= 2:
                found.append(duel(both, samples=samples, seed=seed, level=level))
    return tuple(found)


def duel(rows: Sequence[Judged], *, samples: int = 300, seed: int = 0, level: float = 0.95) -> Duel:
    """Two models, `model_a` of every row against `model_b`.

    Raises:
        ValueError: fewer than two clusters, or other models in between.
    """
    if len({(row.model_a, row.model_b) for row in rows}) != 1:
        raise ValueError("a duel is between two models, the same one first in every row")
    won = np.array([row.won for row in rows])
    clusters = [row.cluster for row in rows]
    index = cluster_index(clusters, len(rows))
    balance = np.bincount(index, weights=won - 0.5)
    longer = [len(row.a) - len(row.b) for row in rows]
    features = style_differences([row.a for row in rows], [row.b for row in rows])
    fit = bootstrap_strengths(
        np.zeros(len(rows), dtype=int),
        np.ones(len(rows), dtype=int),
        won,
        2,
        index,
        features=features,
        samples=samples,
        seed=seed,
    )
    lead = np.concatenate([fit.whole[None], fit.resampled])
    rates = sigmoid(lead[:, 0] - lead[:, 1])
    low, high = np.quantile(rates[1:], [(1 - level) / 2, (1 + level) / 2])
    return Duel(
        a=rows[0].model_a,
        b=rows[0].model_b,
        pairs=len(rows),
        clusters=int(balance.size),
        rate=rate_interval(won, index, seed=seed, level=level),
        standard_error=float(won.std(ddof=1) / np.sqrt(won.size)),
        wins=int((won > 0.5).sum()),
        ties=int((won == 0.5).sum()),
        losses=int((won < 0.5).sum()),
        sign_p=sign_test(int((balance > 0).sum()), int((balance < 0).sum())),
        length_controlled=length_controlled_win_rate(won, longer, clusters, samples=samples, seed=seed, level=level),
        style_controlled=Interval(float(rates[0]), float(low), float(high)),
        by=_by(rows, won, seed, level),
    )


def _by(rows: Sequence[Judged], won: NDArray[np.float64], seed: int, level: float) -> dict[str, Interval]:
    found = {}
    for title in ("topic", "group"):
        values = [getattr(row, title) for row in rows]
        for name in dict.fromkeys(values):
            chosen = [i for i, value in enumerate(values) if value == name]
            clusters = [rows[i].cluster for i in chosen]
            if name and len(set(clusters)) >= 2:
                found[f"{title}: {name}"] = rate_interval(won[chosen], clusters, seed=seed, level=level)
    return found


def length_preference(rows: Sequence[Judged]) -> LengthPreference:
    """How often the judge preferred the longer answer; `worth` is left empty."""
    decided = [row if row.won > 0.5 else row.turned() for row in rows if row.won != 0.5]
    gaps = [len(row.a) - len(row.b) for row in decided]
    counted = [gap > 0 for gap in gaps if abs(gap) > NOTEWORTHY]
    shares = [gap / len(row.b) for gap, row in zip(gaps, decided, strict=True) if row.b]
    longer = float(np.mean(counted)) if counted else None
    return LengthPreference(longer, len(counted), float(np.mean(shares)) if shares else 0.0, {})


def _connected(number: Mapping[str, int], rows: Sequence[Judged]) -> bool:
    root = list(range(len(number)))

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    for a, b in {(number[row.model_a], number[row.model_b]) for row in rows}:
        root[find(a)] = find(b)
    return len({find(i) for i in root}) == 1
