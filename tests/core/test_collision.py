"""The log-chance that two draws agree, against all logits at once."""

from __future__ import annotations

import math

import pytest
import torch

from heedful.core.logprob import linear_collision


def test_literal_values() -> None:
    hidden = torch.tensor([[1.0]], dtype=torch.float64)
    even = torch.zeros(4, 1, dtype=torch.float64)
    assert linear_collision(hidden, even).item() == pytest.approx(math.log(1 / 4))
    assert linear_collision(hidden, even, banned=torch.tensor([0, 2])).item() == pytest.approx(math.log(1 / 2))
    weight = torch.tensor([[math.log(3.0)], [0.0]], dtype=torch.float64)  # 3/4 and 1/4
    assert linear_collision(hidden, weight).item() == pytest.approx(math.log(10 / 16))
    assert linear_collision(hidden, 1e6 * weight).item() == pytest.approx(0.0)


@pytest.mark.parametrize("chunk", [1, 3, None])
def test_against_all_logits_at_once(chunk: int | None) -> None:
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((5, 4), (9, 4), (9,)))
    banned = torch.tensor([2, 7])
    found = linear_collision(
        hidden, weight, bias=bias, scale=1.7, softcap=2.5, temperature=0.6, banned=banned, chunk=chunk
    )
    logits = 2.5 * torch.tanh(1.7 * (hidden @ weight.T + bias) / 2.5) / 0.6
    logits[:, banned] = -torch.inf
    assert torch.allclose(found, torch.softmax(logits, -1).square().sum(-1).log())


def test_no_gradient_and_no_rows() -> None:
    hidden, weight = torch.randn(3, 2, requires_grad=True), torch.randn(5, 2, requires_grad=True)
    assert not linear_collision(hidden, weight).requires_grad
    assert linear_collision(hidden[:0], weight).shape == (0,)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        linear_collision(torch.zeros(2, 3), torch.zeros(5, 4))
