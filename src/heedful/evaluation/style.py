"""Bradley-Terry with style: how strong models are, and how strong they would be if all wrote in one style.

The logit of "a beats b" is strength(a) - strength(b) + style differences times what each is worth to the judge
(Bradley and Terry 1952; the style terms as in Li et al. 2024, "Does style matter?", LMSYS). Differences of length,
headings, list items and bold runs are taken as shares of their sum, so that they lie between -1 and 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.logistic import logistic_modes
from heedful.evaluation.winrate import PRIOR, resampled_counts

Floats = NDArray[np.float64]

STYLE = ("length", "headings", "list items", "bold")

_HEADING = re.compile(r"^\s{0,3}#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Fit:
    """Coefficients of whole and resampled data: [F] and [S, F], strengths first, then style."""

    whole: Floats
    resampled: Floats


def style(text: str) -> tuple[float, float, float, float]:
    """Words, headings, list items and bold runs of a text; what stands in code blocks counts as words only."""
    plain = _CODE.sub("", text)
    counts = (len(found.findall(plain)) for found in (_HEADING, _ITEM, _BOLD))
    headings, items, bold = (float(count) for count in counts)
    return float(len(text.split())), headings, items, bold


def style_differences(first: Sequence[str], second: Sequence[str]) -> Floats:
    """[n, 4] (a - b) / (a + b) of each count of `STYLE`; 0 where neither text has any."""
    a, b = (np.array([style(text) for text in texts], dtype=np.float64).reshape(-1, 4) for texts in (first, second))
    total = a + b
    return np.divide(a - b, total, out=np.zeros_like(total), where=total > 0)


def bootstrap_strengths(
    first: ArrayLike,
    second: ArrayLike,
    won: ArrayLike,
    models: int,
    clusters: NDArray[np.int64],
    *,
    features: Floats | None = None,
    samples: int = 300,
    seed: int = 0,
) -> Fit:
    """Strengths of models from pairs, beside style if features are given.

    Maximum likelihood with a weak Gaussian prior, which also centres the strengths at 0, by Newton's method. Ties count
    half.

    Args:
        first, second: [n] numbers of the models. won: [n] share of the win that the first has.
        models: how many there are. clusters: [n] numbered from 0; the bootstrap draws them whole.
        features: [n, F] differences, first less second.

    Returns:
        strengths in logits and the coefficients of the features.

    Raises:
        ValueError: lengths differ, or an outcome outside 0 to 1.
    """
    a, b, y = np.asarray(first), np.asarray(second), np.asarray(won, dtype=np.float64)
    if not a.shape == b.shape == y.shape == clusters.shape:
        raise ValueError("models, outcomes and clusters must be given for the same pairs")
    if y.size == 0 or y.min() < 0 or y.max() > 1:
        raise ValueError("outcomes lie between 0 and 1")
    columns = models + (0 if features is None else features.shape[1])
    x = np.zeros((y.size, columns))
    rows = np.arange(y.size)
    x[rows, a] += 1.0
    x[rows, b] -= 1.0
    if features is not None:
        x[:, models:] = features
    whole = logistic_modes(x, y[None], np.ones((1, y.size)), PRIOR)[0][0]
    parts = []
    counts = resampled_counts(int(clusters.max()) + 1, samples, seed)
    for start in range(0, samples, 50):
        weights = counts[start : start + 50][:, clusters]
        parts.append(logistic_modes(x, weights * y, weights, PRIOR, np.tile(whole, (len(weights), 1)))[0])
    return Fit(whole, np.concatenate(parts))
