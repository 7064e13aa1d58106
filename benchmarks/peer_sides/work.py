"""The work that both sides of `benchmarks/peers.py` do: models, texts, lengths, and the clock. Imports neither side.

A side is a process. It makes itself ready, says so, and then takes one step each time it reads a line; the driver lets
the sides take turns. What a side says is one JSON object a line on its standard output; anything else goes to standard
error.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAD, END = 0, 1
WORDS_FROM = 2
LONGEST_ANSWER = 48
LENGTHS: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "ragged": ((12, 36), (8, LONGEST_ANSWER)),
    "fixed": ((24, 24), (LONGEST_ANSWER, LONGEST_ANSWER)),
    "long": ((100, 300), (8, LONGEST_ANSWER)),
}
"""Least and most tokens of prompts and of answers, evenly spread; "long" has prompts like those of dialogues."""

SHAPES: dict[str, dict[str, int]] = {
    "2.5m": {"vocab_size": 4096, "hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6,
             "num_key_value_heads": 6, "intermediate_size": 512},
    "30m": {"vocab_size": 8192, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
            "num_key_value_heads": 8, "intermediate_size": 1408},
    "0.5b": {"vocab_size": 151_936, "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "intermediate_size": 4864},
    "1.5b": {"vocab_size": 151_936, "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12,
             "num_key_value_heads": 2, "intermediate_size": 8960},
}  # fmt: skip
"""Weights are random. The two large ones are Qwen2.5's shapes."""


@dataclass(frozen=True)
class Work:
    """One piece of work. A step is `rows` answers (pairs for DPO and the reward model) of prompts of their own."""

    kind: str
    """sft, reward, dpo, ppo, ppo_shared, rloo, grpo or generate."""
    size: str = "2.5m"
    family: str = "llama"
    """llama, or qwen2: biases in attention, and half the key-value heads."""
    lengths: str = "ragged"
    """A name of `LENGTHS`."""
    precision: str = "float32"
    """float32 or bfloat16: of the matrix products; weights are float32 at rest."""
    rows: int = 64
    samples: int = 8
    """Answers to a prompt, for rloo and grpo."""
    micro: int = 16
    """Rows in a forward and backward pass: the budget, with rows of the longest length."""
    tokens: int = 0
    """Of heedful's passes; 0: what it takes by itself, within that budget."""
    padded: bool = False
    """heedful computes padding, as where rows cannot be laid end to end."""
    epochs: int = 1
    """Passes over a rollout batch."""
    steps: int = 12
    """The most steps that a side is asked for, warm-up included."""
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    checkpointing: bool = False
    packing: bool = False
    """SFT on TRL's side alone."""
    compile: bool = False
    """heedful's layers run compiled; TRL's settings that are tried include `torch_compile`."""
    lora: int = 0
    """Rank of adapters; 0 trains all weights."""
    one_base: bool = False
    """PPO: heedful's policy, critic and reward model are adapters of that rank on one base; TRL trains all weights."""
    cached_reference: bool = False
    """DPO: the reference's log-probabilities are computed before the clock starts."""

    @property
    def budget(self) -> int:
        """Tokens in a forward and backward pass, padding counted."""
        return self.micro * self.longest

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return sum(most for _, most in LENGTHS[self.lengths])

    @property
    def online(self) -> bool:
        """Whether a step samples."""
        return self.kind in ("ppo", "ppo_shared", "rloo", "grpo")


def read_work() -> Work:
    """The work that the command line names, and the process made ready for it."""
    work = Work(**json.loads(sys.argv[1]))
    import torch

    torch.set_num_threads(work.threads)
    return work


def model_config(work: Work, **more: Any) -> Any:
    """The configuration of transformers."""
    from transformers import LlamaConfig, Qwen2Config

    shape = dict(SHAPES[work.size])
    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[work.family]
    if work.family == "qwen2" and work.size in ("2.5m", "30m"):
        shape["num_key_value_heads"] //= 2
    more = {"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": None, **more}
    return kind(**shape, tie_word_embeddings=True, max_position_embeddings=512, **more)


