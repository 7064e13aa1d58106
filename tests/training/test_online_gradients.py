"""What each KL setting of the trainers descends, by enumerating a policy over sequences of two tokens.

Every gradient here is taken through the functions that the trainers call (`kl_price`, `judge`, the advantages and
`Objective.terms`), weighted by the chance of each sequence, and held against a divergence by its definition. With one
token several of the claims would hold by accident.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heedful.core.advantages import group_advantages, leave_one_out
from heedful.core.kl import full_kl, k2, k3
from heedful.core.policy_gradient import Whole
from heedful.errors import HeedfulError
from heedful.rollout.types import Rollout
from heedful.training.config.online import LeashedConfig
from heedful.training.config.updates import KLConfig
from heedful.training.experience import Experience, judge, kl_price, over_tokens, select_experience
from heedful.training.updates import Objective

V = 3
ALL = torch.cartesian_prod(torch.arange(V), torch.arange(V))  # [9, 2], every sequence
BETA = 0.3
SCORES = torch.arange(9, dtype=torch.float64).sin()

SETTINGS = [
    (estimator, place, level)
    for estimator, place, level in itertools.product(("k1", "k2", "k3"), ("reward", "loss"), ("token", "sequence"))
    if (estimator, place) != ("k1", "loss")
]


class Tabular:
    """A policy with free logits for the first token [V] and, given it, for the second [V, V]."""

    def __init__(self, seed: int) -> None:
        make = torch.Generator().manual_seed(seed)
        self.first = torch.randn(V, dtype=torch.float64, generator=make).requires_grad_()
        self.second = torch.randn(V, V, dtype=torch.float64, generator=make).requires_grad_()

    def logprobs(self) -> Tensor:
        """[9, 2]: log-probability of each token of every sequence."""
        first = torch.log_softmax(self.first, -1)[ALL[:, 0]]
        second = torch.log_softmax(self.second, -1)[ALL[:, 0], ALL[:, 1]]
        return torch.stack([first, second], 1)

    def gradient(self, loss: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [self.first, self.second])])


POLICY, REFERENCE = Tabular(1), Tabular(2)
ANCHOR = REFERENCE.logprobs().detach()


def config(estimator: Any, place: Any, level: Any) -> LeashedConfig:
    kl = KLConfig(coefficient=BETA, estimator=estimator, place=place, level=level)
    return LeashedConfig(model="", reward="", data="", out=Path(), kl=kl)


def rollout(logprobs: Tensor) -> Rollout:
    """Sampled sequences behind nothing: every token is the policy's own."""
    rows = len(logprobs)
    mask = torch.ones(rows, 2, dtype=torch.bool)
    tokens = torch.zeros(rows, 2, dtype=torch.int64)
    return Rollout(tokens, mask, mask, logprobs, torch.ones(rows, dtype=torch.bool), torch.zeros(rows).long())


def expected(divergence: str) -> Tensor:
    """Gradient of β times a divergence, by its definition."""
    logp, ref = POLICY.logprobs(), ANCHOR
    whole, other = logp.sum(1), ref.sum(1)
    weight = whole.exp()
    if divergence == "reverse":
        loss = (weight * (whole - other)).sum()
    elif divergence == "forward":
        loss = (other.exp() * (other - whole)).sum()
    elif divergence in ("reverse by step", "forward by step"):  # how often a prefix is met is no part of the gradient
        met = torch.softmax(POLICY.first, -1).detach()
        pairs = [(POLICY.first, REFERENCE.first.detach()), (POLICY.second, REFERENCE.second.detach())]
        if divergence.startswith("forward"):
            pairs = [(b, a) for a, b in pairs]
        loss = full_kl(*pairs[0]) + (met * full_kl(*pairs[1])).sum()
    else:  # the price as a mere number for each sequence
        estimator, level = divergence.split()
        compute = {"k2": k2, "k3": k3}[estimator]
        price = compute(logp, ref).sum(1) if level == "token" else compute(whole, other)
        loss = (weight * price.detach()).sum()
    return BETA * POLICY.gradient(loss)


DESCENDS = {
    ("k1", "reward", "token"): "reverse",
    ("k1", "reward", "sequence"): "reverse",
    ("k2", "reward", "token"): "k2 token",
    ("k2", "reward", "sequence"): "k2 sequence",
    ("k3", "reward", "token"): "k3 token",
    ("k3", "reward", "sequence"): "k3 sequence",
    ("k2", "loss", "token"): "reverse by step",
    ("k2", "loss", "sequence"): "reverse",
    ("k3", "loss", "token"): "forward by step",
    ("k3", "loss", "sequence"): "forward",
}


