"""Judgments as columns, for statistics: what was judged, by whom, what they said, when, how fast. Needs no Django.

`heedful.feedback.judgment_reading` fills a table from the store. The views here turn payloads into the long form that
`heedful.core` reads: one row of unit, rater and value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.core.agreement import Level, Weights
from heedful.core.rater_cards import Gold, Judged, Repeats
from heedful.feedback import verdicts
from heedful.feedback.payloads import STRENGTH

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
DECIDED = "comparisons, ties left out"
COMPARED = "comparisons, a tie an answer of its own"
STRONG = "comparisons, by strength"
RANKED = "rankings, pair by pair"
LONGER, TIE, ANSWERS_OF, POINTS_FOR = "the longer answer", "a tie", "answers of ", "points for "
"""What raters may prefer; the last two go before the name of a policy, or of an attribute."""


@dataclass(frozen=True, slots=True)
class RaterInfo:
    """Who judged."""

    name: str
    """A pseudonym, unless names were asked for; of AI judges and simulated raters their name."""
    kind: str
    """person, ai, simulated, end_user."""
    key: str = ""
    """The store's id; empty where it was not told."""


@dataclass(frozen=True, slots=True)
class ItemInfo:
    """What was judged."""

    id: str
    kind: str
    prompt: str
    """Equal for items of one prompt, and for prompts that differ only in case, spacing and punctuation."""
    batch: str
    lengths: tuple[int, ...] = ()
    """Characters of each completion."""
    policies: tuple[str, ...] = ()
    """Of each completion; empty where unknown."""


@dataclass(frozen=True)
class JudgmentTable:
    """A programme's judgments of ordinary items, one of each rater, item and pass: the newest."""

    programme: str
    raters: tuple[RaterInfo, ...]
    items: tuple[ItemInfo, ...]
    item: Codes
    """[N] index into `items`."""
    rater: Codes
    """[N] index into `raters`."""
    payload: Sequence[Mapping[str, Any]]
    """[N] as the store keeps it, in the item's own indices."""
    again: NDArray[np.bool_]
    """[N] the rater judged the item before: only consistency looks at these."""
    when: Floats
    """[N] seconds since 1970."""
    seconds: Floats
    """[N] active; nan where nobody measured."""
    first: Codes
    """[N] index of the completion that was shown first; -1 where unknown."""
    gold: Gold | None = None
    """Answers to gold, raters by index; None where the store does not tell (it was asked through the API)."""
    groups: Mapping[str, Mapping[int, str]] | None = None
    """By question: the answers of raters (by index) who gave one; None where the store does not tell."""
    gold_floor: float = 0.7
    points: Mapping[str, int] = field(default_factory=dict)
    """The highest point of each attribute; 5 where it is not told."""

    @cached_property
    def kind(self) -> Codes:
        """[items] place in `verdicts.COMPARABLE`."""
        return np.array([verdicts.COMPARABLE.index(one.kind) for one in self.items], dtype=np.int64)

    @cached_property
    def strength(self) -> Codes:
        """[N] of comparisons, above 0 for b; 0 of everything else."""
        return np.fromiter((said.get("strength", 0) for said in self.payload), dtype=np.int64, count=len(self.payload))

    def of_kind(self, *kinds: str) -> Codes:
        """Rows of first judgments of such items."""
        wanted = np.isin(self.kind, [verdicts.COMPARABLE.index(kind) for kind in kinds])
        return np.flatnonzero(wanted[self.item] & ~self.again) if len(self.item) else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Aspect:
    """One thing that raters can agree on, in long form."""

    name: str
    level: Level
    weights: Weights
    """For AC1 or AC2."""
    scale: tuple[int, ...]
    unit: Codes
    """[M] what was judged: an item, a pair of its completions, or one of them."""
    rater: Codes
    value: Codes
    item: Codes
    """[M] index into the table's items."""
    row: Codes
    """[M] the table's row that it comes from."""


