"""What a preference loss sees of an answer: its log-probability, its length and, where it is anchored, its reference.

Log-probabilities are *sums* over the completion's tokens, the end-of-turn token included; `mean` divides them by
the number of those tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """N answers under the policy.

    Raises:
        ValueError: the tensors are not all [N], or a length is below 1 (an answer has at least its end of turn).
    """

    logprob: Tensor  # [N] log pi(y | x), with gradient
    length: Tensor  # [N] tokens that the sum is over

    def __post_init__(self) -> None:
        check_shapes(**{name: getattr(self, name) for name in self.__dataclass_fields__})
        if bool((self.length < 1).any()):
            raise ValueError("an answer without a token has no log-probability")

    @property
    def mean(self) -> Tensor:
        """[N] log-probability per token."""
        return self.logprob / self.length


@dataclass(frozen=True)
class Anchored(Answers):
    """N answers under the policy and under the frozen reference."""

    reference: Tensor  # [N] log ref(y | x), without gradient

    @property
    def ratio(self) -> Tensor:
        """[N] log pi(y | x) - log ref(y | x): what the policy has added to the answer."""
        return self.logprob - self.reference

    @property
    def mean_ratio(self) -> Tensor:
        """[N] the same per token."""
        return self.ratio / self.length


def check_shapes(**tensors: Tensor | None) -> None:
    """One [N] for all: [N] against [N, 1] would broadcast to N x N pairs without a word.

    Raises:
        ValueError: they are not.
    """
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items() if tensor is not None}
    first = next(iter(shapes.values()))
    if len(first) != 1 or any(shape != first for shape in shapes.values()):
        raise ValueError(f"all arguments must be [N], got {shapes}")


def agreement(gap: Tensor, probability: Tensor) -> Tensor:
    """[N]: 1 where a gap in favour of the first answer and its label name the same answer, 1/2 where it is 0, else 0.

    Args:
        gap: [N] of scores, log-probabilities or implicit rewards.
        probability: [N] that the first answer is better. Of a tie (1/2) nothing is right: leave it out.
    """
    return torch.where(gap == 0, 0.5, ((gap > 0) == (probability > 0.5)).float())


def expected(if_preferred: Tensor, if_not: Tensor, probability: Tensor) -> Tensor:
    """[N] the expectation of a loss under a soft label: p times one way round, 1 - p times the other.

    This is the rule for soft labels and ties (p = 1/2) wherever a loss states no other.

    Raises:
        ValueError: shapes differ, or a probability lies outside 0..1.
    """
    check_shapes(if_preferred=if_preferred, if_not=if_not, probability=probability)
    if bool(torch.any(~((probability >= 0) & (probability <= 1)))):
        raise ValueError("probability must lie in 0..1")
    return probability * if_preferred + (1 - probability) * if_not


def within(low: float, high: float | None, **values: float) -> None:
    """Hold a loss's settings to the open interval in which it means something.

    Raises:
        ValueError: one lies outside.
    """
    for name, value in values.items():
        if not (value > low and (high is None or value < high)):
            limits = f"above {low}" + ("" if high is None else f" and below {high}")
            raise ValueError(f"{name} must be {limits}, got {value}")
