"""Rows of unequal length through a model without their padding: laid end to end, parted only where they attend.

Of a batch of rows of like lengths a tenth to a fifth is padding, of one as it comes a third or more. Products, norms
and all else that reads a token by itself need not see it. `heedful.models.attention` parts the tokens into rows
again, so that none attends to another row's; positions count from 0 in every row. Answers that share a prompt can lie
behind it once, and all attend to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

WORTH = 0.95
"""The share of a batch's cells that tokens may fill at most for it to pay: parting them costs copies."""

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Attention of query [B, H, L, D], key and value [B, G, S, D] and a mask [B, 1, L, S], or causal: [B, L, H, D]."""


@dataclass(frozen=True)
class Block:
    """B rows of at most T tokens, which lie end to end from place `start` on among all that a model reads.

    Args:
        cells: [N] int64, the cell (row * T + t) of each token.
        places: [B x T] int64, of each cell its token's place; of a cell of padding that of the first filler, which
            stands behind all tokens. Fillers have states, but no gradient.
        shape: B and T.
        start: the place of the first token.
    """

    cells: Tensor
    places: Tensor
    shape: tuple[int, int]
    start: int

    @staticmethod
    def of(real: Tensor, start: int, filler: int) -> Block:
        """The rows of a table, [B, T] bool, True at real tokens, padded on the right."""
        cells = real.flatten().nonzero().squeeze(1)
        places = torch.full((real.numel(),), filler, device=real.device)
        places[cells] = torch.arange(start, start + len(cells), device=real.device)
        return Block(cells, places, (real.shape[0], real.shape[1]), start)

    @property
    def positions(self) -> Tensor:
        """[N] int64: how many tokens of its row stand before each."""
        return self.cells % self.shape[1]

    def parted(self, states: Tensor) -> Tensor:
        """[B, T, ...] of states [1, count, ...] of all tokens; those of a filler at padding. Differentiable."""
        found: Tensor = _Parted.apply(states[0].flatten(1), self)
        return found.view(*self.shape, *states.shape[2:])

    def lay_(self, table: Tensor, out: Tensor) -> None:
        """The tokens' rows of a table [B x T, W], to their places in `out` [count, W]."""
        torch.index_select(table, 0, self.cells, out=out[self.start : self.start + len(self.cells)])


