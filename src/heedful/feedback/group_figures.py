"""Self-described groups of raters: who gives the labels, whether groups differ, what a population would say.

Needs no Django. Groups of fewer than five raters are left out throughout, so that no figure tells of one person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from heedful.core import agreement_advice as advice
from heedful.core.codes import coded
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
from heedful.feedback.judgment_table import Aspect, Codes, Floats, JudgmentTable, Outcomes

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
    told = _Told.of(table, seed)
    return tuple(
        _figures(told, main, question, answers, wanted.get(question)) for question, answers in table.groups.items()
    )


@dataclass(frozen=True)
class _Told:
    """What raters said, the same for every question about them."""

    table: JudgmentTable
    outcomes: Sequence[Outcomes]
    seed: int

    @staticmethod
    def of(table: JudgmentTable, seed: int) -> _Told:
        return _Told(table, views.outcomes(table), seed)

    def by_topic(self, group: _Groups) -> list[Difference]:
        """Differences in everything that can be compared over items."""
        if not self.outcomes:
            return []
        topic = np.repeat(np.arange(len(self.outcomes)), [len(one.row) for one in self.outcomes])
        row = np.concatenate([one.row for one in self.outcomes])
        value = np.concatenate([one.value for one in self.outcomes])
        found = self._differences(group, topic, row, value, 2000)
        return [replace(one, topic=self.outcomes[one.topic].topic) for one in found]

    def by_item(self, group: _Groups) -> list[Difference]:
        """Differences in single comparisons, by the items' ids."""
        found = self._differences(group, *views.item_outcomes(self.table), 1000)
        return [replace(one, topic=self.table.items[one.topic].id) for one in found]

    def _differences(
        self, group: _Groups, topic: Codes, row: Codes, value: Floats, permutations: int
    ) -> list[Difference]:
        rater = self.table.rater[row]
        kept = group.code[rater] >= 0
        found = differences(
            topic[kept],
            rater[kept],
            value[kept],
            group.code[rater[kept]],
            least=LEAST,
            permutations=permutations,
            seed=self.seed,
        )
        return [replace(one, group=group.names[one.group]) for one in found]


@dataclass(frozen=True)
class _Groups:
    """The answers to a question that are told of."""

    code: Codes
    """[raters] index into `names`; -1 where nothing is told of them."""
    names: Sequence[str]

    def of(self, rater: Codes) -> NDArray[np.str_]:
        """[N] the answers of raters who gave one that is told of."""
        code = self.code[rater]
        return np.array(self.names)[code[code >= 0]]


def _figures(
    told: _Told, main: Aspect | None, question: str, answers: Mapping[int, str], target: Mapping[str, float] | None
) -> GroupFigures:
    table = told.table
    active = {int(rater) for rater in coded(table.rater)[0]}
    counts: dict[str, int] = {}
    for rater, answer in answers.items():
        if rater in active:
            counts[answer] = counts.get(answer, 0) + 1
    large = {answer: count for answer, count in sorted(counts.items()) if count >= LEAST}
    place = {answer: code for code, answer in enumerate(large)}
    codes = [place.get(answers.get(rater, ""), -1) for rater in range(len(table.raters))]
    group = _Groups(np.array(codes, dtype=np.int64), tuple(large))
    labels = table.rater[~table.again]
    if not (group.code[labels] >= 0).any():
        if target is not None:
            raise ValueError(f"no answer to {question!r} was given by {LEAST} raters or more")
        few = Sentence(
            "No answer was given by {least} raters or more: nothing can be told without telling of one person.",
            least=LEAST,
        )
        return GroupFigures(question, {}, None, None, (), (), (), few)
    shares = label_shares(group.of(labels))
    omnibus = _omnibus(main, group, told.seed)
    by_topic, by_item = told.by_topic(group), told.by_item(group)
    reweighted = () if target is None else _reweighted(told, group, target)
    do = advice.on_groups(shares, omnibus, [*by_topic, *by_item])
    return GroupFigures(question, large, shares, omnibus, tuple(by_topic), tuple(by_item), reweighted, do)


def _omnibus(main: Aspect | None, group: _Groups, seed: int) -> Omnibus | None:
    if main is None:
        return None
    code = group.code[main.rater]
    kept = code >= 0
    try:
        return agreement_within_groups(main.unit[kept], main.rater[kept], main.value[kept], code[kept], seed=seed)
    except ValueError:
        return None


def _reweighted(told: _Told, group: _Groups, target: Mapping[str, float]) -> tuple[Reweighted, ...]:
    """Each outcome that every group of the population judged."""
    population_weights(group.of(told.table.rater[~told.table.again]), target)  # refuses a target that does not fit
    made = []
    for one in told.outcomes:
        rater = told.table.rater[one.row]
        own, kept = group.of(rater), group.code[rater] >= 0
        if set(target) <= set(np.unique(own).tolist()):
            weights = population_weights(own, target)
            value = one.value[kept]
            mean = float(np.average(value, weights=weights.weights))
            made.append(Reweighted(one.topic, float(value.mean()), mean, weights.effective))
    return tuple(made)
