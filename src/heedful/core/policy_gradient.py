"""PPO's clipped losses, per token; average them over the mask of the whole batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PolicyLoss(NamedTuple):
    """The clipped policy loss and what one watches beside it."""

    per_token: Tensor  # [B, T], zero outside the mask
    ratio: Tensor  # [B, T] new over old probability, one outside the mask
    clipped: Tensor  # [B, T] bool: the clip was what counted


def clipped_policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, *, clip: float
) -> PolicyLoss:
    """max(-A rho, -A clip(rho, 1 - clip, 1 + clip)) with rho = exp(logprob - old logprob).

    Schulman et al. 2017, equation 7, as a loss. A token counts as clipped when its clipped loss exceeds the
    unclipped one: exactly there the gradient is zero.

    Args:
        logprobs: [B, T] of the policy in training, with gradient.
        old_logprobs: [B, T] of the policy that sampled, without.
        advantages: [B, T].
        mask: [B, T] bool. Nothing outside it is read.
        clip: half-width of the trusted interval, above 0.

    Raises:
        ValueError: shapes differ, or clip is not positive.
    """
    _check(mask, clip, logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages)
    ratio = torch.where(mask, logprobs - old_logprobs, 0.0).exp()
    gain = torch.where(mask, advantages, 0.0)
    unclipped = -gain * ratio
    limited = -gain * ratio.clamp(1 - clip, 1 + clip)
    return PolicyLoss(torch.maximum(unclipped, limited), ratio, limited.detach() > unclipped.detach())


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip: float | None
) -> Tensor:
    """0.5 max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2), or 0.5 (V - R)^2 without a clip.

    From the code of OpenAI's baselines (`ppo2`); the paper has no value clip.

    Args:
        values: [B, T] of the critic in training, with gradient.
        old_values: [B, T] from when the experience was made.
        returns: [B, T].
        mask: [B, T] bool. Nothing outside it is read.
        clip: how far a value may move from the old one before its gradient stops; None for no limit.

    Returns:
        [B, T]; zero outside the mask.

    Raises:
        ValueError: shapes differ, or clip is not positive.
    """
    _check(mask, clip, values=values, old_values=old_values, returns=returns)
    values, old_values, returns = (torch.where(mask, x, 0.0) for x in (values, old_values, returns))
    loss = (values - returns).square()
    if clip is not None:
        near = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
        loss = torch.maximum(loss, (near - returns).square())
    return 0.5 * loss


def _check(mask: Tensor, clip: float | None, **tensors: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool, got {mask.dtype}")
    wrong = {name: list(tensor.shape) for name, tensor in tensors.items() if tensor.shape != mask.shape}
    if wrong:
        raise ValueError(f"mask is {list(mask.shape)}, but {wrong}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be above 0, got {clip}")
