"""How far a programme's raters agree, round by round, from what each of them said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from heedful.core.statistics import Interval
from heedful.data.records import prompt_key
from heedful.pipeline.label_report import agreement_of, labels_of_votes, votes_of
from heedful.pipeline.programme_report.reading import Judged, Results
from heedful.pipeline.report_data import Labels

RATERS = {"human": "people", "ai": "AI judges", "simulated": "simulated raters"}


@dataclass(frozen=True)
class Agreement:
    """What one kind of raters said in a stage, and how far two of them agree.

    Attributes:
        number, stage: of the round; `judge` or `check`.
        kind: human, ai or simulated.
        raters, pairs, judgments, ties: how many.
        raw, beyond: how often two raters of a pair agree, ties left out, and Krippendorff's α; None where no pair has
            two votes.
    """

    number: int
    stage: str
    kind: str
    raters: int
    pairs: int
    judgments: int
    ties: int
    raw: Interval | None
    beyond: Interval | None


def agreements(results: Results) -> list[Agreement]:
    """A row for each round's judgments and check, and each kind of raters in it."""
    found = []
    for one in results.rounds:
        for stage in ("judge", "check"):
            judged = results.judged(one.number, stage)
            for kind in RATERS if judged is not None else ():
                row = _of_kind(one.number, stage, kind, judged, results.recipe.seed) if judged else None
                found += [] if row is None else [row]
    return found


def _of_kind(number: int, stage: str, kind: str, judged: Judged, seed: int) -> Agreement | None:
    said = [one for one in judged.said if one.kind == kind]
    if not said:
        return None
    raw, beyond = None, None
    votes = votes_of(*counted([judged], kind))
    if votes.pairs:
        raw, beyond = agreement_of(votes, seed)
    pairs, ties = len({one.pair for one in said}), sum(one.vote == 0 for one in said)
    return Agreement(number, stage, kind, len({one.rater for one in said}), pairs, len(said), ties, raw, beyond)


def counted(stages: Iterable[Judged], kind: str) -> tuple[np.ndarray, list[str]]:
    """[n, 2] votes for a and for b of each pair that one kind of raters judged, and the prompts of the pairs."""
    counts: list[Sequence[int]] = []
    prompts: list[str] = []
    for judged in stages:
        by_pair: dict[str, list[int]] = {}
        for one in judged.said:
            if one.kind == kind and one.vote != 0:
                by_pair.setdefault(one.pair, [0, 0])[int(one.vote < 0)] += 1
        for pair in judged.pairs:
            if pair.id in by_pair:
                counts.append(by_pair[pair.id])
                prompts.append(prompt_key(pair.prompt))
    return np.array(counts, dtype=np.int64).reshape(-1, 2), prompts


def labels(results: Results) -> Labels | None:
    """How far the labels of all rounds can be trusted, by those raters who gave most of them; None where no pair has
    two votes."""
    totals = results.counted("judgments")
    if not totals:
        return None
    kind = max(totals, key=lambda one: totals[one])
    stages = [judged for one in results.rounds if (judged := results.judged(one.number, "judge")) is not None]
    counts, prompts = counted(stages, kind)
    if not len(counts):
        return None
    per_pair = float(counts.sum(1).mean())
    told = f"{len(counts):,} pairs of all rounds were judged by {RATERS[kind]}, {per_pair:.1f} votes each on average."
    votes = votes_of(counts, prompts)
    return labels_of_votes(votes, RATERS[kind], told, per_item=round(per_pair), seed=results.recipe.seed)
