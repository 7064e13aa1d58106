"""A forward and backward pass of pairs with their prompt read once, against separate rows, in one run on one thread.

    python benchmarks/shared_prompt.py [--precision bfloat16]
    python benchmarks/shared_prompt.py --reward

Eight random pairs of one length each, on random Llama models: as DPO's policy reads them, where answers go on from
their prompt and where they stand in one row with it under a mask; or with `--reward` as a reward model does, which also
has more answers to a prompt and is timed when it scores, without gradients. The ways take turns; a figure is the least
of the repeats in seconds of processor time, which other work on the machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import time

import torch

from heedful.data.templates import CHAT_TEMPLATES
from heedful.models.policy import Policy, new_policy
from heedful.models.scalar import RewardModel, new_reward_model
from heedful.models.storage import Precision
from heedful.training import shared_prompt
from heedful.training.answer_logprobs import side_logprobs
from heedful.training.batching import Example
from heedful.training.pairs import Pair
from heedful.training.reward import states_of
from heedful.training.reward_data import Judged, Layout, Order

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


def seconds(policy: Policy, pairs: list[Pair], share: bool, goes_on: bool = True) -> float:
    """Processor time of a forward and backward pass; pairs are shared in one row where answers may not go on."""
    policy.model.zero_grad()
    policy._continues = goes_on
    start = time.process_time()
    side_logprobs(policy, pairs, share=share).sum().backward()
    return time.process_time() - start


def items_of(prompt: int, answer: int, answers: int) -> list[Judged]:
    """As many answers in all as `pairs_of` has, so many of them to a prompt."""
    numbers = torch.Generator().manual_seed(1)
    items = []
    for _ in range(2 * PAIRS // answers):
        head, *ends = torch.randint(2, VOCABULARY, (1 + answers, max(prompt, answer)), generator=numbers).tolist()
        mask = [False] * prompt + [True] * answer
        rendered = tuple(Example(head[:prompt] + end[:answer], mask) for end in ends)
        items.append(Judged(rendered, Order(tuple(map(float, range(answers)))), 1.0))
    return items


def read_items(model: RewardModel, items: list[Judged], share: bool) -> float:
    """Processor time of a forward and backward pass; of a forward pass alone where nothing asks for gradients."""
    model.model.zero_grad()
    start = time.process_time()
    scores = model.head(states_of(model, Layout(items), shared=share))
    if scores.requires_grad:
        scores.sum().backward()
    return time.process_time() - start


def of_rewards(name: str, size: tuple[int, int], precision: Precision, repeats: int) -> None:
    """A line for each length and number of answers."""
    model = new_reward_model(policy_of(*size, precision))
    for prompt, answer in LENGTHS:
        for answers in (2, 4, 8):
            items, ratios = items_of(prompt, answer, answers), []
            for learns in (True, False):
                with torch.set_grad_enabled(learns):
                    read_items(model, items, False), read_items(model, items, True)
                    turns = [(read_items(model, items, False), read_items(model, items, True)) for _ in range(repeats)]
                apart, together = (min(turn[side] for turn in turns) for side in (0, 1))
                ratios.append(together / apart)
            tokens = (prompt + answers * answer) / (answers * (prompt + answer))
            print(f"{name}, {prompt}:{answer}, {answers}, {ratios[0]:.2f}, {ratios[1]:.2f}, {tokens:.2f}", flush=True)


def main() -> None:
    """Measure and print one line for each model and length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--reward", action="store_true", help="a reward model's answers, not DPO's pairs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.reward:
        print("model, prompt:answer, answers, ratio of time in training, in scoring, ratio of tokens")
        for name, size in MODELS.items():
            of_rewards(name, size, options.precision, options.repeats)
        return
    shared_prompt.LONG, shared_prompt.ENOUGH, shared_prompt.SAVES = 0.0, 1.0, 1.0  # share always
    print("model, prompt:answer, separate s, ratio of time going on, ratio in one row, ratio of tokens")
    for name, size in MODELS.items():
        policy = policy_of(*size, options.precision)
        for prompt, answer in LENGTHS:
            pairs = pairs_of(prompt, answer)
            ways = ((False, True), (True, True), (True, False))
            turns = [[seconds(policy, pairs, *way) for way in ways] for _ in range(options.repeats)]
            apart, behind, one_row = (min(turn[way] for turn in turns) for way in range(3))
            tokens = (prompt + 2 * answer) / (2 * (prompt + answer))
            ratios = f"{behind / apart:.2f}, {one_row / apart:.2f}, {tokens:.2f}"
            print(f"{name}, {prompt}:{answer}, {apart:.3f}, {ratios}", flush=True)


if __name__ == "__main__":
    main()