class _Parted(torch.autograd.Function):
    """[B x T, W] of [count, W]; the gradient at padding is no token's."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, block: Block) -> Tensor:
        ctx.block, ctx.count = block, len(states)
        return states.index_select(0, block.places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        found = gradient.new_zeros(ctx.count, gradient.shape[1])
        ctx.block.lay_(gradient, found)
        return found, None


class _Joined(torch.autograd.Function):
    """[count, W] of tables [B x T, W] of blocks. Fillers are zero, and as they have no gradient padding has none."""

    @staticmethod
    def forward(ctx: Any, blocks: tuple[Block, ...], count: int, *tables: Tensor) -> Tensor:
        ctx.blocks = blocks
        found = tables[0].new_zeros(count, tables[0].shape[1])
        for block, table in zip(blocks, tables, strict=True):
            block.lay_(table, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient.index_select(0, block.places) for block in ctx.blocks)


@dataclass(frozen=True)
class Rows:
    """Rows that attend to themselves, laid end to end.

    Args:
        block: the rows.
        count: of tokens with fillers, at least one.
    """

    block: Block
    count: int

    @staticmethod
    def of(attention: Tensor, multiple: int) -> Rows:
        """The rows of a batch.

        Args:
            attention: [B, T] bool, True at real tokens, padded on the right.
            multiple: `count` is one of it.
        """
        tokens = int(attention.sum())
        return Rows(Block.of(attention, 0, tokens), _with_fillers(tokens, multiple))

    def laid(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """[1, count] int64 each: tokens [B, T] as a model reads them, and their positions; zero at fillers."""
        cells = self.block.cells
        return _filled_up(tokens.flatten()[cells], self.count), _filled_up(self.block.positions, self.count)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        """[1, count, H, D] of query [1, H, count, D], key and value [1, G, count, D]."""
        q, k, v = (self.block.parted(states.transpose(1, 2)).transpose(1, 2) for states in (query, key, value))
        return _joined((self.block,), self.count, attend(q, k, v, None))


@dataclass(frozen=True)
class Shared:
    """Prompts, and answers that attend to themselves and to a prompt that several of them may share.

    Args:
        prompts: of P rows, L wide.
        answers: of B rows, A wide, behind the prompts.
        parents: [B] int64, which prompt each answer goes on from.
        starts: [B] int64, how many tokens that has.
        seen: [B, 1, A, L + A] bool, what an answer's token sees of its prompt and of itself.
        count: as in `Rows`.
    """

    prompts: Block
    answers: Block
    parents: Tensor
    starts: Tensor
    seen: Tensor
    count: int

    @staticmethod
    def of(real: Tensor, told: Tensor, parents: Tensor, multiple: int) -> Shared:
        """Of prompts [P, L] and answers [B, A], both padded on the right; True at real tokens."""
        before, tokens = int(real.sum()), int(real.sum() + told.sum())
        prompts, answers = Block.of(real, 0, tokens), Block.of(told, before, tokens)
        width = told.shape[1]
        own = torch.ones(width, width, dtype=torch.bool, device=told.device).tril_().expand(len(told), -1, -1)
        seen = torch.cat([real[parents][:, None].expand(-1, width, -1), own], dim=2)[:, None]
        return Shared(prompts, answers, parents, real.sum(1)[parents], seen, _with_fillers(tokens, multiple))

    def laid(self, prompts: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        """[1, count] int64 each: prompts [P, L] and answers [B, A] as a model reads them, and their positions."""
        tokens = torch.cat([prompts.flatten()[self.prompts.cells], answers.flatten()[self.answers.cells]])
        rows = self.answers.cells // self.answers.shape[1]
        behind = self.answers.positions + self.starts[rows]
        return (
            _filled_up(tokens, self.count),
            _filled_up(torch.cat([self.prompts.positions, behind]), self.count),
        )

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        """As `Rows.attend`."""
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))
        q, k, v = (self.prompts.parted(states).transpose(1, 2) for states in (query, key, value))
        of_prompts = attend(q, k, v, None)
        k, v = (self.reached(states).transpose(1, 2) for states in (key, value))
        of_answers = attend(self.answers.parted(query).transpose(1, 2), k, v, self.seen)
        return _joined((self.prompts, self.answers), self.count, of_prompts, of_answers)

    def reached(self, states: Tensor) -> Tensor:
        """[B, L + A, ...] of states [1, count, ...]: of each answer its prompt's and its own. Differentiable."""
        found: Tensor = _Reached.apply(states[0].flatten(1), self)
        rows, width = self.answers.shape
        return found.view(rows, self.prompts.shape[1] + width, *states.shape[2:])

    def states(self, found: Tensor) -> Tensor:
        """[B, 1 + A, H] of states [1, count, H]: at the last token of each answer's prompt, then at its own."""
        lasts = self.prompts.places.view(self.prompts.shape)[self.parents, self.starts - 1]
        return torch.cat([found[0].index_select(0, lasts)[:, None], self.answers.parted(found)], dim=1)


class _Reached(torch.autograd.Function):
    """[B x (L + A), W] of [count, W]; what the answers of a prompt say of it adds up."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, shared: Shared) -> Tensor:
        ctx.shared, ctx.count = shared, len(states)
        prompts = shared.prompts.places.view(shared.prompts.shape)[shared.parents]
        places = torch.cat([prompts, shared.answers.places.view(shared.answers.shape)], dim=1)
        return states.index_select(0, places.flatten())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        shared: Shared = ctx.shared
        (count, length), (rows, width) = shared.prompts.shape, shared.answers.shape
        of_prompts, of_answers = gradient.view(rows, length + width, -1).split([length, width], dim=1)
        found = gradient.new_zeros(ctx.count, gradient.shape[1])
        together = gradient.new_zeros(count, *of_prompts.shape[1:]).index_add_(0, shared.parents, of_prompts)
        shared.prompts.lay_(together.flatten(0, 1), found)
        shared.answers.lay_(of_answers.flatten(0, 1), found)
        return found, None


def _with_fillers(tokens: int, multiple: int) -> int:
    return multiple * (tokens // multiple + 1)


def _filled_up(numbers: Tensor, count: int) -> Tensor:
    return pad(numbers, (0, count - len(numbers)))[None]


def _joined(blocks: tuple[Block, ...], count: int, *tables: Tensor) -> Tensor:
    """[1, count, H, D] of [B, T, H, D] each."""
    found: Tensor = _Joined.apply(blocks, count, *(table.flatten(0, 1).flatten(1) for table in tables))
    return found.view(1, count, *tables[0].shape[2:])


_LAID: ContextVar[Rows | Shared | None] = ContextVar("laid", default=None)


def laid_rows() -> Rows | Shared | None:
    """The rows that the model which runs now has end to end, if it has; compiled layers never have."""
    return None if torch.compiler.is_compiling() else _LAID.get()


@contextmanager
def laying(rows: Rows | Shared) -> Iterator[None]:
    """Inside, attention parts the tokens into these rows."""
    token = _LAID.set(rows)
    try:
        yield
    finally:
        _LAID.reset(token)
