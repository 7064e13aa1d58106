"""From scores to advantages: rewards per token, GAE, groups, whitening, masked means.

Everything but the groups is [B, T] under the package's one alignment: index `t` describes token `t`, and `value[t]` is
the value of the prefix *before* token `t`. The mask is boolean, True at the policy's own tokens. What
stands outside the mask is never read (it may be NaN) and comes back as zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.core.masks import check_mask, last_place


@torch.no_grad()
def shape_rewards(scores: Tensor, penalty: Tensor, mask: Tensor) -> Tensor:
    """Reward per token: minus the penalty everywhere, plus the score on the last real token.

    That token is the last one of the mask: the end-of-turn token, or the last of a truncated answer. (TRL's
    PPO puts the score one slot later, on the first padding token, which changes every advantage when
    lambda < 1.)

    Args:
        scores: [B] score of each whole answer.
        penalty: [B, T], coefficient times KL per token.
        mask: [B, T] bool.

    Returns:
        [B, T]; zero outside the mask; without gradient.

    Raises:
        ValueError: a row without a single masked token (no place for its score), or shapes that differ.
    """
    check_mask(mask, penalty=penalty)
    if scores.shape != mask.shape[:1]:
        raise ValueError(f"scores must be [{mask.shape[0]}], got {list(scores.shape)}")
    if not bool(mask.any(1).all()):
        rows = (~mask.any(1)).nonzero().flatten().tolist()
        raise ValueError(f"rows {rows} have no masked token to carry their score")
    rewards = torch.where(mask, -penalty, 0.0)
    return rewards + torch.where(last_place(mask), scores.to(rewards.dtype).unsqueeze(1), 0.0)


@torch.no_grad()
def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16) along each row's masked tokens.

    With t+1 the next masked token: d_t = r_t + gamma V_{t+1} - V_t and A_t = d_t + gamma lam A_{t+1}, both
    V and A being 0 after the last. So tokens that the policy did not write (a tool's answer in the middle)
    are skipped as if they took no time, and an answer that was cut off is not bootstrapped.

    Args:
        rewards, values: [B, T].
        mask: [B, T] bool.
        gamma: discount, 0..1.
        lam: GAE's lambda, 0..1.

    Returns:
        advantages [B, T] and returns [B, T] (advantages plus values, before any whitening); zero outside
        the mask; without gradient.

    Raises:
        ValueError: shapes differ, or gamma or lam lies outside 0..1.
    """
    check_mask(mask, rewards=rewards, values=values)
    if not (0 <= gamma <= 1 and 0 <= lam <= 1):
        raise ValueError(f"gamma and lam must lie in 0..1, got {gamma} and {lam}")
    values = torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(values)
    next_value = values.new_zeros(values.shape[0])
    next_advantage = values.new_zeros(values.shape[0])
    for t in reversed(range(values.shape[1])):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(here, delta + gamma * lam * next_advantage, next_advantage)
        next_value = torch.where(here, values[:, t], next_value)
        advantages[:, t] = torch.where(here, next_advantage, 0.0)
    return advantages, advantages + values


