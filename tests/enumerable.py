"""A policy small enough to enumerate: three words, completions of up to two, and a reward that no single token tells.

With a KL penalty β to the reference, the best policy is proportional to reference × exp(reward / β)
(Ziegler et al. 2019; Rafailov et al. 2023, eq. 4). Credit must pass from the second token to the first.
"""

from __future__ import annotations

import itertools

import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.chat import render_completion, render_prompt
from heedful.data.records import Conversation, Message
from heedful.models.policy import Policy, new_policy
from heedful.training.batching import Example

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


def optimum(reference: torch.Tensor, beta: float = BETA) -> torch.Tensor:
    """[13] the distribution proportional to reference × exp(reward / β)."""
    rewards = torch.tensor([true_reward(" ".join(words)) for words in completions()], dtype=torch.float64)
    return torch.softmax(reference + rewards / beta, 0)


def total_variation(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p - q).abs().sum() / 2)
