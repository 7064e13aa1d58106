"""Experience that a server sampled, weighted by how much likelier the policy that learns would have said it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from heedful.core.importance import truncated_weights
from heedful.core.policy_gradient import RatioLevel
from heedful.rollout.types import Rollout
from heedful.training.config.online import RolloutConfig
from heedful.training.experience import ExperienceT
from heedful.training.rollouts import Players


def corrected(
    models: Players, experience: ExperienceT, settings: RolloutConfig, level: RatioLevel
) -> tuple[ExperienceT, dict[str, float]]:
    """The experience with truncated importance weights on its advantages, and the figures of the mismatch.

    A clipped loss is positively homogeneous in the advantage, so that weights on the one are weights on the other. The
    KL in the loss, the entropy and the critic's loss have none, as in TRL and verl. Where the policy samples for itself
    nothing changes.

    Args:
        level: whose ratio the method takes.
    """
    figures = sampler_figures(models, experience.rollout, experience.logprobs)
    cap = settings.vllm.cap
    if models.server is None or cap == 0:
        return experience, figures
    rollout = experience.rollout
    weights = truncated_weights(experience.logprobs, rollout.logprobs, rollout.mask, cap=cap, level=level)
    changed: Any = replace(experience, advantages=experience.advantages * weights)
    return changed, figures


def sampler_figures(models: Players, rollout: Rollout, logprobs: Tensor) -> dict[str, float]:
    """How far a server's samples are from the policy that learns, and what they cost; nothing without a server.

    Args:
        logprobs: [B, T] of the policy before the step's update.

    Raises:
        HeedfulError: so far that the server cannot have the policy's weights.
    """
    return {} if models.server is None else models.server.figures(rollout, logprobs)
