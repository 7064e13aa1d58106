"""Which answers look to a reward model like none that the starting policy wrote.

Mahalanobis distance of the reward model's last state, as in InfoRM's outlier probability (Miao et al. 2025, arXiv
2510.13694), with the limit taken from answers that were held back from the fit, since few answers of many dimensions
follow no chi-squared law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heedful.data.records import Conversation
from heedful.files import atomic_write
from heedful.models.scalar import RewardModel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """Where states usually lie: a mean [H], the square root of an inverse covariance [H, H], and a limit."""

    mean: Floats
    whitening: Floats
    limit: float

    def distances(self, states: Floats) -> Floats:
        """[n] Mahalanobis distances of states [n, H]."""
        return np.linalg.norm((states - self.mean) @ self.whitening, axis=1)

    def outside(self, states: Floats) -> NDArray[np.bool_]:
        """[n] whether a state lies beyond the limit."""
        return self.distances(states) > self.limit

    def write(self, path: Path) -> None:
        """Write it as .npz, whole or not at all."""
        with atomic_write(path, "wb") as file:
            np.savez(file, mean=self.mean, whitening=self.whitening, limit=np.array(self.limit))


def read_region(path: Path) -> Region:
    """The region that `Region.write` wrote."""
    with np.load(path) as kept:
        return Region(kept["mean"], kept["whitening"], float(kept["limit"]))


def fit_region(states: Floats, *, outside: float = 0.01, shrinkage: float = 0.1) -> Region:
    """Fit the region on the even rows and its limit on the odd ones.

    Args:
        states: [n, H], n of at least 40, in an order that means nothing.
        outside: share of usual states that may lie beyond the limit.
        shrinkage: share of the covariance that is replaced by its mean variance in every direction, so that few
            states of many dimensions do not make it singular.

    Raises:
        ValueError: fewer than 40 states.
    """
    if len(states) < 40:
        raise ValueError(f"{len(states)} states do not show where states usually lie; 40 or more do")
    fitted, held = states[::2].astype(np.float64), states[1::2].astype(np.float64)
    mean = fitted.mean(0)
    covariance = np.atleast_2d(np.cov(fitted, rowvar=False))
    width = len(covariance)
    level = max(float(np.trace(covariance)) / width, 1e-12)
    covariance = (1 - shrinkage) * covariance + shrinkage * level * np.eye(width)
    values, vectors = np.linalg.eigh(covariance)
    region = Region(mean, vectors / np.sqrt(values), 0.0)
    return Region(mean, region.whitening, float(np.quantile(region.distances(held), 1 - outside)))


class LatentReward:
    """A reward model that also tells which answers lie outside its region. It is a `Reward`.

    Attributes:
        model: the reward model.
        region: where states of usual answers lie.
    """

    def __init__(self, model: RewardModel, region: Region) -> None:
        self.model = model
        self.region = region

    def __call__(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Tensor:
        """Normalised scores [B] float32: the model's own."""
        return self.model(prompts, completions)

    def measured(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores, and `latent_outliers` [B]: 1 where an answer lies outside. One pass."""
        scores, states = self.model.scores_and_states(prompts, completions)
        outside = self.region.outside(states.double().cpu().numpy())
        return scores, {"latent_outliers": torch.from_numpy(outside).float().to(scores.device)}
