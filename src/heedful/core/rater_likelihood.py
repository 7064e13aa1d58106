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
        kinds, kind = np.unique(np.stack([length, data.gold]), axis=1, return_inverse=True)
        return Cells(
            csr_matrix((data.weight, (data.item, cell)), shape=(data.items, len(cell_key))),
            cell_key % len(votes.values),
            cell_key // len(votes.values),
            contexts // len(step) // 3,
            (contexts // len(step) % 3 - 1).astype(np.float64),
            step[contexts % len(step)],
            kind.reshape(-1),
            kinds[0],
            kinds[1],
        )


def _coarse(length: Floats) -> Floats:
    return length if len(np.unique(length)) <= 2 / LENGTH_STEP + 1 else np.round(length / LENGTH_STEP) * LENGTH_STEP


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
        table, probability = self._cell_table(x)
        prior, taste_mean = self._prior(x)
        counts = np.zeros_like(table)
        kinds = np.zeros_like(prior)
        total = 0.0
        for rows, kind, posterior, likelihood in self._posteriors(table, prior):
            total += likelihood
            counts += rows.T @ posterior
            kinds += _indicator(kind, len(kinds)).T @ posterior
        gradient = np.zeros(self.layout.size)
        self._add_raters(gradient, counts, probability)
        if self.layout.taste:
            gradient[-1] = float((self.cells.kind_length * (kinds @ self.nodes - kinds.sum(1) * taste_mean)).sum())
        return total, gradient

    def posterior(self, x: Floats) -> Floats:
        """[items, Q] how probable each difference is, given the judgments."""
        table, _ = self._cell_table(x)
        prior, _ = self._prior(x)
        return np.concatenate([posterior for _, _, posterior, _ in self._posteriors(table, prior)])

    def curvature(self, x: Floats) -> Floats:
        """[parameters] the diagonal of the information if every difference were known: for scaling a search."""
        return np.asarray(self._complete(x).power(2).sum(0)).ravel()

    def information(self, x: Floats, *, exact: bool) -> Floats:
        """[parameters, parameters] the observed information (Louis 1982), or the scores' outer products (BHHH 1974).

        Args:
            x: the parameters.
            exact: the observed information, whose time grows with the nodes; else the outer products, which agree
                with it where there are many more pairs than parameters.
        """
        table, _ = self._cell_table(x)
        prior, _ = self._prior(x)
        posterior = np.concatenate([found for _, _, found, _ in self._posteriors(table, prior)])
        mean = self._scores(x, posterior)
        outer = (mean.T @ mean).toarray()
        if not exact:
            return outer
        rows = self._complete(x, posterior)
        found = (rows.T @ rows).toarray() + outer
        for q in range(len(self.nodes)):
            at_node = np.zeros_like(posterior)
            at_node[:, q] = 1.0
            scores = self._scores(x, at_node)
            scores = scores.multiply(np.sqrt(posterior[:, q])[:, None]).tocsr()
            found -= (scores.T @ scores).toarray()
        return found

    def _cell_table(self, x: Floats) -> tuple[Floats, Floats]:
        """(log-probability of each cell's vote [cells, Q], probabilities [contexts, Q, V])."""
        cells, layout = self.cells, self.layout
        slope, tie, position, length = (
            layout.raters_get(x, kind)[cells.rater] for kind in ("slope", "tie", "position", "length")
        )
        eta = slope[:, None] * self.nodes + (position * cells.order + length * cells.length)[:, None]
        logs = self.votes.log_probability(eta, np.broadcast_to(tie[:, None], eta.shape), x[layout.cuts_at])
        return logs[cells.context, :, cells.vote], np.exp(logs)

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
        for start in range(0, self.cells.table.shape[0], CHUNK):
            rows, kind = self.cells.table[start : start + CHUNK], self.cells.kind[start : start + CHUNK]
            score = rows @ table + prior[kind]
            top = score.max(1, keepdims=True)
            score -= top
            np.exp(score, out=score)
            total = score.sum(1, keepdims=True)
            score /= total
            yield rows, kind, score, float((top + np.log(total)).sum())

    def _add_raters(self, gradient: Floats, counts: Floats, probability: Floats) -> None:
        """Add the scores of all but the taste: how far the votes lie from what was expected, at each node."""
        cells, layout, votes = self.cells, self.layout, self.votes
        contexts = len(cells.rater)
        given = np.zeros((contexts, len(self.nodes), len(votes.values)))
        given[cells.context, :, cells.vote] = counts
        off = given - given.sum(2, keepdims=True) * probability
        eta = off @ (votes.values / 2)
        terms = {
            "slope": eta @ self.nodes,
            "position": eta.sum(1) * cells.order,
            "length": eta.sum(1) * cells.length,
            "tie": (off @ votes.tied).sum(1),
        }
        for kind in layout.kinds:
            gradient[layout.of_raters(kind)] = np.bincount(cells.rater, terms[kind], minlength=layout.raters)
        by_cut = off.sum((0, 1))
        for at in range(layout.cuts):
            gradient[layout.cuts_at.start + at] = by_cut[votes.cut == at].sum()

    def _scores(self, x: Floats, posterior: Floats) -> csr_matrix:
        """[items, parameters] the score of each item, in the mean over `posterior` [items, Q]."""
        cells, layout, votes = self.cells, self.layout, self.votes
        _, probability = self._cell_table(x)
        expected = probability @ (votes.values / 2)
        eta = votes.values[cells.vote][:, None] / 2 - expected[cells.context]
        tie = votes.tied[cells.vote][:, None] - (probability @ votes.tied)[cells.context]
        table = cells.table
        row = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        context = cells.context[table.indices]
        flat = np.einsum("nq,nq->n", posterior[row], eta[table.indices])
        terms = {
            "slope": np.einsum("nq,nq,q->n", posterior[row], eta[table.indices], self.nodes),
            "position": flat * cells.order[context],
            "length": flat * cells.length[context],
            "tie": np.einsum("nq,nq->n", posterior[row], tie[table.indices]),
        }
        columns, values, rows = [], [], []
        for kind in layout.kinds:
            rows.append(row)
            columns.append(layout.of_raters(kind).start + cells.rater[context])
            values.append(terms[kind] * table.data)
        for at in range(layout.cuts):
            mine = (votes.cut == at).astype(np.float64)
            off = mine[cells.vote][:, None] - (probability @ mine)[cells.context]
            rows.append(row)
            columns.append(np.full(len(row), layout.cuts_at.start + at))
            values.append(np.einsum("nq,nq->n", posterior[row], off[table.indices]) * table.data)
        if layout.taste:
            _, mean = self._prior(x)
            rows.append(np.arange(table.shape[0]))
            columns.append(np.full(table.shape[0], layout.size - 1))
            values.append(cells.kind_length[cells.kind] * (posterior @ self.nodes - mean[cells.kind]))
        return csr_matrix(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
            shape=(table.shape[0], layout.size),
        )

    def _complete(self, x: Floats, posterior: Floats | None = None) -> csr_matrix:
        """Rows whose inner products are the information if every difference were known, in the mean over `posterior`.

        By default over the prior.
        """
        cells, layout, votes = self.cells, self.layout, self.votes
        _, probability = self._cell_table(x)
        prior, mean = self._prior(x)
        expected = np.exp(prior)[cells.kind] if posterior is None else posterior
        counts = np.zeros((len(cells.rater), len(self.nodes)))
        np.add.at(counts, cells.context, cells.table.T @ expected)
        context, q, v = (one.ravel() for one in np.indices(probability.shape))
        weight = np.sqrt(counts[context, q] * probability[context, q, v])
        eta = votes.values[v] / 2 - (probability @ (votes.values / 2))[context, q]
        terms = {
            "slope": eta * self.nodes[q],
            "position": eta * cells.order[context],
            "length": eta * cells.length[context],
            "tie": votes.tied[v] - (probability @ votes.tied)[context, q],
        }
        row = np.arange(len(weight))
        rows, columns, values = [], [], []
        for kind in layout.kinds:
            rows.append(row)
            columns.append(layout.of_raters(kind).start + cells.rater[context])
            values.append(weight * terms[kind])
        for at in range(layout.cuts):
            mine = (votes.cut == at).astype(np.float64)
            rows.append(row)
            columns.append(np.full(len(row), layout.cuts_at.start + at))
            values.append(weight * (mine[v] - (probability @ mine)[context, q]))
        height = len(row)
        if layout.taste:
            variance = np.exp(prior) @ self.nodes**2 - mean**2
            of_kind = np.bincount(cells.kind, minlength=len(mean)) * cells.kind_length**2 * variance
            rows.append(np.array([height]))
            columns.append(np.array([layout.size - 1]))
            values.append(np.array([np.sqrt(of_kind.sum())]))
            height += 1
        return csr_matrix(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(height, layout.size)
        )


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
