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
    *,
    closing: int | None = None,
) -> list[Pair]:
    """Render preferences. `majority` turns a share of votes into its winner; a tie stays at one half.

    Args:
        closing: a token to end an answer with that had to be cut, in the place of its last token: a reward model
            is read at the end-of-turn token. None leaves it cut.
    """

    def side(record: Preference, completion: str) -> Example:
        rendered = render_completion(tokenizer, record.prompt, completion, max_length=max_length)
        if rendered.truncated and closing is not None:
            return Example([*rendered.tokens[:-1], closing], rendered.mask)
        return Example(rendered.tokens, rendered.mask)

    pairs = []
    for record in records:
        probability = record.probability
        if labels == "majority":
            probability = 0.5 if probability == 0.5 else float(probability > 0.5)
        a, b = side(record, record.a), side(record, record.b)
        pairs.append(Pair(a, b, probability, record.margin, record.weight))
    return pairs


def pair_micro_batches(pairs: Sequence[Pair], budget: int) -> list[list[int]]:
    """Group pairs so that both sides of a group, padded, stay within `budget` tokens."""
    return micro_batches([2 * pair.longest for pair in pairs], budget)
