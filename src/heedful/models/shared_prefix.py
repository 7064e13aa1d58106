"""The states at the ends of sequences that begin alike, where each beginning is read once for all that go on from it.

Scoring K answers of one prompt so reads it once, not K times; so does training on a ranking of K answers. A state is
that of the whole sequence to rounding, for architectures of which `heedful.models.alignment.continues` holds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from heedful.models.alignment import continued_hidden_states


def common_start(sequences: Iterable[Sequence[int]]) -> int:
    """How many tokens all sequences begin with, at most; each keeps at least one token of its own."""
    told = [list(sequence) for sequence in sequences]
    first, last = min(told), max(told)  # in the order of their tokens: what these two begin with, all do
    alike = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return min(next(alike, len(first)), min(map(len, told)) - 1)


def common_starts(sequences: Sequence[Sequence[int]], groups: Sequence[Hashable]) -> list[int]:
    """Of each sequence, `common_start` of those of its group."""
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    found = [0] * len(sequences)
    for rows in members.values():
        start = common_start(sequences[row] for row in rows)
        for row in rows:
            found[row] = start
    return found


def end_states(
    model: Any,
    sequences: Sequence[Sequence[int]],
    starts: Sequence[int],
    groups: Sequence[Hashable],
    pad: int,
    device: torch.device,
) -> Tensor:
    """Hidden states at the last token of each sequence. Call it inside `autocast()`.

    Args:
        model: as for `hidden_states`; one for which `continues` holds.
        sequences: B token sequences.
        starts: of each, how many tokens it shares with the others of its group: at least one, and not all of it.
        groups: of each, its group.

    Returns:
        [B, H], differentiable.
    """
    places: dict[Hashable, int] = {}
    parents = [places.setdefault(group, len(places)) for group in groups]
    beginnings: dict[Hashable, Sequence[int]] = {}
    for sequence, start, group in zip(sequences, starts, groups, strict=True):
        beginnings.setdefault(group, sequence[:start])
    rest = [sequence[start:] for sequence, start in zip(sequences, starts, strict=True)]
    states = continued_states(model, list(beginnings.values()), rest, parents, pad, device)
    return states[torch.arange(len(rest), device=device), torch.tensor(list(map(len, rest)), device=device)]


def continued_states(
    model: Any,
    beginnings: Sequence[Sequence[int]],
    rest: Sequence[Sequence[int]],
    parents: Sequence[int],
    pad: int,
    device: torch.device,
) -> Tensor:
    """`continued_hidden_states` of P beginnings and of B token sequences, each of which goes on from one of them."""
    (prompts, real), (answers, told) = (_table(some, pad, device) for some in (beginnings, rest))
    return continued_hidden_states(model, prompts, real, answers, told, torch.tensor(parents, device=device))


def _table(sequences: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """[N, T]: sequences padded on the right, and where they are real."""
    width = max(map(len, sequences))
    tokens = torch.tensor([[*one, *[pad] * (width - len(one))] for one in sequences], device=device)
    counts = torch.tensor(list(map(len, sequences)), device=device)
    return tokens.view(len(sequences), width), torch.arange(width, device=device) < counts[:, None]
