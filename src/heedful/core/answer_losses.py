"""Losses on single answers that somebody called good or bad: unpaired feedback, and pairs taken apart.

As `heedful.core.pair_losses`: pure functions, [N] losses, the signature says what is needed. `good` is the label; a
soft label is the expectation over both. Beside settings a function may ask for what a trainer measures: `kl`, the
policy's mean log-ratio on *mismatched* prompts and answers, and `shift`, the running mean of implicit rewards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from heedful.core.answers import Anchored, Answers, within


def kto(
    answer: Anchored,
    good: bool,
    *,
    kl: Tensor,
    beta: float = 0.1,
    desirable: float = 1.0,
    undesirable: float = 1.0,
) -> Tensor:
    """KTO: desirable (1 - sigmoid(beta (c - z))) or undesirable (1 - sigmoid(beta (z - r))).

    Ethayarajh et al. 2024, eq. 8. z = max(0, kl), without gradient and not multiplied by beta before.

    Args:
        kl: scalar, the mean of log pi/ref over answers put behind prompts that are not theirs.
    """
    within(0, None, desirable=desirable, undesirable=undesirable)
    baseline = kl.detach().clamp(min=0.0)
    if good:
        return desirable * (1 - torch.sigmoid(beta * (answer.ratio - baseline)))
    return undesirable * (1 - torch.sigmoid(beta * (baseline - answer.ratio)))


def bco(answer: Anchored, good: bool, *, shift: Tensor, beta: float = 0.1) -> Tensor:
    """BCO: l(beta c - d) or l(-(beta r - d)), d the running mean of the implicit rewards. Jung et al. 2024, eq. 10.

    Args:
        shift: scalar d, the mean of beta log pi/ref over all answers of the batches before this one.
    """
    reward = beta * answer.ratio - shift.detach()
    return -F.logsigmoid(reward if good else -reward)


def sft(answer: Answers, good: bool) -> Tensor:
    """Negative log-likelihood per token of a good answer; a bad one teaches nothing."""
    return -answer.mean if good else torch.zeros_like(answer.mean)
