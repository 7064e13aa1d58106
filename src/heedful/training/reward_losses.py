"""The losses that a reward model can be trained by, each named in this one place with what it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from heedful.core.reward_losses import (
    all_pairs_loss,
    bradley_terry_loss,
    centering_penalty,
    davidson_loss,
    ordinal_loss,
    plackett_luce_loss,
    ranking_pairs,
    rao_kupper_loss,
)
from heedful.training.reward_data import Judged, Layout, Order, column

STRONGEST = 3
"""The largest strength of a preference that raters give."""


class Learnt(nn.Module):
    """What a loss learns beside the model; this one nothing."""

    def figures(self) -> dict[str, float]:
        """For logs and the manifest."""
        return {}


class TieThreshold(Learnt):
    """Rao-Kupper's threshold, above 0; at first a third of comparisons of equals are ties."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.tensor(_inverse_softplus(math.log(2))))

    def value(self) -> Tensor:
        """A scalar above 0."""
        return softplus(self.raw)

    def figures(self) -> dict[str, float]:
        """The threshold, in the scores' units."""
        return {"tie_threshold": float(self.value().detach())}


class LogTie(Learnt):
    """Davidson's log nu; at first a third of comparisons of equals are ties."""

    def __init__(self) -> None:
        super().__init__()
        self.log_tie = nn.Parameter(torch.tensor(0.0))

    def figures(self) -> dict[str, float]:
        """nu itself."""
        return {"tie_strength": math.exp(float(self.log_tie.detach()))}


class Thresholds(Learnt):
    """Ascending thresholds between the strengths of preference, at first 0.5, 1.5 and 2.5."""

    def __init__(self) -> None:
        super().__init__()
        steps = [0.5] + [1.0] * (STRONGEST - 1)
        self.raw = nn.Parameter(torch.tensor([_inverse_softplus(step) for step in steps]))

    def value(self) -> Tensor:
        """[STRONGEST] ascending from above 0."""
        return softplus(self.raw).cumsum(0)

    def figures(self) -> dict[str, float]:
        """The thresholds, in the scores' units."""
        return {f"threshold_{k}": value for k, value in enumerate(self.value().detach().tolist(), start=1)}


def _inverse_softplus(value: float) -> float:
    return math.log(math.expm1(value))


@dataclass(frozen=True)
class RewardLoss:
    """One loss: what it reads, what it learns beside the model, and its value."""

    reads: Literal["pairs", "rankings"]
    value: Callable[[Layout, Tensor, Learnt, bool], Tensor]
    """(layout, scores of its answers [S], what is learnt, whether to ask for margins) -> [N] losses, one an item."""
    learns: Callable[[], Learnt] = Learnt
    margins: bool = False
    """Whether it can ask for a stated margin."""
    strengths: bool = False
    """Whether it needs a stated strength of every pair."""


def _bradley_terry(layout: Layout, scores: Tensor, learnt: Learnt, margins: bool) -> Tensor:
    a, b = layout.sides(scores)
    if margins:
        return bradley_terry_loss(a, b, margin=column(layout.items, "margin", scores))
    return bradley_terry_loss(a, b, probability=column(layout.items, "probability", scores))


def _rao_kupper(layout: Layout, scores: Tensor, learnt: Learnt, margins: bool) -> Tensor:
    assert isinstance(learnt, TieThreshold)
    a, b = layout.sides(scores)
    probability = column(layout.items, "probability", scores)
    return rao_kupper_loss(a, b, probability=probability, threshold=learnt.value())


def _davidson(layout: Layout, scores: Tensor, learnt: Learnt, margins: bool) -> Tensor:
    assert isinstance(learnt, LogTie)
    a, b = layout.sides(scores)
    return davidson_loss(a, b, probability=column(layout.items, "probability", scores), log_tie=learnt.log_tie)


def _ordinal(layout: Layout, scores: Tensor, learnt: Learnt, margins: bool) -> Tensor:
    assert isinstance(learnt, Thresholds)
    a, b = layout.sides(scores)
    return ordinal_loss(a, b, strength=column(layout.items, "strength", scores), thresholds=learnt.value())


def _rankings(
    loss: Callable[[Tensor, Sequence[float]], Tensor],
) -> Callable[[Layout, Tensor, Learnt, bool], Tensor]:
    def value(layout: Layout, scores: Tensor, learnt: Learnt, margins: bool) -> Tensor:
        found = zip(layout.rows(scores), layout.items, strict=True)
        return torch.stack([loss(row, _ranks(item)) for row, item in found])

    return value


def _ranks(item: Judged) -> tuple[float, ...]:
    assert isinstance(item.said, Order)
    return item.said.ranks


LOSSES: dict[str, RewardLoss] = {
    "bradley-terry": RewardLoss("pairs", _bradley_terry, margins=True),
    "rao-kupper": RewardLoss("pairs", _rao_kupper, TieThreshold),
    "davidson": RewardLoss("pairs", _davidson, LogTie),
    "ordinal": RewardLoss("pairs", _ordinal, Thresholds, strengths=True),
    "all-pairs": RewardLoss("rankings", _rankings(all_pairs_loss)),
    "plackett-luce": RewardLoss("rankings", _rankings(plackett_luce_loss)),
}


def centering(layout: Layout, scores: Tensor) -> Tensor:
    """[N]: of each item, the mean over its pairs of (s_i + s_j)^2."""
    if all(len(item.answers) == 2 for item in layout.items):
        return centering_penalty(*layout.sides(scores))
    means = []
    for row in layout.rows(scores):
        first, second, _ = zip(*ranking_pairs(range(len(row))), strict=True)
        means.append(centering_penalty(row[list(first)], row[list(second)]).mean())
    return torch.stack(means)
