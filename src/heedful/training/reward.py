"""The reward model: a scalar learns which of two answers people prefer (Bradley–Terry)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from heedful.core.losses import bradley_terry_loss
from heedful.models.scalar import RewardModel
from heedful.training.batching import batch_at, collate, total_steps
from heedful.training.config.reward import RewardConfig
from heedful.training.optimiser import Optimiser, learning_rate
from heedful.training.pairs import Pair, pair_micro_batches
from heedful.training.state import Step, TrainState


def reward_state(model: RewardModel, config: RewardConfig, total: int) -> TrainState:
    """The state of a run that trains one reward model."""
    modules = {"reward": model.model}
    return TrainState(modules, {"reward": Optimiser(modules, config.optimiser, total)}, config.seed)


def _scores(model: RewardModel, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """[N], [N]: raw scores of both sides, from one forward pass."""
    batch = collate([p.a for p in pairs] + [p.b for p in pairs], model.pad, model.device)
    scores = model.raw_scores(batch.tokens, batch.attention)
    return scores[: len(pairs)], scores[len(pairs) :]


def reward(state: TrainState, model: RewardModel, pairs: Sequence[Pair], config: RewardConfig) -> Iterator[Step]:
    """Minimise the weighted mean Bradley–Terry loss; yields after every optimiser step."""
    total = total_steps(len(pairs), config.batch_size, config.epochs)
    model.model.train()
    while state.step < total:
        state.begin_step()
        batch = [pairs[i] for i in batch_at(state.step, len(pairs), config.batch_size, config.epochs, state.seed)]
        weights = sum(pair.weight for pair in batch)
        loss, right, decided, spread = 0.0, 0.0, 0, 0.0
        for rows in pair_micro_batches(batch, config.memory.micro_batch_tokens):
            group = [batch[row] for row in rows]
            score_a, score_b = _scores(model, group)
            probability = torch.tensor([pair.probability for pair in group], device=score_a.device)
            weight = torch.tensor([pair.weight for pair in group], device=score_a.device)
            if config.use_margin:
                margin = torch.tensor([pair.margin for pair in group], device=score_a.device)
                losses = bradley_terry_loss(score_a, score_b, margin=margin, centering=config.centering)
            else:
                losses = bradley_terry_loss(score_a, score_b, probability=probability, centering=config.centering)
            micro_loss = (losses * weight).sum() / weights
            micro_loss.backward()
            loss += float(micro_loss.detach())
            with torch.no_grad():
                clear = probability != 0.5
                right += float(_agreement(score_a - score_b, probability)[clear].sum())
                decided += int(clear.sum())
                spread += float((score_a - score_b).abs().sum())
        norm = state.optimisers["reward"].step(state.step)
        figures = {
            "loss": loss,
            "accuracy": right / max(1, decided),
            "score_gap": spread / len(batch),
            "gradient_norm": norm,
            "learning_rate": learning_rate(state.step, total, config.optimiser),
        }
        state.step += 1
        yield Step(state.step, figures)


def _agreement(gap: Tensor, probability: Tensor) -> Tensor:
    """[N]: 1 where the score gap and the label name the same answer, 1/2 where the scores tie, else 0."""
    return torch.where(gap == 0, 0.5, ((gap > 0) == (probability > 0.5)).float())


@torch.no_grad()
def score_pairs(model: RewardModel, pairs: Sequence[Pair], micro_batch_tokens: int) -> tuple[Tensor, Tensor]:
    """[N], [N] float32 on the CPU: raw scores of both sides of every pair, in the order given."""
    training = model.model.training
    model.model.eval()
    a, b = torch.empty(len(pairs)), torch.empty(len(pairs))
    for rows in pair_micro_batches(pairs, micro_batch_tokens):
        score_a, score_b = _scores(model, [pairs[row] for row in rows])
        a[rows], b[rows] = score_a.float().cpu(), score_b.float().cpu()
    model.model.train(training)
    return a, b


def evaluate_reward(model: RewardModel, pairs: Sequence[Pair], micro_batch_tokens: int) -> dict[str, float]:
    """Accuracy (tied scores count half, tied labels are left out) and loss on held-out pairs."""
    if not pairs:
        return {}
    a, b = score_pairs(model, pairs, micro_batch_tokens)
    probability = torch.tensor([pair.probability for pair in pairs])
    clear = probability != 0.5
    loss = float(bradley_terry_loss(a, b, probability=probability).mean())
    figures = {"held_out_loss": loss}
    if clear.any():
        figures["held_out_accuracy"] = float(_agreement(a - b, probability)[clear].mean())
    return figures


def normalisation(model: RewardModel, pairs: Sequence[Pair], micro_batch_tokens: int) -> tuple[float, float]:
    """Mean and spread of the raw scores of the training answers: the offset, and the scale where one is asked for."""
    scores = torch.cat(score_pairs(model, pairs, micro_batch_tokens))
    spread = float(scores.std()) if len(scores) > 1 else 1.0
    return float(scores.mean()), spread if spread > 1e-6 else 1.0
