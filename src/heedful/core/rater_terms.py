"""How a rater's vote comes about: the parameters of raters, their priors, and the probability of each vote.

With eta = slope z + position o + length l for a rater who compares two answers whose scores differ by z, shown in the
order o (1: a first), a longer by l:

    P(v) proportional to exp(v eta / 2 + cut[|v|] + tie [v = 0])

over the votes v that occur. For votes 1, 0, -1 this is Davidson's (1970) model of ties with nu = exp(tie), for 1, -1
Bradley and Terry's; for graded votes the adjacent-categories logit model (Agresti 1992). It is an exponential
family, so the log-likelihood is concave in eta, cut and tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from heedful.core.crowd import Floats, Ints


@dataclass(frozen=True)
class Priors:
    """Normal priors, in logits. A rater's parameter has the crowd's mean, itself unknown, and a spread around it.

    The spreads are fitted too (`rater_fit.spreads`) and these figures are where that begins: the crowd's own spread
    counts against them as its raters against `firm`. So a rater of three judgments stays about where the crowd is,
    more so in a crowd of one mind.
    """

    firm: float = 8.0
    """How many raters the spreads below are worth."""

    slope: tuple[float, float] = (1.5, 1.0)
    """Mean and standard deviation of the crowd's mean slope; 1.5 makes two raters agree about two times in three."""
    slope_spread: float = 1.0
    """Of raters around it."""
    tie: tuple[float, float] = (0.0, 3.0)
    tie_spread: float = 1.0
    position: tuple[float, float] = (0.0, 1.0)
    position_spread: float = 0.5
    length: tuple[float, float] = (0.0, 1.0)
    length_spread: float = 0.5
    cut: float = 3.0
    """Of each strength's intercept, around 0."""
    taste: float = 0.3
    """Of how many standard deviations of score the longer answer gains. Wider, length would stand in for the scores."""


@dataclass(frozen=True)
class Votes:
    """The votes that occur: an exponential family over them."""

    values: Floats
    """[V] rising."""
    cut: Ints
    """[V] which intercept each has; -1: none."""
    tied: Floats
    """[V] 1 at a tie, else 0."""
    cuts: int

    @staticmethod
    def of(vote: Floats) -> Votes:
        """Those of some judgments, and their mirror images."""
        levels = np.unique(np.abs(vote))
        strong = levels[levels > 0] if (levels > 0).any() else np.array([1.0])
        tie = [0.0] if levels[0] == 0 else []
        values = np.concatenate([-strong[::-1], tie, strong])
        rank = np.searchsorted(strong, np.abs(values)) - 1
        return Votes(
            values, np.where(values == 0, -1, rank).astype(np.int64), (values == 0).astype(float), len(strong) - 1
        )

    def place(self, vote: Floats) -> Ints:
        """[n] where each vote stands in `values`."""
        return np.searchsorted(self.values, vote).astype(np.int64)

    def log_probability(self, eta: Floats, tie: Floats, cuts: Floats) -> Floats:
        """[V, ...] log P(v) for eta of the shape [...] and tie that fits it."""
        intercept = np.where(self.cut >= 0, np.append(cuts, 0.0)[self.cut], 0.0)
        score = np.empty((len(self.values), *eta.shape))
        for at, value in enumerate(self.values):
            np.multiply(eta, value / 2, out=score[at])
            score[at] += tie if self.tied[at] else intercept[at]
        score -= score.max(0)
        score -= np.log(np.exp(score).sum(0))
        return score


@dataclass(frozen=True)
class Layout:
    """Where each parameter stands in the one vector that is fitted."""

    raters: int
    cuts: int
    kinds: tuple[str, ...]
    """Of a rater's parameters that are fitted: slope, and of tie, position, length those that data speak of."""
    means: tuple[str, ...]
    """Kinds whose crowd mean is fitted; the others vary around 0."""
    taste: bool
    size: int = field(init=False)

    def __post_init__(self) -> None:
        size = self.raters * len(self.kinds) + len(self.means) + self.cuts + self.taste
        object.__setattr__(self, "size", size)

    def of_raters(self, kind: str) -> slice:
        """Where the raters' parameters of a kind stand."""
        start = self.kinds.index(kind) * self.raters
        return slice(start, start + self.raters)

    def mean_at(self, kind: str) -> int:
        """Where a crowd mean stands."""
        return self.raters * len(self.kinds) + self.means.index(kind)

    @property
    def cuts_at(self) -> slice:
        """Where the strengths' intercepts stand."""
        start = self.raters * len(self.kinds) + len(self.means)
        return slice(start, start + self.cuts)

    def raters_get(self, x: Floats, kind: str) -> Floats:
        """[raters] their parameters of a kind; 0 where it is not fitted."""
        return x[self.of_raters(kind)] if kind in self.kinds else np.zeros(self.raters)

    def mean_get(self, x: Floats, kind: str) -> float:
        """A crowd mean; 0 where it is not fitted."""
        return float(x[self.mean_at(kind)]) if kind in self.means else 0.0

    def taste_get(self, x: Floats) -> float:
        """How the mean score difference rises with length."""
        return float(x[-1]) if self.taste else 0.0

    def start(self, priors: Priors) -> Floats:
        """Where the search begins: every rater as the priors expect the crowd."""
        x = np.zeros(self.size)
        for kind in self.kinds:
            mean = getattr(priors, kind)[0] if kind in self.means else 0.0
            x[self.of_raters(kind)] = mean
            if kind in self.means:
                x[self.mean_at(kind)] = mean
        return x


@dataclass(frozen=True)
class Penalty:
    """Normal priors as half the squared length of (rows x - aims)."""

    rows: csr_matrix
    aims: Floats

    @staticmethod
    def of(layout: Layout, priors: Priors) -> Penalty:
        """The priors of a layout."""
        entries = list(_prior_rows(layout, priors))
        row = np.concatenate([np.full(len(columns), at) for at, (columns, _, _) in enumerate(entries)])
        column = np.concatenate([np.array(columns) for columns, _, _ in entries])
        data = np.concatenate([np.array(values) for _, values, _ in entries])
        return Penalty(
            csr_matrix((data, (row, column)), shape=(len(entries), layout.size)),
            np.array([aim for _, _, aim in entries]),
        )

    def value_and_gradient(self, x: Floats) -> tuple[float, Floats]:
        """The penalty and its gradient."""
        off = self.rows @ x - self.aims
        return float(off @ off) / 2, self.rows.T @ off

    @property
    def precision(self) -> csr_matrix:
        """[parameters, parameters]"""
        return (self.rows.T @ self.rows).tocsr()


def _prior_rows(layout: Layout, priors: Priors) -> Iterator[tuple[list[int], list[float], float]]:
    """(columns, values, aim) of each row."""
    for kind in layout.kinds:
        tight = 1 / getattr(priors, f"{kind}_spread")
        first = layout.of_raters(kind).start
        for rater in range(layout.raters):
            if kind in layout.means:
                yield [first + rater, layout.mean_at(kind)], [tight, -tight], 0.0
            else:
                yield [first + rater], [tight], 0.0
        if kind in layout.means:
            mean, spread = getattr(priors, kind)
            yield [layout.mean_at(kind)], [1 / spread], mean / spread
    for at in range(layout.cuts_at.start, layout.cuts_at.stop):
        yield [at], [1 / priors.cut], 0.0
    if layout.taste:
        yield [layout.size - 1], [1 / priors.taste], 0.0
