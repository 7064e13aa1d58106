"""The prompt of a pair read once for both of its answers, where that is exact and saves enough.

Separately a pair of answers costs twice the prompt. Where a model can go on from a prompt, both answers do
(`heedful.models.shared_prefix`). Else, as with recomputed activations and sliding windows, they stand behind each other
in one row under a mask, which pays where prompts are long: from equal lengths on the mask costs what the tokens save.
benchmarks/shared_prompt.py has the times of both ways.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.models.alignment import FAILURES, branched_hidden_states, hidden_states
from heedful.models.modes import evaluating
from heedful.models.policy import Policy
from heedful.models.scalar import ENOUGH as SAVES
from heedful.models.shared_prefix import continued_states
from heedful.training.batching import TokenBatch, collate
from heedful.training.pairs import JudgedAnswers, Pair

LONG = 2.0
"""Prompts are shared in one row that are at least so many times as long as their longer answers, ..."""

ENOUGH = 0.7
"""... where that leaves at most this share of the tokens, padding counted."""

TOLERANCE = 1e-3
"""Nats per token by which log-probabilities of a shared prompt may be off for an architecture to count as exact."""


def side_by_side(policy: Policy, records: JudgedAnswers) -> TokenBatch:
    """[S x N rows] the first answers of all records, then the second ones, each behind its prompt."""
    sides = zip(*(record.answers for record in records), strict=True)
    return collate([answer for side in sides for answer in side], policy.pad, policy.device)


def pays(records: JudgedAnswers) -> bool:
    """Whether records are pairs whose prompts are long enough, beside their answers, to be worth sharing."""
    pairs = [record for record in records if isinstance(record, Pair) and _one_prompt(record)]
    if len(pairs) < len(records):
        return False
    prompts = sum(pair.a.mask.index(True) for pair in pairs)
    answers = sum(max(sum(answer.mask) for answer in pair.answers) for pair in pairs)
    width = max(_row_length(pair) for pair in pairs)
    return prompts >= LONG * answers and width <= ENOUGH * 2 * max(pair.longest for pair in pairs)


def goes_on(policy: Policy) -> bool:
    """Whether answers go on from prompts that are read once; not in compiled layers, anew for each length."""
    return not policy.compiles and policy.continues()


def saves(policy: Policy, records: JudgedAnswers) -> bool:
    """Whether answers of these records that go on from their prompts leave tokens enough fewer to read."""
    pairs = [record for record in records if isinstance(record, Pair) and _one_prompt(record)]
    if len(pairs) < len(records):
        return False
    starts = [pair.a.mask.index(True) for pair in pairs]
    lengths = [[len(answer.tokens) for answer in pair.answers] for pair in pairs]
    longest, rest = max(starts), max(max(both) - start for both, start in zip(lengths, starts, strict=True))
    if policy.context_length is not None and longest + rest > policy.context_length:
        return False
    if policy.lays():
        whole = sum(map(sum, lengths))
        return whole - sum(starts) <= SAVES * whole
    return longest + 2 * rest <= SAVES * 2 * max(map(max, lengths))


def can_share(policy: Policy, records: JudgedAnswers, budget: int, *, later: bool) -> bool:
    """Whether prompts of pairs may be read once, in one way or the other.

    Args:
        budget: as for `is_exact`.
        later: activations will be recomputed, or layers compiled, so that answers cannot go on from prompts.
    """
    return (not later and goes_on(policy)) or is_exact(policy, records, budget)


def is_exact(policy: Policy, records: JudgedAnswers, budget: int) -> bool:
    """Whether a shared prompt gives this model the log-probabilities that separate rows give, tried on one pair.

    It is the longest of those that are worth it and fit `budget` tokens, or the shortest where none fits, computed in
    float32 whatever the policy is computed in, without adapters' dropout. An architecture that takes no such mask, or
    whose state runs through a row (recurrent ones), is told so.
    """
    worth = sorted((record for record in records if pays([record])), key=lambda record: record.longest)
    if not worth:
        return False
    fitting = [record for record in worth if 2 * record.longest <= budget]
    pair = [fitting[-1] if fitting else worth[0]]
    exact = Policy(policy.model, policy.tokenizer, banned=policy.banned)
    batch = side_by_side(exact, pair)
    with evaluating(exact.model):
        apart = hidden_states(exact.running(), batch.tokens, batch.attention)
        expected, _ = exact.logprobs_from(apart, batch.tokens, batch.mask)
        try:
            found, _ = exact.logprobs_from(shared_hidden(exact, pair, batch), batch.tokens, batch.mask)
        except FAILURES:
            return False
    return bool((found - expected).abs().max() < TOLERANCE)


def shared_hidden(policy: Policy, records: JudgedAnswers, batch: TokenBatch) -> Tensor:
    """[2 N, T, H] hidden states of `side_by_side(policy, records)`, from one row for each pair. In `autocast()`."""
    starts = [record.answers[0].mask.index(True) for record in records]
    firsts = [len(record.answers[0].tokens) for record in records]
    width = max(first + sum(record.answers[1].mask) for record, first in zip(records, firsts, strict=True))
    tokens = torch.full((len(records), width), policy.pad)
    positions = torch.zeros(len(records), width, dtype=torch.int64)
    branch = torch.full((len(records), width), 3)
    for row, (record, start, first) in enumerate(zip(records, starts, firsts, strict=True)):
        a, b = record.answers
        end = first + len(b.tokens) - start
        tokens[row, :first], tokens[row, first:end] = torch.tensor(a.tokens), torch.tensor(b.tokens[start:])
        positions[row, :first], positions[row, first:end] = torch.arange(first), torch.arange(start, len(b.tokens))
        branch[row, :start], branch[row, start:first], branch[row, first:end] = 0, 1, 2
    device = batch.tokens.device
    hidden = branched_hidden_states(policy.running(), tokens.to(device), positions.to(device), branch.to(device))
    place = torch.arange(batch.tokens.shape[1])[None, :]
    later = (torch.tensor(firsts) - torch.tensor(starts))[:, None]
    of_b = torch.where(place < torch.tensor(starts)[:, None], place, place + later)
    columns = torch.cat([place.expand(len(records), -1), of_b]).clamp(max=width - 1).to(device)
    rows = torch.arange(len(records), device=device).repeat(2)[:, None]
    return hidden[rows, columns]


def continued_hidden(policy: Policy, records: JudgedAnswers, batch: TokenBatch) -> Tensor:
    """[2 N, T, H] hidden states of `side_by_side(policy, records)`, meaningless before the last token of a prompt.

    Each prompt is read once, and both of its answers go on from it. In `autocast()`.
    """
    starts = [record.answers[0].mask.index(True) for record in records]
    beginnings = [record.answers[0].tokens[:start] for record, start in zip(records, starts, strict=True)]
    sides = zip(*(record.answers for record in records), strict=True)
    rest = [answer.tokens[start:-1] for side in sides for answer, start in zip(side, starts, strict=True)]
    parents = 2 * list(range(len(records)))
    states = continued_states(policy.running(), beginnings, rest, parents, policy.pad, batch.tokens.device)
    lasts = torch.tensor(2 * starts, device=states.device)[:, None] - 1
    columns = torch.arange(batch.tokens.shape[1], device=states.device) - lasts
    rows = torch.arange(len(states), device=states.device)[:, None]
    return states[rows, columns.clamp(0, states.shape[1] - 1)]


def _row_length(pair: Pair) -> int:
    return len(pair.a.tokens) + sum(pair.b.mask)


def _one_prompt(pair: Pair) -> bool:
    start = pair.a.mask.index(True)
    return pair.b.mask.index(True) == start and pair.a.tokens[:start] == pair.b.tokens[:start]