@torch.no_grad()
def returns_to_go(rewards: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """What each token and those after it earn: R_t = r_t + gamma R_{t+1} along a row's masked tokens.

    GAE with lambda 1 and no critic, which is what it is computed by.

    Args:
        rewards: [B, T].
        mask: [B, T] bool.
        gamma: discount, 0..1.

    Returns:
        [B, T]; zero outside the mask; without gradient.

    Raises:
        ValueError: as `gae`.
    """
    return gae(rewards, torch.zeros_like(rewards), mask, gamma=gamma, lam=1.0)[0]


@torch.no_grad()
def leave_one_out(rewards: Tensor) -> Tensor:
    """RLOO's advantage: a completion's reward less the mean of the others' of its prompt.

    A_i = r_i - mean_{j != i} r_j = K / (K - 1) (r_i - mean r): the baseline does not depend on completion i, so the
    policy gradient stays unbiased (Kool et al. 2019; Ahmadian et al. 2024, equation 7).

    Args:
        rewards: [P, K], K completions of each of P prompts.

    Returns:
        [P, K]; each row sums to zero.

    Raises:
        ValueError: not two dimensions, or K < 2.
    """
    samples = _group_size(rewards)
    return samples / (samples - 1) * (rewards - rewards.mean(1, keepdim=True))


GROUP_EPSILON = 1e-4
"""Added to a group's standard deviation, as in TRL. verl adds 1e-6, OpenRLHF 1e-9."""


@torch.no_grad()
def group_advantages(rewards: Tensor, *, scale: bool) -> Tensor:
    """GRPO's advantage: a completion's reward less the mean of its prompt's, itself included, over their spread.

    A_i = (r_i - mean r) / (std r + 1e-4), the deviation with K - 1 below (Shao et al. 2024, section 4.1.2). Without
    `scale` it is r_i - mean r (Dr. GRPO: Liu et al. 2025), which is (K - 1) / K times `leave_one_out`. Where all
    rewards of a prompt are equal, its advantages are 0.

    Args:
        rewards: [P, K], K completions of each of P prompts.

    Returns:
        [P, K]; each row sums to zero.

    Raises:
        ValueError: not two dimensions, or K < 2.
    """
    _group_size(rewards)
    centred = rewards - rewards.mean(1, keepdim=True)
    centred = torch.where(flat_groups(rewards).unsqueeze(1), 0.0, centred)
    return centred / (rewards.std(1, keepdim=True) + GROUP_EPSILON) if scale else centred


def flat_groups(rewards: Tensor) -> Tensor:
    """[P] bool: prompts whose K completions [P, K] earned the same, up to the rounding of one float32 score (1e-6)."""
    width = rewards.amax(1) - rewards.amin(1)
    return width <= 1e-6 * rewards.abs().amax(1).clamp(min=1.0)


def _group_size(rewards: Tensor) -> int:
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards must be [prompts, K] with K at least 2, got {list(rewards.shape)}")
    return rewards.shape[1]


def overlong_penalty(lengths: Tensor, longest: int, buffer: int) -> Tensor:
    """DAPO's soft punishment of length: 0 up to `longest - buffer` tokens, from there down to 1 at `longest`.

    Yu et al. 2025, equation 13, as something to subtract: (length - (longest - buffer)) / buffer held in 0..1.

    Args:
        lengths: [B] tokens of each completion.
        longest: tokens at which the penalty is whole.
        buffer: tokens over which it grows, 1..longest.

    Returns:
        [B] float32, 0..1.

    Raises:
        ValueError: the buffer lies outside 1..longest.
    """
    if not 1 <= buffer <= longest:
        raise ValueError(f"the buffer must lie in 1..{longest}, got {buffer}")
    return ((lengths.float() - (longest - buffer)) / buffer).clamp(0.0, 1.0)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool) -> Tensor:
    """Masked values scaled to unit variance: (x - mean) / sqrt(var + 1e-8), the variance with n - 1 below.

    Args:
        values: [B, T].
        mask: [B, T] bool.
        shift_mean: True also moves the mean to zero (advantages); False puts it back (rewards, whose mean
            means something).

    Returns:
        [B, T]; zero outside the mask.

    Raises:
        ValueError: fewer than two masked values, or shapes that differ.
    """
    check_mask(mask, values=values)
    count = mask.sum()
    if int(count) < 2:
        raise ValueError(f"whitening needs at least two masked values, got {int(count)}")
    mean = masked_mean(values, mask)
    centred = torch.where(mask, values - mean, 0.0)
    variance = centred.square().sum() / (count - 1)
    whitened = centred * torch.rsqrt(variance + 1e-8)
    return whitened if shift_mean else torch.where(mask, whitened + mean, 0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over all masked entries together: a token counts the same in a short row as in a long one.

    Args:
        values: any shape.
        mask: bool, the same shape.

    Returns:
        scalar.

    Raises:
        ValueError: an empty mask, or shapes that differ.
    """
    check_mask(mask, values=values)
    count = mask.sum()
    if int(count) == 0:
        raise ValueError("the mask is empty: there is nothing to average")
    return torch.where(mask, values, 0.0).sum() / count


@torch.no_grad()
def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """How much of the returns' variance the critic explains: 1 - Var(R - V) / Var(R) over the mask.

    1 is a perfect critic, 0 no better than a constant, below 0 worse than one. NaN when all returns are
    equal, where the question has no answer.

    Args:
        values, returns: [B, T].
        mask: [B, T] bool.

    Returns:
        scalar.

    Raises:
        ValueError: an empty mask, or shapes that differ.
    """
    check_mask(mask, values=values, returns=returns)
    if not bool(mask.any()):
        raise ValueError("the mask is empty: there is nothing to explain")
    actual = returns[mask]
    total = actual.var(correction=0)
    left = (actual - values[mask]).var(correction=0)
    return torch.where(total > 0, 1 - left / total, torch.nan)
