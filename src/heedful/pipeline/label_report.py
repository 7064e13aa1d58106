"""How far the labels that a run learnt from can be trusted, read from the preferences themselves.

A preference with several votes tells how they were split, where its probability is the share of its votes. What a model
of the raters gave does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heedful.core import agreement_advice as advice
from heedful.core.agreement import Coefficient, Votes, alpha, raw
from heedful.core.ceilings import ANCHORS, Ceiling, accuracy_ceiling
from heedful.core.statistics import Interval
from heedful.data.records import Preference, prompt_key
from heedful.pipeline.report_data import LabelRow, Labels, write

SHARES = ("", "share", "edit")
"""How a probability may have been come by so that it tells the votes; empty: the file does not say."""
SAMPLES = 1000
MODELLED = (
    "The probabilities are a consensus of the raters, not shares of votes, so this file does not tell how far raters "
    "agree: run heedful agreement where the judgments are."
)


def labels_of(records: Sequence[Preference], raters: str = "raters", *, seed: int = 0) -> Labels | None:
    """The labels' agreement, beside what others report and the ceiling that it sets; None where no pair has two votes
    and no model of the raters spoke.

    A vote for neither counts half for each answer in a share, so two of them look like one vote for each; one alone is
    left out.

    Args:
        records: what a run learns from.
        raters: who judged, as it reads after "two".
        seed: of the bootstrap over prompts.
    """
    several = [record for record in records if record.votes >= 2]
    known = sorted({str(record.consensus) for record in records} - {""})
    methods = [method for method in known if method not in SHARES]
    if not several and not methods:
        return None
    mean = sum(record.votes for record in several) / max(1, len(several))
    told = f"{len(several):,} of {len(records):,} pairs were judged by two {raters} or more"
    told += f", {mean:.1f} on average." if several else "."
    if known:
        told += f" Their probabilities come of the consensus {', '.join(known)}."
    counts = split_votes(several)
    if methods or counts is None:
        return Labels(MODELLED, (), (told,))
    votes = votes_of(counts, [prompt_key(record.prompt) for record in several])
    return labels_of_votes(votes, raters, told, per_item=round(mean), seed=seed)


def labels_of_votes(votes: Votes, raters: str, told: str, *, per_item: int, seed: int = 0) -> Labels | None:
    """The same, from the votes themselves; None where no pair of answers has two.

    Args:
        votes: for a (value 0) and for b (value 1), ties left out.
        raters: who judged, as it reads after "two".
        told: what was judged, in a sentence.
        per_item: votes of a pair, about.
        seed: of the bootstrap over prompts.
    """
    if not votes.pairs:
        return None
    agreed, beyond = agreement_of(votes, seed)
    ceiling = accuracy_ceiling(agreed.mean)
    ends = [end if end == end else agreed.mean for end in (agreed.low, agreed.high)]
    widest = Ceiling(accuracy_ceiling(ends[0]).low, accuracy_ceiling(ends[1]).high)
    rows = [
        LabelRow(f"Two {raters} of this data agree", agreed, "raw, ties left out"),
        LabelRow("Beyond chance", beyond, "Krippendorff's α: 1 perfect, 0 chance", "hundredths"),
        LabelRow("Best possible reward model", _span(ceiling), "accuracy against single labels, at that agreement"),
        LabelRow("over the agreement's interval", _span(widest), "the same, with the agreement's own uncertainty"),
    ]
    for one in ANCHORS:
        margin = one.margin if one.margin is not None else float("nan")
        rows.append(
            LabelRow(one.name, Interval(one.agreement, one.agreement - margin, one.agreement + margin), one.source)
        )
    notes = (told, advice.on_agreement(agreed, votes.items, per_item=per_item))
    return Labels(str(advice.on_ceiling(ceiling)), tuple(rows), tuple(str(note) for note in notes))


def agreement_of(votes: Votes, seed: int = 0) -> tuple[Interval, Interval]:
    """How often two raters of a pair agree, raw and beyond chance (Krippendorff's α), with intervals over prompts."""
    return _interval(raw(), votes, seed), _interval(alpha("nominal"), votes, seed)


def split_votes(records: Sequence[Preference]) -> np.ndarray | None:
    """[n, 2] how many voted for a and for b, from shares; None where one is no share of its votes."""
    votes = np.array([record.votes for record in records], dtype=np.float64)
    for_a = np.array([record.probability for record in records]) * votes
    doubled = np.rint(2 * for_a)
    if (np.abs(2 * for_a - doubled) > 1e-4).any():
        return None
    half = doubled % 2 == 1  # one who was for neither
    a = (doubled - half) / 2
    return np.stack([a, votes - half - a], axis=1).astype(np.int64)


def votes_of(counts: np.ndarray, prompts: Sequence[str]) -> Votes:
    """Votes of pairs as the coefficients of agreement take them.

    Args:
        counts: [n, 2] how many voted for a and for b.
        prompts: [n] what pairs belong to.
    """
    patterns, member = np.unique(counts, axis=0, return_inverse=True)
    cluster = np.unique(np.array(prompts), return_inverse=True)[1]
    return Votes(patterns, member.reshape(-1), cluster, np.array([0, 1]))


def _interval(one: Coefficient, votes: Votes, seed: int) -> Interval:
    """A coefficient's interval; without bounds where all pairs are of one prompt."""
    if not votes.cluster.any():
        return Interval(one.of(votes), float("nan"), float("nan"))
    return one.interval(votes, samples=SAMPLES, seed=seed)


def _span(ceiling: Ceiling) -> str:
    return f"{write(ceiling.low, 'percent')} to {write(ceiling.high, 'percent')}"
