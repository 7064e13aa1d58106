"""What a rollout is, and how one is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, TypeVar

import torch
from torch import Tensor

from heedful.errors import HeedfulError


@dataclass(frozen=True)
class RolloutParams:
    """How training samples: the policy's own distribution, so there is no top-k, top-p, min-p or penalty.

    `stop` strings end a completion after the token that completes one of them; `seed` fixes the samples
    whatever the batching.

    Raises:
        HeedfulError: a value makes no sense.
    """

    max_new_tokens: int
    temperature: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    greedy_allowed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._require("max_new_tokens", self.max_new_tokens >= 1, "a whole number, at least 1")
        mend = "above 0, or 0 for greedy" if self.greedy_allowed else "above 0 (training has no greedy)"
        positive = self.temperature > 0 or (self.greedy_allowed and self.temperature == 0)
        self._require("temperature", positive and math.isfinite(self.temperature), mend)
        self._require("seed", 0 <= self.seed < 2**64, "a whole number from 0 to 2**64 - 1")
        strings = not isinstance(self.stop, str) and all(isinstance(s, str) and s for s in self.stop)
        self._require("stop", strings, "a tuple of strings, none of them empty")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            what = f"{name} is {getattr(self, name)!r}."
            raise HeedfulError(what, where=type(self).__name__, mend=f"It must be {wanted}.")


@dataclass(frozen=True)
class DecodingParams(RolloutParams):
    """How `sample` and `chat` decode. `temperature` 0 is greedy; the others change the distribution.

    They apply in the order of `transformers`: repetition penalty (over prompt and completion), banned
    tokens and temperature, top-k, top-p, min-p. 0, 1, 0 and 1 switch them off.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    greedy_allowed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("top_k", self.top_k >= 0, "a whole number; 0 keeps every token")
        self._require("top_p", 0 < self.top_p <= 1, "above 0 and at most 1")
        self._require("min_p", 0 <= self.min_p <= 1, "between 0 and 1")
        penalty = self.repetition_penalty > 0 and math.isfinite(self.repetition_penalty)
        self._require("repetition_penalty", penalty, "above 0; 1 is no penalty")


RolloutT = TypeVar("RolloutT", bound="Rollout")


@dataclass(frozen=True)
class Rollout:
    """Sampled completions behind their prompts, right-padded. B = prompts x samples, prompt-major.

    Index `t` describes token `t`. A completion includes its end-of-turn token when it `finished`.
    """

    tokens: Tensor  # [B, T] int64
    attention: Tensor  # [B, T] bool, True at real tokens (prompt and completion)
    mask: Tensor  # [B, T] bool, True at sampled tokens
    logprobs: Tensor  # [B, T] float32, of token t as sampled; 0 outside the mask
    finished: Tensor  # [B] bool, ended by an end-of-turn token or a stop string
    prompt_index: Tensor  # [B] int64, which of the prompts given

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def lengths(self) -> Tensor:
        """[B] int64: sampled tokens per completion."""
        return self.mask.sum(1)

    def to(self: RolloutT, device: torch.device | str) -> RolloutT:
        """The same rollout on another device."""
        return type(self)(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class ReadRollout(Rollout):
    """A rollout with what was read off the states that its tokens were sampled from."""

    readouts: Tensor  # [B, T] float32, of the prefix before token t; 0 outside the mask


Readout: TypeAlias = Callable[[Tensor], Tensor]
"""Last hidden states [n, H] -> one number each, [n] float32."""
