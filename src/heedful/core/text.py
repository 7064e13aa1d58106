"""Words of a text, and how varied or repetitive texts are. Works without torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+|[^\w\s]")


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


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """How alike two texts are: ROUGE-L's F-measure with β = 1 (Lin 2004, "ROUGE", section 3.1), from 0 to 1.

    2 L / (|a| + |b|), with L the length of the longest common subsequence of words. 0 where both are empty.

    Args:
        a, b: texts as `words` cuts them.
    """
    total = len(a) + len(b)
    return 2 * common_subsequence(a, b) / total if total else 0.0


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest sequence of words that both hold in this order, not necessarily side by side.

    A row of the table of lengths is kept as one integer, a bit for each word of `a`, which is 0 where the length grows
    (Crochemore et al. 2001, "A fast and practical bit-vector algorithm for the longest common subsequence problem").
    """
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(a)) - 1
    row = everything
    for word in b:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & everything
    return len(a) - row.bit_count()


def _ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise ValueError(f"n-grams need n of at least 1, not {n}")
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
