"""Losses on pairs of answers: Bradley–Terry for reward models, the sigmoid loss of DPO for policies."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def bradley_terry_loss(
    score_a: Tensor,
    score_b: Tensor,
    *,
    probability: Tensor | None = None,
    margin: Tensor | None = None,
    centering: float = 0.0,
) -> Tensor:
    """How badly two scores explain a preference, pair by pair; average it yourself, with your weights.

    With l(z) = -log sigmoid(z) and scores s:

    - plain: l(s_a - s_b) (Bradley & Terry 1952; Stiennon et al. 2020, section 3.4);
    - margin: l(s_a - s_b - m) (Touvron et al. 2023, equation 2);
    - soft label: p l(s_a - s_b) + (1 - p) l(s_b - s_a), p the probability that a rater prefers a.

    Centering adds `centering * (s_a + s_b)^2`, which holds the *sum* of a pair near zero, not each score
    (Eisenstein et al. 2023; TRL's `center_rewards_coefficient`, by its advice 0.01).

    Args:
        score_a, score_b: [N] scores of the two answers.
        probability: [N] in 0..1. None: a is preferred.
        margin: [N], by how much a ought to win. None: 0.
        centering: weight of the centering term, not negative.

    Returns:
        [N] losses in nats.

    Raises:
        ValueError: margin and probability together (a margin has no meaning for a pair that might go either
            way), shapes that differ, a probability outside 0..1.
    """
    if probability is not None and margin is not None:
        raise ValueError("margin and probability exclude each other: a soft label says who won, not by how much")
    _check_shapes(score_a=score_a, score_b=score_b, probability=probability, margin=margin)
    difference = score_a - score_b
    if margin is not None:
        difference = difference - margin
    loss = _soft_label(difference, probability)
    if centering != 0.0:
        loss = loss + centering * (score_a + score_b).square()
    return loss


def dpo_loss(
    policy_a: Tensor,
    policy_b: Tensor,
    reference_a: Tensor,
    reference_b: Tensor,
    *,
    beta: float,
    probability: Tensor | None = None,
) -> Tensor:
    """DPO's sigmoid loss, pair by pair: l(beta * D), D = log pi/ref of a minus log pi/ref of b.

    l(z) = -log sigmoid(z) (Rafailov et al. 2023, equation 7). With a soft label both sides count:
    p l(beta D) + (1 - p) l(-beta D), which is cDPO with p = 1 - epsilon; its optimum is
    beta D = log(p / (1 - p)).

    Args:
        policy_a, policy_b, reference_a, reference_b: [N] log-probabilities of whole answers: *sums* over the
            completion's tokens, its end-of-turn token included.
        beta: strength of the leash, above 0.
        probability: [N] in 0..1 that a rater prefers a. None: a is preferred.

    Returns:
        [N] losses in nats; log 2 where policy and reference agree.

    Raises:
        ValueError: beta is not positive, shapes differ, a probability lies outside 0..1.
    """
    if beta <= 0:
        raise ValueError(f"beta must be above 0, got {beta}")
    _check_shapes(
        policy_a=policy_a,
        policy_b=policy_b,
        reference_a=reference_a,
        reference_b=reference_b,
        probability=probability,
    )
    return _soft_label(beta * ((policy_a - reference_a) - (policy_b - reference_b)), probability)


def _soft_label(logit: Tensor, probability: Tensor | None) -> Tensor:
    """[N] cross-entropy of sigmoid(logit) with `probability`, stable for any logit."""
    if probability is None:
        return -F.logsigmoid(logit)
    if bool(torch.any(~((probability >= 0) & (probability <= 1)))):
        raise ValueError("probability must lie in 0..1")
    return -(probability * F.logsigmoid(logit) + (1 - probability) * F.logsigmoid(-logit))


def _check_shapes(**tensors: Tensor | None) -> None:
    """One [N] for all: [N] against [N, 1] would broadcast to N x N pairs without a word."""
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items() if tensor is not None}
    first = next(iter(shapes.values()))
    if len(first) != 1 or any(shape != first for shape in shapes.values()):
        raise ValueError(f"all arguments must be [N], got {shapes}")
