"""Losses of reward models: what a rater said of two answers, or of K ranked ones, against the answers' scores.

Pair losses give one figure a pair, [N] in nats, and ranking losses one a ranking; average them yourself, with your
weights. Side `a` is the preferred one where no `probability` is given. Notation: l(z) = -log sigmoid(z), d = s_a - s_b.
docs/losses.md has the table, with where libraries differ.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from heedful.core.answers import check_shapes, expected

LARGEST_TIE = 10
"""Most answers that a ranking may hold equal: every subset of them is a term of the loss."""


def bradley_terry_loss(
    score_a: Tensor, score_b: Tensor, *, probability: Tensor | None = None, margin: Tensor | None = None
) -> Tensor:
    """How badly two scores explain a preference (Bradley & Terry 1952; Stiennon et al. 2020, section 3.4).

    - plain: l(d);
    - margin: l(d - m) (Touvron et al. 2023, equation 2);
    - soft label: p l(d) + (1 - p) l(-d), p the probability that a rater prefers a; a tie has p = 1/2.

    Args:
        score_a, score_b: [N] scores of the two answers.
        probability: [N] in 0..1. None: a is preferred.
        margin: [N], by how much a ought to win. None: 0.

    Returns:
        [N] losses in nats.

    Raises:
        ValueError: margin and probability together (a margin has no meaning for a pair that might go either
            way), shapes that differ, a probability outside 0..1.
    """
    if probability is not None and margin is not None:
        raise ValueError("margin and probability exclude each other: a soft label says who won, not by how much")
    check_shapes(score_a=score_a, score_b=score_b, probability=probability, margin=margin)
    difference = score_a - score_b
    if margin is not None:
        difference = difference - margin
    if probability is None:
        return -F.logsigmoid(difference)
    return expected(-F.logsigmoid(difference), -F.logsigmoid(-difference), probability)


def centering_penalty(score_a: Tensor, score_b: Tensor) -> Tensor:
    """(s_a + s_b)^2, which holds the *sum* of a pair near zero, not each score.

    Eisenstein et al. 2023; TRL's `center_rewards_coefficient` is its weight, by their advice 0.01.

    Args:
        score_a, score_b: [N].

    Returns:
        [N].

    Raises:
        ValueError: shapes differ.
    """
    check_shapes(score_a=score_a, score_b=score_b)
    return (score_a + score_b).square()


def rao_kupper_log_probabilities(difference: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log P of a wins, tie, b wins, when a rater tells two answers apart only beyond a threshold.

    P(a) = sigmoid(d - t), P(b) = sigmoid(-d - t), and the rest is a tie (Rao & Kupper 1967, equation 2.9, with
    theta = e^t). At t = 0 there are no ties and it is Bradley-Terry.

    Args:
        difference: [N] d.
        threshold: a scalar above 0, t in the scores' units.

    Returns:
        three tensors [N].

    Raises:
        ValueError: the threshold is not above 0.
    """
    if not bool(threshold > 0):
        raise ValueError(f"the tie threshold must be above 0, got {float(threshold)}")
    # sigmoid(d + t) - sigmoid(d - t) = sigmoid(d + t) sigmoid(t - d) (1 - e^-2t)
    tie = F.logsigmoid(difference + threshold) + F.logsigmoid(threshold - difference) + _log1mexp(2 * threshold)
    return F.logsigmoid(difference - threshold), tie, F.logsigmoid(-difference - threshold)