def aspects(table: JudgmentTable) -> list[Aspect]:
    """Everything that raters of this programme can agree on: comparisons, rankings, and each attribute."""
    found: list[Aspect] = []
    rows = table.of_kind("pairwise")
    strength = table.strength[rows]
    side = np.sign(strength)
    everything = np.ones(len(rows), dtype=bool)

    def add(name: str, value: Codes, kept: NDArray[np.bool_], level: Level, weights: Weights, scale: range) -> None:
        own = rows[kept]
        item, rater = table.item[own], table.rater[own]
        found.append(Aspect(name, level, weights, tuple(scale), item, rater, value[kept], item, own))

    add(COMPARED, side, everything, "nominal", "identity", range(-1, 2))
    add(DECIDED, side, side != 0, "nominal", "identity", range(-1, 2, 2))
    add(STRONG, strength, everything, "ordinal", "ordinal", range(-STRENGTH, STRENGTH + 1))
    found.append(_ranked(table))
    found += _scored(table)
    return [one for one in found if len(one.unit)]


def _ranked(table: JudgmentTable) -> Aspect:
    cells = [
        (int(i), place, sign)
        for i in table.of_kind("ranking")
        for place, sign in enumerate(verdicts.classes("ranking", table.payload[i]))
    ]
    row, pair, signs = np.array(cells, dtype=np.int64).reshape(-1, 3).T
    item = table.item[row]
    return Aspect(RANKED, "nominal", "identity", (-1, 0, 1), item * 64 + pair, table.rater[row], signs, item, row)


def _scored(table: JudgmentTable) -> Iterator[Aspect]:
    cells: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for i in table.of_kind("attributes"):
        for place, scores in enumerate(table.payload[i]["scores"]):
            for name, points in scores.items():
                cells[name].append((int(i), place, int(points)))
    for name, own in sorted(cells.items()):
        row, answer, given = np.array(own, dtype=np.int64).T
        item = table.item[row]
        scale = tuple(range(1, max(table.points.get(name, 5), int(given.max())) + 1))
        yield Aspect(name, "ordinal", "ordinal", scale, item * 16 + answer, table.rater[row], given, item, row)


def rankings(table: JudgmentTable) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Of each item that two raters ranked: their [m, n] ranks, and its prompt."""
    given: dict[int, list[list[int]]] = defaultdict(list)
    for i in table.of_kind("ranking"):
        given[int(table.item[i])].append(list(table.payload[i]["ranks"]))
    kept = {item: ranks for item, ranks in given.items() if len(ranks) > 1}
    return [np.array(ranks) for ranks in kept.values()], [table.items[item].prompt for item in kept]


def choice(kind: str, payload: Mapping[str, Any]) -> str:
    """A judgment as the one thing it says: which completion is best, "tie", or the points of a lone completion."""
    if kind == "pairwise":
        return ("tie", "b", "a")[verdicts.classes(kind, payload)[0]]
    if kind == "ranking":
        best = [index for index, rank in enumerate(payload["ranks"]) if rank == 1]
    else:
        sums = [sum(scores.values()) for scores in payload["scores"]]
        if len(sums) == 1:
            return f"{round(sums[0] / max(1, len(payload['scores'][0])))} points"
        best = [index for index, total in enumerate(sums) if total == max(sums)]
    return "abcdefghi"[best[0]] if len(best) == 1 else "tie"


def judged(table: JudgmentTable) -> Judged:
    """First judgments of comparable items, as rater cards read them."""
    rows = table.of_kind(*verdicts.COMPARABLE)
    item = table.item[rows]
    pairwise = table.kind[item] == verdicts.COMPARABLE.index("pairwise")
    value = _choices(table, rows, pairwise)
    size = np.array([int(np.log2(1 + sum(one.lengths))) for one in table.items], dtype=np.int64)
    stratum = table.kind[item] * 64 + size[item]
    first = np.full(len(rows), np.nan)
    strength, shown = table.strength[rows], table.first[rows]
    known = pairwise & (shown >= 0) & (strength != 0) & _both_orders(table.rater[rows], shown)
    first[known] = (strength[known] < 0) == (shown[known] == 0)
    answers = np.array([len(one.lengths) if len(one.lengths) > 1 else 5 for one in table.items], dtype=np.int64)
    times = table.when[rows], table.seconds[rows]
    return Judged(item, table.rater[rows], value, *times, stratum, first, answers[item])


def _both_orders(rater: Codes, shown: Codes) -> NDArray[np.bool_]:
    """[rows] whether the rater saw either answer first often enough, one time in ten, to tell place from content."""
    width = int(rater.max(initial=-1)) + 1
    orders = np.stack([np.bincount(rater[shown == place], minlength=width) for place in (0, 1)])
    return (orders.min(0) >= 0.1 * orders.sum(0))[rater]


def _choices(table: JudgmentTable, rows: Codes, pairwise: NDArray[np.bool_]) -> Codes:
    """[rows] a number for each different `choice`."""
    known = {"a": 0, "tie": 1, "b": 2}
    value = np.sign(table.strength[rows]) + 1
    for place in np.flatnonzero(~pairwise).tolist():
        row = rows[place]
        said = choice(table.items[table.item[row]].kind, table.payload[row])
        value[place] = known.setdefault(said, len(known))
    return value


def repeats(table: JudgmentTable) -> Repeats | None:
    """Items that a rater judged twice; None where there is none."""
    second = np.flatnonzero(table.again)
    if not len(second):
        return None
    rows = table.of_kind(*verdicts.COMPARABLE)
    rows = rows[np.isin(table.item[rows], table.item[second])]
    before = {(int(table.item[i]), int(table.rater[i])): int(i) for i in rows}
    found = []
    for i in second.tolist():
        kind = table.items[table.item[i]].kind
        earlier = before.get((int(table.item[i]), int(table.rater[i])))
        if earlier is not None:
            found.append((int(table.rater[i]), choice(kind, table.payload[earlier]), choice(kind, table.payload[i])))
    if not found:
        return None
    rater, first, again = zip(*found, strict=True)
    return Repeats(np.array(rater), np.array(first), np.array(again))


@dataclass(frozen=True)
class Outcomes:
    """Something that a group may prefer, in rows that mean the same whatever the item."""

    topic: str
    row: Codes
    """[M] the table's rows."""
    value: Floats
    """1 it is preferred, 0 the other is, 0.5 a tie; or points."""
    points: bool = False