def of_the_scores() -> Tensor:
    """Gradient of minus the expected score."""
    return POLICY.gradient(-(POLICY.logprobs().sum(1).exp() * SCORES).sum())


def on_policy(settings: LeashedConfig, experience: Experience, weights: Tensor, objective: Objective) -> Tensor:
    """Gradient of the objective over experiences of as many rows as there are completions in a minibatch.

    Args:
        experience: G * R rows, G minibatches of R completions.
        weights: [G] the chance of each minibatch.
    """
    logp = POLICY.logprobs()
    size = len(experience.rollout) // len(weights)
    total = torch.zeros((), dtype=torch.float64)
    for group, weight in enumerate(weights):
        rows = list(range(group * size, (group + 1) * size))
        part = select_experience(experience, rows)
        now = logp[[int(part.rollout.prompt_index[i]) for i in range(size)]]
        whole = Whole(size, 2 * size, 2)
        total = total + weight * objective.terms(part, now, torch.zeros_like(now), whole, settings, BETA)[0]
    return POLICY.gradient(total)


@pytest.mark.parametrize(("estimator", "place", "level"), SETTINGS)
def test_token_rewards(estimator: str, place: str, level: str) -> None:
    """PPO and REINFORCE++: returns to go of the token rewards; values and whitening change no expectation."""
    settings = config(estimator, place, level)
    old = POLICY.logprobs().detach()
    made = judge(
        rollout(old),
        SCORES,
        old,
        ANCHOR,
        torch.zeros_like(old),
        kl=settings.kl,
        kl_coefficient=BETA,
        gamma=1.0,
        lam=1.0,
        whiten_rewards=False,
        whiten_advantages=False,
    )
    made.rollout.prompt_index.copy_(torch.arange(9))  # which sequence stands in a row
    objective = Objective(0.2, 0.2, "token", "completion", 2)
    found = on_policy(settings, made, old.sum(1).exp(), objective)
    goal = of_the_scores() + expected(DESCENDS[estimator, place, level])
    assert torch.allclose(found, goal, atol=1e-12)
    others = {"reverse", "forward"} - {DESCENDS[estimator, place, level]}
    for other in others:
        assert not torch.allclose(found, of_the_scores() + expected(other), atol=1e-3)


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize(("estimator", "place", "level"), SETTINGS)
def test_groups_of_two(estimator: str, place: str, level: str, ratio: Any) -> None:
    """RLOO over all 81 pairs of completions; and GRPO without scaling, whose advantage is half of it."""
    settings = config(estimator, place, level)
    chosen = torch.cartesian_prod(torch.arange(9), torch.arange(9)).flatten()
    logp = POLICY.logprobs().detach()
    old, reference = logp[chosen], ANCHOR[chosen]
    made = rollout(old)
    made.prompt_index.copy_(chosen)
    rewards = SCORES[chosen] - kl_price(settings.kl, BETA, old, reference, made.mask).sum(1)
    weights = logp.sum(1).exp()[chosen].view(-1, 2).prod(1)
    objective = Objective(0.2, 0.2, ratio, "completion", 2)
    goal, price = of_the_scores(), expected(DESCENDS[estimator, place, level])
    own = over_tokens(leave_one_out(rewards.view(-1, 2)).flatten(), made.mask)
    found = on_policy(settings, Experience(made, old, reference, own), weights, objective)
    assert torch.allclose(found, goal + price, atol=1e-12)
    half = over_tokens(group_advantages(rewards.view(-1, 2), scale=False).flatten(), made.mask)
    found = on_policy(settings, Experience(made, old, reference, half), weights, objective)
    paid = price if place == "loss" else price / 2
    assert torch.allclose(found, goal / 2 + paid, atol=1e-12)


def test_k1_as_a_loss_is_nothing_and_refused() -> None:
    logp = POLICY.logprobs()
    weight = logp.sum(1).exp().detach()
    assert POLICY.gradient((weight * (logp - ANCHOR).sum(1)).sum()).abs().max() < 1e-12
    for level in ("token", "sequence"):
        with pytest.raises(HeedfulError, match="gradient is zero on average"):
            config("k1", "loss", level)


def test_what_is_no_reverse_kl_says_so() -> None:
    for (estimator, place, level), descends in DESCENDS.items():
        said = config(estimator, place, level).kl.warning()
        assert (said == "") == (descends == "reverse")
        if descends.startswith("forward"):
            assert "KL(reference || policy)" in said
        elif place == "reward" and estimator != "k1":
            assert "biased" in said
