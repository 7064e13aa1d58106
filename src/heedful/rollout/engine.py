"""The native engine: sampling from any causal language model of `transformers`, batched and reproducible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from heedful.errors import HeedfulError
from heedful.models.compiling import eagerly
from heedful.models.kernels import packed_weights
from heedful.models.memory import within_memory
from heedful.models.modes import evaluating
from heedful.rollout.decoding import Chunk, Decoding, check_model
from heedful.rollout.types import Readout, ReadRollout, Rollout, RolloutParams

if TYPE_CHECKING:
    from heedful.models.policy import Policy

CPU_BUDGET = 2**30
"""Bytes that a batch's cache and logits may take on a CPU when the caller sets no `max_batch`."""

GPU_SHARE = 0.5
"""The same on a GPU: this share of what is free."""


class NativeEngine:
    """Samples completions from a policy.

    It holds no state between calls, so an interrupted call leaves nothing behind: the model's training
    flags are put back and its weights are never touched.

    Args:
        policy: read at each call, so later updates of its weights count.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: RolloutParams,
        *,
        samples_per_prompt: int = 1,
        max_batch: int | None = None,
        readout: Readout | None = None,
        first: int = 0,
    ) -> Rollout:
        """Sample `samples_per_prompt` completions (K) of each prompt.

        Row `(first + p) * K + k` is sample k of prompt p. Its random numbers depend on `params.seed`, that row
        number and the step alone, so `max_batch` and what else is in the batch do not choose them (the
        model's own rounding does depend on the batch's shape, in the last bits).

        Args:
            prompts: token ids, none empty, lengths as they come.
            params: `DecodingParams` for greedy, top-k and the like; training passes `RolloutParams`.
            samples_per_prompt: K, at least 1. A prompt is read by the model once for all its samples.
            max_batch: rows sampled at once; None takes as many as the memory budget holds.
            readout: read off the states that tokens are sampled from, such as a value head on the policy's trunk.
            first: how many prompts of the whole stand before these, where they are a part of one.

        Returns:
            The rollout on the policy's device, a `ReadRollout` where there is a readout. Log-probabilities are those
            of the policy's distribution (temperature and banned tokens), also under `DecodingParams`; at temperature 1
            when greedy.

        Raises:
            HeedfulError: no prompts or an empty one, a prompt and its completion longer than the model's
                window, a model without an ordinary cache, logits that are not finite.
        """
        self._check(prompts, samples_per_prompt, max_batch)
        longest = max(len(prompt) for prompt in prompts) + params.max_new_tokens
        check_model(self.policy, longest)

        def sampled(limit: int) -> Rollout:
            chunks, policy = _chunks(prompts, samples_per_prompt, limit, first), self.policy
            with evaluating(policy.model), policy.autocast(), eagerly(), packed_weights(policy.running()):
                parts = [_run(self.policy, chunk, params, readout) for chunk in chunks]
            rollout, readouts = _assemble(prompts, samples_per_prompt, chunks, parts, self.policy.pad)
            return rollout if readout is None else ReadRollout(**vars(rollout), readouts=readouts)

        return within_memory(max_batch or self._affordable(longest), 1, sampled)

    def stream(self, prompt: Sequence[int], params: RolloutParams) -> Iterator[int]:
        """The tokens of one completion as they are sampled, the end-of-turn token included.

        They are the tokens that `generate([prompt], params)` gives. Between two tokens the model is as the
        caller left it; stopping early needs nothing.

        Raises:
            HeedfulError: as for `generate`, at the first token.
        """
        self._check([prompt], 1, 1)
        check_model(self.policy, len(prompt) + params.max_new_tokens)
        with evaluating(self.policy.model), self.policy.autocast(), eagerly():
            decoding = Decoding(self.policy, Chunk([prompt], [0], [0]), params)
            token = int(decoding.sample())
            _require_finite(decoding.logprobs)
        yield token
        while decoding.running:
            with evaluating(self.policy.model), self.policy.autocast(), eagerly():
                decoding.advance()
                token = int(decoding.sample())
                _require_finite(decoding.logprobs)
            yield token

    def _check(self, prompts: Sequence[Sequence[int]], samples: int, max_batch: int | None) -> None:
        if not prompts:
            raise HeedfulError("There are no prompts to answer.", mend="Give at least one prompt.")
        for number, prompt in enumerate(prompts):
            if not len(prompt):
                raise HeedfulError(f"Prompt {number} has no tokens.", mend="Give it some text, or leave it out.")
        if samples < 1 or (max_batch is not None and max_batch < 1):
            raise HeedfulError("Samples per prompt and the batch must be at least 1.", mend="Raise them.")

    def _affordable(self, longest: int) -> int:
        """Rows whose cache (at full length) and logits fit the memory budget, at least 1."""
        width = next(self.policy.model.parameters()).element_size()
        device = torch.device(self.policy.device)
        budget = float(CPU_BUDGET)
        if device.type == "cuda":
            budget = GPU_SHARE * torch.cuda.mem_get_info(device)[0]
        return max(1, int(budget // sum(row_bytes(self.policy.model.config, longest, width))))


def row_bytes(config: Any, longest: int, width: int) -> tuple[int, int]:
    """Bytes that one row takes: its keys and values at full length, and its logits with what sampling makes of them.

    Args:
        config: the model's.
        longest: tokens of prompt and completion.
        width: bytes of a number in the cache.
    """
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * size * longest * width, 16 * text.vocab_size


def decode(policy: Policy, rollout: Rollout) -> list[str]:
    """The text of each completion, without its end-of-turn token and without special tokens.

    A stop string that ended a completion stays in its text.
    """
    completions = []
    for tokens, mask in zip(rollout.tokens.cpu(), rollout.mask.cpu(), strict=True):
        ids = tokens[mask].tolist()
        completions.append(ids[:-1] if ids and ids[-1] in policy.eos else ids)
    tokenizer: Any = policy.tokenizer
    return tokenizer.batch_decode(completions, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _chunks(prompts: Sequence[Sequence[int]], samples: int, limit: int, first: int = 0) -> list[Chunk]:
    """Rows in chunks of at most `limit`, prompts of like length together, a prompt's samples together.

    Only when one prompt has more samples than the limit is it read more than once.
    """
    order = sorted(range(len(prompts)), key=lambda p: len(prompts[p]))
    rows = [p * samples + k for p in order for k in range(samples)]
    unit = samples if samples <= limit else 1
    units = len(rows) // unit
    size = unit * math.ceil(units / math.ceil(units / (limit // unit)))
    chunks = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        mine = list(dict.fromkeys(row // samples for row in part))
        place = {p: i for i, p in enumerate(mine)}
        numbers = [first * samples + row for row in part]
        chunks.append(Chunk([prompts[p] for p in mine], [place[row // samples] for row in part], numbers))
    return chunks


def _run(policy: Policy, chunk: Chunk, params: RolloutParams, readout: Readout | None) -> tuple[Tensor, ...]:
    """The chunk's tokens, log-probabilities, readouts [B, S], lengths and finished flags [B]; the cache is let go."""
    decoding = Decoding(policy, chunk, params, readout)
    decoding.sample()
    while decoding.running:
        decoding.advance()
        decoding.sample()
    _require_finite(decoding.logprobs)
    return decoding.tokens, decoding.logprobs, decoding.readouts, decoding.lengths, decoding.finished


