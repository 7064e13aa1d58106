"""Consensus of categorical labels by models of raters: Dawid and Skene's confusion matrices, and MACE's spammers.

Both are mixtures fitted by expectation maximisation. They know nothing of the order in which a pair was shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.special import digamma

from heedful.core.crowd import Floats, Ints

TOLERANCE = 1e-4
"""EM has converged when no class probability of an item moves by more in a round."""


@dataclass(frozen=True)
class Labels:
    """n labels of items by raters."""

    item: Ints
    rater: Ints
    label: Ints
    """[n] 0 to classes - 1."""
    weight: Floats
    items: int
    raters: int
    classes: int

    def __post_init__(self) -> None:
        sizes = {len(self.item), len(self.rater), len(self.label), len(self.weight)}
        if len(sizes) != 1 or not len(self.item):
            raise ValueError(f"columns of the lengths {sorted(sizes)} make no labels")
        for name, found, most in (
            ("item", self.item, self.items),
            ("rater", self.rater, self.raters),
            ("label", self.label, self.classes),
        ):
            if found.min() < 0 or found.max() >= most:
                raise ValueError(f"{name} must lie in 0 to {most - 1}")

    def table(self) -> csr_matrix:
        """[items, raters x classes] how often each rater gave each item each label."""
        column = self.rater * self.classes + self.label
        return csr_matrix((self.weight, (self.item, column)), shape=(self.items, self.raters * self.classes))


def labels(item: ArrayLike, rater: ArrayLike, label: ArrayLike, *, weight: ArrayLike | None = None) -> Labels:
    """Labels from columns of whole numbers that count from 0.

    Raises:
        ValueError: columns of different lengths, or none.
    """
    which, who, said = (np.asarray(one, dtype=np.int64) for one in (item, rater, label))
    sizes = (int(one.max(initial=-1)) + 1 for one in (which, who, said))
    share = np.ones(len(which)) if weight is None else np.asarray(weight, dtype=np.float64)
    return Labels(which, who, said, share, *sizes)


@dataclass(frozen=True)
class LabelModel:
    """A fit: what each item is, and how each rater labels."""

    classes: Floats
    """[items, classes] the probability of each class."""
    prior: Floats
    """[classes] the share of each class."""
    confusion: Floats
    """[raters, true class, label] how often a rater gives the label where the class is true."""
    competence: Floats | None
    """[raters] of MACE: how often a rater does not just guess."""
    log_likelihood: float
    """Of the data under the fit, without the prior."""
    rounds: int
    converged: bool
    """No class probability moved by more than the tolerance in the last round."""


def dawid_skene(
    data: Labels,
    *,
    truth: Floats | None = None,
    smoothing: float = 0.0,
    rounds: int = 2000,
    tolerance: float = TOLERANCE,
) -> LabelModel:
    """A confusion matrix for each rater (Dawid and Skene 1979, eqs. 2.3 to 2.5).

    Starts from the share of the labels. With few labels a rater an unsmoothed matrix takes chance for certainty;
    `smoothing` adds so many imagined labels to each of its cells, ten times as many on the diagonal.

    Args:
        data: the labels.
        truth: [items, classes] rows of 0 and 1 where the class is known, of NaN elsewhere.
        smoothing: imagined labels a cell, 0 for Dawid and Skene's own maximum likelihood.
        rounds: of EM, at most.
        tolerance: converged when no class probability of an item moves by more in a round.
    """
    table, k = data.table(), data.classes
    pseudo = smoothing * (1 + 9 * np.eye(k))

    def maximised(posterior: Floats) -> Floats:
        """[raters + 1, classes, labels] log of the confusion matrices, and of the classes' shares in the last."""
        counts = np.asarray(table.T @ posterior).reshape(data.raters, k, k).transpose(0, 2, 1) + pseudo
        shares = np.broadcast_to(posterior.sum(0) / posterior.sum(), (1, k, k))
        return _log(np.concatenate([_rows(counts), shares]))

    def expected(logs: Floats) -> tuple[Floats, float, float]:
        """(posterior, log-likelihood, log-likelihood with the imagined labels)."""
        score = table @ logs[:-1].transpose(0, 2, 1).reshape(-1, k) + logs[-1, 0]
        posterior, likelihood = _normalised(score, truth)
        return posterior, likelihood, likelihood + float((pseudo * logs[:-1]).sum())

    posterior = _start(data, table, truth)
    logs = maximised(posterior)
    moved, done, likelihood = np.inf, 0, -np.inf
    while done < rounds and moved > tolerance:
        first, likelihood, _ = expected(logs)
        once = maximised(first)
        second, _, reached = expected(once)
        twice = maximised(second)
        far = _extrapolated(logs, once, twice)
        _, _, there = expected(far)
        logs = far if there >= reached else twice
        moved = float(np.abs(second - first).max())
        posterior, done = second, done + 3
    return LabelModel(posterior, np.exp(once[-1, 0]), np.exp(once[:-1]), None, likelihood, done, moved <= tolerance)


