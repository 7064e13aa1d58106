"""Clipped losses of policy and critic, per token or per completion, and how they are averaged over a batch."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from heedful.core.masks import check_mask, last_place

RatioLevel = Literal["token", "sequence", "sequence_mean"]
Aggregation = Literal["token", "sequence", "constant", "completion"]


class PolicyLoss(NamedTuple):
    """The clipped policy loss and what one watches beside it. U is T, or 1 where the ratio is a completion's."""

    per_token: Tensor  # [B, U], zero outside the mask
    ratio: Tensor  # [B, U] new over old probability, one outside the mask
    clipped: Tensor  # [B, U] bool: the clip was what counted
    mask: Tensor  # [B, U] bool: the tokens, or the rows that have any


def clipped_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float,
    clip_high: float | None = None,
    level: RatioLevel = "token",
) -> PolicyLoss:
    """max(-A rho, -A clip(rho, 1 - clip, 1 + clip_high)) with rho = exp(logprob - old logprob).

    Schulman et al. 2017, equation 7, as a loss. A token counts as clipped when its clipped loss exceeds the
    unclipped one: exactly there the gradient is zero.

    The ratio is each token's own; or one for a completion: the product of its tokens' ratios ("sequence", which is
    importance sampling of the whole action, as RLOO has it), or their geometric mean ("sequence_mean", GSPO: Zheng et
    al. 2025, equation 7). Its advantage is then that of the completion's last token.

    Args:
        logprobs: [B, T] of the policy in training, with gradient.
        old_logprobs: [B, T] of the policy that sampled, without.
        advantages: [B, T].
        mask: [B, T] bool. Nothing outside it is read.
        clip: how far the ratio may fall below 1, above 0.
        clip_high: how far it may rise above 1 (DAPO's "clip higher"); None is as far as it may fall.
        level: whose ratio.

    Raises:
        ValueError: shapes differ, or a clip is not positive.
    """
    check_mask(mask, logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages)
    _check_clip(clip=clip, clip_high=clip_high)
    change = torch.where(mask, logprobs - old_logprobs, 0.0)
    gain = torch.where(mask, advantages, 0.0)
    if level != "token":
        change = change.sum(1, keepdim=True)
        if level == "sequence_mean":
            change = change / mask.sum(1, keepdim=True).clamp(min=1)
        gain = torch.where(last_place(mask), gain, 0.0).sum(1, keepdim=True)
        mask = mask.any(1, keepdim=True)
    ratio = change.exp()
    unclipped = -gain * ratio
    limited = -gain * ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    return PolicyLoss(torch.maximum(unclipped, limited), ratio, limited.detach() > unclipped.detach(), mask)


class Whole(NamedTuple):
    """What a mean runs over: the whole minibatch, of which a loss may see a part at a time."""

    rows: int  # completions
    tokens: int  # masked tokens
    longest: int  # the constant of the "constant" mean: the most tokens that a completion may have


def aggregate(values: Tensor, mask: Tensor, how: Aggregation, whole: Whole) -> Tensor:
    """One number from losses [B, U], so that the parts of a minibatch add up to the mean over the whole.

    - token: over all tokens alike (PPO; DAPO). A long completion weighs more than a short one.
    - sequence: within each completion, then over completions (GRPO as published). A token of a long completion
      weighs less, so that a long wrong answer costs little a token (Liu et al. 2025).
    - constant: the sum over the most tokens that a completion may have, then over completions (Dr. GRPO).
    - completion: the sum of each completion, then the mean: the policy gradient itself.

    Args:
        values: [B, U], zero outside the mask.
        mask: [B, U] bool.

    Returns:
        scalar.
    """
    if how == "token":
        return values.sum() / whole.tokens
    if how == "sequence":
        return (values.sum(1) / mask.sum(1).clamp(min=1)).sum() / whole.rows
    return values.sum() / (whole.rows * (whole.longest if how == "constant" else 1))


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
    check_mask(mask, values=values, old_values=old_values, returns=returns)
    _check_clip(clip=clip)
    values, old_values, returns = (torch.where(mask, x, 0.0) for x in (values, old_values, returns))
    loss = (values - returns).square()
    if clip is not None:
        near = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
        loss = torch.maximum(loss, (near - returns).square())
    return 0.5 * loss


def _check_clip(**widths: float | None) -> None:
    for name, width in widths.items():
        if width is not None and not width > 0:
            raise ValueError(f"{name} must be above 0, got {width}")
