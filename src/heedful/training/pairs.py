"""What people said of answers, as tokens: pairs, and single labelled answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from heedful.data.chat import render_completion
from heedful.data.packing import micro_batches
from heedful.data.records import Conversation, Labelled, Preference
from heedful.errors import HeedfulError
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
    def answers(self) -> tuple[Example, ...]:
        """Both answers."""
        return self.a, self.b

    @property
    def longest(self) -> int:
        """Tokens of the longer side."""
        return max(len(self.a.tokens), len(self.b.tokens))


@dataclass(frozen=True)
class LabelledAnswer:
    """One answer rendered behind its prompt, and how likely it is good."""

    answer: Example
    probability: float
    weight: float = 1.0

    @property
    def answers(self) -> tuple[Example, ...]:
        """The one answer."""
        return (self.answer,)

    @property
    def longest(self) -> int:
        """Its tokens."""
        return len(self.answer.tokens)


JudgedAnswers: TypeAlias = Sequence[Pair | LabelledAnswer]
"""Records, all of one kind: what a trainer of preference losses reads."""


def make_pairs(
    records: Sequence[Preference],
    tokenizer: PreTrainedTokenizerBase,
    labels: Literal["soft", "majority"],
    max_length: int,
) -> list[Pair]:
    """Render preferences. `majority` turns a share of votes into its winner; a tie stays at one half."""
    pairs = []
    for record in records:
        probability = record.probability
        if labels == "majority":
            probability = 0.5 if probability == 0.5 else float(probability > 0.5)
        a, b = (_example(record.prompt, text, tokenizer, max_length) for text in (record.a, record.b))
        pairs.append(Pair(a, b, probability, record.margin, record.weight))
    return pairs


def make_labelled(
    records: Sequence[Labelled], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[LabelledAnswer]:
    """Render unpaired feedback."""
    return [
        LabelledAnswer(_example(record.prompt, record.completion, tokenizer, max_length), float(record.label))
        for record in records
    ]


def _example(
    prompt: Conversation,
    completion: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> Example:
    rendered = render_completion(tokenizer, prompt, completion, max_length=max_length)
    return Example(rendered.tokens, rendered.mask)


def preferred_first(pairs: Sequence[Pair], where: str) -> list[Pair]:
    """Pairs fit for margins: hard labels only, the preferred answer first.

    Raises:
        HeedfulError: a soft label or a tie; `where` is the setting that asks for margins.
    """
    if any(pair.probability not in (0.0, 1.0) for pair in pairs):
        raise HeedfulError(
            "margins and soft labels do not go together, and some pairs have votes on both sides.",
            where=where,
            mend=f"Leave {where} out, or give hard labels (and no ties) with --labels majority.",
        )
    return [p if p.probability == 1.0 else Pair(p.b, p.a, 1.0, p.margin, p.weight) for p in pairs]


def mismatched(records: JudgedAnswers, pool: JudgedAnswers, seed: int, max_length: int) -> list[Pair | LabelledAnswer]:
    """For each record its prompt with the answers of another record of `pool`, one that answers another prompt.

    Who is whose partner is a function of the records and the seed alone.

    Raises:
        HeedfulError: all records of the pool answer the prompt of one of the records.
    """
    order = np.random.default_rng([seed, len(pool)]).permutation(len(pool))
    prompts = [_prompt(record.answers[0]) for record in pool]
    moved: list[Pair | LabelledAnswer] = []
    for number, record in enumerate(records):
        own = _prompt(record.answers[0])
        place = next((k for k in range(len(pool)) if prompts[order[(number + k) % len(pool)]] != own), None)
        if place is None:
            raise HeedfulError(
                "all records answer one prompt, and this loss compares answers with those to another.",
                where="loss",
                mend="Give data with two different prompts or more.",
            )
        partner = pool[order[(number + place) % len(pool)]]
        moved.append(_answered(record, own, partner.answers, max_length))
    return moved


def behind_other_prompts(
    records: JudgedAnswers, prompts: Sequence[Sequence[int]], seed: int, max_length: int
) -> list[Pair | LabelledAnswer]:
    """For each record its answers behind another prompt than its own: as `mismatched`, where the records are few.

    Args:
        prompts: tokens of all prompts of the run, two different ones or more.
        seed: which prompt each record gets is a function of it.
    """
    draw = np.random.default_rng(seed)
    moved: list[Pair | LabelledAnswer] = []
    for record in records:
        own = _prompt(record.answers[0])
        first = int(draw.integers(len(prompts)))
        other = next(p for k in range(len(prompts)) if (p := list(prompts[(first + k) % len(prompts)])) != own)
        moved.append(_answered(record, other, record.answers, max_length))
    return moved


def _answered(
    record: Pair | LabelledAnswer, prompt: list[int], answers: Sequence[Example], max_length: int
) -> Pair | LabelledAnswer:
    """The record with these answers, behind this prompt, in the place of its own."""
    behind = [_behind(prompt, answer, max_length) for answer in answers]
    if isinstance(record, Pair):
        return replace(record, a=behind[0], b=behind[1])
    return replace(record, answer=behind[0])


def _prompt(answer: Example) -> list[int]:
    return answer.tokens[: answer.mask.index(True)]


def _behind(prompt: list[int], answer: Example, max_length: int) -> Example:
    tokens = prompt + answer.tokens[answer.mask.index(True) :]
    mask = [False] * len(prompt) + [True] * (len(tokens) - len(prompt))
    return Example(tokens[:max_length], mask[:max_length])


def pair_micro_batches(records: JudgedAnswers, budget: int) -> list[list[int]]:
    """Group pairs (or single answers) so that all answers of a group, padded, stay within `budget` tokens."""
    return micro_batches([len(record.answers) * record.longest for record in records], budget)
