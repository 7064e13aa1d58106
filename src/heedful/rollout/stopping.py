"""When a completion ends: an end-of-turn token, or text that completes a stop string."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SLACK = 8
"""Tokens looked at beyond the stop string's bytes: some may decode to nothing, and the first may be cut."""


class StopStrings:
    """Looks for stop strings in the text of completions as it grows, token by token.

    The text is what the tokens say with special tokens written out, so a stop string may name one. A token
    carries at least one byte of text, so the last few tokens are all that needs decoding at each step.

    Args:
        tokenizer: of `transformers`.
        stop: the strings; none empty.
    """

    def __init__(self, tokenizer: Any, stop: tuple[str, ...]) -> None:
        self.tokenizer = tokenizer
        self.stop = stop
        self.window = max((len(s.encode()) for s in stop), default=0) + SLACK

    def reached(self, tokens: Tensor) -> Tensor:
        """[B] bool: whether each row of [B, T] sampled tokens ends with a stop string just completed.

        Rows hold everything sampled so far, T the same for all. Call it at every step: a stop string that
        ended further back than the window was found when it ended.
        """
        tails = tokens[:, -self.window :].tolist()
        texts = self.tokenizer.batch_decode(tails, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return torch.tensor([any(s in text for s in self.stop) for text in texts], device=tokens.device)
