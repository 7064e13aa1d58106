"""Policies as `generate` callables, and how far a policy has moved from its reference.

Torch and the models are imported when something is sampled, not when this file is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedful.core.statistics import Interval, cluster_bootstrap
from heedful.data.records import Conversation
from heedful.evaluation.compare import Answer, Generate
from heedful.evaluation.winrate import cluster_index

if TYPE_CHECKING:
    from heedful.models.policy import Policy
    from heedful.rollout.types import Rollout, RolloutParams


@dataclass(frozen=True)
class Sampled:
    """Answers of a policy: the rollout as tokens, and its texts as `answers[p][k]`."""

    rollout: Rollout
    answers: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True)
class Divergence:
    """How far a policy stands from its reference on its own samples.

    `kl` is KL(policy || reference) in nats per completion, estimated by the summed log-ratio (unbiased);
    `per_token` the same in nats per sampled token; `entropy` the policy's, in nats per sampled token.
    """

    kl: Interval
    per_token: float
    entropy: float


def sample(
    policy: Policy, prompts: Sequence[Conversation], params: RolloutParams, *, samples_per_prompt: int = 1
) -> Sampled:
    """K answers of a policy to each prompt, by the native engine; the same seed gives the same answers.

    Raises:
        HeedfulError: a prompt that the policy's chat template cannot render.
    """
    from heedful.data.chat import render_prompt
    from heedful.rollout.engine import NativeEngine, decode

    rendered = [render_prompt(policy.tokenizer, prompt) for prompt in prompts]
    rollout = NativeEngine(policy).generate(rendered, params, samples_per_prompt=samples_per_prompt)
    rows = zip(decode(policy, rollout), rollout.finished.tolist(), rollout.lengths.tolist(), strict=True)
    flat = [Answer(text, finished, tokens) for text, finished, tokens in rows]
    k = samples_per_prompt
    return Sampled(rollout, tuple(tuple(flat[i : i + k]) for i in range(0, len(flat), k)))


def sampler(policy: Policy, params: RolloutParams, *, samples_per_prompt: int = 1) -> Generate:
    """A policy as the `generate` callable that `compare` asks for."""

    def generate(prompts: Sequence[Conversation]) -> Sequence[Sequence[Answer]]:
        return sample(policy, prompts, params, samples_per_prompt=samples_per_prompt).answers

    return generate


def divergence(
    policy: Policy,
    reference: Policy,
    rollout: Rollout,
    *,
    clusters: Sequence[Hashable],
    temperature: float = 1.0,
    batch: int = 64,
    seed: int = 0,
) -> Divergence:
    """KL to the reference and entropy of a policy, on completions that it sampled itself.

    Args:
        rollout: B completions sampled by `policy` at `temperature`; completions of another policy, or
            sampled at another temperature, would bias the estimate.
        clusters: [B] each completion's fact, topic or prompt, for the interval.
        batch: completions per forward pass.

    Raises:
        ValueError: fewer than two clusters, or not one per completion.
    """
    from heedful.models.modes import evaluating

    index = cluster_index(clusters, len(rollout))
    whole = (rollout.tokens, rollout.attention, rollout.mask)
    kl: list[float] = []
    entropy = sampled = 0.0
    with evaluating(policy.model), evaluating(reference.model):
        for start in range(0, len(rollout), batch):
            rows = slice(start, start + batch)
            width = int(rollout.attention[rows].sum(1).max())
            tokens, attention, mask = (part[rows, :width] for part in whole)
            logprobs, spread = policy.token_logprobs(tokens, attention, mask, temperature=temperature)
            anchors, _ = reference.token_logprobs(tokens, attention, mask, temperature=temperature)
            kl.extend((logprobs - anchors).double().sum(1).tolist())
            entropy += float(spread.double().sum())
            sampled += float(mask.sum())
    interval = cluster_bootstrap(kl, index, seed=seed)
    return Divergence(kl=interval, per_token=sum(kl) / max(sampled, 1), entropy=entropy / max(sampled, 1))