def _extrapolated(start: Floats, once: Floats, twice: Floats) -> Floats:
    """Where two steps of EM lead if they go on as they began (SQUAREM, Varadhan and Roland 2008), as distributions."""
    first = once - start
    bend = (twice - once) - first
    size = float(np.sqrt((bend**2).sum()))
    length = max(1.0, float(np.sqrt((first**2).sum())) / size) if size > 0 else 1.0
    far = start + 2 * length * first + length**2 * bend
    far -= far.max(-1, keepdims=True)
    return _log(_rows(np.exp(far)))


def mace(
    data: Labels,
    *,
    truth: Floats | None = None,
    guessing: tuple[float, float] = (0.5, 0.5),
    habit: float = 10.0,
    rounds: int = 2000,
    tolerance: float = TOLERANCE,
) -> LabelModel:
    """Each rater either knows the label or guesses by a habit of their own (Hovy et al. 2013), by variational Bayes.

    Hovy et al. start a hundred times at random; this starts once, from the share of the labels, and is deterministic.

    Args:
        data: the labels.
        truth: [items, classes] as in `dawid_skene`.
        guessing: the Beta prior of (guessing, knowing); theirs is 0.5, 0.5.
        habit: the symmetric Dirichlet prior of the habits; theirs is 10.
        rounds: of EM, at most.
        tolerance: converged when no class probability of an item, and no competence, moves by more in a round.
    """
    table, k, r = data.table(), data.classes, data.raters
    posterior = _start(data, table, truth)
    cells = np.asarray(table.sum(0)).reshape(r, k)
    knows, habits = np.full(r, 0.7), np.full((r, k), 1 / k)
    moved, done, likelihood = np.inf, 0, -np.inf
    while done < rounds and moved > tolerance:
        right = np.asarray(table.T @ posterior).reshape(r, k, k).diagonal(axis1=1, axis2=2)
        given = knows[:, None] + (1 - knows)[:, None] * habits
        known = right * knows[:, None] / np.maximum(given, 1e-300)
        guessed = cells - known
        before = knows
        knows, habits = _mace_step(known, guessed, guessing, habit)
        confusion = (1 - knows)[:, None, None] * habits[:, None, :] + knows[:, None, None] * np.eye(k)
        score = table @ _log(confusion).transpose(0, 2, 1).reshape(-1, k) - np.log(k)
        after, likelihood = _normalised(score, truth)
        moved = max(float(np.abs(after - posterior).max()), float(np.abs(knows - before).max()))
        posterior, done = after, done + 1
    return LabelModel(posterior, np.full(k, 1 / k), confusion, knows, likelihood, done, moved <= tolerance)


def _mace_step(known: Floats, guessed: Floats, guessing: tuple[float, float], habit: float) -> tuple[Floats, Floats]:
    """(knows [raters], habits [raters, classes]): exponentials of the expected logarithms, normalised."""
    lazy, sure = digamma(guessed.sum(1) + guessing[0]), digamma(known.sum(1) + guessing[1])
    knows = 1 / (1 + np.exp(lazy - sure))
    weights = np.exp(digamma(guessed + habit) - digamma((guessed + habit).sum(1))[:, None])
    return knows, weights / weights.sum(1, keepdims=True)


def _start(data: Labels, table: csr_matrix, truth: Floats | None) -> Floats:
    """[items, classes] the share of each label."""
    k = data.classes
    counts = np.bincount(data.item * k + data.label, weights=data.weight, minlength=data.items * k)
    counts = counts.reshape(data.items, k)
    none = counts.sum(1, keepdims=True) == 0
    shares = np.where(none, 1 / k, counts / np.maximum(counts.sum(1, keepdims=True), 1e-300))
    return _pinned(shares, truth)


def _pinned(shares: Floats, truth: Floats | None) -> Floats:
    return shares if truth is None else np.where(np.isfinite(truth), truth, shares)


def _normalised(score: Floats, truth: Floats | None) -> tuple[Floats, float]:
    """The classes' probabilities, and the log-likelihood: of a known class its own."""
    if truth is not None:
        score = np.where(truth == 0, -np.inf, score)
    top = score.max(1, keepdims=True)
    weights = np.exp(score - top)
    total = weights.sum(1, keepdims=True)
    return weights / total, float((top + np.log(total)).sum())


def _rows(counts: Floats) -> Floats:
    """Rows that sum to 1; a row without counts says nothing, so it is level."""
    total = counts.sum(-1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1e-300), 1 / counts.shape[-1])


def _log(values: Floats) -> Floats:
    return np.log(np.maximum(values, 1e-300))