def outcomes(table: JudgmentTable, *, most_policies: int = 4) -> list[Outcomes]:
    """What can be compared between groups: a liking for the longer answer, for a policy, for ties, and points given.

    What is the same in every judgment is left out.
    """
    rows = table.of_kind("pairwise")
    item, strength = table.item[rows], table.strength[rows]
    for_b = (np.sign(strength) + 1) / 2
    longer = np.array([_second(one.lengths) for one in table.items], dtype=np.float64)
    found = [_oriented(LONGER, rows, for_b, longer[item])]
    known: dict[str, int] = {}
    sides = np.array([_sides(one.policies, known) for one in table.items], dtype=np.int64).reshape(-1, 2)
    counts = np.bincount(sides[item][sides[item] >= 0], minlength=len(known))
    named = sorted(
        (name for name, code in known.items() if counts[code]), key=lambda name: (-counts[known[name]], name)
    )
    for policy in named[: most_policies if len(named) > 2 else 1]:  # of two, one's gain is the other's loss
        here = sides == known[policy]
        place = np.where(here.any(1), here[:, 1].astype(np.float64), np.nan)
        found.append(_oriented(f"{ANSWERS_OF}{policy}", rows, for_b, place[item]))
    found.append(Outcomes(TIE, rows, (strength == 0).astype(np.float64)))
    found += [
        Outcomes(f"{POINTS_FOR}{one.name}", one.row, one.value.astype(np.float64), points=True)
        for one in _scored(table)
    ]
    return [one for one in found if len(one.row) and one.value.min() < one.value.max()]


def item_outcomes(table: JudgmentTable) -> tuple[Codes, Codes, Floats]:
    """(item, row, value) of comparisons, 1 where b is preferred: for differences on single items."""
    rows = table.of_kind("pairwise")
    return table.item[rows], rows, (np.sign(table.strength[rows]) + 1) / 2


def _oriented(topic: str, rows: Codes, for_b: Floats, second: Floats) -> Outcomes:
    """Outcomes for whatever stands second (1), first (0) or in neither place (nan)."""
    kept = ~np.isnan(second)
    return Outcomes(topic, rows[kept], np.where(second[kept] == 1, for_b[kept], 1 - for_b[kept]))


def _second(lengths: Sequence[int]) -> float:
    if len(lengths) != 2 or lengths[0] == lengths[1]:
        return float("nan")
    return float(lengths[1] > lengths[0])


def _sides(policies: Sequence[str], known: dict[str, int]) -> tuple[int, int]:
    """Codes of the two policies of a comparison, -1 where one is unknown; (-1, -1) where they are the same."""
    if len(policies) != 2 or policies[0] == policies[1]:
        return -1, -1
    first, second = (known.setdefault(one, len(known)) if one else -1 for one in policies)
    return first, second
