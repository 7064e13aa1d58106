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


def _ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise ValueError(f"n-grams need n of at least 1, not {n}")
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
