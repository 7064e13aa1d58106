"""P-values of many tests, corrected for how many there are. Works without torch."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Method: TypeAlias = Literal["benjamini-hochberg", "holm"]


def adjusted(p: ArrayLike, method: Method = "benjamini-hochberg") -> NDArray[np.float64]:
    """[n] adjusted p-values: reject where they lie at or below the level.

    "benjamini-hochberg" holds the expected share of false rejections among all rejections (Benjamini & Hochberg 1995);
    valid for independent and positively dependent tests. "holm" holds the chance of any false rejection, whatever the
    dependence (Holm 1979).

    Args:
        p: [n] p-values; nan where there was no test, which stays nan and counts for nothing.
        method: either.

    Raises:
        ValueError: a p-value outside 0 to 1, or another method.
    """
    values = np.asarray(p, dtype=np.float64)
    kept = ~np.isnan(values)
    found = values[kept]
    if ((found < 0) | (found > 1)).any():
        raise ValueError("a p-value lies between 0 and 1")
    count = len(found)
    order = np.argsort(found, kind="stable")
    if method == "benjamini-hochberg":
        scaled = found[order] * count / np.arange(1, count + 1)
        steps = np.minimum.accumulate(scaled[::-1])[::-1]
    elif method == "holm":
        steps = np.maximum.accumulate(found[order] * np.arange(count, 0, -1))
    else:
        raise ValueError(f"no method is called {method!r}")
    corrected = np.empty(count)
    corrected[order] = np.minimum(steps, 1.0)
    result = np.full(values.shape, np.nan)
    result[kept] = corrected
    return result
