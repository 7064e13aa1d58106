"""What `heedful plan` says of memory beside what stages then take, on a CPU.

    python benchmarks/memory_plan.py                       # both sizes, every stage below: about 20 minutes on 2 cores
    python benchmarks/memory_plan.py --sizes 30m --stages sft dpo
    python benchmarks/memory_plan.py --sizes 30m --stages sft --checkpointing     # its price in time and memory

Each stage runs two steps in a process of its own, on random Llama-shaped weights and rows that are all as long as
`records.max_length`. The process first runs the stage once at a toy size, so that what is loaded lazily is there; then
the kernel's high-water mark is reset (/proc/self/clear_refs), and what the run adds to the resident memory at its
highest is the figure. `ratio` is plan / measured: above 1 the plan was on the safe side.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "toy": {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    "2.5m": {"vocab_size": 4096, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4},
    "30m": {"vocab_size": 16_000, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 7},
}
COMMON = {
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
STAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", {}),
    "reward": ("reward", {}),
    "dpo": ("dpo", {}),
    "ppo": ("ppo", {"critic": "separate"}),
    "ppo-shared": ("ppo", {"critic": "shared"}),
    "grpo": ("grpo", {"rollout": {"samples_per_prompt": 4}}),
}
HOMES = {"sft": "sft", "reward": "reward", "dpo": "preference"}
BATCH = 8
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|> ' + message['content'] + ' ' "
    "+ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)
FRAME = 5
"""Tokens of a rendered conversation beside its words."""


def words_tokenizer(tokens: int) -> Any:
    """A tokenizer whose words are numbers, so that texts have exactly as many tokens as are asked for."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<bos>", "<eos>", "<unk>", "<|user|>", "<|assistant|>"]
    words = [*special, *(f"w{i}" for i in range(tokens - len(special)))]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names, additional_special_tokens=special[4:])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def text(words: int, seed: int) -> str:
    """So many words, a function of the seed."""
    return " ".join(f"w{(seed * 7919 + i * 104729) % 400}" for i in range(words))


def write(folder: Path, size: str, length: int) -> None:
    """A policy, a reward model and data, where they are not there yet."""
    from heedful.files import artifact, read_manifest
    from heedful.models.policy import new_policy
    from heedful.models.scalar import new_reward_model

    if read_manifest(folder / "reward") is None:
        policy = new_policy(COMMON | SIZES[size], words_tokenizer(SIZES[size]["vocab_size"]), seed=1)
        for name, model in (("policy", policy), ("reward", new_reward_model(policy, seed=2))):
            with artifact(folder / name, {"kind": name}) as temporary:
                model.save(temporary)
    prompt = length // 2 - FRAME
    answer = length - prompt - FRAME
    rows = [
        {"prompt": text(prompt, i), "chosen": text(answer, 1000 + i), "rejected": text(answer, 2000 + i)}
        for i in range(2 * BATCH)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def settings(name: str, folder: Path, out: Path, options: argparse.Namespace, length: int) -> Any:
    """A stage's settings, for two steps."""
    from heedful.cli.stages import STAGES as CONFIGS
    from heedful.pipeline.embedded import merge
    from heedful.training.settings import from_mapping

    stage, over = STAGES[name]
    given: dict[str, Any] = {
        "model": str(folder / "policy"),
        "data": str(folder / "data.jsonl"),
        "out": str(out),
        "records": {"max_length": length, "held_out": 0.0},
        "memory": {"micro_batch_tokens": options.tokens, "gradient_checkpointing": options.checkpointing},
        "loading": {"lora_rank": options.lora, "precision": options.precision},
        "run": {"tensorboard": False, "checkpoint_every": 1, "sample_every": 0},
    }
    if stage in HOMES:
        given |= {"epochs": 1.0, "batch_size": BATCH}
    else:
        given |= {"reward": str(folder / "reward"), "steps": 2, "update": {"epochs": 1}}
        samples = over.get("rollout", {}).get("samples_per_prompt", 1)
        given["rollout"] = {"prompts_per_step": BATCH // samples, "max_new_tokens": length // 2}
    return from_mapping(CONFIGS[stage], merge(given, over), "benchmark")


def status(key: str) -> int:
    """A figure of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def child(name: str, size: str, options: argparse.Namespace) -> None:
    """Run one stage and print its plan, its peak and its seconds."""
    from rich.console import Console

    from heedful.pipeline.plan import plan
    from heedful.training.progress import Display

    stage = STAGES[name][0]
    run = getattr(import_module(f"heedful.pipeline.stages.{HOMES.get(stage, 'online')}"), f"run_{stage}")
    with tempfile.TemporaryDirectory() as scratch, open(os.devnull, "w") as nowhere:
        display = Display(Console(file=nowhere))
        for what, length in (("toy", 32), (size, options.length)):
            folder = Path(options.folder) / what
            config = settings(name, folder, Path(scratch) / what, options, length)
            planned = plan(stage, config)
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")
            base, began = status("VmRSS"), time.process_time()
            run(config, display)
            measured, seconds = status("VmHWM") - base, time.process_time() - began
    print(json.dumps({"plan": planned.describe(), "measured": measured, "seconds": seconds}))


def main() -> None:
    """Run every stage and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=[s for s in SIZES if s != "toy"], default=["2.5m", "30m"])
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--tokens", type=int, default=1024, help="memory.micro_batch_tokens")
    parser.add_argument("--length", type=int, default=256, help="tokens of every row")
    parser.add_argument("--lora", type=int, default=0, help="loading.lora_rank")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="loading.precision")
    parser.add_argument("--checkpointing", action="store_true", help="with gradient checkpointing, and without")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "heedful-memory-plan"))
    parser.add_argument("--child", nargs=2, metavar=("STAGE", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, options)
        return
    for size in ("toy", *options.sizes):
        write(Path(options.folder) / size, size, 32 if size == "toy" else options.length)
    print(f"{options.tokens} tokens a micro-batch, rows of {options.length}, LoRA rank {options.lora}; MiB")
    print(f"{'size':>5} {'stage':<11} {'checkpointing':<14} {'plan':>7} {'measured':>9} {'ratio':>6} {'s':>6}")
    for size in options.sizes:
        for name in options.stages:
            for checkpointing in (False, True) if options.checkpointing else (False,):
                flags = [
                    f"--{key}={getattr(options, key)}" for key in ("tokens", "length", "lora", "precision", "folder")
                ]
                command = [sys.executable, __file__, "--child", name, size, *flags]
                command += ["--checkpointing"] if checkpointing else []
                told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                total, measured = told["plan"]["total"] / 2**20, told["measured"] / 2**20
                print(
                    f"{size:>5} {name:<11} {'on' if checkpointing else 'off':<14} {total:>7.0f} {measured:>9.0f} "
                    f"{total / measured:>6.2f} {told['seconds']:>6.1f}",
                    flush=True,
                )
                if os.environ.get("HEEDFUL_PLAN_NEEDS"):
                    print(json.dumps([(n["what"], n["bytes"] >> 20) for n in told["plan"]["needs"]]))


if __name__ == "__main__":
    main()
