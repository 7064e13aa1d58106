"""Losses on pairs of answers, `a` the preferred one: a short pure function each, [N] losses, average them yourself.

A function's signature says what it needs, and trainers read it (`heedful.training.preference_losses`):
`Anchored` answers ask for a reference and plain `Answers` for none; `margin` and `probability` are given where they
are asked for; every other keyword is a setting with its default. A soft label is the expectation over both ways round
(`heedful.core.answers.expected`) unless the function takes `probability` itself.

Notation: l(z) = -log sigmoid(z); c and r are log pi/ref of a and b, D = c - r; |a| is a's length. docs/losses.md has
the table, with where libraries differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from heedful.core.answers import Anchored, Answers, check_shapes, expected, within

LossT = TypeVar("LossT", bound=Callable[..., Any])

LARGEST_MEAN = -1e-6
"""Log-probabilities per token are held below this in ORPO, whose odds are infinite at certainty."""


def whole_batch(loss: LossT) -> LossT:
    """Mark a loss whose value for one pair depends on the others of its batch: it is never cut into micro-batches."""
    loss.whole_batch = True  # type: ignore[attr-defined]
    return loss


def sigmoid(
    a: Anchored,
    b: Anchored,
    *,
    beta: float = 0.1,
    margin: Tensor | None = None,
    probability: Tensor | None = None,
) -> Tensor:
    """DPO: l(beta D - m). Rafailov et al. 2023, eq. 7; the margin as in ODPO (Amini et al. 2024, eq. 5).

    With soft label p its optimum is beta D = log(p / (1 - p)); with hard labels it has no finite one.

    Raises:
        ValueError: margin and probability together: a soft label says who won, not by how much.
    """
    logit = _less(beta * (a.ratio - b.ratio), margin)
    if probability is None:
        return -F.logsigmoid(logit)
    if margin is not None:
        raise ValueError("margin and probability exclude each other: a soft label says who won, not by how much")
    return expected(-F.logsigmoid(logit), -F.logsigmoid(-logit), probability)


def cdpo(a: Anchored, b: Anchored, *, beta: float = 0.1, epsilon: float = 0.1) -> Tensor:
    """Conservative DPO: (1 - e) l(beta D) + e l(-beta D); optimum beta D = log((1 - e) / e). Mitchell 2023."""
    within(0, 0.5, epsilon=epsilon)
    logit = beta * (a.ratio - b.ratio)
    return -(1 - epsilon) * F.logsigmoid(logit) - epsilon * F.logsigmoid(-logit)


def robust(a: Anchored, b: Anchored, *, beta: float = 0.1, epsilon: float = 0.1) -> Tensor:
    """Robust DPO: [(1 - e) l(beta D) - e l(-beta D)] / (1 - 2e). Chowdhury et al. 2024, eq. 12.

    The expectation over labels flipped with probability e is clean DPO. It can be negative.
    """
    within(0, 0.5, epsilon=epsilon)
    logit = beta * (a.ratio - b.ratio)
    return (-(1 - epsilon) * F.logsigmoid(logit) + epsilon * F.logsigmoid(-logit)) / (1 - 2 * epsilon)


def ipo(a: Anchored, b: Anchored, *, beta: float = 0.1) -> Tensor:
    """IPO on sums: (D - 1 / (2 beta))^2, beta the paper's tau. Azar et al. 2023, eq. 17.

    With soft label p its optimum is D = (2p - 1) / (2 beta).
    """
    return (a.ratio - b.ratio - 1 / (2 * beta)).square()


def ipo_mean(a: Anchored, b: Anchored, *, beta: float = 0.1) -> Tensor:
    """IPO on means per token, as TRL has it: (c / |a| - r / |b| - 1 / (2 beta))^2."""
    return (a.mean_ratio - b.mean_ratio - 1 / (2 * beta)).square()


def hinge(a: Anchored, b: Anchored, *, beta: float = 0.1, margin: Tensor | None = None) -> Tensor:
    """SLiC's calibration on DPO's logit: max(0, 1 - (beta D - m)). Zhao et al. 2023; Liu et al. 2024 (RSO), eq. 10."""
    return torch.relu(1 - _less(beta * (a.ratio - b.ratio), margin))


def dpo_norm(a: Anchored, b: Anchored, *, beta: float = 5.0, margin: Tensor | None = None) -> Tensor:
    """Length-normalised DPO: l(beta (c / |a| - r / |b|) - m). Lambert et al. 2024 (Tülu 3), eq. 6, and its beta."""
    return -F.logsigmoid(_less(beta * (a.mean_ratio - b.mean_ratio), margin))


def r_dpo(a: Anchored, b: Anchored, *, beta: float = 0.1, alpha: float = 0.01) -> Tensor:
    """R-DPO: l(beta D + alpha (|a| - |b|)): DPO for the reward less alpha a token. Park et al. 2024, eq. 9."""
    return -F.logsigmoid(beta * (a.ratio - b.ratio) + alpha * (a.length - b.length))


def orpo(a: Answers, b: Answers, *, weight: float = 0.1) -> Tensor:
    """ORPO: -mean log pi(a) + weight l(log odds(a) - log odds(b)), odds of the mean per token. Hong et al. 2024, eq. 6.

    log odds(y) = m - log(1 - e^m), m the log-probability per token, held at or below -1e-6: at 0 the odds are infinite.
    """
    within(0, None, weight=weight)
    return -a.mean - weight * F.logsigmoid(_log_odds(a.mean) - _log_odds(b.mean))


def simpo(a: Answers, b: Answers, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """SimPO: l(beta (mean log pi(a) - mean log pi(b)) - gamma). Meng et al. 2024, eq. 6; gamma is not gamma / beta."""
    return -F.logsigmoid(beta * (a.mean - b.mean) - gamma)


def cpo(a: Answers, b: Answers, *, beta: float = 0.1, alpha: float = 1.0) -> Tensor:
    """CPO: l(beta (log pi(a) - log pi(b))) - alpha mean log pi(a), sums in the first term. Xu et al. 2024, eq. 5."""
    return -F.logsigmoid(beta * (a.logprob - b.logprob)) - alpha * a.mean


def exo(a: Anchored, b: Anchored, *, probability: Tensor, beta: float = 0.1, epsilon: float = 1e-3) -> Tensor:
    """EXO for pairs: KL(s || q) of s = sigmoid(beta D) from the label q. Ji et al. 2024, eq. 16.

    q = p (1 - e) + (1 - p) e, which for a hard label is the paper's smoothed one. Its optimum is
    beta D = log(q / (1 - q)): the mean of the two ways round would have another.
    """
    within(0, 0.5, epsilon=epsilon)
    logit = beta * (a.ratio - b.ratio)
    check_shapes(logit=logit, probability=probability)
    target = probability * (1 - epsilon) + (1 - probability) * epsilon
    for_a = torch.sigmoid(logit) * (F.logsigmoid(logit) - target.log())
    return for_a + torch.sigmoid(-logit) * (F.logsigmoid(-logit) - (1 - target).log())


def nca(a: Anchored, b: Anchored, *, beta: float = 0.1) -> Tensor:
    """NCA for pairs: l(beta c) + l(-beta c) / 2 + l(-beta r) / 2. Chen et al. 2024, eq. 15 with K = 2."""
    gain, loss = beta * a.ratio, beta * b.ratio
    return -F.logsigmoid(gain) - 0.5 * F.logsigmoid(-gain) - 0.5 * F.logsigmoid(-loss)


def apo_zero(a: Anchored, b: Anchored, *, beta: float = 0.1) -> Tensor:
    """APO-zero: 1 - sigmoid(beta c) + sigmoid(beta r): a up, b down. D'Oosterlinck et al. 2024, eq. 7."""
    return 1 - torch.sigmoid(beta * a.ratio) + torch.sigmoid(beta * b.ratio)


