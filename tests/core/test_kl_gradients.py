"""Which KL estimator has which gradient, by enumerating a policy over sequences of two tokens.

With one token several of these claims would hold by accident; two tell a token's own log-ratio from the
sequence's.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from heedful.core.advantages import gae, shape_rewards
from heedful.core.kl import full_kl, k1, k2, k3
from heedful.core.policy_gradient import clipped_policy_loss

V = 3
PAIRS = torch.cartesian_prod(torch.arange(V), torch.arange(V))  # [9, 2], every sequence


class Tabular:
    """A policy with free logits for the first token [V] and, given it, for the second [V, V]."""

    def __init__(self, seed: int, gradient: bool) -> None:
        make = torch.Generator().manual_seed(seed)
        self.first = torch.randn(V, dtype=torch.float64, generator=make).requires_grad_(gradient)
        self.second = torch.randn(V, V, dtype=torch.float64, generator=make).requires_grad_(gradient)

    def logprobs(self) -> Tensor:
        """[9, 2]: log-probability of each token of every sequence."""
        first = torch.log_softmax(self.first, -1)[PAIRS[:, 0]]
        second = torch.log_softmax(self.second, -1)[PAIRS[:, 0], PAIRS[:, 1]]
        return torch.stack([first, second], 1)

    def gradient(self, loss: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [self.first, self.second])])


@pytest.fixture
def policy() -> Tabular:
    return Tabular(1, gradient=True)


@pytest.fixture
def reference() -> Tensor:
    return Tabular(2, gradient=False).logprobs()


def kl_gradient(policy: Tabular, reference: Tensor) -> Tensor:
    """Gradient of KL(policy || reference) over sequences, by its definition."""
    logp = policy.logprobs().sum(1)
    return policy.gradient((logp.exp() * (logp - reference.sum(1))).sum())


def on_policy(policy: Tabular, loss: Tensor) -> Tensor:
    """Gradient of a loss per sequence, averaged over the policy's own samples: the weights are no part of it."""
    weight = policy.logprobs().sum(1).exp().detach()
    return policy.gradient((weight * loss).sum())


def as_reward(policy: Tabular, penalty: Tensor, scores: Tensor | None = None) -> Tensor:
    """Gradient of PPO's first step with `penalty` [9, 2] in the token rewards, through our own functions."""
    logp = policy.logprobs()
    mask = torch.ones(9, 2, dtype=torch.bool)
    scores = torch.zeros(9, dtype=torch.float64) if scores is None else scores
    rewards = shape_rewards(scores, penalty.detach(), mask)
    advantages, _ = gae(rewards, torch.zeros_like(rewards), mask, gamma=1.0, lam=1.0)
    loss = clipped_policy_loss(logp, logp.detach(), advantages, mask, clip=0.2)
    return on_policy(policy, loss.per_token.sum(1))


def test_values_of_the_estimators(policy: Tabular, reference: Tensor) -> None:
    logp = policy.logprobs().sum(1)
    weight, ref = logp.exp(), reference.sum(1)
    kl = (weight * (logp - ref)).sum().item()
    assert kl > 0.1
    assert (weight * k1(logp, ref)).sum().item() == pytest.approx(kl)
    assert (weight * k3(logp, ref)).sum().item() == pytest.approx(kl)
    assert (weight * k2(logp, ref)).sum().item() != pytest.approx(kl, rel=0.01)


def test_full_kl_of_the_steps_adds_up_to_that_of_the_sequence(policy: Tabular, reference: Tensor) -> None:
    other = Tabular(2, gradient=False)
    first = full_kl(policy.first, other.first)
    second = (torch.softmax(policy.first, -1) * full_kl(policy.second, other.second)).sum()
    logp = policy.logprobs().sum(1)
    whole = (logp.exp() * (logp - reference.sum(1))).sum()
    assert (first + second).item() == pytest.approx(whole.item())
    assert torch.allclose(policy.gradient(first + second), kl_gradient(policy, reference), atol=1e-12)


def test_k1_in_the_reward_descends_the_kl(policy: Tabular, reference: Tensor) -> None:
    gradient = as_reward(policy, k1(policy.logprobs(), reference))
    assert torch.allclose(gradient, kl_gradient(policy, reference), atol=1e-12)


def test_with_scores_it_descends_the_regularised_objective(policy: Tabular, reference: Tensor) -> None:
    scores = torch.arange(9, dtype=torch.float64).sin()
    gradient = as_reward(policy, 0.3 * k1(policy.logprobs(), reference), scores)
    logp = policy.logprobs().sum(1)
    objective = (logp.exp() * (0.3 * (logp - reference.sum(1)) - scores)).sum()
    assert torch.allclose(gradient, policy.gradient(objective), atol=1e-12)


def test_k2_of_the_sequence_as_a_loss_descends_the_kl(policy: Tabular, reference: Tensor) -> None:
    gradient = on_policy(policy, k2(policy.logprobs().sum(1), reference.sum(1)))
    assert torch.allclose(gradient, kl_gradient(policy, reference), atol=1e-12)


def test_k2_per_token_as_a_loss_forgets_the_later_tokens(policy: Tabular, reference: Tensor) -> None:
    gradient = on_policy(policy, k2(policy.logprobs(), reference).sum(1))
    true = kl_gradient(policy, reference)
    assert torch.allclose(gradient[V:], true[V:], atol=1e-12)  # the last token has no later ones
    assert torch.cosine_similarity(gradient[:V], true[:V], dim=0) < 0.95


def test_k1_as_a_loss_does_nothing(policy: Tabular, reference: Tensor) -> None:
    gradient = on_policy(policy, k1(policy.logprobs().sum(1), reference.sum(1)))
    assert gradient.abs().max() < 1e-12


def test_k3_as_a_loss_descends_the_other_kl(policy: Tabular, reference: Tensor) -> None:
    gradient = on_policy(policy, k3(policy.logprobs().sum(1), reference.sum(1)))
    ref, logp = reference.sum(1), policy.logprobs().sum(1)
    forward = policy.gradient((ref.exp() * (ref - logp)).sum())
    assert torch.allclose(gradient, forward, atol=1e-12)
    assert not torch.allclose(gradient, kl_gradient(policy, reference), atol=1e-2)


def test_k3_in_the_reward_is_biased(policy: Tabular, reference: Tensor) -> None:
    gradient = as_reward(policy, k3(policy.logprobs(), reference))
    assert not torch.allclose(gradient, kl_gradient(policy, reference), atol=1e-2)
