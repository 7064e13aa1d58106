"""The marginal likelihood of judgments whose pairs' score differences are integrated out, with its derivatives.

Each pair's difference z has the prior N(taste x length, 1) (its scale is in the raters' slopes) and is summed over a
grid. To maximise over it instead would fail with few judgments a pair: as many unknown differences as pairs make
raters look surer than they are (Neyman and Scott 1948). Judgments that the model cannot tell apart (same rater, vote,
order and length) are one cell, so that a million judgments cost one sparse product with a small table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from heedful.core.crowd import Floats, Ints, Judgments
from heedful.core.rater_terms import Layout, Votes

LENGTH_STEP = 1 / 8
"""Lengths are rounded to this where they are of more values than its grid has."""
CHUNK = 32_768
"""Pairs in memory at a time."""


@dataclass(frozen=True)
class Cells:
    """Judgments that a model cannot tell apart, and the contexts (a cell without its vote) that they stand in."""

    table: csr_matrix
    """[items, cells] the weight of each item's judgments in each cell."""
    vote: Ints
    """[cells] place in the votes."""
    context: Ints
    """[cells]"""
    rater: Ints
    """[contexts]"""
    order: Floats
    """[contexts]"""
    length: Floats
    """[contexts]"""
    kind: Ints
    """[items] which prior an item's difference has."""
    kind_length: Floats
    """[kinds]"""
    kind_gold: Floats
    """[kinds] 1, -1, 0 or NaN."""

    @staticmethod
    def of(data: Judgments, votes: Votes, *, ordered: bool, lengthy: bool) -> Cells:
        """The cells of some judgments; an order or a length that is not fitted tells none apart."""
        weight = np.bincount(data.item, weights=data.weight, minlength=data.items)
        each = np.bincount(data.item, weights=data.weight * data.length, minlength=data.items) / weight
        length = _coarse(each) if lengthy else np.zeros(data.items)
        order = data.order if ordered else np.zeros(len(data.item))
        step, of_step = np.unique(length, return_inverse=True)
        key = (data.rater * 3 + (order + 1).astype(np.int64)) * len(step) + of_step[data.item]
        contexts, context = np.unique(key, return_inverse=True)
        cell_key, cell = np.unique(context * np.int64(len(votes.values)) + votes.place(data.vote), return_inverse=True)
        gold, of_gold = np.unique(data.gold, return_inverse=True)
        kinds, kind = np.unique(np.searchsorted(step, length) * len(gold) + of_gold, return_inverse=True)
        return Cells(
            csr_matrix((data.weight, (data.item, cell)), shape=(data.items, len(cell_key))),
            cell_key % len(votes.values),
            cell_key // len(votes.values),
            contexts // len(step) // 3,
            (contexts // len(step) % 3 - 1).astype(np.float64),
            step[contexts % len(step)],
            kind,
            step[kinds // len(gold)],
            gold[kinds % len(gold)],
        )


def _coarse(length: Floats) -> Floats:
    values = np.sort(length)
    few = np.count_nonzero(np.diff(values)) <= 2 / LENGTH_STEP
    return length if few else np.round(length / LENGTH_STEP) * LENGTH_STEP


@dataclass(frozen=True)
class Likelihood:
    """The marginal log-likelihood of cells under a layout of parameters."""

    cells: Cells
    votes: Votes
    layout: Layout
    nodes: Floats
    """[Q] values of z, symmetric around 0, which is one of them."""

    def value_and_gradient(self, x: Floats) -> tuple[float, Floats]:
        """The log-likelihood and its gradient, by Fisher's identity: the mean score given the data."""
        logs = self._logs(x)
        table = logs[self.cells.vote, self.cells.context]
        prior, taste_mean = self._prior(x)
        counts = np.zeros_like(table)
        kinds = np.zeros_like(prior)
        total = 0.0
        for rows, kind, posterior, likelihood in self._posteriors(table, prior):
            total += likelihood
            counts += rows.T @ posterior
            kinds += _indicator(kind, len(kinds)).T @ posterior
        gradient = np.zeros(self.layout.size)
        self._add_raters(gradient, counts, np.exp(logs))
        if self.layout.taste:
            gradient[-1] = float((self.cells.kind_length * (kinds @ self.nodes - kinds.sum(1) * taste_mean)).sum())
        return total, gradient

    def posterior(self, x: Floats) -> Floats:
        """[items, Q] how probable each difference is, given the judgments."""
        table = self._logs(x)[self.cells.vote, self.cells.context]
        return np.concatenate([found for _, _, found, _ in self._posteriors(table, self._prior(x)[0])])

    def curvature(self, x: Floats) -> Floats:
        """[parameters] the diagonal of the information if every difference were known: for scaling."""
        cells, layout, votes = self.cells, self.layout, self.votes
        probability = np.exp(self._logs(x))
        counts = self._context_counts(np.exp(self._prior(x)[0])[cells.kind])
        eta = counts * _variance(probability, votes.values / 2)
        terms = {
            "slope": eta @ self.nodes**2,
            "position": eta.sum(1) * cells.order**2,
            "length": eta.sum(1) * cells.length**2,
            "tie": (counts * _variance(probability, votes.tied)).sum(1),
        }
        found = np.zeros(layout.size)
        for kind in layout.kinds:
            found[layout.of_raters(kind)] = np.bincount(cells.rater, terms[kind], minlength=layout.raters)
        for at in range(layout.cuts):
            mine = (votes.cut == at).astype(np.float64)
            found[layout.cuts_at.start + at] = (counts * _variance(probability, mine)).sum()
        if layout.taste:
            found[-1] = (np.bincount(cells.kind) * cells.kind_length**2).sum()
        return found

    def information(self, x: Floats, *, exact: bool) -> Floats:
        """[parameters, parameters] the observed information (Louis 1982), or the scores' outer products (BHHH 1974).

        Args:
            x: the parameters.
            exact: the observed information, whose time grows with the nodes; else the outer products, which agree
                with it where there are many more pairs than parameters.
        """
        posterior = self.posterior(x)
        mean = self._scores(x, posterior)
        outer = (mean.T @ mean).toarray()
        if not exact:
            return outer
        rows = self._complete(x, posterior)
        found = (rows.T @ rows).toarray() + outer
        for q in range(len(self.nodes)):
            at_node = np.zeros_like(posterior)
            at_node[:, q] = 1.0
            scores = self._scores(x, at_node).multiply(np.sqrt(posterior[:, q])[:, None]).tocsr()
            found -= (scores.T @ scores).toarray()
        return found

    def _logs(self, x: Floats) -> Floats:
        """[V, contexts, Q] log-probabilities of the votes."""
        cells, layout = self.cells, self.layout
        slope, tie, position, length = (
            layout.raters_get(x, kind)[cells.rater] for kind in ("slope", "tie", "position", "length")
        )
        eta = slope[:, None] * self.nodes + (position * cells.order + length * cells.length)[:, None]
        return self.votes.log_probability(eta, tie[:, None], x[layout.cuts_at])

    def _prior(self, x: Floats) -> tuple[Floats, Floats]:
        """(log prior [kinds, Q], its mean [kinds]): normal, cut to the side that gold tells."""
        cells, z = self.cells, self.nodes
        log = -0.5 * (z - self.layout.taste_get(x) * cells.kind_length[:, None]) ** 2
        gold = cells.kind_gold[:, None]
        with np.errstate(divide="ignore"):
            side = np.log(np.where(z == 0, 0.5, (np.sign(z) == gold).astype(float)))
            exact = np.log((z == 0).astype(float) + np.zeros_like(gold))
        log = log + np.where(np.isnan(gold), 0.0, np.where(gold == 0, exact, side))
        top = log.max(1, keepdims=True)
        log -= top + np.log(np.exp(log - top).sum(1, keepdims=True))
        return log, np.exp(log) @ z

    def _posteriors(self, table: Floats, prior: Floats) -> Iterator[tuple[csr_matrix, Ints, Floats, float]]:
        """(rows of the table, kinds, posterior [chunk, Q], log-likelihood) of the items, chunk by chunk."""
        middle = table[:, len(self.nodes) // 2].copy()
        table = table - middle[:, None]
        ones = np.ones(len(self.nodes))
        for start in range(0, self.cells.table.shape[0], CHUNK):
            rows, kind = self.cells.table[start : start + CHUNK], self.cells.kind[start : start + CHUNK]
            score = rows @ table
            score += prior[kind]
            # Against its value at no difference a likelihood overflows only where hundreds judge one item.
            top = score.max(1) if score.max() > 500 else np.zeros(len(kind))
            score -= top[:, None]
            np.exp(score, out=score)
            total = score @ ones
            score *= (1 / total)[:, None]
            yield rows, kind, score, float((rows @ middle).sum() + top.sum() + np.log(total).sum())

    def _context_counts(self, posterior: Floats) -> Floats:
        """[contexts, Q] the weight of the judgments in each context, at each node."""
        cells = self.cells
        return _indicator(cells.context, len(cells.rater)).T @ (cells.table.T @ posterior)

    def _add_raters(self, gradient: Floats, counts: Floats, probability: Floats) -> None:
        """Add the scores of all but the taste: how far the votes lie from what was expected, at each node."""
        cells, layout, votes = self.cells, self.layout, self.votes
        off = np.zeros_like(probability)
        off[cells.vote, cells.context] = counts
        off -= off.sum(0) * probability
        eta = np.tensordot(votes.values / 2, off, 1)
        terms = {
            "slope": eta @ self.nodes,
            "position": eta.sum(1) * cells.order,
            "length": eta.sum(1) * cells.length,
            "tie": np.tensordot(votes.tied, off, 1).sum(1),
        }
        for kind in layout.kinds:
            gradient[layout.of_raters(kind)] = np.bincount(cells.rater, terms[kind], minlength=layout.raters)
        by_cut = off.sum((1, 2))
        for at in range(layout.cuts):
            gradient[layout.cuts_at.start + at] = by_cut[votes.cut == at].sum()

    def _scores(self, x: Floats, posterior: Floats) -> csr_matrix:
        """[items, parameters] the score of each item, in the mean over `posterior` [items, Q]."""
        cells, layout, votes = self.cells, self.layout, self.votes
        probability = np.exp(self._logs(x))
        table = cells.table
        row = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        context = cells.context[table.indices]

        def mean(height: Floats, factor: Floats) -> Floats:
            """[judgments] the mean over the posterior of what a vote has more of `height` [V] than was expected."""
            off = height[cells.vote][:, None] - np.tensordot(height, probability, 1)[cells.context]
            off *= factor
            found = np.empty(len(row))
            for start in range(0, len(row), CHUNK):
                part = slice(start, start + CHUNK)
                found[part] = np.einsum("nq,nq->n", posterior[row[part]], off[table.indices[part]])
            return found * table.data

        flat = mean(votes.values / 2, np.ones(len(self.nodes)))
        terms = {
            "slope": mean(votes.values / 2, self.nodes),
            "position": flat * cells.order[context],
            "length": flat * cells.length[context],
        }
        if "tie" in layout.kinds:
            terms["tie"] = mean(votes.tied, np.ones(len(self.nodes)))
        blocks = [(row, layout.of_raters(kind).start + cells.rater[context], terms[kind]) for kind in layout.kinds]
        for at in range(layout.cuts):
            score = mean((votes.cut == at).astype(np.float64), np.ones(len(self.nodes)))
            blocks.append((row, np.full(len(row), layout.cuts_at.start + at), score))
        if layout.taste:
            items = np.arange(table.shape[0])
            off = posterior @ self.nodes - self._prior(x)[1][cells.kind]
            blocks.append((items, np.full(len(items), layout.size - 1), cells.kind_length[cells.kind] * off))
        return _joined(blocks, table.shape[0], layout.size)

    def _complete(self, x: Floats, posterior: Floats) -> csr_matrix:
        """Rows whose products are the information if every difference were known, in the mean over `posterior`."""
        cells, layout, votes = self.cells, self.layout, self.votes
        probability = np.exp(self._logs(x))
        counts = self._context_counts(posterior)
        _, context, q = (one.ravel() for one in np.indices(probability.shape))
        weight = np.sqrt(counts * probability).ravel()

        def off(height: Floats) -> Floats:
            return (height[:, None, None] - np.tensordot(height, probability, 1)).ravel()

        eta = off(votes.values / 2)
        terms = {
            "slope": eta * self.nodes[q],
            "position": eta * cells.order[context],
            "length": eta * cells.length[context],
            "tie": off(votes.tied),
        }
        row = np.arange(len(weight))
        blocks = [
            (row, layout.of_raters(kind).start + cells.rater[context], weight * terms[kind]) for kind in layout.kinds
        ]
        for at in range(layout.cuts):
            score = weight * off((votes.cut == at).astype(np.float64))
            blocks.append((row, np.full(len(row), layout.cuts_at.start + at), score))
        height = len(row)
        if layout.taste:
            prior, mean = self._prior(x)
            variance = np.exp(prior) @ self.nodes**2 - mean**2
            of_kind = np.bincount(cells.kind, minlength=len(mean)) * cells.kind_length**2 * variance
            blocks.append((np.array([height]), np.array([layout.size - 1]), np.array([np.sqrt(of_kind.sum())])))
            height += 1
        return _joined(blocks, height, layout.size)


def _variance(probability: Floats, height: Floats) -> Floats:
    """[contexts, Q] of `height` [V] under probabilities [V, contexts, Q]."""
    return np.tensordot(height**2, probability, 1) - np.tensordot(height, probability, 1) ** 2


def _joined(blocks: list[tuple[Ints, Ints, Floats]], height: int, width: int) -> csr_matrix:
    """A sparse matrix of (rows, columns, values)."""
    rows, columns, values = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return csr_matrix((values, (rows, columns)), shape=(height, width))


def _indicator(kind: Ints, kinds: int) -> csr_matrix:
    """[items, kinds] 1 at each item's kind."""
    n = len(kind)
    return csr_matrix((np.ones(n), (np.arange(n), kind)), shape=(n, kinds))


def grid(most: float) -> Floats:
    """Nodes fine enough for items of at most so many judgments: 21 from -4 to 4, four times as many where many judge.

    A sum over evenly spaced nodes of a smooth function that has vanished at both ends is exact to far more digits
    than a rule of its order promises; the step must only stay below about the width of a posterior.
    """
    half = 10 if most <= 10 else 20 if most <= 40 else 40
    return np.linspace(-4.0, 4.0, 2 * half + 1)
