"""Best-of-n on one pool of answers: which are kept, what choosing brings at each n, and where gold turns.

The answers, their scores and the curve come from the same samples: nothing is sampled anew for a smaller n
(see `heedful.evaluation.best_of_n`). Intervals resample prompts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heedful.core.statistics import Interval, cluster_bootstrap
from heedful.core.text import words
from heedful.data.records import Conversation, Preference, prompt_key
from heedful.evaluation.best_of_n import best_of_n, best_of_n_kl
from heedful.evaluation.compare import Answer
from heedful.evaluation.winrate import Floats, cluster_index

PROXY, GOLD = "proxy", "gold"
"""The judge that chooses, and one that did not."""


@dataclass(frozen=True)
class Pool:
    """N answers to each of P prompts, as `answers[p][k]`, with scores [P, N] by judge: `proxy`, which chooses, first.

    Raises:
        ValueError: no proxy, a table of another shape, or a score that is not finite.
    """

    prompts: tuple[Conversation, ...]
    answers: tuple[tuple[Answer, ...], ...]
    scores: Mapping[str, Floats]

    def __post_init__(self) -> None:
        shape = (len(self.prompts), self.samples)
        if {len(drawn) for drawn in self.answers} != {self.samples} or len(self.answers) != shape[0]:
            raise ValueError("every prompt needs the same number of answers")
        if next(iter(self.scores), None) != PROXY:
            raise ValueError("the scores that choose must come first")
        for name, table in self.scores.items():
            if table.shape != shape or not np.isfinite(table).all():
                raise ValueError(f"{name} must be finite scores of shape {shape}")

    @property
    def samples(self) -> int:
        """N, the answers to each prompt."""
        return len(self.answers[0])

    def best(self) -> NDArray[np.int64]:
        """[P] which answer the proxy likes best; of several alike the one that was sampled first."""
        return self.scores[PROXY].argmax(1)

    def worst(self) -> NDArray[np.int64]:
        """[P] which answer it likes least; of several alike the one that was sampled last."""
        return self.samples - 1 - self.scores[PROXY][:, ::-1].argmin(1)


@dataclass(frozen=True)
class Point:
    """What the best of `n` is worth to one judge: its mean, at a KL of at most `kl_bound` nats per answer."""

    n: int
    kl_bound: float
    value: Interval


@dataclass(frozen=True)
class Turn:
    """Where gold is highest, `value` at best of `n`, and by how much it is lower at the end.

    `fall` is the mean over prompts of the difference, with its interval. The peak was picked from the same figures, so
    the fall is a little flattered: where gold is in truth level, a turn is still seen in about one pool of 25.
    """

    n: int
    value: float
    fall: Interval


@dataclass(frozen=True)
class Outcome:
    """What choosing brings.

    `curves` by judge, a point for each n; `gains` by judge, what the best of all N is worth above a plain sample;
    `words` the mean length of the chosen answer at each n; `turns` holds gold's turn, or is empty where no fall is
    shown or no gold was given.
    """

    curves: Mapping[str, tuple[Point, ...]]
    gains: Mapping[str, Interval]
    words: tuple[float, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Kept:
    """What is left of a pool for training.

    `best` names the answer kept of each prompt, as (prompt, which); those that are `empty` are left out. `pairs` set it
    against the worst, `margin` being the difference of their scores; left out are prompts whose answers all score
    `alike`, and `unusable` ones, whose best or worst answer is empty or has the text of the other. `cut` counts answers
    in `best` that did not end by themselves.
    """

    best: tuple[tuple[int, int], ...]
    pairs: tuple[Preference, ...]
    empty: int
    cut: int
    alike: int
    unusable: int


def levels(total: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the total itself.

    >>> levels(12)
    (1, 2, 4, 8, 12)
    """
    doubled = [2**power for power in range(total.bit_length()) if 2**power < total]
    return (*doubled, total)


def expected(pool: Pool, value: Floats, ns: Sequence[int]) -> Floats:
    """[len(ns), P] the expected value of the answer that the proxy likes best among n, per prompt; unbiased.

    Args:
        value: [P, N] what each answer is worth.
    """
    return np.stack([best_of_n(pool.scores[PROXY], value, n) for n in ns])


def examine(pool: Pool, *, seed: int = 0) -> Outcome:
    """The curve of every judge at n = 1, 2, 4, ..., N, with 95% intervals.

    Args:
        seed: of the bootstrap.

    Raises:
        ValueError: the prompts are fewer than two different ones: no interval can be had.
    """
    ns = levels(pool.samples)
    clusters = [prompt_key(prompt) for prompt in pool.prompts]
    index = cluster_index(clusters, len(clusters))
    worth = {name: expected(pool, table, ns) for name, table in pool.scores.items()}
    lengths = np.array([[len(words(answer.text)) for answer in drawn] for drawn in pool.answers], dtype=np.float64)
    curves = {
        name: tuple(
            Point(n, best_of_n_kl(n), cluster_bootstrap(row, index, seed=seed))
            for n, row in zip(ns, values, strict=True)
        )
        for name, values in worth.items()
    }
    found = turn(worth[GOLD], ns, clusters, seed=seed) if GOLD in worth else None
    return Outcome(
        curves,
        {name: cluster_bootstrap(values[-1] - values[0], index, seed=seed) for name, values in worth.items()},
        tuple(expected(pool, lengths, ns).mean(1).tolist()),
        () if found is None else (found,),
    )


def turn(worth: Floats, ns: Sequence[int], clusters: Sequence[Hashable], *, seed: int = 0) -> Turn | None:
    """Where gold is highest, if the 95% interval of its fall from there to the last n lies above 0; None otherwise.

    The fall is the paired difference on the same prompts, its interval from resampling clusters.

    Args:
        worth: [len(ns), P] expected gold at each n, per prompt.
        ns: ascending; the last is the end.
        clusters: [P] each prompt's fact, topic or key.

    Raises:
        ValueError: fewer than two clusters.
    """
    means = worth.mean(1)
    peak = int(means.argmax())
    if peak == len(ns) - 1:
        return None
    index = cluster_index(clusters, worth.shape[1])
    fall = cluster_bootstrap(worth[peak] - worth[-1], index, seed=seed)
    return Turn(ns[peak], float(means[peak]), fall) if fall.low > 0 else None


def keep(pool: Pool) -> Kept:
    """The best answer to each prompt, and the pair that it makes with the worst."""
    best, pairs = [], []
    empty = cut = alike = unusable = 0
    proxy = pool.scores[PROXY]
    for p, (first, last) in enumerate(zip(pool.best().tolist(), pool.worst().tolist(), strict=True)):
        chosen, rejected = pool.answers[p][first], pool.answers[p][last]
        if chosen.text.strip():
            best.append((p, first))
            cut += not chosen.finished
        else:
            empty += 1
        margin = float(proxy[p, first] - proxy[p, last])
        if margin == 0:
            alike += 1
        elif not chosen.text.strip() or not rejected.text.strip() or chosen.text.strip() == rejected.text.strip():
            unusable += 1
        else:
            pairs.append(Preference(pool.prompts[p], chosen.text, rejected.text, margin=margin))
    return Kept(tuple(best), tuple(pairs), empty, cut, alike, unusable)
