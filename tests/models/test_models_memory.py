"""A device without memory: the same work in halves, from where it began; and the end of halving."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from heedful.errors import HeedfulError
from heedful.models.memory import offloaded, within_memory


def test_parts_are_halved_until_they_fit_and_each_size_is_told() -> None:
    tried: list[int] = []
    told: list[int] = []

    def work(tokens: int) -> str:
        tried.append(tokens)
        if tokens > 100:
            raise torch.OutOfMemoryError
        return f"done at {tokens}"

    assert within_memory(800, 10, work, told=told.append) == "done at 100"
    assert tried == [800, 400, 200, 100]
    assert told == [400, 200, 100]


def test_a_second_try_draws_the_numbers_of_the_first_and_begins_after_undo() -> None:
    drawn: list[float] = []
    undone = []

    def work(tokens: int) -> float:
        drawn.append(float(torch.rand(())))
        if tokens == 8:
            raise torch.OutOfMemoryError
        return drawn[-1]

    torch.manual_seed(3)
    within_memory(8, 1, work, undo=lambda: undone.append(True))
    assert drawn[0] == drawn[1]
    assert undone == [True]


def test_what_cannot_be_parted_is_an_error_for_people() -> None:
    def work(tokens: int) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(HeedfulError, match=r"one sequence.*gradient-checkpointing"):
        within_memory(8192, 900, work)


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def work(tokens: int) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        within_memory(8, 1, work)


def test_offloading_changes_no_gradient_and_leaves_weights_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 512), nn.GELU(), nn.Linear(512, 1))
    x = torch.randn(300, 64)
    net(x).sum().backward()
    plain = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    with offloaded(net.parameters()):
        loss = net(x).sum()
    loss.backward()
    for gradient, p in zip(plain, net.parameters(), strict=True):
        assert p.grad is not None
        assert torch.equal(gradient, p.grad)
