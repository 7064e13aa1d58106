"""PPO-ptx and reward whitening: by hand, and red when either is broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.records import Message, Prompt
from heedful.models.actor_critic import SeparateActorCritic, SharedActorCritic
from heedful.models.policy import Policy, new_policy, reference_of
from heedful.models.scalar import Critic
from heedful.rollout.types import Rollout
from heedful.training.batching import Example
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.online import PPOConfig
from heedful.training.config.rollout import RolloutConfig
from heedful.training.config.updates import KLConfig, PPOUpdateConfig, PTXConfig
from heedful.training.experience import judge
from heedful.training.ppo import PPOModels, keep, ppo, ppo_state
from heedful.training.sft import evaluate_sft

PROMPTS = [Prompt((Message("user", word),)) for word in ("red", "blue", "green", "what")]
TEXT = [
    Example([5, 9, 12, 3, 17, 21], [False, True, True, True, True, True]),
    Example([5, 14, 2], [False, True, True]),
    Example([6, 30, 31, 32], [False, False, True, True]),
]
CONFIG = PPOConfig(
    model="",
    reward="",
    data="",
    out=Path(),
    steps=8,
    critic_learning_rate=1e-3,
    optimiser=OptimiserConfig(learning_rate=3e-3, schedule="constant", warmup=0.0, epsilon=1e-5),
    rollout=RolloutConfig(prompts_per_step=8, max_new_tokens=4),
    update=PPOUpdateConfig(epochs=1),
    ptx=PTXConfig(data="text", weight=0.5, sequences=2),
)


def new() -> Policy:
    return new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1)


def run(config: PPOConfig, kept: list[Example], *, shared: bool = False) -> tuple[Policy, list[dict[str, float]]]:
    policy = new()
    actor_critic = SharedActorCritic(policy) if shared else SeparateActorCritic(policy, Critic.from_policy(policy))
    models = PPOModels(actor_critic, reference_of(policy), lambda asked, texts: [float(len(t)) for t in texts])
    steps = ppo(ppo_state(actor_critic, config), models, PROMPTS, config, kept)
    return policy, [step.metrics for step in steps]


def test_the_gradient_is_minus_gamma_times_the_mean_log_likelihoods() -> None:
    policy = new()
    config = replace(CONFIG, ptx=PTXConfig(data="text", weight=2.5, sequences=3))  # all three, in some order
    state = ppo_state(SharedActorCritic(policy), config)
    told = keep(state, policy, TEXT, config, config.memory.tokens)
    given = [p.grad.clone() for p in policy.model.parameters()]
    policy.model.zero_grad()
    total = torch.zeros(())
    for example in TEXT:
        logits = policy.model(torch.tensor([example.tokens])).logits[0].float()
        logits[:, list(policy.banned)] = -torch.inf
        for t, learnt in enumerate(example.mask):
            if learnt:
                total = total + torch.log_softmax(logits[t - 1], -1)[example.tokens[t]]
    mean = total / 9  # nine learnt tokens between them
    assert told == pytest.approx(-mean.item(), abs=1e-5)
    (-2.5 * mean).backward()
    for ours, theirs in zip(given, (p.grad for p in policy.model.parameters()), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_what_is_read_follows_from_the_seed_and_the_updates() -> None:
    policy = new()
    state = ppo_state(SharedActorCritic(policy), CONFIG)
    found = []
    for number in (0, 1, 2, 0, 1, 2):
        state.scalars["updates"] = number
        found.append(keep(state, policy, TEXT, CONFIG, 8192))
    assert found[:3] == found[3:]
    assert len(set(found[:3])) > 1


@pytest.mark.parametrize("shared", [False, True])
def test_text_is_kept_that_the_reward_would_have_cost(shared: bool) -> None:
    before = evaluate_sft(new(), TEXT, 1000)["held_out_loss"]
    plain, without = run(CONFIG, [], shared=shared)
    mixed, figures = run(CONFIG, TEXT, shared=shared)
    after = evaluate_sft(mixed, TEXT, 1000)["held_out_loss"]
    assert after < before - 0.2
    assert after < evaluate_sft(plain, TEXT, 1000)["held_out_loss"] - 0.2
    assert figures[-1]["ptx_loss"] < figures[0]["ptx_loss"]
    assert "ptx_loss" not in without[0]


def test_a_critic_that_warms_up_alone_reads_no_text() -> None:
    policy, figures = run(replace(CONFIG, steps=2, critic_warmup=2), TEXT)
    assert all("ptx_loss" not in step for step in figures)
    assert all(torch.equal(a, b) for a, b in zip(policy.model.parameters(), new().model.parameters(), strict=True))


def judged(**over: Any) -> torch.Tensor:
    """Returns [2, 3] of rewards that are by hand -1 -1 4 | 2, of answers of three tokens and one."""
    mask = torch.tensor([[True, True, True], [True, False, False]])
    logprobs = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    rollout = Rollout(torch.zeros(2, 3).long(), mask, mask, logprobs, torch.ones(2, dtype=torch.bool), torch.arange(2))
    made = judge(
        rollout,
        torch.tensor([5.0, 3.0], dtype=torch.float64),
        logprobs,
        torch.zeros_like(logprobs),
        torch.zeros_like(logprobs),
        kl=KLConfig(),
        kl_coefficient=1.0,
        gamma=1.0,
        lam=1.0,
        whiten_advantages=False,
        **over,
    )
    return made.returns


def test_reward_whitening_divides_by_the_spread_and_keeps_the_mean() -> None:
    assert judged(whiten_rewards=False).tolist() == [[2.0, 3.0, 4.0], [2.0, 0.0, 0.0]]
    # mean 1, deviations -2 -2 3 1, unbiased variance 18 / 3 = 6: rewards 1 - 2/√6 twice, 1 + 3/√6, 1 + 1/√6
    root = 6**0.5
    expected = [[3 - 1 / root, 2 + 1 / root, 1 + 3 / root], [1 + 1 / root, 0, 0]]
    assert torch.allclose(judged(whiten_rewards=True), torch.tensor(expected, dtype=torch.float64), atol=1e-7)


def test_reward_whitening_reaches_the_trainer() -> None:
    config = replace(CONFIG, steps=1, ptx=PTXConfig())
    _, plain = run(config, [])
    _, whitened = run(replace(config, update=replace(config.update, whiten_rewards=True)), [])
    assert plain[0]["reward"] == whitened[0]["reward"]
    assert plain[0]["value_loss"] != whitened[0]["value_loss"]


def test_one_of_policy_and_critic_holds_its_activations_at_a_time() -> None:
    """A guard of the peak: when the policy goes forward in training, the critic has gone back already."""
    policy = new()
    critic = Critic.from_policy(policy)
    models = PPOModels(
        SeparateActorCritic(policy, critic), reference_of(policy), lambda asked, texts: [1.0] * len(asked)
    )
    gone_back: list[bool] = []

    def look(*_: Any) -> None:
        if policy.model.training and torch.is_grad_enabled():
            gone_back.append(critic.model.score.weight.grad is not None)

    policy.model.base_model.register_forward_pre_hook(look)
    config = replace(CONFIG, steps=1, ptx=PTXConfig())
    list(ppo(ppo_state(models.actor_critic, config), models, PROMPTS, config))
    assert gone_back
    assert all(gone_back)
