"""The objective by hand and by finite differences, in float64; and that cutting a minibatch up changes nothing."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures import tiny_architectures, tiny_tokenizer
from heedful.core.policy_gradient import Whole
from heedful.models.policy import new_policy
from heedful.rollout.types import Rollout
from heedful.training.config.common import MemoryConfig, OptimiserConfig
from heedful.training.config.online import LeashedConfig
from heedful.training.config.updates import KLConfig, UpdateConfig
from heedful.training.experience import Experience, over_tokens, select_experience
from heedful.training.state import SetKLCoefficient
from heedful.training.updates import Objective, policy_state, steer, update_policy

LENGTHS = (3, 1, 4)  # tokens of each completion; the second says nothing but its end of turn
PROMPT = 2


def made(rows: int = 3, dtype: torch.dtype = torch.float64) -> Experience:
    """Completions of unequal length behind prompts of two tokens, padded on the right."""
    lengths = torch.tensor(LENGTHS[:rows])
    place = torch.arange(PROMPT + int(lengths.max()))
    attention = place < PROMPT + lengths[:, None]
    mask = attention & (place >= PROMPT)
    draw = torch.Generator().manual_seed(5)
    old = torch.where(mask, -1 - torch.rand(mask.shape, generator=draw, dtype=dtype), 0.0)
    reference = torch.where(mask, -1 - torch.rand(mask.shape, generator=draw, dtype=dtype), 0.0)
    tokens = torch.randint(8, 40, mask.shape, generator=draw).where(attention, 0)
    rollout = Rollout(tokens, attention, mask, old, torch.ones(rows, dtype=torch.bool), torch.arange(rows))
    return Experience(rollout, old, reference, over_tokens(torch.tensor([1.0, -2.0, 0.5][:rows], dtype=dtype), mask))


def settings(kl: KLConfig | None = None, entropy: float = 0.0, **over: Any) -> LeashedConfig:
    update = UpdateConfig(entropy_coefficient=entropy, epochs=over.pop("epochs", 1), minibatches=over.pop("cuts", 1))
    kl = kl or KLConfig(coefficient=0.3)
    return LeashedConfig(model="", reward="", data="", out=Path(), kl=kl, update=update, **over)


def whole_of(experience: Experience) -> Whole:
    return Whole(len(experience.rollout), int(experience.rollout.mask.sum()), 5)


@pytest.mark.parametrize(
    ("level", "aggregation", "expected"),
    [
        # at ratio 1 the loss of a token is minus its advantage: 3 of -1, 1 of 2, 4 of -0.5
        ("token", "token", (-3 + 2 - 2) / 8),
        ("token", "sequence", (-1 + 2 - 0.5) / 3),
        ("token", "constant", (-3 + 2 - 2) / 15),
        ("token", "completion", (-3 + 2 - 2) / 3),
        ("sequence", "completion", (-1 + 2 - 0.5) / 3),
        ("sequence_mean", "sequence", (-1 + 2 - 0.5) / 3),
    ],
)
def test_the_loss_by_hand(level: Any, aggregation: Any, expected: float) -> None:
    experience = made()
    objective = Objective(0.2, 0.2, level, aggregation, 5)
    none = torch.zeros_like(experience.logprobs)
    loss, figures = objective.terms(experience, experience.logprobs, none, whole_of(experience), settings(), 0.3)
    assert loss.item() == pytest.approx(expected)
    assert figures["ratio"].item() == pytest.approx(1.0)
    assert figures["clip_fraction"].item() == 0.0
    assert "kl_loss" not in figures


def test_the_kl_in_the_loss_and_the_bonus_by_hand() -> None:
    experience = made(2)  # three tokens and one
    now = experience.reference_logprobs + math.log(2) * experience.rollout.mask  # every log-ratio is log 2
    kl = KLConfig(estimator="k3", place="loss")
    objective = Objective(0.2, 0.2, "token", "sequence", 5)
    entropy = experience.rollout.mask.double()
    config = settings(kl, entropy=0.1)
    loss, figures = objective.terms(experience, now, entropy, whole_of(experience), config, 0.5)
    assert figures["kl_loss"].item() == pytest.approx(0.1931471806)  # 1/2 - 1 + log 2 at every token
    paid = loss.item() - figures["policy_loss"].item()
    assert paid == pytest.approx(0.5 * 0.1931471806 - 0.1)


@pytest.mark.parametrize(("ratio", "aggregation"), [("token", "sequence"), ("sequence_mean", "sequence")])
def test_the_kl_of_whole_completions_is_a_mean_over_them_however_long_they_are(ratio: Any, aggregation: Any) -> None:
    """k2 descends KL(policy || reference) as E[x grad log pi]: divided by lengths it would descend something else."""
    experience = made()
    ratios = (experience.logprobs - experience.reference_logprobs).sum(1)
    config = settings(KLConfig(estimator="k2", place="loss", level="sequence"))
    objective, none = Objective(0.2, 0.2, ratio, aggregation, 5), torch.zeros_like(experience.logprobs)
    _, figures = objective.terms(experience, experience.logprobs, none, whole_of(experience), config, 0.5)
    assert figures["kl_loss"].item() == pytest.approx(float((ratios**2 / 2).mean()))


FORMS = [("token", "token"), ("token", "sequence"), ("token", "constant"), ("token", "completion")]
FORMS += [("sequence", "completion"), ("sequence_mean", "sequence")]
PRICES = [(None, "token"), ("k2", "token"), ("k2", "sequence"), ("k3", "token"), ("k3", "sequence")]


@pytest.mark.parametrize(("form", "price"), itertools.product(FORMS, PRICES))
@pytest.mark.parametrize("rows", [3, 1])
def test_the_gradient_is_that_of_finite_differences(form: Any, price: Any, rows: int) -> None:
    experience = made(rows)
    kl = KLConfig() if price[0] is None else KLConfig(estimator=price[0], place="loss", level=price[1])
    objective = Objective(0.15, 0.25, *form, 5)
    config = settings(kl, entropy=0.07)
    mask = experience.rollout.mask
    shift = torch.where(mask, 0.2 * torch.sin(torch.arange(mask.numel()).view(mask.shape)).double(), 0.0)
    now = (experience.logprobs + shift).requires_grad_()
    entropy = torch.rand(mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * mask
    entropy.requires_grad_()

    def loss(logprobs: Tensor, spread: Tensor) -> Tensor:
        return objective.terms(experience, logprobs, spread, whole_of(experience), config, 0.4)[0]

    assert torch.autograd.gradcheck(loss, (now, entropy))
    (gradient,) = torch.autograd.grad(loss(now, entropy), now)
    assert gradient[~mask].abs().sum().item() == 0  # padding and prompt have none


@pytest.mark.parametrize(("form", "price"), itertools.product(FORMS, PRICES))
def test_parts_add_up_to_the_whole(form: Any, price: Any) -> None:
    experience = made()
    kl = KLConfig() if price[0] is None else KLConfig(estimator=price[0], place="loss", level=price[1])
    objective, config = Objective(0.15, 0.25, *form, 5), settings(kl, entropy=0.07)
    whole = whole_of(experience)
    now = experience.logprobs + 0.3 * experience.rollout.mask

    def of(rows: list[int]) -> dict[str, float]:
        part = select_experience(experience, rows)
        logprobs = now[rows, : part.logprobs.shape[1]]
        loss, figures = objective.terms(part, logprobs, logprobs.abs(), whole, config, 0.4)
        return {"loss": loss.item()} | {name: figure.item() for name, figure in figures.items()}

    together, one, two = of([0, 1, 2]), of([1]), of([2, 0])
    assert together == pytest.approx({name: one[name] + two[name] for name in together})


def updated(budget: int, **over: Any) -> tuple[dict[str, float], Tensor]:
    """Figures and weights after one update of a tiny model."""
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1)
    experience = made(dtype=torch.float32)
    optimiser = OptimiserConfig(learning_rate=1e-3, schedule="constant", warmup=0.0, epsilon=1e-3)
    config = settings(KLConfig(estimator="k3", place="loss"), optimiser=optimiser, memory=MemoryConfig(budget), **over)
    state = policy_state(policy, config, 0.1)
    objective = Objective(0.2, 0.2, "token", "sequence", 5)
    figures = update_policy(state, policy, experience, objective, config)
    return figures, torch.cat([p.detach().flatten() for p in policy.model.parameters()])


def test_micro_batches_change_nothing() -> None:
    whole, weights = updated(1000)
    cut, same = updated(1)
    assert whole == pytest.approx(cut, abs=1e-5)
    assert torch.allclose(weights, same, atol=1e-6)


def test_epochs_take_their_optimiser_steps_and_end_early() -> None:
    many, _ = updated(1000, epochs=3, cuts=2)
    assert many["updates"] == 6
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1)
    config = settings(optimiser=OptimiserConfig(learning_rate=1e-2))
    config = LeashedConfig(
        **{**vars(config), "update": UpdateConfig(epochs=5, update_kl_limit=1e-9)}  # any movement is too far
    )
    figures = update_policy(
        policy_state(policy, config, 0.0),
        policy,
        made(dtype=torch.float32),
        Objective(0.2, 0.2, "token", "token", 5),
        config,
    )
    assert figures["updates"] == 1


def test_the_leash_is_steered_and_set() -> None:
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1)
    state = policy_state(policy, settings(), 0.1)
    steer(state, KLConfig(adaptive=True, target=6.0, horizon=10_000), 12.0, 256)
    assert state.scalars["kl_coefficient"] == pytest.approx(0.100512)
    state.apply(SetKLCoefficient(0.7))
    steer(state, KLConfig(), 12.0, 256)
    assert state.scalars["kl_coefficient"] == 0.7
