"""Supervised fine-tuning: next-token loss on the tokens that the mask names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from heedful.data.packing import micro_batches
from heedful.models.modes import evaluating
from heedful.models.policy import Policy
from heedful.training.batching import Example, batch_at, collate, total_steps
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.optimiser import Optimiser, learning_rate
from heedful.training.state import Step, TrainState
from heedful.training.workers import current


def sft_state(policy: Policy, optimiser: OptimiserConfig, total: int, seed: int) -> TrainState:
    """The state of a run that trains one policy and nothing else (SFT, DPO)."""
    modules = {"policy": policy.model}
    return TrainState(modules, {"policy": Optimiser(modules, optimiser, total)}, seed)


def sft(state: TrainState, policy: Policy, examples: Sequence[Example], config: SFTConfig) -> Iterator[Step]:
    """Minimise the mean negative log-likelihood of the masked tokens; yields after every optimiser step.

    The mean runs over all masked tokens of a step's batch, however it is cut into micro-batches. The examples
    must have at least one masked token between them in every batch.
    """
    total = total_steps(len(examples), config.batch_size, config.epochs)
    optimiser = state.optimisers["policy"]
    policy.model.train()
    while state.step < total:
        state.begin_step()
        batch = [examples[i] for i in batch_at(state.step, len(examples), config.batch_size, config.epochs, state.seed)]
        figures = current().summed(state.within_memory(config.memory, longest(batch), partial(imitate, policy, batch)))
        norm = optimiser.step(state.step)
        rate = learning_rate(state.step, total, config.optimiser)
        state.step += 1
        yield Step(state.step, figures | {"gradient_norm": norm, "learning_rate": rate})


def longest(batch: Sequence[Example]) -> int:
    """Tokens of the longest sequence."""
    return max(len(example.tokens) for example in batch)


def imitate(policy: Policy, batch: Sequence[Example], micro_batch_tokens: int, weight: float = 1.0) -> dict[str, float]:
    """Add the gradient of `weight` times the mean negative log-likelihood per masked token; returns what it is.

    The mean runs over all masked tokens of the batch, at least one, however it is cut into micro-batches. The loss
    and entropy told are without the weight; of several workers each adds, and tells of, its share of the rows.
    """
    team = current()
    lengths = [len(example.tokens) for example in batch]
    mine = team.dealt(lengths)
    parts = micro_batches([lengths[row] for row in mine], micro_batch_tokens)
    count = sum(sum(example.mask) for example in batch)
    loss, entropy = 0.0, 0.0
    for rows, counts in team.in_step([[mine[row] for row in rows] for rows in parts], spare=[0]):
        micro = collate([batch[row] for row in rows], policy.pad, policy.device)
        logprobs, entropies = policy.token_logprobs(micro.tokens, micro.attention, micro.mask)
        micro_loss = -logprobs.sum() / count
        (weight * counts * micro_loss).backward()
        loss += counts * float(micro_loss.detach())
        entropy += counts * float(entropies.detach().sum()) / count
    return {"loss": loss, "entropy": entropy, "tokens": sum(sum(batch[row].mask) for row in mine)}


def evaluate_sft(policy: Policy, examples: Sequence[Example], micro_batch_tokens: int) -> dict[str, float]:
    """Mean negative log-likelihood per masked token (nats) and next-token perplexity on held-out examples."""
    if not examples:
        return {}
    team = current()
    total, count = 0.0, 0
    lengths = [len(example.tokens) for example in examples]
    mine = team.dealt(lengths)
    parts = [[mine[row] for row in rows] for rows in micro_batches([lengths[row] for row in mine], micro_batch_tokens)]
    with evaluating(policy.model):
        for rows, counts in team.reading(policy, parts, spare=[0]):
            micro = collate([examples[row] for row in rows], policy.pad, policy.device)
            logprobs, _ = policy.token_logprobs(micro.tokens, micro.attention, micro.mask)
            total -= counts * float(logprobs.sum())
            count += int(counts) * int(micro.mask.sum())
    summed = team.summed({"total": total, "count": count})
    loss = summed["total"] / summed["count"]
    return {"held_out_loss": loss, "held_out_perplexity": float(torch.tensor(loss).exp())}
