"""One consensus of many raters' judgments of pairs, by a named method. Works without torch.

Each method gives `probability`, what a rater of its stated population prefers, and where it has the notion
`posterior`, that a is the better answer. An exact tie stays at one half; nothing is broken by order or name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from heedful.core.codes import coded
from heedful.core.crowd import Caveat, Consensus, Floats, Judgments, settled
from heedful.core.crowd_models import LabelModel, Labels, dawid_skene, mace
from heedful.core.rater_aware import rater_aware
from heedful.core.rater_fit import STUCK

SMOOTHING = 0.1
"""Imagined labels a cell of a rater's confusion matrix, ten times as many on the diagonal."""
AS_JUDGED = "the raters, each as often as they judged"
NO_OVERLAP = Caveat(
    "no-overlap",
    "No pair was judged by two raters and no truth is known, so nothing tells how reliable raters are. Have pairs"
    " judged twice, or give gold.",
)


def share(data: Judgments) -> Consensus:
    """The share of the votes for a, a tie counting half to each side. Believes every rater alike."""
    return Consensus("share", data.item_ids, settled(_shares(data)), None, data.raters_of(), AS_JUDGED)


def majority(data: Judgments) -> Consensus:
    """1, 0 or, where the votes balance, one half: a hard label, which hides by how much the majority won."""
    probability = (np.sign(settled(_shares(data)) - 0.5) + 1) / 2
    return Consensus("majority", data.item_ids, probability, None, data.raters_of(), AS_JUDGED)


def weighted(data: Judgments, weights: ArrayLike | None = None) -> Consensus:
    """The weighted share of the votes.

    Args:
        data: the judgments.
        weights: [raters] 0 or more, in the order of `rater_ids`; by default `agreement_weights`.

    Raises:
        ValueError: weights that are negative, not finite, or not one a rater.
    """
    given = agreement_weights(data) if weights is None else np.asarray(weights, dtype=np.float64)
    if given.shape != (data.raters,) or not np.isfinite(given).all() or given.min() < 0:
        raise ValueError(f"weights are finite numbers of 0 or more, one for each of the {data.raters} raters")
    lonely = weights is None and not data.anchored and data.raters_of().max() < 2
    return Consensus(
        "weighted",
        data.item_ids,
        settled(_shares(data, given[data.rater])),
        None,
        data.raters_of(),
        "the raters, each by their weight",
        caveats=(NO_OVERLAP,) if lonely else (),
    )


def agreement_weights(data: Judgments) -> Floats:
    """[raters] log-odds of agreeing with the truth where it is known, else with the other raters' majority.

    These weights make the best vote of independent raters whose accuracies are known (Nitzan and Paroush 1982). Each
    accuracy is smoothed by one agreement and half a disagreement; below one half the weight is 0, and raters whom
    nothing can be compared with have the weight of those: the logarithm of 2.
    """
    signs = data.signs()
    said = data.weight * signs
    total = np.bincount(data.item, said, minlength=data.items)
    _, both = coded(data.item * np.int64(data.raters) + data.rater)
    own = np.bincount(both, said)[both]  # all that the rater said of the pair: an AI judge says it in two orders
    gold = data.gold[data.item]
    other = np.where(np.isfinite(gold), gold, np.sign(np.round(total[data.item] - own, 9)))
    told = (other != 0) & (signs != 0)
    agreed = np.bincount(data.rater[told], (signs == other)[told], minlength=data.raters) + 1.0
    against = np.bincount(data.rater[told], (signs != other)[told], minlength=data.raters) + 0.5
    return np.maximum(np.log(agreed / against), 0.0)


def _shares(data: Judgments, factor: Floats | None = None) -> Floats:
    """[items] share of weight for a; one half where all weight is 0."""
    weight = data.weight if factor is None else data.weight * factor
    total = np.bincount(data.item, weight, minlength=data.items)
    lean = np.bincount(data.item, weight * data.signs(), minlength=data.items)
    return 0.5 + lean / np.where(total > 0, 2 * total, 1.0)


@dataclass(frozen=True)
class Crowd:
    """A consensus by a model of raters' labels, with the model."""

    consensus: Consensus
    model: LabelModel
    """Classes in the order b, tie, a, or b, a where nobody gave a tie."""


def by_dawid_skene(data: Judgments, *, smoothing: float = SMOOTHING, rounds: int = 2000) -> Crowd:
    """Dawid and Skene's model of the votes a, b and (where anybody gave one) tie; gold is known to it."""
    votes, truth, values = _labels(data)
    model = dawid_skene(votes, truth=truth, smoothing=smoothing, rounds=rounds)
    return _crowd("dawid-skene", data, model, values)


def by_mace(data: Judgments, *, rounds: int = 2000) -> Crowd:
    """MACE's model of the votes; gold is known to it."""
    votes, truth, values = _labels(data)
    return _crowd("mace", data, mace(votes, truth=truth, rounds=rounds), values)


def _labels(data: Judgments) -> tuple[Labels, Floats, Floats]:
    """(labels, truth, value of each class)."""
    signs = data.signs()
    tied = bool((signs == 0).any() or (data.gold == 0).any())
    values = np.array([-1.0, 0.0, 1.0]) if tied else np.array([-1.0, 1.0])
    label = np.searchsorted(values, signs)
    known = np.isfinite(data.gold)[:, None]
    truth = np.where(known, (data.gold[:, None] == values).astype(np.float64), np.nan)
    votes = Labels(data.item, data.rater, label, data.weight, data.items, data.raters, len(values))
    return votes, truth, values


def _crowd(method: str, data: Judgments, model: LabelModel, values: Floats) -> Crowd:
    often = np.bincount(data.rater, data.weight, minlength=data.raters)
    says = np.tensordot(often / often.sum(), model.confusion, 1)
    caveats = [] if model.converged else [STUCK]
    if not data.anchored and data.raters_of().max() < 2:
        caveats.append(NO_OVERLAP)
    consensus = Consensus(
        method,
        data.item_ids,
        settled(0.5 + model.classes @ says @ values / 2),
        settled(0.5 + model.classes @ values / 2),
        data.raters_of(),
        AS_JUDGED,
        model.converged,
        tuple(caveats),
    )
    return Crowd(consensus, model)


METHODS: dict[str, Callable[[Judgments], Consensus]] = {
    "share": share,
    "majority": majority,
    "weighted": weighted,
    "dawid-skene": lambda data: by_dawid_skene(data).consensus,
    "mace": lambda data: by_mace(data).consensus,
    "rater-aware": lambda data: rater_aware(data, errors=False).consensus,
}
"""By their names. `share` is the mean of the votes."""


def consensus(data: Judgments, method: str) -> Consensus:
    """The consensus by a method of `METHODS`.

    Raises:
        ValueError: there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}: {', '.join(METHODS)}")
    return METHODS[method](data)
