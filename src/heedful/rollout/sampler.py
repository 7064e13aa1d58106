"""From logits to one token per row, with its log-probability under the policy's distribution.

Sampling inverts the cumulative distribution: one pass of `exp`, one uniform number a row. On a CPU that
is several times faster than `torch.multinomial`, and the number can be fixed from outside (`uniforms`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.core.logprob import distribution
from heedful.rollout.types import DecodingParams, RolloutParams

BLOCK = 128
"""Tokens whose probabilities are summed at once; only a block's sums, and one block, are accumulated."""


class Sampler:
    """Draws one token a row.

    Args:
        params: `RolloutParams` draw from the policy's distribution; `DecodingParams` may change it first.
        banned: [M] int64 token ids that are never drawn, or None.
    """

    def __init__(self, params: RolloutParams, banned: Tensor | None) -> None:
        self.params = params
        self.banned = banned
        self.decoding = params if isinstance(params, DecodingParams) else None
        self.greedy = params.temperature == 0
        self.temperature = 1.0 if self.greedy else params.temperature
        self.reads_history = self.decoding is not None and self.decoding.repetition_penalty != 1
        self._changed = self.greedy or (self.decoding is not None and _changes(self.decoding))

    def __call__(self, logits: Tensor, uniform: Tensor | None, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """One token a row.

        Args:
            logits: [B, V] as the model gives them.
            uniform: [B] float64 in [0, 1); None when greedy.
            present: [B, V] bool, tokens that the row holds already; None without a repetition penalty.

        Returns:
            tokens [B] int64, and their log-probabilities [B] float32 under the policy's own distribution
            (at temperature 1 when greedy), whatever `DecodingParams` did to it before the draw.
        """
        own = distribution(logits, temperature=self.temperature, banned=self.banned)
        if not self._changed:
            assert uniform is not None
            return draw(own, uniform)
        tokens = self._decode(logits, own, uniform, present)
        chosen = own.gather(1, tokens[:, None]).squeeze(1) - own.logsumexp(1)
        return tokens, chosen.float()

    def _decode(self, logits: Tensor, own: Tensor, uniform: Tensor | None, present: Tensor | None) -> Tensor:
        decoding = self.decoding
        assert decoding is not None
        changed = own
        if self.reads_history:
            assert present is not None
            penalised = penalise(logits.to(own.dtype), present, decoding.repetition_penalty)
            changed = distribution(penalised, temperature=self.temperature, banned=self.banned)
        if self.greedy:
            return changed.argmax(1)
        assert uniform is not None
        return draw(narrow(changed, decoding), uniform)[0]


def draw(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Draw from softmax(logits) by inverting the cumulative distribution at `uniform`.

    A token of probability zero (-inf) is never drawn: the first token whose cumulative sum is greater than
    the point has a sum greater than the token before it. Rounding at the far end falls to the last token
    that has probability. Sums of blocks are accumulated in float64.

    Args:
        logits: [B, V] float; -inf at impossible tokens, finite somewhere.
        uniform: [B] float64 in [0, 1).

    Returns:
        tokens [B] int64, log-probabilities [B] float32.
    """
    rows, vocabulary = logits.shape
    top = logits.amax(1, keepdim=True)
    mass = (logits - top).exp_()
    if vocabulary <= 8 * BLOCK:
        cumulative = mass.cumsum(1, dtype=torch.float64)
        tokens = _invert(cumulative, uniform[:, None] * cumulative[:, -1:])
        total = cumulative[:, -1:]
    else:
        whole = vocabulary // BLOCK * BLOCK
        blocks = mass[:, :whole].view(rows, -1, BLOCK).sum(2) if whole == vocabulary else _ragged(mass, whole)
        outer = blocks.cumsum(1, dtype=torch.float64)
        total = outer[:, -1:]
        point = uniform[:, None] * total
        block = _invert(outer, point)
        before = outer.gather(1, block) - blocks.gather(1, block).double()
        index = block * BLOCK + torch.arange(BLOCK, device=logits.device)
        inside = mass.gather(1, index.clamp(max=vocabulary - 1)).masked_fill_(index >= vocabulary, 0.0)
        inner = inside.cumsum(1, dtype=torch.float64)
        tokens = block * BLOCK + _invert(inner, (point - before).clamp_(min=0.0))
    tokens.clamp_(max=vocabulary - 1)
    logprobs = (logits.gather(1, tokens) - top).double() - total.log()
    return tokens.squeeze(1), logprobs.squeeze(1).float()


def penalise(logits: Tensor, present: Tensor, penalty: float) -> Tensor:
    """Logits of tokens already present, divided by the penalty if positive, multiplied if negative.

    Source: Keskar et al., "CTRL" (2019), section 4.1, in the form of `transformers`.
    """
    return torch.where(present, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def narrow(logits: Tensor, decoding: DecodingParams) -> Tensor:
    """[B, V] logits with -inf wherever top-k, then top-p, then min-p leave a token out.

    Ties at the k-th logit stay in. Top-p keeps the fewest tokens whose sum reaches `top_p` (Holtzman et
    al., 2019); min-p keeps those at least `min_p` times as probable as the best (Nguyen et al., 2024).
    """
    if 0 < decoding.top_k < logits.shape[1]:
        least = logits.topk(decoding.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if decoding.top_p < 1:
        ordered, index = logits.sort(dim=1, descending=True)
        probability = ordered.double().softmax(1)
        before = probability.cumsum(1) - probability
        out = torch.zeros_like(index, dtype=torch.bool).scatter_(1, index, before >= decoding.top_p)
        logits = logits.masked_fill(out, -torch.inf)
    if decoding.min_p > 0:
        probability = logits.softmax(1)
        least = decoding.min_p * probability.amax(1, keepdim=True)
        logits = logits.masked_fill(probability < least, -torch.inf)
    return logits


def _changes(decoding: DecodingParams) -> bool:
    narrower = decoding.top_k > 0 or decoding.top_p < 1 or decoding.min_p > 0
    return narrower or decoding.repetition_penalty != 1


def _invert(cumulative: Tensor, point: Tensor) -> Tensor:
    """[B, 1] the first index whose cumulative sum is greater than the point, or the last that adds to it."""
    found = torch.searchsorted(cumulative, point, right=True)
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())
    return torch.minimum(found, last)


def _ragged(mass: Tensor, whole: int) -> Tensor:
    """[B, blocks] sums of the blocks when the last one is shorter."""
    rest = mass[:, whole:].sum(1, keepdim=True)
    return torch.cat([mass[:, :whole].unflatten(1, (-1, BLOCK)).sum(2), rest], dim=1)