def _require_finite(logprobs: Tensor) -> None:
    if not bool(logprobs.isfinite().all()):
        mend = "Weights hold NaN or infinity, or overflow in this precision: go back to an earlier checkpoint."
        raise HeedfulError("The model's logits are not finite.", mend=mend)


def _assemble(
    prompts: Sequence[Sequence[int]],
    samples: int,
    chunks: list[Chunk],
    parts: list[tuple[Tensor, ...]],
    pad: int,
) -> tuple[Rollout, Tensor]:
    """Chunks back in the order of their rows, each completion right behind its prompt; and the readouts [B, T]."""
    device = parts[0][0].device
    order = torch.tensor([row for chunk in chunks for row in chunk.rows], device=device).argsort()
    sampled, logprobs, readouts, lengths, finished = (torch.cat(part)[order] for part in zip(*parts, strict=True))
    prompt_index = torch.arange(len(prompts), device=device).repeat_interleave(samples)
    prompt_lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)[prompt_index]
    widest = max(len(prompt) for prompt in prompts)
    width = int((prompt_lengths + lengths).max())
    padded = torch.tensor([[*prompt, *[pad] * (widest - len(prompt))] for prompt in prompts], device=device)

    column = torch.arange(max(width, widest + sampled.shape[1]), device=device)
    attention = column < (prompt_lengths + lengths)[:, None]
    mask = attention & (column >= prompt_lengths[:, None])
    places = prompt_lengths[:, None] + torch.arange(sampled.shape[1], device=device)
    tokens = torch.full(attention.shape, pad, device=device)
    tokens[:, :widest] = padded[prompt_index]
    tokens = tokens.scatter_(1, places, sampled).where(attention, pad)
    placed, read = (
        torch.zeros(attention.shape, device=device).scatter_(1, places, values).where(mask, 0.0)
        for values in (logprobs, readouts)
    )
    rollout = Rollout(
        tokens=_cut(tokens, width),
        attention=_cut(attention, width),
        mask=_cut(mask, width),
        logprobs=_cut(placed, width),
        finished=finished,
        prompt_index=prompt_index,
    )
    return rollout, _cut(read, width)


def _cut(table: Tensor, width: int) -> Tensor:
    return table[:, :width].contiguous()
