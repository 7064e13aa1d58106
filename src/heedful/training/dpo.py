"""Direct preference optimisation: the policy learns from pairs, without a reward model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heedful.core.losses import dpo_loss
from heedful.models.policy import Policy
from heedful.training.batching import batch_at, collate, total_steps
from heedful.training.config.preference import DPOConfig
from heedful.training.optimiser import learning_rate
from heedful.training.pairs import Pair, pair_micro_batches
from heedful.training.state import Step, TrainState


@dataclass(frozen=True)
class ReferenceLogprobs:
    """Summed log-probabilities of both answers of every pair under the frozen reference."""

    a: Tensor  # [pairs] float32
    b: Tensor  # [pairs] float32


def _pair_logprobs(policy: Policy, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """[N], [N]: summed completion log-probabilities of both sides, end-of-turn token included."""
    batch = collate([p.a for p in pairs] + [p.b for p in pairs], policy.pad, policy.device)
    logprobs, _ = policy.token_logprobs(batch.tokens, batch.attention, batch.mask)
    sums = logprobs.sum(1)
    return sums[: len(pairs)], sums[len(pairs) :]


@torch.no_grad()
def reference_logprobs(reference: Policy, pairs: Sequence[Pair], micro_batch_tokens: int) -> ReferenceLogprobs:
    """What the reference thinks of every pair, computed once, before training."""
    training = reference.model.training
    reference.model.eval()
    a, b = torch.empty(len(pairs)), torch.empty(len(pairs))
    for rows in pair_micro_batches(pairs, micro_batch_tokens):
        sum_a, sum_b = _pair_logprobs(reference, [pairs[row] for row in rows])
        a[rows], b[rows] = sum_a.float().cpu(), sum_b.float().cpu()
    reference.model.train(training)
    return ReferenceLogprobs(a, b)


def dpo(
    state: TrainState, policy: Policy, reference: ReferenceLogprobs, pairs: Sequence[Pair], config: DPOConfig
) -> Iterator[Step]:
    """Minimise the weighted mean DPO loss (Rafailov et al. 2023, eq. 7); yields after every optimiser step."""
    total = total_steps(len(pairs), config.batch_size, config.epochs)
    policy.model.train()
    while state.step < total:
        state.begin_step()
        chosen = batch_at(state.step, len(pairs), config.batch_size, config.epochs, state.seed)
        batch = [pairs[i] for i in chosen]
        reference_a, reference_b = (
            reference.a[chosen].to(policy.device),
            reference.b[chosen].to(policy.device),
        )
        weights = sum(pair.weight for pair in batch)
        loss = 0.0
        seen = []
        for rows in pair_micro_batches(batch, config.memory.micro_batch_tokens):
            group = [batch[row] for row in rows]
            policy_a, policy_b = _pair_logprobs(policy, group)
            probability = torch.tensor([pair.probability for pair in group], device=policy.device)
            weight = torch.tensor([pair.weight for pair in group], device=policy.device)
            losses = dpo_loss(
                policy_a,
                policy_b,
                reference_a[rows],
                reference_b[rows],
                beta=config.beta,
                probability=probability,
            )
            micro_loss = (losses * weight).sum() / weights
            micro_loss.backward()
            loss += float(micro_loss.detach())
            moved_a, moved_b = policy_a.detach() - reference_a[rows], policy_b.detach() - reference_b[rows]
            seen.append(torch.stack([moved_a, moved_b, policy_a.detach(), policy_b.detach(), probability]))
        norm = state.optimisers["policy"].step(state.step)
        figures = {"loss": loss, "gradient_norm": norm, **_figures(torch.cat(seen, 1), config.beta)}
        figures["learning_rate"] = learning_rate(state.step, total, config.optimiser)
        state.step += 1
        yield Step(state.step, figures)


def _figures(seen: Tensor, beta: float) -> dict[str, float]:
    """Implicit rewards, their margin and accuracy, and the log-probs of the preferred and the other answer."""
    moved_a, moved_b, logprob_a, logprob_b, probability = seen
    prefers_a = probability >= 0.5
    margin = beta * torch.where(prefers_a, moved_a - moved_b, moved_b - moved_a)
    clear = probability != 0.5
    right = torch.where(margin == 0, 0.5, (margin > 0).float())[clear]
    return {
        "margin": float(margin.mean()),
        "accuracy": float(right.mean()) if len(right) else 0.5,
        "chosen_reward": float(beta * torch.where(prefers_a, moved_a, moved_b).mean()),
        "rejected_reward": float(beta * torch.where(prefers_a, moved_b, moved_a).mean()),
        "chosen_logprob": float(torch.where(prefers_a, logprob_a, logprob_b).mean()),
        "rejected_logprob": float(torch.where(prefers_a, logprob_b, logprob_a).mean()),
    }


def evaluate_dpo(
    policy: Policy, reference: ReferenceLogprobs, pairs: Sequence[Pair], beta: float, micro_batch_tokens: int
) -> dict[str, float]:
    """Loss and implicit-reward accuracy on held-out pairs."""
    if not pairs:
        return {}
    now = reference_logprobs(policy, pairs, micro_batch_tokens)
    probability = torch.tensor([pair.probability for pair in pairs])
    losses = dpo_loss(now.a, now.b, reference.a, reference.b, beta=beta, probability=probability)
    seen = torch.stack([now.a - reference.a, now.b - reference.b, now.a, now.b, probability])
    figures = _figures(seen, beta)
    return {
        "held_out_loss": float(losses.mean()),
        "held_out_accuracy": figures["accuracy"],
        "held_out_margin": figures["margin"],
    }
