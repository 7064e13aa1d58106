"""The optimiser: schedule by hand-computed values, clipping, the guard, and weights that two modules share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from heedful.training.config.common import OptimiserConfig
from heedful.training.optimiser import Diverged, Optimiser, learning_rate


def test_the_rate_climbs_then_falls_to_its_final_share() -> None:
    linear = OptimiserConfig(learning_rate=1.0, schedule="linear", warmup=0.2, final_share=0.5)
    assert [learning_rate(step, 10, linear) for step in (0, 1, 2, 6)] == [0.5, 1.0, 1.0, 0.75]
    cosine = OptimiserConfig(learning_rate=2.0, schedule="cosine", warmup=0.0, final_share=0.0)
    assert learning_rate(0, 8, cosine) == 2.0
    assert learning_rate(4, 8, cosine) == pytest.approx(1.0)
    assert learning_rate(8, 8, cosine) == pytest.approx(0.0, abs=1e-12)
    constant = OptimiserConfig(learning_rate=3.0, schedule="constant", warmup=0.0)
    assert learning_rate(99, 100, constant) == 3.0


def test_the_norm_that_is_returned_is_the_one_before_clipping() -> None:
    layer = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(layer.weight)
    config = OptimiserConfig(learning_rate=0.1, schedule="constant", warmup=0.0, clip_norm=1.0)
    optimiser = Optimiser({"layer": layer}, config, 1)
    layer.weight.grad = torch.tensor([[3.0, 4.0]])
    assert optimiser.step(0) == pytest.approx(5.0)
    # AdamW's first step moves each weight by the rate against its gradient's sign, clipped or not
    assert torch.allclose(layer.weight, torch.tensor([[-0.1, -0.1]]), atol=1e-6)


def test_a_gradient_that_is_not_a_number_changes_nothing() -> None:
    layer = nn.Linear(2, 1)
    before = [p.detach().clone() for p in layer.parameters()]
    optimiser = Optimiser({"layer": layer}, OptimiserConfig(), 1)
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    with pytest.raises(Diverged):
        optimiser.step(0)
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))


def test_a_shared_weight_is_trained_once() -> None:
    trunk = nn.Linear(2, 2)
    one, two = nn.Sequential(trunk, nn.Linear(2, 1)), nn.Sequential(trunk)
    optimiser = Optimiser({"one": one, "two": two}, OptimiserConfig(), 1)
    assert sorted(optimiser.parameters) == ["one.0.bias", "one.0.weight", "one.1.bias", "one.1.weight"]


def test_weight_decay_spares_vectors() -> None:
    layer = nn.Linear(2, 2)
    nn.init.ones_(layer.bias)
    nn.init.ones_(layer.weight)
    config = OptimiserConfig(learning_rate=0.1, schedule="constant", warmup=0.0, weight_decay=0.5)
    optimiser = Optimiser({"layer": layer}, config, 1)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step(0)
    assert torch.allclose(layer.weight, torch.full((2, 2), 0.95))
    assert torch.equal(layer.bias, torch.ones(2))
