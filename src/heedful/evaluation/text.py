"""What a set of answers looks like from afar: lengths, variety, repetition, openings, truncation.

These figures catch a policy that collapsed or rambles while its reward climbs. Lengths are in words, so
that policies with different tokenizers can be compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

_WORD = re.compile(r"\w+|[^\w\s]")


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


def words(text: str) -> list[str]:
    """The words and punctuation marks of a text, case folded."""
    return _WORD.findall(text.casefold())


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams over all n-grams, pooled over the texts (Li et al. 2016, arXiv 1510.03055).

    0 where no text is n words long.

    Raises:
        ValueError: n below 1.
    """
    grams = [gram for text in texts for gram in _ngrams(words(text), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def self_repetition(text: str, n: int = 4) -> float:
    """The share of a text's n-grams that stood in it before: 0 for none, near 1 for a loop.

    Raises:
        ValueError: n below 1.
    """
    grams = _ngrams(words(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def top_opening(texts: Sequence[str], length: int = 3) -> tuple[str, float]:
    """The commonest first `length` words, and the share of the texts that begin so.

    Shorter texts count with all their words; empty ones have no opening but count in the share. Equally
    common openings: the alphabetically first. ("", 0.0) without any opening.
    """
    openings = Counter(" ".join(found[:length]) for text in texts if (found := words(text)))
    if not openings:
        return "", 0.0
    opening, count = min(openings.items(), key=lambda item: (-item[1], item[0]))
    return opening, count / len(texts)


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


def _ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise ValueError(f"n-grams need n of at least 1, not {n}")
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
