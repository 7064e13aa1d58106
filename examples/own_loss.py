"""A preference loss of one's own, in one short function: the exponential loss of boosting, capped.

heedful dpo --model runs/sft --data comparisons.jsonl.gz --out runs/own --loss examples.own_loss:exponential
heedful dpo ... --loss "examples.own_loss:exponential + 0.1*sft"
heedful dpo ... --loss examples.own_loss:calm --data labelled.jsonl

The signature says what a loss needs: `Anchored` answers come with the reference's log-probabilities, plain `Answers`
ask for no reference; `(a, b)` are two answers, a the preferred one, `(answer, good)` one with its label. What stands
behind the star and has a default is a setting. Soft labels, ties, weights and micro-batches are the trainer's work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.core.answers import Anchored

MOST = 20.0


def exponential(a: Anchored, b: Anchored, *, beta: float = 0.1) -> Tensor:
    """[N] e^(-beta D), D what the policy added to a less what it added to b; a straight line beyond a loss of 20."""
    logit = beta * (a.ratio - b.ratio)
    bend = -torch.log(torch.tensor(MOST))
    return torch.where(logit > bend, torch.exp(-logit.clamp(min=bend)), MOST * (1 + bend - logit))


def calm(answer: Anchored, good: bool, *, beta: float = 0.1) -> Tensor:
    """[N] squared distance of beta log pi/ref from 1 for a good answer, from -1 for a bad one."""
    return (beta * answer.ratio - (1 if good else -1)).square()
