"""One batch of rows on its way: prefill, then a token a step for the rows that are still going."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from heedful.errors import HeedfulError
from heedful.models.adapters import underlying
from heedful.models.alignment import compiles_by_shape
from heedful.rollout.cache import RolloutCache
from heedful.rollout.sampler import Sampler
from heedful.rollout.stopping import StopStrings
from heedful.rollout.types import Readout, RolloutParams
from heedful.rollout.uniforms import uniforms

if TYPE_CHECKING:
    from heedful.models.policy import Policy

UNIFORM_BLOCK = 64
"""Steps whose uniform numbers are computed at once."""


UNIT = 8
"""How many rows leave together where a model's matrix products are compiled for every number of rows."""


@dataclass(frozen=True)
class Chunk:
    """Rows to sample together. P prompts, B rows."""

    prompts: Sequence[Sequence[int]]  # P, token ids
    parents: Sequence[int]  # B, which of these prompts each row continues
    rows: Sequence[int]  # B, each row's number in the whole rollout; it names the row's random numbers


class Decoding:
    """The state of one chunk. Call `sample`; while rows are `running`, `advance` and `sample` again.

    Results gather in `tokens` [B, S], `logprobs` [B, S], `readouts` [B, S], `lengths` [B] and `finished` [B],
    where S is the most new tokens; what lies beyond a row's length is padding. Call everything inside
    `evaluating(model)` and the policy's `autocast()`. n is the number of rows still here: those still going, and
    perhaps a few that have ended.

    Args:
        readout: is shown the states that tokens are sampled from; None reads nothing, and `readouts` stays zero.
    """

    _logits: Tensor  # [n, V] of the next token
    _read: Tensor  # [n] float32, read off the same states
    _last: Tensor  # [n] int64, the token just sampled
    _position: Tensor  # [n, 1] int64, the place of the last token fed, padding not counted
    _attention: Tensor | None  # [n, prompt width + S] bool; None when no prompt is padded
    _present: Tensor | None  # [n, V] bool, tokens that the row holds; None when nothing reads it
    _uniforms: Tensor  # [B, UNIFORM_BLOCK] float64

    def __init__(self, policy: Policy, chunk: Chunk, params: RolloutParams, readout: Readout | None = None) -> None:
        self.model = policy.running()
        self.readout = readout
        self.params = params
        self.chunk = chunk
        self.device = torch.device(policy.device)
        banned = torch.tensor(policy.banned, dtype=torch.int64, device=self.device)
        self.sampler = Sampler(params, banned if len(banned) else None)
        self.stop = StopStrings(policy.tokenizer, params.stop) if params.stop else None
        rows = len(chunk.rows)
        self.tokens = torch.full((rows, params.max_new_tokens), policy.pad, device=self.device)
        self.logprobs = torch.zeros((rows, params.max_new_tokens), device=self.device)
        self.readouts = torch.zeros_like(self.logprobs)
        self.lengths = torch.full((rows,), params.max_new_tokens, device=self.device)
        self.finished = torch.zeros(rows, dtype=torch.bool, device=self.device)
        self.step = 0
        self.running = rows
        self._slots = torch.arange(rows, device=self.device)  # [n] which of the B rows are still here
        self._going = torch.ones_like(self._slots, dtype=torch.bool)  # [n] those that have not ended
        self._pad = policy.pad
        self._unit = UNIT if compiles_by_shape(underlying(self.model)) else 1
        self._arguments = inspect.signature(underlying(self.model).forward).parameters
        self._prefill(policy.pad)
        self._ends = torch.zeros(self._logits.shape[1], dtype=torch.bool, device=self.device)  # [V]
        self._ends[list(policy.eos)] = True

    def sample(self) -> Tensor:
        """Draw and record a token for each row still going; rows that end with it leave. Returns [n] int64.

        They leave by eights where a model's matrix products are compiled anew for every number of rows.
        """
        tokens, logprobs = self.sampler(self._logits, self._uniform(), self._present)
        if len(self._slots) > self.running:  # ended rows that ride along
            tokens, logprobs = tokens.where(self._going, self._pad), logprobs.where(self._going, 0.0)
        self.tokens[self._slots, self.step] = tokens
        self.logprobs[self._slots, self.step] = logprobs
        if self.readout is not None:
            self.readouts[self._slots, self.step] = self._read.where(self._going, 0.0)
        self._last = tokens
        self.step += 1
        done = self._ends[tokens]
        if self.stop is not None:
            done |= self.stop.reached(self.tokens[self._slots, : self.step])
        done &= self._going
        ending = int(done.sum())
        if ending:
            self.lengths[self._slots[done]] = self.step
            self.finished[self._slots[done]] = True
            self._going &= ~done
        self.running = 0 if self.step == self.params.max_new_tokens else self.running - ending
        surplus = len(self._slots) - math.ceil(self.running / self._unit) * self._unit
        if self.running and surplus > 0:
            self._leave(surplus)
        return tokens

    def advance(self) -> None:
        """Run the model on the tokens just sampled, so that the next can be."""
        self._position += 1
        if self._present is not None:
            self._present.scatter_(1, self._last[:, None], True)
        seen = None
        if self._attention is not None:
            seen = self._attention[:, : self._width + self.step]
        self._logits = self._forward(self._last[:, None], seen, self._position)

    def _prefill(self, pad: int) -> None:
        """Each prompt once, left-padded; then its logits and its cache are handed to its samples."""
        lengths = torch.tensor([len(prompt) for prompt in self.chunk.prompts])
        self._width = int(lengths.max())
        padded = [[pad] * (self._width - len(prompt)) + list(prompt) for prompt in self.chunk.prompts]
        tokens = torch.tensor(padded, device=self.device)
        real = (torch.arange(self._width) >= self._width - lengths[:, None]).to(self.device)
        positions = (real.cumsum(1) - 1).clamp_(min=0)
        limit = self._width + self.params.max_new_tokens - 1
        self._cache = RolloutCache(self.model.config, limit=limit)
        equal = bool((lengths == self._width).all())
        logits = self._forward(tokens, None if equal else real, positions, logits_to_keep=1)
        parents = torch.tensor(self.chunk.parents, device=self.device)
        self._cache.spread(parents)
        self._logits = logits.index_select(0, parents)
        if self.readout is not None:
            self._read = self._read.index_select(0, parents)
        self._position = lengths.to(self.device)[parents, None] - 1
        self._attention = None
        if not equal:
            ahead = real.new_ones((len(parents), self.params.max_new_tokens))
            self._attention = torch.cat([real[parents], ahead], dim=1)
        self._present = None
        if self.sampler.reads_history:
            # Padding counts as a token beyond the vocabulary, cut off again.
            present = torch.zeros((len(tokens), logits.shape[1] + 1), dtype=torch.bool, device=self.device)
            present.scatter_(1, tokens.where(real, logits.shape[1]), True)
            self._present = present[:, :-1][parents]

    def _forward(self, tokens: Tensor, attention: Tensor | None, positions: Tensor, **extra: Any) -> Tensor:
        """Logits of the last column, [n, V]; what is read off the states before them is left in `_read`."""
        cache = "cache" if "cache" in self._arguments else "past_key_values"  # newer transformers, and older
        arguments = {"attention_mask": attention, "position_ids": positions, cache: self._cache, **extra}
        known = {name: value for name, value in arguments.items() if name in self._arguments}
        if self.readout is None:
            return self.model(input_ids=tokens, use_cache=True, **known).logits[:, -1]
        states: list[Tensor] = []
        head = underlying(self.model).get_output_embeddings()
        handle = head.register_forward_pre_hook(lambda module, given: states.append(given[0]))
        try:
            logits = self.model(input_ids=tokens, use_cache=True, **known).logits[:, -1]
        finally:
            handle.remove()
        self._read = self.readout(states[0][:, -1])
        return logits

    def _uniform(self) -> Tensor | None:
        if self.sampler.greedy:
            return None
        offset = self.step % UNIFORM_BLOCK
        if offset == 0:
            steps = min(UNIFORM_BLOCK, self.params.max_new_tokens - self.step)
            drawn = uniforms(self.params.seed, np.asarray(self.chunk.rows), self.step, steps)
            self._uniforms = torch.from_numpy(drawn).to(self.device)
        return self._uniforms[self._slots, offset]

    def _leave(self, count: int) -> None:
        """Let go of so many ended rows, and close the ranks: rows at the end that stay take their places."""
        stays = torch.ones_like(self._going)
        stays[(~self._going).nonzero().squeeze(1)[:count]] = False
        left = len(stays) - count
        holes = (~stays[:left]).nonzero().squeeze(1)
        movers = stays[left:].nonzero().squeeze(1) + left
        index = torch.arange(left, device=self.device)
        index[holes] = movers
        self._cache.leave(holes, movers, left)
        self._slots, self._last, self._position, self._going = (
            state.index_select(0, index) for state in (self._slots, self._last, self._position, self._going)
        )
        if self._attention is not None:
            self._attention = self._attention.index_select(0, index)
        if self._present is not None:
            self._present = self._present.index_select(0, index)


def check_model(policy: Policy, longest: int) -> None:
    """Refuse a model that has no cache of the ordinary kind, or too small a window for `longest` tokens.

    Raises:
        HeedfulError: so it is.
    """
    kind = type(underlying(policy.model)).__name__
    if not underlying(policy.model)._supports_default_dynamic_cache():
        mend = "Use a decoder of transformers that generates with the ordinary cache."
        raise HeedfulError(f"{kind} keeps a cache of its own kind, which rollouts can't use.", mend=mend)
    window = policy.context_length
    if window is not None and longest > window:
        what = f"A prompt and its new tokens make {longest} tokens; {kind} has a window of {window}."
        raise HeedfulError(what, mend="Shorten the prompts or ask for fewer new tokens.")
