"""Importance weights of samples that another program drew, or an older policy: truncated from above."""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.core.masks import check_mask
from heedful.core.policy_gradient import RatioLevel


def truncated_weights(
    logprobs: Tensor, sampled: Tensor, mask: Tensor, *, cap: float, level: RatioLevel = "token"
) -> Tensor:
    """min(exp(logprob - sampled logprob), cap): what a loss on such samples is multiplied by.

    Truncated importance sampling (Ionides 2008), between the policy that learns and the one that sampled (Yao et al.
    2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"). The mean under the sampler of an
    untruncated weight is 1. A clipped loss that is multiplied by it is the decoupled objective of Hilton et al. 2022.

    Args:
        logprobs: [B, T] in nats, of the policy before it learns from these samples.
        sampled: [B, T] of whatever sampled them.
        mask: [B, T] bool. Nothing outside it is read.
        cap: the largest weight, above 0.
        level: as the method takes its own ratio: each token's; or one for a completion, the product of its tokens'
            ("sequence") or their geometric mean ("sequence_mean").

    Returns:
        [B, T] without gradient, 0 outside the mask.

    Raises:
        ValueError: shapes differ, or the cap is not above 0.
    """
    check_mask(mask, logprobs=logprobs, sampled=sampled)
    if not cap > 0:
        raise ValueError(f"cap must be above 0, got {cap}")
    apart = torch.where(mask, (logprobs - sampled).detach(), 0.0)
    if level != "token":
        whole = apart.sum(1, keepdim=True)
        if level == "sequence_mean":
            whole = whole / mask.sum(1, keepdim=True).clamp(min=1)
        apart = whole.expand_as(apart)
    return torch.where(mask, apart.exp().clamp(max=cap), 0.0)


def mismatch(logprobs: Tensor, sampled: Tensor, mask: Tensor, *, cap: float) -> dict[str, float]:
    """How far the sampler is from the policy that learns, over the sampled tokens.

    Args:
        logprobs, sampled, mask: as for `truncated_weights`.
        cap: of the weights; 0 for none.

    Returns:
        `sampler_kl`, KL(sampler || policy) in nats per token by k3 (Schulman 2020), which is never negative;
        `sampler_ratio`, the mean of policy over sampler, and `sampler_ratio_most`, the largest; `sampler_capped`, the
        share of tokens above the cap.
    """
    apart = (logprobs - sampled)[mask]
    ratio = apart.exp()
    return {
        "sampler_kl": float((apart.expm1() - apart).mean()),
        "sampler_ratio": float(ratio.mean()),
        "sampler_ratio_most": float(ratio.max()),
        "sampler_capped": float((ratio > cap).float().mean()) if cap > 0 else 0.0,
    }
