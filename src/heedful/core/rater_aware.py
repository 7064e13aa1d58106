"""A rater-aware Bradley-Terry model for pairs: who is careful, who looks at the position, and what the crowd prefers.

Each pair has a score difference z, each rater a slope (how sharply they tell differences apart; 0 tosses a coin,
below 0 says the opposite), a position bias, a length bias and a habit of ties. `rater_terms` has the model of a vote,
`rater_likelihood` the likelihood; raters are fitted by maximising it with normal priors, pairs are integrated out.
For items that meet many others, such as models in an arena, see `rater_items`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.core.crowd import Caveat, Consensus, Floats, Judgments, settled
from heedful.core.rater_fit import (
    NOT_POSITIVE,
    STEP,
    STUCK,
    Estimates,
    estimates_of,
    inverse,
    move_left,
    moved,
    penalised,
    polished,
    reference_of,
    search,
    spreads,
)
from heedful.core.rater_likelihood import Cells, Likelihood, grid
from heedful.core.rater_terms import Layout, Penalty, Priors, Votes
from heedful.errors import Sentence

LARGE = 200_000
"""Judgments above which standard errors come from the scores' outer products, and spreads are not fitted."""
MOST = 4000
"""Parameters above which spreads are not fitted: each turn inverts a matrix of them."""
TURNS = 12
"""Of fitting parameters and spreads."""
FIXED = 1e-3
"""Spread that holds a parameter where it is."""
REFERENCE = "a rater of median reliability among those who do not contradict the rest"


@dataclass(frozen=True)
class RaterAware:
    """A fitted crowd. Slopes are in logits per standard deviation of the pairs' score differences."""

    consensus: Consensus
    slope: Estimates
    """0: a coin; below 0: says the opposite."""
    position: Estimates
    """Logits by which being shown first wins."""
    length: Estimates
    """Logits by which the longer answer wins beyond what the crowd's shared taste for length explains (where gold
    anchors: beyond what the truth explains)."""
    tie: Estimates
    """Log of Davidson's nu."""
    accuracy: Floats
    """[raters] how often, of a pair from this data, a rater's choice is the better answer, position set aside."""
    reference: float
    """The slope of the rater that `probability` speaks of."""
    shared_position: float
    """The crowd's mean position bias; NaN where it is not fitted."""
    shared_length: float
    """The crowd's mean length bias; NaN where nothing anchors it: then it is part of the taste."""
    taste: float
    """How many standard deviations of score the longer answer gains at a length difference of 1; NaN without."""
    priors: Priors
    """With the spreads that were fitted."""
    errors_by: str
    """How the standard errors were found."""
    gradient: float
    """The largest move still to be made, in standard errors; converged at or below `rater_fit.STEP`."""
    rounds: int
    """Evaluations of the likelihood."""
    likelihood: Likelihood = field(repr=False)
    """What was maximised."""
    rater_ids: NDArray[Any] = field(repr=False)
    """[raters] as they were given."""
    parameters: Floats = field(repr=False)
    """Where, in the order of `likelihood.layout`."""


