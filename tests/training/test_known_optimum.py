"""The strongest test: on a policy small enough to enumerate, PPO and DPO reach the optimum that theory names.

With a KL penalty β to the reference, the best policy is proportional to reference × exp(reward / β)
(Ziegler et al. 2019; Rafailov et al. 2023, eq. 4). Completions have up to two tokens, so that credit must pass
from the second to the first.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.chat import render_completion, render_prompt
from heedful.data.records import Conversation, Message, Preference, Prompt
from heedful.models.actor_critic import SeparateActorCritic
from heedful.models.policy import Policy, new_policy, reference_of
from heedful.models.scalar import Critic
from heedful.training.batching import Example
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.online import KLConfig, PPOConfig, PPOUpdateConfig, RolloutConfig, ScoreConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.dpo import dpo, reference_logprobs
from heedful.training.pairs import make_pairs
from heedful.training.ppo import PPOModels, ppo, ppo_state
from heedful.training.sft import sft_state

LETTERS = ("red", "blue", "green")
PROMPT: Conversation = (Message("user", "what"),)
BETA = 0.5


def tiny_policy() -> Policy:
    """A policy that can only say three words and end its turn."""
    tokenizer = tiny_tokenizer()
    words = tokenizer.get_vocab()
    kept = {words[letter] for letter in LETTERS} | {tokenizer.eos_token_id}
    architecture = tiny_architectures()["llama"] | {"initializer_range": 0.1}
    policy = new_policy(architecture, tokenizer, seed=3)
    banned = [token for token in range(64) if token not in kept]
    return Policy(policy.model, tokenizer, banned=banned)


def true_reward(text: str) -> float:
    """Worth that no single token tells: the second word matters after `red` only."""
    table = {"": -0.5, "red blue": 1.0, "red red": -1.0, "blue": 0.6, "green green": 0.3, "green": -0.4}
    return table.get(text, 0.0)


def completions() -> list[tuple[str, ...]]:
    """Every completion of at most two tokens, the end of the turn not counted."""
    return [words for length in (0, 1, 2) for words in itertools.product(LETTERS, repeat=length)]


def sequence_logprobs(policy: Policy, ended: bool) -> torch.Tensor:
    """[13] log-probability of every completion. Without `ended`, one of two words need not end its turn."""
    prompt = render_prompt(policy.tokenizer, PROMPT)
    found = []
    for words in completions():
        rendered = render_completion(policy.tokenizer, PROMPT, " ".join(words))
        example = Example(rendered.tokens, rendered.mask)
        length = len(prompt) + (len(words) + 1 if ended or len(words) < 2 else 2)
        tokens = torch.tensor([example.tokens[:length]])
        mask = torch.tensor([example.mask[:length]])
        with torch.no_grad():
            found.append(policy.token_logprobs(tokens, torch.ones_like(mask), mask)[0].sum())
    return torch.stack(found).double()


def optimum(reference: torch.Tensor) -> torch.Tensor:
    """[13] the distribution proportional to reference × exp(reward / β)."""
    rewards = torch.tensor([true_reward(" ".join(words)) for words in completions()], dtype=torch.float64)
    return torch.softmax(reference + rewards / BETA, 0)


def total_variation(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p - q).abs().sum() / 2)


def test_ppo_reaches_the_known_optimum() -> None:
    policy = tiny_policy()
    before = sequence_logprobs(policy, ended=False)
    assert math.isclose(float(before.exp().sum()), 1.0, abs_tol=1e-4)
    config = PPOConfig(
        model="",
        reward="",
        data="",
        out=Path(),
        steps=60,
        critic_learning_rate=3e-3,
        optimiser=OptimiserConfig(learning_rate=2e-3, schedule="linear", final_share=0.02, warmup=0.0, epsilon=1e-5),
        rollout=RolloutConfig(prompts_per_step=192, max_new_tokens=2),
        kl=KLConfig(coefficient=BETA),
        score=ScoreConfig(missing_eos_penalty=0.0),
        update=PPOUpdateConfig(epochs=2, minibatches=2, lam=0.95),
    )
    critic = Critic.from_policy(policy)
    models = PPOModels(
        SeparateActorCritic(policy, critic),
        reference_of(policy),
        lambda asked, texts: [true_reward(t) for t in texts],
    )
    state = ppo_state(models.actor_critic, config)
    for _ in ppo(state, models, [Prompt(PROMPT)], config):
        pass
    reached = sequence_logprobs(policy, ended=False).exp()
    goal = optimum(before)
    assert total_variation(before.exp(), goal) > 0.3
    assert total_variation(reached, goal) < 0.02


def test_dpo_reaches_the_known_optimum_from_exact_labels() -> None:
    policy = tiny_policy()
    before = sequence_logprobs(policy, ended=True)
    texts = [" ".join(words) for words in completions()]
    records = [
        Preference(PROMPT, a, b, probability=1 / (1 + math.exp(true_reward(b) - true_reward(a))))
        for a, b in itertools.combinations(texts, 2)
    ]
    config = DPOConfig(
        model="",
        data="",
        out=Path(),
        epochs=150,
        batch_size=len(records),
        beta=BETA,
        optimiser=OptimiserConfig(learning_rate=3e-3, schedule="linear", final_share=0.0, warmup=0.0),
    )
    pairs = make_pairs(records, policy.tokenizer, "soft", 64)
    reference = reference_logprobs(policy, pairs, 8192)
    state = sft_state(policy, config.optimiser, 150, 0)
    for _ in dpo(state, policy, reference, pairs, config):
        pass
    reached = torch.softmax(sequence_logprobs(policy, ended=True), 0)
    goal = optimum(before)
    assert total_variation(torch.softmax(before, 0), goal) > 0.3
    assert total_variation(reached, goal) < 0.001