def davidson_log_probabilities(difference: Tensor, log_tie: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log P of a wins, tie, b wins, when ties are likelier the more alike two answers are.

    With strengths e^s: P(a) : P(tie) : P(b) = e^(d/2) : nu : e^(-d/2) (Davidson 1970, equation 2.3). At nu = 0 it is
    Bradley-Terry.

    Args:
        difference: [N] d.
        log_tie: a scalar, log nu.

    Returns:
        three tensors [N].
    """
    half = difference / 2
    logits = torch.stack([half, log_tie.expand_as(half), -half])
    a, tie, b = F.log_softmax(logits, 0)
    return a, tie, b


def tie_loss(log_probabilities: tuple[Tensor, Tensor, Tensor], probability: Tensor) -> Tensor:
    """Cross-entropy of a model with ties, whatever the model.

    The rule for labels: **exactly one half is a tie**; any other share p of votes is p wins of a and 1 - p of b. A
    share of votes does not say which of them were ties, so votes of one to one count as a tie too.

    Args:
        log_probabilities: [N] each: of a wins, tie, b wins.
        probability: [N] in 0..1 that a rater prefers a.

    Returns:
        [N] losses in nats.

    Raises:
        ValueError: shapes differ, or a probability lies outside 0..1.
    """
    a, tie, b = log_probabilities
    return torch.where(probability == 0.5, -tie, expected(-a, -b, probability))


def rao_kupper_loss(score_a: Tensor, score_b: Tensor, *, probability: Tensor, threshold: Tensor) -> Tensor:
    """[N] `tie_loss` of the Rao-Kupper model; arguments and errors as there."""
    check_shapes(score_a=score_a, score_b=score_b, probability=probability)
    return tie_loss(rao_kupper_log_probabilities(score_a - score_b, threshold), probability)


def davidson_loss(score_a: Tensor, score_b: Tensor, *, probability: Tensor, log_tie: Tensor) -> Tensor:
    """[N] `tie_loss` of Davidson's model; arguments and errors as there."""
    check_shapes(score_a=score_a, score_b=score_b, probability=probability)
    return tie_loss(davidson_log_probabilities(score_a - score_b, log_tie), probability)


def ordinal_log_probabilities(difference: Tensor, thresholds: Tensor) -> Tensor:
    """log P of each strength of preference from -K (b by far) over 0 (alike) to K (a by far).

    The cumulative logit (proportional odds) model, P(strength <= k) = sigmoid(c_k - d), with cut points that are
    symmetric, so that swapping the sides turns the strength round: c = -t_K ... -t_1, t_1 ... t_K
    (McCullagh 1980; for paired comparisons Agresti 1992, section 3).

    Args:
        difference: [N] d.
        thresholds: [K] t_1 < ... < t_K, all above 0.

    Returns:
        [N, 2K + 1].

    Raises:
        ValueError: thresholds that do not ascend from above 0.
    """
    cuts = torch.cat([-thresholds.flip(0), thresholds])
    gaps = cuts.diff()
    if not bool((gaps > 0).all()):
        raise ValueError(f"thresholds must ascend from above 0, got {thresholds.tolist()}")
    below = cuts - difference[:, None]  # [N, 2K]: the logit of "at most k"
    inner = F.logsigmoid(below[:, 1:]) + F.logsigmoid(-below[:, :-1]) + _log1mexp(gaps)
    return torch.cat([F.logsigmoid(below[:, :1]), inner, F.logsigmoid(-below[:, -1:])], 1)


def ordinal_loss(score_a: Tensor, score_b: Tensor, *, strength: Tensor, thresholds: Tensor) -> Tensor:
    """Cross-entropy of a strength of preference under `ordinal_log_probabilities`.

    The rule for a mean of several raters' strengths: one between two whole numbers counts as a mixture of both, by
    nearness: 1.25 is three quarters of a 1 and one quarter of a 2.

    Args:
        score_a, score_b: [N] scores.
        strength: [N] from -K to K, above 0 where a is preferred.
        thresholds: [K], as in `ordinal_log_probabilities`.

    Returns:
        [N] losses in nats.

    Raises:
        ValueError: shapes differ, or a strength outside -K..K or not a number.
    """
    check_shapes(score_a=score_a, score_b=score_b, strength=strength)
    most = len(thresholds)
    if bool(torch.any(~(strength.abs() <= most))):
        raise ValueError(f"a strength must lie in -{most}..{most}")
    log_probabilities = ordinal_log_probabilities(score_a - score_b, thresholds)
    lower = strength.floor()
    upper = torch.ceil(strength)
    share = strength - lower

    def said(level: Tensor) -> Tensor:
        return log_probabilities.gather(1, (level.long() + most)[:, None]).squeeze(1)

    return -((1 - share) * said(lower) + share * said(upper))


def ranking_pairs(ranks: Sequence[float]) -> list[tuple[int, int, float]]:
    """(i, j, probability that i is preferred to j) of each two of K ranked answers, i < j; equal ranks are 1/2."""
    return [
        (i, j, 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j]))
        for i, j in itertools.combinations(range(len(ranks)), 2)
    ]


