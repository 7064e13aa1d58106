"""What a set of answers looks like from afar: lengths, variety, repetition, openings, truncation.

These figures catch a policy that collapsed or rambles while its reward climbs. Lengths are in words, so
that policies with different tokenizers can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from heedful.core.text import distinct_n, self_repetition, top_opening, words


@dataclass(frozen=True)
class TextStatistics:
    """Figures of a set of answers. Shares run from 0 to 1.

    `distinct_1` and `distinct_2` pool all answers: different n-grams over all n-grams. Both fall as the
    set grows, so compare sets of like size only. `repetition` is the mean share of an answer's 4-grams
    that it has already used. `top_opening` is the commonest run of three first words.
    """

    answers: int
    mean_words: float
    median_words: float
    longest_words: int
    distinct_1: float
    distinct_2: float
    repetition: float
    top_opening: str
    top_opening_share: float
    different: float
    empty: float
    truncated: float


def describe(texts: Sequence[str], finished: Sequence[bool]) -> TextStatistics:
    """All figures of a set of answers.

    Args:
        texts: the answers. finished: which of them ended by themselves; the rest were cut off.

    Raises:
        ValueError: no texts, or another number of `finished`.
    """
    if not texts or len(texts) != len(finished):
        raise ValueError(f"{len(texts)} texts and {len(finished)} finished flags: need equal numbers, at least one")
    lengths = [len(words(text)) for text in texts]
    opening, share = top_opening(texts)
    return TextStatistics(
        answers=len(texts),
        mean_words=fmean(lengths),
        median_words=float(median(lengths)),
        longest_words=max(lengths),
        distinct_1=distinct_n(texts, 1),
        distinct_2=distinct_n(texts, 2),
        repetition=fmean(self_repetition(text) for text in texts),
        top_opening=opening,
        top_opening_share=share,
        different=len(set(texts)) / len(texts),
        empty=sum(not found for found in lengths) / len(texts),
        truncated=sum(not done for done in finished) / len(texts),
    )
