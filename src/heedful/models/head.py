"""How a causal language model turns its last hidden state into logits, read off once and verified once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from heedful.core.logprob import distribution, linear_collision, linear_logprob
from heedful.errors import HeedfulError
from heedful.models.adapters import effective_weight, underlying
from heedful.models.alignment import compiles_by_shape, hidden_states
from heedful.models.modes import evaluating

STATES = 64
"""A multiple that the head's states are filled up to where its products are compiled for every shape."""


@dataclass(frozen=True)
class HeadRule:
    """What the head does besides its matrix: `softcap * tanh(scale * z / softcap)`, or just scaled."""

    scale: float
    softcap: float | None


def head_rule(model: Any) -> HeadRule:
    """The rule that a model's configuration states, under the names that transformers' architectures use.

    `logit_scale` (Cohere) and `lm_head_multiplier` (Falcon-H1) multiply, `logits_scaling` (Granite) divides,
    `final_logit_softcapping` (Gemma 2 and 3) and `logits_soft_cap` (RecurrentGemma) cap.
    """
    config = underlying(model).config.get_text_config()

    def number(name: str) -> float | None:
        value = getattr(config, name, None)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    scale = (number("logit_scale") or 1.0) * (number("lm_head_multiplier") or 1.0)
    scale /= number("logits_scaling") or 1.0
    return HeadRule(scale, number("final_logit_softcapping") or number("logits_soft_cap"))


def head_logprobs(
    model: Any, rule: HeadRule, hidden: Tensor, targets: Tensor, temperature: float, banned: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N] and entropies [N], float32, of targets [N] predicted from hidden [N, H]."""
    head = underlying(model).get_output_embeddings()
    count = len(targets)
    extra = -count % STATES if count and compiles_by_shape(underlying(model)) else 0
    if extra:
        hidden, targets = pad(hidden, (0, 0, 0, extra)), torch.cat([targets, targets[:1].expand(extra)])
    logprobs, entropy = linear_logprob(
        hidden,
        effective_weight(head),
        targets,
        bias=getattr(head, "bias", None),
        scale=rule.scale,
        softcap=rule.softcap,
        temperature=temperature,
        banned=banned,
    )
    return logprobs[:count], entropy[:count]


def head_collisions(model: Any, rule: HeadRule, hidden: Tensor, banned: Tensor | None) -> Tensor:
    """log sum_v pi(v)^2 [N], float32, of what follows hidden states [N, H]; without gradient."""
    head = underlying(model).get_output_embeddings()
    return linear_collision(
        hidden,
        effective_weight(head),
        bias=getattr(head, "bias", None),
        scale=rule.scale,
        softcap=rule.softcap,
        banned=banned,
    )


def head_alternatives(
    model: Any, rule: HeadRule, hidden: Tensor, count: int, banned: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The likeliest next tokens after hidden states [N, H]: log-probabilities and ids, [N, count], likeliest first."""
    head = underlying(model).get_output_embeddings()
    values, ids = [], []
    for part in hidden.split(STATES):
        logits = head(part).float() * rule.scale
        if rule.softcap is not None:
            logits = rule.softcap * torch.tanh(logits / rule.softcap)
        top = distribution(logits, temperature=1.0, banned=banned).log_softmax(-1).topk(min(count, logits.shape[-1]))
        values.append(top.values)
        ids.append(top.indices)
    return torch.cat(values), torch.cat(ids)


def check_head(model: Any, rule: HeadRule) -> None:
    """Compare the rule with the model's own logits on three tokens.

    Raises:
        HeedfulError: the model has no linear head, or computes its logits in a way that the rule misses.
    """
    inner = underlying(model)
    head = inner.get_output_embeddings()
    name = type(inner).__name__
    if head is None or not hasattr(head, "weight"):
        raise HeedfulError(f"{name} has no language-model head.", mend="Give a causal language model.")
    with evaluating(model):
        tokens = torch.tensor([[3, 1, 2]], device=head.weight.device) % head.weight.shape[0]
        own = inner(input_ids=tokens, use_cache=False).logits[0].float().log_softmax(-1)
        hidden = hidden_states(model, tokens, torch.ones_like(tokens, dtype=torch.bool))[0]
        best = own.argmax(-1)
        ours, entropy = head_logprobs(model, rule, hidden, best, 1.0, None)
    expected = own.gather(-1, best[:, None]).squeeze(-1)
    spread = -(own.exp() * own).sum(-1)
    tolerance = 1e-3 if head.weight.dtype == torch.float32 else 5e-2
    if not torch.allclose(torch.stack([ours, entropy]), torch.stack([expected, spread]), atol=tolerance, rtol=0):
        raise HeedfulError(
            f"{name} computes its logits in a way unknown to heedful: log-probabilities would be wrong.",
            mend="Use another architecture, or teach heedful.models.head its rule.",
        )
