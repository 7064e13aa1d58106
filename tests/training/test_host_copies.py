"""An optimiser off the device: the same steps, whoever changes the weights in between, and after a kill.

Copies from and to a GPU are not exercised here; a CPU copies to itself.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from heedful.training.config.common import OptimiserConfig
from heedful.training.optimiser import Diverged, Optimiser

CONFIG = OptimiserConfig(learning_rate=0.1, weight_decay=0.1, clip_norm=0.5, warmup=0.2)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def steps(model: nn.Module, optimiser: Optimiser, numbers: range) -> list[float]:
    """Norms of some steps on rows that are the same at each number."""
    norms = []
    for number in numbers:
        rows = torch.randn(16, 4, generator=torch.Generator().manual_seed(number))
        model(rows).square().sum().backward()
        norms.append(optimiser.step(number))
    return norms


def bits(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def both() -> list[tuple[nn.Sequential, Optimiser]]:
    made = []
    for offload in (False, True):
        model = net()
        made.append((model, Optimiser({"net": model}, replace(CONFIG, offload=offload), 10)))
    return made


def test_steps_are_those_of_an_optimiser_on_the_device() -> None:
    (here, plain), (there, away) = both()
    assert steps(here, plain, range(6)) == steps(there, away, range(6))
    assert same(bits(here), bits(there))
    assert not same(bits(here), bits(net()))
    assert all(p.grad is None for p in there.parameters())


def test_weights_that_others_change_are_taken_over() -> None:
    (here, plain), (there, away) = both()
    for model, optimiser in ((here, plain), (there, away)):
        steps(model, optimiser, range(2))
        model.load_state_dict(net().state_dict())  # as a run does that goes back to its best weights
        steps(model, optimiser, range(2, 4))
    assert same(bits(here), bits(there))


def test_a_run_goes_on_from_saved_moments_on_either_side() -> None:
    _, (whole, away) = both()
    steps(whole, away, range(3))
    weights, saved = whole.state_dict(), {name: value.clone() for name, value in away.tensors()}
    held = {name: value.clone() for name, value in weights.items()}
    steps(whole, away, range(3, 5))
    for model, optimiser in both():
        model.load_state_dict(held)
        optimiser.load({name: value.clone() for name, value in saved.items()})
        steps(model, optimiser, range(3, 5))
        assert same(bits(model), bits(whole))


def test_a_gradient_that_is_not_a_number_changes_nothing() -> None:
    _, (model, optimiser) = both()
    steps(model, optimiser, range(2))
    before = bits(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    with pytest.raises(Diverged):
        optimiser.step(2)
    assert same(bits(model), before)
    assert all(p.grad is None for p in model.parameters())
    (other, fresh) = both()[1]
    steps(other, fresh, range(2))
    steps(other, fresh, range(2, 4))
    steps(model, optimiser, range(2, 4))
    assert same(bits(model), bits(other))


def test_a_weight_without_a_gradient_stays() -> None:
    _, (model, optimiser) = both()
    still = model[0].weight.detach().clone()
    model[2].weight.grad = torch.ones_like(model[2].weight)
    optimiser.step(3)
    assert torch.equal(model[0].weight, still)
    assert not torch.equal(model[2].weight, net()[2].weight)