def language_model(work: Work, seed: int = 1, attention: str | None = None) -> Any:
    """A causal language model with random float32 weights; its attention by the name that transformers has for it."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(model_config(work), dtype=torch.float32, attn_implementation=attention)


def scalar_model(work: Work, seed: int = 2, attention: str | None = None) -> Any:
    """A sequence classifier of one label with random float32 weights."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    config, made = model_config(work, num_labels=1), AutoModelForSequenceClassification
    model: Any = made.from_config(config, dtype=torch.float32, attn_implementation=attention)
    return model


def tokenizer(work: Work) -> Any:
    """A tokenizer of one token a word: w2, w3 and so on."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": PAD, "<end>": END} | {f"w{i}": i for i in range(WORDS_FROM, SHAPES[work.size]["vocab_size"])}
    inner = Tokenizer(WordLevel(words, unk_token="w2"))
    inner.pre_tokenizer = WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<end>")
    made.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %} <end>{% endif %} {% endfor %}"
    )
    return made


def text_of(tokens: list[int]) -> str:
    """Tokens as words."""
    return " ".join(f"w{token}" for token in tokens)


@dataclass(frozen=True)
class Texts:
    """Prompts, and two answers to each, as tokens; an answer ends with `END`."""

    prompts: list[list[int]]
    answers: list[list[int]]
    others: list[list[int]]


def texts(work: Work) -> Texts:
    """The texts of all steps: as many prompts as steps need, in the order in which they are to be read."""
    draw = random.Random(work.seed)
    count = work.rows * work.steps
    vocabulary = SHAPES[work.size]["vocab_size"]

    def words(low: int, high: int) -> list[int]:
        length = draw.randint(low, high) if low < high else high
        return [draw.randrange(WORDS_FROM, vocabulary) for _ in range(length)]

    of_prompts, (least, most) = LENGTHS[work.lengths]
    prompts = [words(*of_prompts) for _ in range(count)]
    answers = [[*words(least - 1, most - 1), END] for _ in range(count)]
    others = [[*words(least - 1, most - 1), END] for _ in range(count)]
    return Texts(prompts, answers, others)


def answer_lengths(work: Work, step: int) -> list[int]:
    """How long the answers of a step's rows become, end of turn included: the same on both sides."""
    draw = random.Random(work.seed * 1000 + step)
    least, most = LENGTHS[work.lengths][1]
    return [draw.randint(least, most) if least < most else most for _ in range(work.rows)]


# --- the clock ---


def say(**found: Any) -> None:
    """One line to the driver."""
    _DRIVER.write(json.dumps(found) + "\n")
    _DRIVER.flush()


def wait() -> None:
    """Until the driver asks for the next step; ends the process when it asks for none."""
    if sys.stdin.readline().strip() != "step":
        say(**ending())
        os._exit(0)


_DRIVER = os.fdopen(os.dup(1), "w")
if Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parent:  # a side, and not the driver
    os.dup2(2, 1)  # what libraries print goes to standard error
_BASE: dict[str, int] = {}


def ready(**more: Any) -> None:
    """Say that the side stands ready, with weights and optimisers made, and begin to watch memory."""
    import torch

    _BASE["bytes"] = held()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts anew
    say(ready=True, bytes=_BASE["bytes"], **more)


def ending() -> dict[str, int]:
    """The most memory so far, and what was held when it was ready."""
    import torch

    if torch.cuda.is_available():
        return {"peak": torch.cuda.max_memory_allocated(), "base": _BASE["bytes"]}
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    return {"peak": peak, "base": _BASE["bytes"]}


def held() -> int:
    """Bytes that the process holds: on a GPU those allocated, else resident memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stepper:
    """For a side whose loop is not its own: call it at the end of every step; it tells the time and waits."""

    def __init__(self) -> None:
        self.started = 0.0

    def begin(self) -> None:
        """Before the first step."""
        wait()
        self.started = time.perf_counter()

    def __call__(self, **more: Any) -> None:
        synchronise()
        say(seconds=time.perf_counter() - self.started, **more)
        wait()
        self.started = time.perf_counter()


def steps(work: Callable[[], Any]) -> None:
    """For a side that takes its own steps: one for each line, for ever."""
    while True:
        wait()
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        say(seconds=time.perf_counter() - start)
