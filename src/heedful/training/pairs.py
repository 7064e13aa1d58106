"""Preference pairs as tokens, shared by the reward model and DPO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from heedful.data.chat import render_completion
from heedful.data.packing import micro_batches
from heedful.data.records import Preference
from heedful.training.batching import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Pair:
    """Both answers rendered behind their prompt, and how likely `a` is preferred."""

    a: Example
    b: Example
    probability: float
    margin: float
    weight: float

    @property
    def longest(self) -> int:
        """Tokens of the longer side."""
        return max(len(self.a.tokens), len(self.b.tokens))


def make_pairs(
    records: Sequence[Preference],
    tokenizer: PreTrainedTokenizerBase,
    labels: Literal["soft", "majority"],
    max_length: int,
) -> list[Pair]:
    """Render preferences. `majority` turns a share of votes into its winner; a tie stays at one half."""
    pairs = []
    for record in records:
        a = render_completion(tokenizer, record.prompt, record.a, max_length=max_length)
        b = render_completion(tokenizer, record.prompt, record.b, max_length=max_length)
        probability = record.probability
        if labels == "majority":
            probability = 0.5 if probability == 0.5 else float(probability > 0.5)
        pairs.append(
            Pair(
                Example(a.tokens, a.mask),
                Example(b.tokens, b.mask),
                probability,
                record.margin,
                record.weight,
            )
        )
    return pairs


def pair_micro_batches(pairs: Sequence[Pair], budget: int) -> list[list[int]]:
    """Group pairs so that both sides of a group, padded, stay within `budget` tokens."""
    return micro_batches([2 * pair.longest for pair in pairs], budget)