def all_pairs_loss(scores: Tensor, ranks: Sequence[float]) -> Tensor:
    """InstructGPT's loss of one ranking: the mean of Bradley-Terry's over its C(K, 2) pairs.

    Ouyang et al. 2022, equation 1, whose weight of a pair is 1/C(K, 2). A tie counts half for each side. All pairs of
    a prompt come from one forward pass of its K answers.

    Args:
        scores: [K] scores of one prompt's answers.
        ranks: their K ranks, the lower the better; equal ranks are ties.

    Returns:
        a scalar in nats.

    Raises:
        ValueError: as `check_ranking`.
    """
    check_ranking(scores, ranks)
    first, second, probability = zip(*ranking_pairs(ranks), strict=True)
    label = torch.tensor(probability, dtype=scores.dtype, device=scores.device)
    return bradley_terry_loss(scores[list(first)], scores[list(second)], probability=label).mean()


def plackett_luce_loss(scores: Tensor, ranks: Sequence[float]) -> Tensor:
    """-log of the probability that answers are picked, best first, in the order of a ranking.

    Without ties: -sum over k of [s_(k) - logsumexp of s_(k) ... s_(K)] (Plackett 1975; Luce 1959), the last factor
    being 1. K = 2 is Bradley-Terry. **Rule for ties:** every order of equal answers counts alike: the mean of the loss
    over those orders, exactly, so that a tie of two is Bradley-Terry with p = 1/2.

    Args:
        scores: [K] scores of one prompt's answers.
        ranks: their K ranks, the lower the better; equal ranks are ties of at most `LARGEST_TIE` answers.

    Returns:
        a scalar in nats.

    Raises:
        ValueError: as `check_ranking`, or too many answers tied.
    """
    check_ranking(scores, ranks)
    members, weights = _choice_sets(tuple(ranks))
    chosen_from = torch.tensor(members, device=scores.device)  # [M, K] bool: M sets to choose from
    weight = torch.tensor(weights, dtype=scores.dtype, device=scores.device)
    totals = torch.where(chosen_from, scores, -math.inf).logsumexp(1)
    return (weight * totals).sum() - scores.sum()


def check_ranking(scores: Tensor, ranks: Sequence[float]) -> None:
    """Refuse a ranking that is none.

    Raises:
        ValueError: scores that are not [K] with K at least 2, another number of ranks, a rank that is no finite number.
    """
    if scores.dim() != 1 or len(scores) != len(ranks) or len(ranks) < 2:
        raise ValueError(f"a ranking needs at least 2 scores and as many ranks, got {list(scores.shape)}, {len(ranks)}")
    if not all(math.isfinite(rank) for rank in ranks):
        raise ValueError(f"ranks must be finite numbers, got {list(ranks)}")


@lru_cache(maxsize=4096)
def _choice_sets(ranks: tuple[float, ...]) -> tuple[list[list[bool]], list[float]]:
    """The sets from which answers are picked one by one, each with how often: its share of the orders of its ties."""
    members, weights = [], []
    for rank in sorted(set(ranks)):
        tied = [i for i, other in enumerate(ranks) if other == rank]
        if len(tied) > LARGEST_TIE:
            raise ValueError(f"{len(tied)} answers are tied; at most {LARGEST_TIE} can be")
        worse = {i for i, other in enumerate(ranks) if other > rank}
        for left in range(1, len(tied) + 1):
            for subset in itertools.combinations(tied, left):
                members.append([i in worse or i in subset for i in range(len(ranks))])
                weights.append(1 / math.comb(len(tied), left))
    return members, weights


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """The correlation of two [N], a scalar; 0, without a gradient, where one of them is constant."""
    check_shapes(x=x, y=y)
    x, y = x - x.mean(), y - y.mean()
    spread = x.norm() * y.norm()
    return (x * y).sum() / spread if bool(spread > 0) else torch.zeros((), dtype=x.dtype, device=x.device)


def length_penalty(quality: Tensor, length_score: Tensor, lengths: Tensor) -> Tensor:
    """|corr(r_Q, length)| - corr(r_L, length): quality is to know nothing of length, the other head all of it.

    Chen et al. 2024 (ODIN), equation 4. The correlations are Pearson's over the batch, so the figure is one of the
    batch as a whole.

    Args:
        quality, length_score: [N] scores of the two heads.
        lengths: [N] tokens of the answers.

    Returns:
        a scalar from -1 to 1.

    Raises:
        ValueError: shapes differ.
    """
    return pearson(quality, lengths).abs() - pearson(length_score, lengths)


def orthogonality_penalty(first: Tensor, second: Tensor) -> Tensor:
    """|cos| of the angle between two heads' weights, a scalar (Chen et al. 2024, equation 5, weights normalised)."""
    return F.cosine_similarity(first.flatten(), second.flatten(), dim=0).abs()


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^-x) for x > 0."""
    return torch.log(-torch.expm1(-x))
