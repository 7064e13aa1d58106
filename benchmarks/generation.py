"""Tokens per second of heedful's engine against `generate()` of transformers, in one run on one thread.

    python benchmarks/generation.py --model tiny --rows 64 256
    python benchmarks/generation.py --model grouped --rows 32 --prompt-tokens 150 250 --repeats 3

Both sample at temperature 1 from the same random weights and prompts (of 8 to 24 tokens), up to 48 new tokens;
heedful's model runs on its own attention, as a `Policy` does.
"full" rows never end; "varied" rows end at one of several end-of-turn tokens, as trained policies do, and
only the tokens up to there count. The two take turns; a figure is the median over the repeats of useful
tokens per second of processor time, which other work on the machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from heedful.models import cpu
from heedful.models.attention import quicken
from heedful.rollout.engine import NativeEngine
from heedful.rollout.types import RolloutParams

NEW_TOKENS = 48
MODELS = {
    "tiny": {
        "vocab_size": 400,
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 384,
    },
    "30m": {
        "vocab_size": 16_000,
        "hidden_size": 512,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 1408,
    },
    "grouped": {  # six layers of the shape of Qwen2.5-0.5B's
        "vocab_size": 16_000,
        "hidden_size": 896,
        "num_hidden_layers": 6,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
    },
}


def policy_of(name: str, ending: float, *, stock: bool) -> Any:
    """What the engine reads of a policy: a random model whose tokens end a turn with that probability."""
    torch.manual_seed(0)
    config = LlamaConfig(**MODELS[name], max_position_embeddings=512)
    model = AutoModelForCausalLM.from_config(config).eval()
    if not stock:
        quicken(model)
    ends = range(1, 1 + round(ending * config.vocab_size))
    return SimpleNamespace(
        model=model,
        running=lambda: model,
        tokenizer=None,
        pad=0,
        eos=tuple(ends),
        banned=(0,),
        device="cpu",
        context_length=512,
        autocast=nullcontext,
    )


def by_transformers(policy: Any, prompts: list[list[int]]) -> int:
    """Sample one completion a prompt with `generate()`; the number of useful tokens."""
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    said = policy.model.generate(
        tokens,
        attention_mask=real,
        do_sample=True,
        top_k=0,
        max_new_tokens=NEW_TOKENS,
        suppress_tokens=[0],
        eos_token_id=list(policy.eos) or None,
        pad_token_id=0,
    )
    return int((said[:, width:] != 0).sum())


def by_heedful(policy: Any, prompts: list[list[int]], samples: int) -> int:
    """Sample as many completions in all, `samples` of each prompt; the number of tokens."""
    engine = NativeEngine(policy)
    rollout = engine.generate(prompts[::samples], RolloutParams(NEW_TOKENS), samples_per_prompt=samples)
    return int(rollout.mask.sum())


def rate(run: Callable[[], int]) -> float:
    """Tokens per second of processor time."""
    start = time.process_time()
    tokens = run()
    return tokens / (time.process_time() - start)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=list(MODELS), default="tiny")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--prompt-tokens", type=int, nargs=2, default=[8, 24], help="least and most of a prompt")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    cpu.prepare()
    torch.set_num_threads(1)
    shortest, longest = options.prompt_tokens
    print(f"{options.model}, {NEW_TOKENS} new tokens, median of {options.repeats}, tokens/s")
    print(f"{'rows':>6} {'lengths':>8} {'generate()':>11} {'heedful':>9} {'K = 4':>9} {'gain':>6} {'gain K = 4':>11}")
    for rows in options.rows:
        generator = torch.Generator().manual_seed(1)
        lengths = torch.randint(shortest, longest + 1, (rows,), generator=generator).tolist()
        prompts = [torch.randint(20, 400, (n,), generator=generator).tolist() for n in lengths]
        for kind, ending in (("full", 0.0), ("varied", 0.03)):
            stock, own = (policy_of(options.model, ending, stock=stock) for stock in (True, False))
            runs = [
                lambda p=stock, q=prompts: by_transformers(p, q),
                lambda p=own, q=prompts: by_heedful(p, q, 1),
                lambda p=own, q=prompts: by_heedful(p, q, 4),
            ]
            for run in runs:
                run()
            turns = [[rate(run) for run in runs] for _ in range(options.repeats)]
            theirs, one, four = (statistics.median(column) for column in zip(*turns, strict=True))
            print(
                f"{rows:>6} {kind:>8} {theirs:>11.0f} {one:>9.0f} {four:>9.0f} "
                f"{one / theirs:>6.2f} {four / theirs:>11.2f}"
            )


if __name__ == "__main__":
    main()