def rater_aware(
    data: Judgments,
    *,
    priors: Priors = Priors(),  # noqa: B008
    population: ArrayLike | None = None,
    keep_length: bool = True,
    errors: bool = True,
    rounds: int = 500,
) -> RaterAware:
    """Fit the crowd, and say of each pair what it prefers.

    Args:
        data: the judgments. Position needs both orders among them, length a length difference, ties a tie. Gold pairs
            anchor: they tell reliabilities apart where each pair was judged once, and, with a length difference
            beside them, a length bias that all share from a taste for length.
        priors: see `Priors`.
        population: [raters] weights, in the order of `rater_ids`, of the raters that `probability` speaks of; by
            default it is a rater with the median slope, over the judgments of all whose slope is above 0, and the
            crowd's shared taste.
        keep_length: of an anchored length bias: whether `probability` keeps it, as raters have it, or not.
        errors: whether to reckon standard errors, for which a matrix of all parameters is inverted.
        rounds: of the search, at most.

    Raises:
        ValueError: population weights that are wrong, or `keep_length` off where no gold tells bias from taste.
    """
    votes, layout, anchored = _layout(data)
    cells = Cells.of(data, votes, ordered="position" in layout.kinds, lengthy="length" in layout.kinds)
    likelihood = Likelihood(cells, votes, layout, grid(float(np.bincount(data.item).max())))
    weights = _weights(population, data.raters)
    if not keep_length and "length" not in layout.means:
        raise ValueError("a length bias that all share is taste: without gold of several lengths nothing removes it")
    fit = _fit(data, likelihood, priors, rounds, errors)
    x, step = fit.x, fit.step
    estimates = {
        kind: estimates_of(layout, priors, fit.priors, x, fit.covariance, kind)
        for kind in ("slope", "position", "length", "tie")
    }
    if not told(data):
        estimates["slope"] = _untold(priors, data.raters)
    slope = estimates["slope"]
    reference = reference_of(slope.value, data.rater, data.weight)
    converged = step <= STEP
    caveats = list(_caveats(data, layout, anchored, slope, converged))
    if errors and fit.covariance is None:
        caveats.append(NOT_POSITIVE)
    posterior = likelihood.posterior(x)
    consensus = Consensus(
        "rater-aware",
        data.item_ids,
        _probability(likelihood, x, posterior, reference, weights, keep_length),
        _above(posterior, data.gold),
        data.raters_of(),
        REFERENCE if weights is None else "raters as weighted",
        converged,
        tuple(caveats),
    )
    z = likelihood.nodes
    prior = np.exp(-0.5 * z**2) * (z > 0)
    return RaterAware(
        consensus,
        **estimates,
        accuracy=(1 / (1 + np.exp(-slope.value[:, None] * z))) @ (prior / prior.sum()),
        reference=reference,
        shared_position=layout.mean_get(x, "position") if "position" in layout.means else float("nan"),
        shared_length=layout.mean_get(x, "length") if "length" in layout.means else float("nan"),
        taste=layout.taste_get(x) if layout.taste else float("nan"),
        priors=fit.priors,
        errors_by=fit.errors_by,
        gradient=step,
        rounds=fit.rounds,
        likelihood=likelihood,
        rater_ids=data.rater_ids,
        parameters=x,
    )


@dataclass(frozen=True)
class _Fit:
    x: Floats
    priors: Priors
    covariance: Floats | None
    step: float
    """The move left, in standard errors."""
    errors_by: str
    rounds: int


def told(data: Judgments) -> bool:
    """Whether anything tells how reliable raters are: a pair that two judged, or one whose truth is known."""
    return data.anchored or int(data.raters_of().max()) > 1


def _fit(data: Judgments, likelihood: Likelihood, priors: Priors, rounds: int, errors: bool) -> _Fit:
    """Parameters and spreads in turn, until no spread moves by more than a fiftieth; of a large crowd no spreads."""
    layout = likelihood.layout
    exact = len(data.item) <= LARGE
    alternate = exact and layout.size <= MOST and told(data)
    if not told(data):
        mean, _ = priors.slope
        priors = replace(priors, slope=(mean, FIXED), slope_spread=FIXED)
    now, x, used = priors, layout.start(priors), 0
    for turn in range(TURNS if alternate else 1):
        penalty = Penalty.of(layout, now)
        scale = 1 / np.sqrt(0.5 * likelihood.curvature(x) + np.asarray(penalty.precision.diagonal()))
        x, gradient, cost = search(likelihood.value_and_gradient, penalty, x, scale, rounds)
        used += cost
        covariance = None
        if errors or alternate:
            covariance = inverse(likelihood.information(x, exact=exact) + penalty.precision.toarray())
        if covariance is None or not alternate or turn + 1 == TURNS:
            break
        after = spreads(layout, priors, x, covariance)
        if moved(after, now, layout) < 0.02:
            break
        now = after
    if covariance is not None:
        x, gradient = polished(penalised(likelihood.value_and_gradient, penalty), x, gradient, covariance)
    by = "none" if covariance is None else "observed information" if exact else "outer products of the scores"
    return _Fit(x, now, covariance, move_left(gradient, scale, covariance), by, used)


def _untold(priors: Priors, raters: int) -> Estimates:
    """The prior itself."""
    mean, uncertain = priors.slope
    spread = float(np.hypot(uncertain, priors.slope_spread))
    return Estimates(np.full(raters, mean), np.full(raters, spread), np.zeros(raters, dtype=bool))


def _layout(data: Judgments) -> tuple[Votes, Layout, bool]:
    """(votes, parameters, whether gold anchors the length): what the data speak of is fitted, and nothing else."""
    votes = Votes.of(data.vote)
    ordered = (data.order > 0).any() and (data.order < 0).any()
    lengthy = bool((data.length != 0).any())
    anchored = lengthy and _length_is_anchored(data)
    kinds = ("slope", *(("tie",) if votes.tied.any() else ()), *(("position",) if ordered else ()))
    means = (*kinds, *(("length",) if anchored else ()))
    kinds += ("length",) if lengthy else ()
    return votes, Layout(data.raters, votes.cuts, kinds, means, lengthy), anchored


