"""How far the policy has gone from its reference, and the controllers of the leash.

The estimators take log-probabilities of sampled tokens. Which one may stand where is a matter of gradients,
not of taste: see docs/formulas.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from heedful.core.masks import check_mask, last_place


def k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """log pi - log ref: the unbiased estimate, of either sign. Belongs in the reward; as a loss it is inert.

    Args:
        logprobs, reference: log-probabilities of the same sampled tokens, any one shape.

    Returns:
        the same shape, nats. (Schulman 2020, "Approximating KL divergence", for k1, k2 and k3.)
    """
    return logprobs - reference


def k2(logprobs: Tensor, reference: Tensor) -> Tensor:
    """(log pi - log ref)^2 / 2: biased as a value; as a loss, on sums over sequences, its gradient is KL's.

    Args and result as for `k1`.
    """
    return (logprobs - reference).square() / 2


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """ref/pi - 1 - log(ref/pi): unbiased and never negative; as a loss it descends KL(ref || pi).

    Args and result as for `k1`.
    """
    ratio = logprobs - reference
    return torch.expm1(-ratio) + ratio


Estimator = Literal["k1", "k2", "k3"]
Level = Literal["token", "sequence"]

_ESTIMATORS: dict[Estimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def estimate(logprobs: Tensor, reference: Tensor, mask: Tensor, estimator: Estimator, level: Level) -> Tensor:
    """An estimate of the KL along each row, to price in rewards or to add to a loss.

    Args:
        logprobs, reference: [B, T] log-probabilities of the same sampled tokens.
        mask: [B, T] bool. Nothing outside it is read.
        estimator: k1, k2 or k3.
        level: "token" estimates from each token's own log-ratio; "sequence" from their sum, and stands on the last
            masked token. For k1 a row's sum is the same either way; for k2 and k3 it is another quantity.

    Returns:
        [B, T], nats; zero outside the mask; differentiable. Its row sums are the estimate of a whole completion.

    Raises:
        ValueError: shapes differ, or the mask is no bool.
    """
    check_mask(mask, logprobs=logprobs, reference=reference)
    logprobs, reference = torch.where(mask, logprobs, 0.0), torch.where(mask, reference, 0.0)
    if level == "token":
        return torch.where(mask, _ESTIMATORS[estimator](logprobs, reference), 0.0)
    whole = _ESTIMATORS[estimator](logprobs.sum(1), reference.sum(1))
    return torch.where(last_place(mask), whole.unsqueeze(1), 0.0)


def full_kl(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """Exact KL(p || q) of two distributions over the vocabulary, in nats.

    Tokens that p never says (logit -inf) add nothing; a token that p says and q never does makes it infinite.

    Args:
        logits_p, logits_q: [..., V], normalised or not.

    Returns:
        [...], float32 (float64 for float64 input).
    """
    exact = torch.float64 if logits_p.dtype == torch.float64 else torch.float32
    log_p = torch.log_softmax(logits_p.to(exact), -1)
    log_q = torch.log_softmax(logits_q.to(exact), -1)
    p = log_p.exp()
    said = p > 0
    return (p * torch.where(said, log_p - log_q, 0.0)).sum(-1)


@dataclass(frozen=True)
class FixedKL:
    """A KL coefficient that stays as it is."""

    coefficient: float

    def __post_init__(self) -> None:
        _check_coefficient(self.coefficient)

    def updated(self, kl: float, episodes: int) -> FixedKL:
        """Itself, whatever was measured."""
        return self


@dataclass(frozen=True)
class AdaptiveKL:
    """A KL coefficient steered towards a target: Ziegler et al. 2019, section 2.2.

    `target` is the KL of whole sequences, in nats: the mean over answers of the *sum* over their tokens.
    `horizon` counts episodes; the coefficient moves by at most 20% in one horizon (not compounded).
    """

    coefficient: float
    target: float
    horizon: int = 10_000

    def __post_init__(self) -> None:
        _check_coefficient(self.coefficient)
        if not (math.isfinite(self.target) and self.target > 0):
            raise ValueError(f"the KL target must be above 0, got {self.target}")
        if self.horizon < 1:
            raise ValueError(f"the horizon must be at least 1 episode, got {self.horizon}")

    def updated(self, kl: float, episodes: int) -> AdaptiveKL:
        """The controller after `episodes` more answers whose mean sequence KL was `kl`.

        coefficient * (1 + e * episodes / horizon), e = kl / target - 1 held within -0.2..0.2.

        Raises:
            ValueError: `kl` is not finite, or so many episodes passed at once (five horizons) that the
                coefficient could fall to zero or below.
        """
        if not math.isfinite(kl):
            raise ValueError(f"the measured KL is {kl}")
        if not 0 <= episodes < 5 * self.horizon:
            raise ValueError(f"{episodes} episodes at once; the horizon allows 0 to {5 * self.horizon - 1}")
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        return replace(self, coefficient=self.coefficient * (1 + error * episodes / self.horizon))


def _check_coefficient(coefficient: float) -> None:
    if not (math.isfinite(coefficient) and coefficient >= 0):
        raise ValueError(f"the KL coefficient must be finite and not negative, got {coefficient}")
