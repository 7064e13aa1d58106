"""Texts as vectors of hashed n-grams: how alike two of them are, without a model. Works without torch."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 512
LONGEST = 2
"""Words in the longest n-gram."""


def hashed_ngrams(texts: Sequence[str], *, width: int = WIDTH, longest: int = LONGEST) -> NDArray[np.float32]:
    """[N, width] of texts: square roots of the counts of their words, pairs of words, ..., hashed, of length 1.

    An n-gram's place and sign come from its CRC-32, the same on any machine, so that those that meet in one place
    cancel out in the mean (Weinberger et al. 2009). A text without any word is a row of zeros.

    Args:
        texts: N texts; case does not matter, nor what is no word.
        width: places, 1 or more.
        longest: words in the longest n-gram, 1 or more.

    Raises:
        ValueError: a width or an n-gram below 1.
    """
    if width < 1 or longest < 1:
        raise ValueError(f"n-grams of up to {longest} words in {width} places: both must be 1 or more")
    found = np.zeros((len(texts), width), dtype=np.float32)
    for row, text in zip(found, texts, strict=True):
        words = re.findall(r"\w+", text.casefold())
        grams = Counter(
            " ".join(words[start : start + n]) for n in range(1, longest + 1) for start in range(len(words) - n + 1)
        )
        for gram, count in grams.items():
            code = zlib.crc32(gram.encode())
            row[(code >> 1) % width] += (1 if code & 1 else -1) * count**0.5
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    found /= np.where(norms > 0, norms, 1)
    return found