def _length_is_anchored(data: Judgments) -> bool:
    """Whether among judgments of gold pairs length varies beyond what the truth explains, at least 20 of them."""
    gold = data.gold[data.item]
    known = np.isfinite(gold)
    if known.sum() < 20:
        return False
    side, length = gold[known], data.length[known]
    left = length - side * float(side @ length) / max(float(side @ side), 1e-12)
    return bool(np.sqrt(np.mean(left**2)) > 0.05)


def _weights(population: ArrayLike | None, raters: int) -> Floats | None:
    if population is None:
        return None
    weights = np.asarray(population, dtype=np.float64)
    if weights.shape != (raters,) or not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
        raise ValueError(f"population gives each of the {raters} raters a weight of 0 or more, not all 0")
    return weights / weights.sum()


def _above(posterior: Floats, gold: Floats) -> Floats:
    """[items] that the difference is above 0: what gold knows, else exactly one half where all is mirrored."""
    half = posterior.shape[1] // 2
    lean = (posterior[:, half + 1 :] - posterior[:, :half][:, ::-1]).sum(1)
    return settled(0.5 + np.where(np.isfinite(gold), gold, lean) / 2)


def _probability(
    likelihood: Likelihood,
    x: Floats,
    posterior: Floats,
    reference: float,
    weights: Floats | None,
    keep_length: bool,
) -> Floats:
    """[items] that a rater of the population prefers a: half of 1 + P(a) - P(b), in the mean over differences."""
    layout, votes, cells, z = likelihood.layout, likelihood.votes, likelihood.cells, likelihood.nodes
    lengths, which = np.unique(cells.kind_length, return_inverse=True)
    shared = layout.mean_get(x, "length")
    if weights is None:
        slope, bias = np.array([reference]), np.array([shared])
        tie = np.array([float(np.median(layout.raters_get(x, "tie")))])
        share = np.ones(1)
    else:
        slope, tie, bias = (layout.raters_get(x, kind) for kind in ("slope", "tie", "length"))
        share = weights
    bias = bias if keep_length else bias - shared
    lean = np.zeros((len(lengths), len(z)))
    for row, length in enumerate(lengths):
        eta = slope[:, None] * z + (bias * length)[:, None]
        logs = votes.log_probability(eta, tie[:, None], x[layout.cuts_at])
        lean[row] = share @ np.tensordot(np.sign(votes.values), np.exp(logs), 1)
    heights = lean[which.reshape(-1)][cells.kind]
    half = len(z) // 2
    odd = (heights[:, half + 1 :] - heights[:, :half][:, ::-1]) / 2
    even = (heights[:, half + 1 :] + heights[:, :half][:, ::-1]) / 2
    above, below = posterior[:, half + 1 :], posterior[:, :half][:, ::-1]
    mean = ((above - below) * odd + (above + below) * even).sum(1) + posterior[:, half] * heights[:, half]
    return settled(0.5 + mean / 2)


def _caveats(data: Judgments, layout: Layout, anchored: bool, slope: Estimates, converged: bool) -> Iterator[Caveat]:
    if not converged:
        yield STUCK
    if not told(data):
        yield Caveat(
            "no-overlap",
            "No pair was judged by two raters and no truth is known, so nothing tells how reliable raters are:"
            " all are taken to be as the prior expects. Have pairs judged twice, or give gold.",
        )
    elif np.isfinite(slope.error).any() and not slope.identified.all():
        count = int((~slope.identified).sum())
        yield Caveat(
            "few-judgments",
            Sentence(
                "Of {count} of {all} raters the data tell less about their care than the prior.",
                count=count,
                all=data.raters,
            ),
        )
    if "position" not in layout.kinds:
        yield Caveat(
            "one-order",
            "The order shown is unknown or always the same, so that no position bias can be told or removed.",
        )
    if layout.taste and not anchored:
        yield Caveat(
            "shared-length",
            "A preference for length that all raters share is counted as taste: only gold of several lengths, or pairs"
            " alike but for their length, tell it from a bias.",
        )
    against = float(data.weight @ (slope.value[data.rater] <= 0)) / float(data.weight.sum())
    if against >= 0.5 and not data.anchored:
        yield Caveat(
            "adversarial-crowd",
            "Half of the judgments or more come from raters who contradict the rest or tell nothing: which side is"
            " right is not settled. Give gold.",
        )
