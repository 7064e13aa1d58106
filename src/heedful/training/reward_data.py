"""What a reward model learns from, as tokens: answers to one prompt with what raters said of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from heedful.core.reward_losses import LARGEST_TIE, ranking_pairs
from heedful.data.chat import render_completion
from heedful.data.packing import micro_batches, shared_micro_batches
from heedful.data.records import Conversation, Demonstration, Preference, Ranking
from heedful.errors import HeedfulError
from heedful.models.scalar import ENOUGH, RewardModel
from heedful.models.shared_prefix import common_start
from heedful.training.batching import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Comparison:
    """What was said of two answers: the probability that the first is preferred, margin and strength as stated."""

    probability: float
    margin: float
    strength: float
    """From -3 to 3, above 0 for the first; NaN where none was stated."""


@dataclass(frozen=True)
class Order:
    """The ranks of K answers, the lower the better; equal ranks are ties."""

    ranks: tuple[float, ...]


@dataclass(frozen=True)
class Judged:
    """Answers to one prompt, rendered behind it, with what was said of them."""

    answers: tuple[Example, ...]
    said: Comparison | Order
    weight: float
    ratings: tuple[tuple[float, ...], ...] = ()
    """Of each answer, a figure an attribute (NaN where none was given); empty where there are no attributes."""

    @property
    def tokens(self) -> int:
        """Tokens of all answers, padded to the longest."""
        return len(self.answers) * max(len(answer.tokens) for answer in self.answers)

    @cached_property
    def start(self) -> int:
        """How many tokens its answers begin with alike: their prompt, and what they say alike."""
        return common_start(answer.tokens for answer in self.answers)

    @property
    def once(self) -> int:
        """`tokens` where what they begin with is read once."""
        return self.start + len(self.answers) * self.rest

    @property
    def rest(self) -> int:
        """Tokens of the longest answer behind them."""
        return max(len(answer.tokens) for answer in self.answers) - self.start

    def pairs(self) -> list[tuple[int, int, float]]:
        """(i, j, probability that i is preferred) of each two answers."""
        if isinstance(self.said, Order):
            return ranking_pairs(self.said.ranks)
        return [(0, 1, self.said.probability)]


def _examples(
    tokenizer: PreTrainedTokenizerBase, prompt: Conversation, completions: Sequence[str], max_length: int, closing: int
) -> tuple[Example, ...]:
    """Answers behind their prompt. One that had to be cut ends with `closing` in the place of its last token."""
    examples = []
    for completion in completions:
        rendered = render_completion(tokenizer, prompt, completion, max_length=max_length)
        tokens = [*rendered.tokens[:-1], closing] if rendered.truncated else rendered.tokens
        examples.append(Example(tokens, rendered.mask))
    return tuple(examples)


def judged_pairs(
    records: Sequence[Preference],
    tokenizer: PreTrainedTokenizerBase,
    labels: Literal["soft", "majority"],
    max_length: int,
    closing: int,
) -> list[Judged]:
    """Render preferences. `majority` turns a share of votes into its winner; a tie stays at one half.

    Args:
        closing: the end-of-turn token, at which a reward model is read.
    """
    found = []
    for record in records:
        probability = record.probability
        if labels == "majority":
            probability = 0.5 if probability == 0.5 else float(probability > 0.5)
        strength = math.nan if record.strength is None else record.strength
        answers = _examples(tokenizer, record.prompt, (record.a, record.b), max_length, closing)
        found.append(Judged(answers, Comparison(probability, record.margin, strength), record.weight))
    return found


def judged_rankings(
    records: Sequence[Ranking],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    closing: int,
    attributes: Sequence[str] = (),
) -> list[Judged]:
    """Render rankings, with the ratings of the attributes that are named.

    Raises:
        HeedfulError: more answers of a ranking are tied than a loss can take, with its file and line.
    """
    found = []
    for record in records:
        tied = max(record.ranks.count(rank) for rank in record.ranks)
        if tied > LARGEST_TIE:
            raise HeedfulError(
                f"{tied} answers share one rank.",
                where=str(record.origin),
                mend=f"At most {LARGEST_TIE} may: split the row, or leave answers out.",
            )
        said = dict(record.attributes)
        none = (math.nan,) * len(record.ranks)
        columns = [said.get(name, none) for name in attributes]
        answers = _examples(tokenizer, record.prompt, record.completions, max_length, closing)
        ratings = tuple(zip(*columns, strict=True)) if columns else ()
        found.append(Judged(answers, Order(record.ranks), record.weight, ratings))
    return found


def rendered_answers(
    records: Sequence[Demonstration], tokenizer: PreTrainedTokenizerBase, max_length: int, closing: int
) -> list[Judged]:
    """Render answers of which nothing was said."""
    return [
        Judged(_examples(tokenizer, record.prompt, (record.completion,), max_length, closing), Order((1.0,)), 1.0)
        for record in records
    ]


def attribute_names(records: Sequence[Ranking]) -> tuple[str, ...]:
    """The attributes that some answers are rated by, sorted."""
    return tuple(sorted({name for record in records for name, _ in record.attributes}))


@dataclass(frozen=True)
class Layout:
    """Where the answers of some judged items stand in one batch: all first answers, then all second ones, and so on."""

    items: Sequence[Judged]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(item, answer), in the batch's order."""
        most = max(len(item.answers) for item in self.items)
        for place in range(most):
            for row, item in enumerate(self.items):
                if place < len(item.answers):
                    yield row, place

    def examples(self) -> list[Example]:
        """The answers in the batch's order."""
        return [self.items[row].answers[place] for row, place in self]

    def sides(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """[N], [N]: of items that are all pairs, the scores of both sides."""
        count = len(self.items)
        return scores[:count], scores[count:]

    def rows(self, scores: Tensor) -> list[Tensor]:
        """Of each item, the scores [K] of its answers."""
        places: list[list[int]] = [[] for _ in self.items]
        for index, (row, _) in enumerate(self):
            places[row].append(index)
        return [scores[torch.tensor(found, device=scores.device)] for found in places]


def item_micro_batches(
    items: Sequence[Judged], budget: int, *, shared: bool = False, limit: int | None = None
) -> list[list[int]]:
    """Group items so that all answers of a group, padded, stay within `budget` tokens.

    Args:
        shared: what an item's answers begin with is read once.
        limit: then, the model's context.
    """
    if not shared:
        return micro_batches([item.tokens for item in items], budget)
    starts, rests = [item.start for item in items], [item.rest for item in items]
    return shared_micro_batches(starts, rests, [len(item.answers) for item in items], budget, limit)


def worth_sharing(model: RewardModel, items: Sequence[Judged], budget: int) -> bool:
    """Whether what items' answers begin with is to be read once: the model can, and it leaves tokens enough fewer.

    Args:
        budget: tokens at a time.
    """
    if not items or any(item.start == 0 for item in items) or not model.continues():
        return False
    if model.lays():
        whole = sum(len(answer.tokens) for item in items for answer in item.answers)
        return whole - sum((len(item.answers) - 1) * item.start for item in items) <= ENOUGH * whole
    together = 0
    for part in item_micro_batches(items, budget, shared=True, limit=model.context_length):
        rows = sum(len(items[i].answers) for i in part)
        together += len(part) * max(items[i].start for i in part) + rows * max(items[i].rest for i in part)
    plain = [[items[i].tokens for i in part] for part in item_micro_batches(items, budget)]
    return together <= ENOUGH * sum(len(part) * max(part) for part in plain)


def column(items: Sequence[Judged], what: str, like: Tensor) -> Tensor:
    """[N] float32: a figure of every `Comparison`, where `like` is."""
    values: list[Any] = [getattr(item.said, what) for item in items]
    return torch.tensor(values, device=like.device)
