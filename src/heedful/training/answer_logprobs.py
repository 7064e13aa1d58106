"""Log-probabilities of whole answers: what preference losses are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heedful.models.alignment import hidden_states
from heedful.models.modes import evaluating
from heedful.models.policy import Policy
from heedful.training.batching import TokenBatch
from heedful.training.pairs import JudgedAnswers, pair_micro_batches
from heedful.training.shared_prompt import continued_hidden, goes_on, pays, saves, shared_hidden, side_by_side
from heedful.training.workers import current


def side_logprobs(policy: Policy, records: JudgedAnswers, *, share: bool = False, temperature: float = 1.0) -> Tensor:
    """[S, N] summed log-probabilities of the S answers of N records, end-of-turn token included; differentiable.

    Args:
        share: read the prompt of a pair once, where that pays (`heedful.training.shared_prompt`).
        temperature: of the policy, by which its logits are divided.
    """
    batch = side_by_side(policy, records)
    with policy.autocast():
        hidden = _hidden(policy, records, batch, share)
        logprobs, _ = policy.logprobs_from(hidden, batch.tokens, batch.mask, temperature=temperature)
    return logprobs.sum(1).view(-1, len(records))


def weighed_logprobs(policy: Policy, records: JudgedAnswers, *, share: bool = False) -> tuple[Tensor, Tensor]:
    """`side_logprobs`, and [N] WPO's weight of each record, without gradient.

    An answer's weight is exp(mean over its tokens of [log pi(y_t) - log sum_v pi(v)^2]): how likely it is under the
    policy, a sample of which has the chance sum_v pi(v)^2 on average (Zhou et al. 2024, "sampled alignment"). A
    record's is the product over its answers.
    """
    batch = side_by_side(policy, records)
    with policy.autocast():
        hidden = _hidden(policy, records, batch, share)
        logprobs, _ = policy.logprobs_from(hidden, batch.tokens, batch.mask)
        collisions = policy.collisions_from(hidden, batch.mask)
    above = (logprobs.detach() - collisions).sum(1) / batch.mask.sum(1)
    return logprobs.sum(1).view(-1, len(records)), above.view(-1, len(records)).sum(0).exp()


def _hidden(policy: Policy, records: JudgedAnswers, batch: TokenBatch, share: bool) -> Tensor:
    if share and goes_on(policy):
        if saves(policy, records):
            return continued_hidden(policy, records, batch)
    elif share and pays(records):
        return shared_hidden(policy, records, batch)
    return hidden_states(policy.running(), batch.tokens, batch.attention)


def known_logprobs(
    policy: Policy,
    records: JudgedAnswers,
    budget: int,
    temperature: float = 1.0,
    *,
    share: bool = False,
    spare: JudgedAnswers = (),
) -> Tensor:
    """[S, N] float32 on the CPU: `side_logprobs` without gradient or dropout, `budget` tokens at a time.

    Args:
        share: read the prompt of a pair once, where its answers can go on from it.
        spare: where the policy is sharded, what is read in step with workers that have more records, one at least.
    """
    known = empty_table(records, spare)
    with evaluating(policy.model):
        for rows, counts in current().reading(policy, pair_micro_batches(records, budget), spare=()):
            some = chosen(records, rows) if counts else spare[:1]
            found = side_logprobs(policy, some, share=share and goes_on(policy), temperature=temperature)
            if counts:
                known[:, rows] = found.float().cpu()
    return known


def empty_table(records: JudgedAnswers, spare: JudgedAnswers = ()) -> Tensor:
    """[S, N] float32 on the CPU: a number for each of the S answers of N records; of none, S is that of `spare`."""
    first = [*records[:1], *spare[:1]]
    return torch.empty(len(first[0].answers) if first else 0, len(records))


def chosen(records: JudgedAnswers, numbers: Sequence[int]) -> JudgedAnswers:
    """Some of the records, by number."""
    return [records[number] for number in numbers]


def lengths(records: JudgedAnswers) -> Tensor:
    """[S, N] int64: tokens of each answer, end-of-turn token included."""
    return torch.tensor([[sum(answer.mask) for answer in record.answers] for record in records]).T
