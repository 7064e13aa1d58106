"""A forward and backward pass of pairs with their prompt read once, against separate rows, in one run on one thread.

    python benchmarks/shared_prompt.py [--precision bfloat16]

Eight random pairs of one length each, on random Llama models. The two ways take turns; a figure is the least of the
repeats in seconds of processor time, which other work on the machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import time

import torch

from heedful.data.templates import CHAT_TEMPLATES
from heedful.models.policy import Policy, new_policy
from heedful.models.storage import Precision
from heedful.training import shared_prompt
from heedful.training.answer_logprobs import side_logprobs
from heedful.training.batching import Example
from heedful.training.pairs import Pair

MODELS = {"hidden 128, 4 layers": (128, 4), "hidden 384, 6 layers": (384, 6)}
LENGTHS = ((256, 32), (128, 64), (96, 96), (64, 128))
VOCABULARY, PAIRS = 2048, 8


def policy_of(hidden: int, layers: int, precision: Precision) -> Policy:
    """A random policy with a tokenizer of numbers."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(2, VOCABULARY)} | {"<pad>": 0, "<eos>": 1}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w2")), pad_token="<pad>", eos_token="<eos>"
    )
    tokenizer.chat_template = CHAT_TEMPLATES["plain"]
    architecture = {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "intermediate_size": 3 * hidden,
    }
    return new_policy(architecture, tokenizer, seed=0, precision=precision)


def pairs_of(prompt: int, answer: int) -> list[Pair]:
    """Pairs of random tokens."""
    numbers = torch.Generator().manual_seed(1)
    pairs = []
    for _ in range(PAIRS):
        head, *ends = torch.randint(2, VOCABULARY, (3, max(prompt, answer)), generator=numbers).tolist()
        mask = [False] * prompt + [True] * answer
        a, b = (Example(head[:prompt] + end[:answer], mask) for end in ends)
        pairs.append(Pair(a, b, 1.0, 0.0, 1.0))
    return pairs


def seconds(policy: Policy, pairs: list[Pair], share: bool) -> float:
    """Processor time of a forward and backward pass."""
    policy.model.zero_grad()
    start = time.process_time()
    side_logprobs(policy, pairs, share=share).sum().backward()
    return time.process_time() - start


def main() -> None:
    """Measure and print one line for each model and length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shared_prompt.LONG, shared_prompt.ENOUGH = 0.0, 1.0  # share always
    print("model, prompt:answer, separate s, shared s, ratio of time, ratio of tokens")
    for name, size in MODELS.items():
        policy = policy_of(*size, options.precision)
        for prompt, answer in LENGTHS:
            pairs = pairs_of(prompt, answer)
            turns = [(seconds(policy, pairs, False), seconds(policy, pairs, True)) for _ in range(options.repeats)]
            apart, together = (min(turn[side] for turn in turns) for side in (0, 1))
            tokens = (prompt + 2 * answer) / (2 * (prompt + answer))
            print(f"{name}, {prompt}:{answer}, {apart:.3f}, {together:.3f}, {together / apart:.2f}, {tokens:.2f}")


if __name__ == "__main__":
    main()
