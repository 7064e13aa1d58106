"""What a step of preference learning looks like: implicit rewards, their margin and accuracy, log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heedful.core.answers import agreement
from heedful.training.preference_losses import Judged


@dataclass(frozen=True)
class Seen:
    """N records as a step saw them, without gradient: pairs (S = 2) or single answers (S = 1)."""

    logprob: Tensor  # [S, N] of whole answers
    value: Tensor  # [S, N] implicit reward over beta: log pi/ref, or without a reference log pi per token
    probability: Tensor  # [N] that the first answer is the better one, or that the answer is good

    @classmethod
    def of(cls, judged: Judged) -> Seen:
        """What a loss was given."""
        logprob = judged.logprob.detach()
        value = logprob / judged.length if judged.reference is None else logprob - judged.reference
        return cls(logprob, value, judged.probability)


def join(seen: Sequence[Seen]) -> Seen:
    """Micro-batches as one."""
    return Seen(
        torch.cat([part.logprob for part in seen], 1),
        torch.cat([part.value for part in seen], 1),
        torch.cat([part.probability for part in seen]),
    )


def figures(seen: Seen, beta: float) -> dict[str, float]:
    """Implicit rewards, their margin and accuracy, and log-probs of the preferred (good) and the other (bad) answers.

    Accuracy of pairs: the share whose preferred answer has the higher reward. Of single answers: the share of all
    good and bad answers of the batch, one of each, where the good one has. A batch of one label alone has neither
    accuracy nor margin.
    """
    return _of_pairs(seen, beta) if len(seen.value) == 2 else _of_answers(seen, beta)


def _of_pairs(seen: Seen, beta: float) -> dict[str, float]:
    value_a, value_b = seen.value
    logprob_a, logprob_b = seen.logprob
    prefers_a = seen.probability >= 0.5
    margin = beta * torch.where(prefers_a, value_a - value_b, value_b - value_a)
    right = agreement(value_a - value_b, seen.probability)[seen.probability != 0.5]
    return {
        "margin": float(margin.mean()),
        "accuracy": float(right.mean()) if len(right) else 0.5,
        "chosen_reward": float(beta * torch.where(prefers_a, value_a, value_b).mean()),
        "rejected_reward": float(beta * torch.where(prefers_a, value_b, value_a).mean()),
        "chosen_logprob": float(torch.where(prefers_a, logprob_a, logprob_b).mean()),
        "rejected_logprob": float(torch.where(prefers_a, logprob_b, logprob_a).mean()),
    }


def _of_answers(seen: Seen, beta: float) -> dict[str, float]:
    found = {}
    good, bad = seen.probability > 0.5, seen.probability < 0.5
    for name, rows in (("chosen", good), ("rejected", bad)):
        if bool(rows.any()):
            found[f"{name}_reward"] = float(beta * seen.value[0, rows].mean())
            found[f"{name}_logprob"] = float(seen.logprob[0, rows].mean())
    if bool(good.any()) and bool(bad.any()):
        below = seen.value[0, bad].sort().values
        places = [torch.searchsorted(below, seen.value[0, good], right=right) for right in (False, True)]
        found["margin"] = found["chosen_reward"] - found["rejected_reward"]
        found["accuracy"] = float(torch.stack(places).double().mean()) / len(below)
    return found