def apo_down(a: Anchored, b: Anchored, *, beta: float = 0.1) -> Tensor:
    """APO-down: sigmoid(beta c) + 1 - sigmoid(beta D): both down, b further. D'Oosterlinck et al. 2024, eq. 8."""
    return torch.sigmoid(beta * a.ratio) + 1 - torch.sigmoid(beta * (a.ratio - b.ratio))


def sppo_hard(a: Anchored, b: Anchored, *, beta: float = 0.1) -> Tensor:
    """SPPO for pairs: (c - 1 / (2 beta))^2 + (r + 1 / (2 beta))^2. Wu et al. 2024, eq. 4.6 with win rates 1 and 0.

    The expectation under a soft label p has the gradient of the paper's own targets (p - 1/2) / beta and
    (1/2 - p) / beta.
    """
    return (a.ratio - 1 / (2 * beta)).square() + (b.ratio + 1 / (2 * beta)).square()


@whole_batch
def aot(a: Anchored, b: Anchored, *, beta: float = 0.1) -> Tensor:
    """Paired AOT: l(beta (sorted(log pi(a) - log pi(b)) - sorted(log ref(a) - log ref(b)))). Melnyk et al. 2024.

    The distribution of the policy's margins over the batch is to dominate that of the reference's.
    """
    policy, reference = a.logprob - b.logprob, a.reference - b.reference
    return -F.logsigmoid(beta * (policy.sort().values - reference.sort().values))


@whole_batch
def aot_unpaired(a: Anchored, b: Anchored, *, beta: float = 0.1) -> Tensor:
    """Unpaired AOT: l(beta (sorted(c) - sorted(r))): preferred answers above the others. Melnyk et al. 2024."""
    return -F.logsigmoid(beta * (a.ratio.sort().values - b.ratio.sort().values))


def discopop(a: Anchored, b: Anchored, *, beta: float = 0.1, tau: float = 0.05) -> Tensor:
    """DiscoPOP: (1 - s) l(z) + s e^(-z), z = beta D and s = sigmoid(z / tau). Lu et al. 2024, eq. 5."""
    within(0, None, tau=tau)
    logit = beta * (a.ratio - b.ratio)
    mixed = torch.sigmoid(logit / tau)
    return -(1 - mixed) * F.logsigmoid(logit) + mixed * torch.exp(-logit)


def _less(logit: Tensor, margin: Tensor | None) -> Tensor:
    if margin is None:
        return logit
    check_shapes(logit=logit, margin=margin)
    return logit - margin


def _log_odds(mean: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = e^mean, exact near both ends."""
    mean = mean.clamp(max=LARGEST_MEAN)
    return mean - torch.log(-torch.expm1(mean))
