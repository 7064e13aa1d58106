"""Self-described groups of raters: who gives the labels, whether groups differ, what a population would say.

Needs no Django. Groups of fewer than five raters are left out throughout, so that no figure tells of one person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from heedful.core import agreement_advice as advice
from heedful.core.groups import (
    Difference,
    LabelShares,
    Omnibus,
    agreement_within_groups,
    differences,
    label_shares,
    population_weights,
)
from heedful.errors import Sentence
from heedful.feedback import judgment_table as views
from heedful.feedback.judgment_table import Aspect, JudgmentTable

LEAST = 5
"""Raters of a group, and of all others, below which nothing is told of them."""
METHOD = "Benjamini and Hochberg"
"""How p-values are corrected, over all topics and groups of a question."""


@dataclass(frozen=True)
class Reweighted:
    """A share of preferences as the labels have it, and as the stated population would."""

    topic: str
    labels: float
    population: float
    effective: float
    """Judgments that would say as much unweighted."""


@dataclass(frozen=True)
class GroupFigures:
    """What one question about raters shows."""

    question: str
    raters: Mapping[str, int]
    """Raters of each group that is large enough to be told of."""
    shares: LabelShares | None
    """Of the judgments of those groups; None where none is large enough."""
    omnibus: Omnibus | None
    """Agreement within groups and between them; None where no item was judged so."""
    topics: tuple[Difference, ...]
    """Liking for longer answers, policies, ties; points."""
    items: tuple[Difference, ...]
    """Single comparisons; `topic` is the item's id."""
    reweighted: tuple[Reweighted, ...]
    do: str


def group_figures(
    table: JudgmentTable,
    main: Aspect | None,
    *,
    population: Mapping[str, Mapping[str, float]] | None = None,
    seed: int = 0,
) -> tuple[GroupFigures, ...]:
    """Every question that raters answered about themselves.

    Args:
        table: of a store that tells groups.
        main: what agreement within groups is taken on.
        population: by question, the share of each answer in the population.
        seed: of the shuffles.

    Raises:
        ValueError: the population names a question that nobody answered, or an answer of no group that is shown.
    """
    assert table.groups is not None
    wanted = population or {}
    for question in wanted:
        if question not in table.groups:
            known = ", ".join(sorted(table.groups)) or "none"
            raise ValueError(f"nobody answered a question {question!r}; answered: {known}")
    return tuple(
        _figures(table, main, question, answers, wanted.get(question), seed)
        for question, answers in table.groups.items()
    )


def _figures(
    table: JudgmentTable,
    main: Aspect | None,
    question: str,
    answers: Mapping[int, str],
    target: Mapping[str, float] | None,
    seed: int,
) -> GroupFigures:
    active = {int(rater) for rater in np.unique(table.rater)}
    counts: dict[str, int] = {}
    for rater, answer in answers.items():
        if rater in active:
            counts[answer] = counts.get(answer, 0) + 1
    large = {answer: count for answer, count in sorted(counts.items()) if count >= LEAST}
    group = np.array([answers.get(place, "") for place in range(len(table.raters))], dtype="U60")
    group[~np.isin(group, list(large))] = ""
    first = ~table.again
    if not (group[table.rater[first]] != "").any():
        if target is not None:
            raise ValueError(f"no answer to {question!r} was given by {LEAST} raters or more")
        few = Sentence(
            "No answer was given by {least} raters or more: nothing can be told without telling of one person.",
            least=LEAST,
        )
        return GroupFigures(question, {}, None, None, (), (), (), few)
    shares = label_shares(group[table.rater[first]])
    omnibus = _omnibus(main, group, seed)
    topics, rows, values = _topics(table)
    raters = table.rater[rows]
    by_topic = differences(topics, raters, values, group[raters], least=LEAST, seed=seed)
    items, rows, values = views.item_outcomes(table)
    raters = table.rater[rows]
    by_item = differences(items, raters, values, group[raters], least=LEAST, permutations=1000, seed=seed)
    named = tuple(_item_named(one, table) for one in by_item)
    reweighted = () if target is None else _reweighted(table, group, target)
    do = advice.on_groups(shares, omnibus, [*by_topic, *by_item])
    return GroupFigures(question, large, shares, omnibus, tuple(by_topic), named, reweighted, do)


def _topics(table: JudgmentTable) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.float64]]:
    """(topic, row, outcome) of everything that can be compared."""
    found = views.outcomes(table)
    if not found:
        return np.zeros(0, dtype="U1"), np.zeros(0, dtype=np.int64), np.zeros(0)
    topic = np.concatenate([np.full(len(one.row), one.topic) for one in found])
    return topic, np.concatenate([one.row for one in found]), np.concatenate([one.value for one in found])


def _omnibus(main: Aspect | None, group: NDArray[np.str_], seed: int) -> Omnibus | None:
    if main is None:
        return None
    try:
        return agreement_within_groups(main.unit, main.rater, main.value, group[main.rater], seed=seed)
    except ValueError:
        return None


def _item_named(one: Difference, table: JudgmentTable) -> Difference:
    return replace(one, topic=table.items[int(one.topic)].id)


def _reweighted(table: JudgmentTable, group: NDArray[np.str_], target: Mapping[str, float]) -> tuple[Reweighted, ...]:
    """Each outcome that every group of the population judged."""
    population_weights(group[group != ""], target)  # refuses a target that does not fit the groups
    made = []
    for one in views.outcomes(table):
        own = group[table.rater[one.row]]
        kept = own != ""
        if set(target) <= set(own.tolist()):
            weights = population_weights(own[kept], target)
            value = one.value[kept]
            mean = float(np.average(value, weights=weights.weights))
            made.append(Reweighted(one.topic, float(value.mean()), mean, weights.effective))
    return tuple(made)
