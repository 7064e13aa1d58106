"""Sampling through the real engine, and KL against its exact value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.chat import prepare_tokenizer, render_prompt
from heedful.data.records import Message
from heedful.evaluation.compare import compare, judge_by
from heedful.evaluation.sampling import divergence, sample, sampler
from heedful.models.policy import Policy, new_policy
from heedful.rollout.types import RolloutParams

PROMPTS = [(Message("user", "what is the sky"),), (Message("user", "who are you"),)]


def make(seed: int) -> Policy:
    tokenizer = prepare_tokenizer(tiny_tokenizer(), template="auto", pad_token=None)
    return new_policy(tiny_architectures()["llama"], tokenizer, seed=seed)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return make(1)


def test_answers_come_prompt_by_prompt(policy: Policy) -> None:
    found = sample(policy, PROMPTS, RolloutParams(max_new_tokens=6, seed=3), samples_per_prompt=3)
    assert [len(answers) for answers in found.answers] == [3, 3]
    flat = [answer for answers in found.answers for answer in answers]
    assert [answer.tokens for answer in flat] == found.rollout.mask.sum(1).tolist()
    assert [answer.finished for answer in flat] == found.rollout.finished.tolist()
    assert found.rollout.prompt_index.tolist() == [0, 0, 0, 1, 1, 1]
    again = sample(policy, PROMPTS, RolloutParams(max_new_tokens=6, seed=3), samples_per_prompt=3)
    assert again.answers == found.answers


def test_two_policies_can_be_compared(policy: Policy) -> None:
    def length(prompts: object, texts: list[str]) -> torch.Tensor:
        return torch.tensor([float(len(text.split())) for text in texts])

    params = RolloutParams(max_new_tokens=5, seed=0)
    found = compare(
        PROMPTS,
        sampler(policy, params, samples_per_prompt=4),
        sampler(make(2), params, samples_per_prompt=4),
        {"length": judge_by(length)},
        policy_name="one",
        baseline_name="two",
    )
    assert len(found.pairs) == 8
    assert found.verdict.win_rate.pairs == 8


def test_a_policy_does_not_diverge_from_itself(policy: Policy) -> None:
    drawn = sample(policy, PROMPTS, RolloutParams(max_new_tokens=6, seed=3), samples_per_prompt=4)
    found = divergence(policy, policy, drawn.rollout, clusters=drawn.rollout.prompt_index.tolist(), batch=3)
    assert (found.kl.mean, found.kl.low, found.kl.high, found.per_token) == (0.0, 0.0, 0.0, 0.0)
    assert 0 < found.entropy < np.log(policy.model.config.vocab_size)


@torch.no_grad()
def exact(policy: Policy, reference: Policy, temperature: float) -> tuple[float, float]:
    """Mean KL and entropy of the first token's distributions, from the full logits."""
    kl, entropy = [], []
    for prompt in PROMPTS:
        tokens = torch.tensor([render_prompt(policy.tokenizer, prompt)])
        logits = [m.model(tokens).logits[0, -1].double() / temperature for m in (policy, reference)]
        for row in logits:
            row[list(policy.banned)] = -torch.inf
        p, q = (torch.log_softmax(row, -1) for row in logits)
        kept = p.isfinite()
        kl.append(float((p.exp() * (p - q))[kept].sum()))
        entropy.append(-float((p.exp() * p)[kept].sum()))
    return float(np.mean(kl)), float(np.mean(entropy))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_kl_and_entropy_are_those_of_the_full_distributions(policy: Policy, temperature: float) -> None:
    reference, k = make(2), 1500
    params = RolloutParams(max_new_tokens=1, temperature=temperature, seed=7)
    drawn = sample(policy, PROMPTS, params, samples_per_prompt=k)
    found = divergence(policy, reference, drawn.rollout, clusters=range(2 * k), temperature=temperature, batch=500)
    kl, entropy = exact(policy, reference, temperature)
    error = (found.kl.high - found.kl.low) / (2 * 1.96)
    assert kl > 0.1
    assert abs(found.kl.mean - kl) < 4 * error
    assert found.per_token == pytest.approx(found.kl.mean)
    assert found.entropy == pytest.approx(entropy, abs=1e-4)


def test_the_training_flag_stays_as_it_was(policy: Policy) -> None:
    drawn = sample(policy, PROMPTS, RolloutParams(max_new_tokens=2, seed=1))
    policy.model.train()
    divergence(policy, make(2), drawn.rollout, clusters=["a", "b"])
    assert policy.model.training
    policy.model.eval()


def test_clusters_must_fit_the_completions(policy: Policy) -> None:
    drawn = sample(policy, PROMPTS, RolloutParams(max_new_tokens=2, seed=1))
    with pytest.raises(ValueError, match="2 values but 3"):
        divergence(policy, policy, drawn.rollout, clusters=["a", "b", "c"])
