"""One score from several reward models' scores of the same answers (Coste et al. 2023, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_score(scores: Tensor) -> Tensor:
    """[B] the mean over members of scores [M, B]."""
    _check(scores, 1)
    return scores.mean(0)


def worst_case(scores: Tensor) -> Tensor:
    """[B] the lowest member's score of scores [M, B] (WCO, worst-case optimisation)."""
    _check(scores, 1)
    return scores.amin(0)


def uncertainty_penalised(scores: Tensor, coefficient: float) -> Tensor:
    """[B] mean - coefficient * variance over members of scores [M, B] (UWO, uncertainty-weighted optimisation).

    The variance is the unbiased one (M - 1 below). The paper takes 0.5 for best-of-n and 0.1 for PPO.

    Raises:
        ValueError: fewer than two members, or a negative coefficient.
    """
    _check(scores, 2)
    if coefficient < 0:
        raise ValueError(f"the coefficient must not be negative, got {coefficient}")
    return scores.mean(0) - coefficient * scores.var(0, correction=1)


def weighted_sum(scores: Tensor, weights: Sequence[float]) -> Tensor:
    """[B] sum over members of weight times score, of scores [M, B] and M weights."""
    _check(scores, 1)
    if len(weights) != scores.shape[0]:
        raise ValueError(f"{scores.shape[0]} members need as many weights, got {len(weights)}")
    return torch.as_tensor(weights, dtype=scores.dtype, device=scores.device) @ scores


def _check(scores: Tensor, least: int) -> None:
    if scores.dim() != 2 or scores.shape[0] < least:
        raise ValueError(f"scores must be [members, answers] of at least {least} members, got {list(scores.shape)}")
