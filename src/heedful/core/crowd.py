"""Many raters' judgments in long form, and what a consensus of them says. Works without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.codes import coded

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VOTES = {"a": 1.0, "b": -1.0, "tie": 0.0}


@dataclass(frozen=True)
class Caveat:
    """What a result does not know, for a program (`code`) and for a person (`text`)."""

    code: str
    """not-converged, no-overlap, shared-length, one-order, few-raters or adversarial-crowd."""
    text: str


@dataclass(frozen=True)
class Judgments:
    """n judgments of pairs (a, b) by raters, in long form; made by `judgments`."""

    item: Ints
    """[n] which pair, 0 to items - 1."""
    rater: Ints
    """[n] who, 0 to raters - 1."""
    vote: Floats
    """[n] from -1 (b by far) over 0 (a tie) to 1 (a by far)."""
    order: Floats
    """[n] 1 where a was shown first, -1 where b was, 0 where it is not known."""
    length: Floats
    """[n] how much longer a is than b, -1 to 1; see `length_difference`."""
    weight: Floats
    """[n] above 0; 1 for a judgment of its own."""
    gold: Floats
    """[items] the truth where it is known: 1 for a, -1 for b, 0 for a tie; NaN elsewhere."""
    item_ids: NDArray[Any]
    """[items] as they were given."""
    rater_ids: NDArray[Any]
    """[raters] as they were given."""

    @property
    def items(self) -> int:
        """How many pairs."""
        return len(self.item_ids)

    @property
    def raters(self) -> int:
        """How many raters."""
        return len(self.rater_ids)

    @property
    def anchored(self) -> bool:
        """Whether the truth of any judged pair is known."""
        return bool(np.isfinite(self.gold).any())

    def raters_of(self) -> Ints:
        """[items] how many different raters judged each pair."""
        seen = np.sort(self.item * np.int64(self.raters) + self.rater)
        seen = seen[np.append(True, np.diff(seen) > 0)]
        return np.bincount(seen // self.raters, minlength=self.items).astype(np.int64)

    def signs(self) -> Floats:
        """[n] votes without their strength: -1, 0 or 1."""
        return np.sign(self.vote)


@dataclass(frozen=True)
class Consensus:
    """What a crowd says of each pair. `probability` is for training; `posterior` for deciding which is better."""

    method: str
    item_ids: NDArray[Any]
    """[items]"""
    probability: Floats
    """[items] that a rater of `population` prefers a, had they not known which was shown first."""
    posterior: Floats | None
    """[items] that a is the better one (its latent score is higher, or its class is a); None where a method
    has no such notion."""
    raters: Ints
    """[items] how many judged it."""
    population: str
    """Whom `probability` speaks of."""
    converged: bool = True
    caveats: tuple[Caveat, ...] = ()


def judgments(
    item: ArrayLike,
    rater: ArrayLike,
    vote: ArrayLike | Sequence[str],
    *,
    order: ArrayLike | None = None,
    length: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    gold: Mapping[Any, float] | None = None,
) -> Judgments:
    """Judgments from columns of equal length.

    Args:
        item, rater: [n] ids, numbers or strings. A judgment is of a pair (a, b), whose id `item` is.
        vote: [n] "a", "b", "tie", or a strength from -1 (b by far) to 1 (a by far), 0 a tie.
        order: [n] 1 where a was shown first, -1 where b was, 0 where it is not known; by default unknown.
        length: [n] how much longer a is, -1 to 1; by default 0. `length_difference` makes it of character counts.
        weight: [n] above 0; by default 1.
        gold: the truth of pairs where it is known, by id: 1 (a), -1 (b), 0 (a tie).

    Raises:
        ValueError: no judgment, columns of different lengths, or a figure out of its range.
    """
    items, which = coded(np.asarray(item))
    people, who = coded(np.asarray(rater))
    given = np.asarray(vote)
    if given.dtype.kind in "UO":
        unknown = sorted({str(one) for one in given.tolist() if one not in VOTES})
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no vote: a, b or tie")
        given = np.array([VOTES[one] for one in given.tolist()])
    n = len(which)
    if not n:
        raise ValueError("no judgments")
    truth = np.full(len(items), np.nan)
    if gold:
        known = {key: at for at, key in enumerate(items.tolist())}
        for key, value in gold.items():
            if value not in (-1, 0, 1):
                raise ValueError(f"the truth of {key!r} is {value!r}: give 1 (a), -1 (b) or 0 (a tie)")
            if key in known:
                truth[known[key]] = value
    return Judgments(
        which,
        who,
        _column("vote", given, n, -1, 1),
        _column("order", np.zeros(n) if order is None else order, n, -1, 1, (-1.0, 0.0, 1.0)),
        _column("length", np.zeros(n) if length is None else length, n, -1, 1),
        _column("weight", np.ones(n) if weight is None else weight, n, np.nextafter(0, 1), np.inf),
        truth,
        items,
        people,
    )


def length_difference(a: ArrayLike, b: ArrayLike, *, spread: float | None = None) -> Floats:
    """[n] tanh of (length of a less length of b) over that difference's root mean square, -1 to 1.

    The squashed, scaled difference of the length-controlled AlpacaEval (Dubois et al. 2024, eq. 2); the root mean
    square in place of the standard deviation, so that naming the pair the other way round turns only the sign.

    Args:
        a, b: [n] lengths, of characters or tokens.
        spread: the root mean square of other pairs' differences, on whose scale these are to be.
    """
    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if spread is None:
        spread = float(np.sqrt(np.mean(gap**2))) if len(gap) else 0.0
    return np.tanh(gap / spread) if spread > 0 else np.zeros_like(gap)


def settled(probability: Floats) -> Floats:
    """Probabilities with what rounding left of an exact tie, 1e-9 around one half, put back at one half."""
    return np.where(np.abs(probability - 0.5) < 1e-9, 0.5, np.clip(probability, 0.0, 1.0))


def _column(
    name: str, values: ArrayLike, n: int, low: float, high: float, only: tuple[float, ...] | None = None
) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (n,):
        raise ValueError(f"{name} has the shape {found.shape}; there are {n} judgments")
    if not np.isfinite(found).all() or found.min() < low or found.max() > high:
        raise ValueError(f"{name} must be finite and lie in {low:g} to {high:g}")
    if only is not None and not np.isin(found, only).all():
        raise ValueError(f"{name} is one of {', '.join(f'{value:g}' for value in only)}")
    return found
