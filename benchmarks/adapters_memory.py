"""Peak memory of a PPO step: full weights with a critic of its own, against one frozen base with adapters (LoRA).

    python benchmarks/adapters_memory.py [--whole-heap]

A random Llama of 30M weights; 64 prompts of 24 tokens, 48 new tokens, micro-batches of 16 rows, one thread. Each way
runs in a process of its own, as `heedful ppo` opens it: policy, reference, critic and reward model. The peak is the
kernel's own count of resident memory (VmHWM), set back once the libraries are imported and warm. It is printed whole,
and less what the process held then. The seconds are the processor's, the opening of the models included; `weights` is
what the models' weights take, shared ones counted once. Linux only.

--whole-heap switches off glibc's caches of small blocks. PyTorch asks for aligned memory; before glibc 2.38 what is cut
off in front of a block lands in such a cache, and keeps the block, once freed, from being used again at its full size.
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
from pathlib import Path
from typing import Any

PROMPTS, PROMPT, ANSWER, ROWS, RANK = 64, 24, 48, 16, 16
LLAMA_30M = {
    "model_type": "llama",
    "vocab_size": 8192,
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "intermediate_size": 1408,
}
TINY = LLAMA_30M | {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
ADAPTERS: dict[str, Any] = {"lora_rank": RANK}
HALF = ADAPTERS | {"base_dtype": "bfloat16"}
WAYS: dict[str, tuple[dict[str, Any], bool]] = {
    "full weights": ({}, False),
    "full weights, checkpointed": ({}, True),
    f"one base, rank {RANK}": (ADAPTERS, False),
    f"one base, rank {RANK}, checkpointed": (ADAPTERS, True),
    f"one bfloat16 base, rank {RANK}": (HALF, False),
    f"one bfloat16 base, rank {RANK}, checkpointed": (HALF, True),
}
"""Settings of loading, and whether activations are computed again in the backward pass."""
MEBIBYTE = 2**20
WHOLE_HEAP = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"}


def make(folder: Path, architecture: dict[str, Any]) -> None:
    """A policy, prompts, and for each way the reward model that `heedful reward` would leave, with random weights."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    from heedful.files import artifact
    from heedful.models.adapters import LoRA
    from heedful.models.one_base import BASE, base_fingerprint
    from heedful.models.policy import load_policy, new_policy
    from heedful.models.scalar import new_reward_model

    words = {f"w{number}": number for number in range(2, architecture["vocab_size"])} | {"<pad>": 0, "<eos>": 1}
    inner = Tokenizer(WordLevel(words, unk_token="w2"))
    inner.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")
    with artifact(folder / "policy", {}) as temporary:
        new_policy(architecture, tokenizer, seed=0, template="raw").save(temporary)
    for number, (loading, _) in enumerate(WAYS.values()):
        policy = load_policy(folder / "policy", dtype=loading.get("base_dtype", "float32"))
        policy.model.requires_grad_(False)
        lora = LoRA(RANK, 32.0) if loading else None
        with artifact(folder / f"reward-{number}", {BASE: base_fingerprint(policy)} if lora else {}) as temporary:
            new_reward_model(policy, lora=lora, seed=1).save(temporary)
    prompts = [{"prompt": " ".join(f"w{2 + i * PROMPT + j}" for j in range(PROMPT))} for i in range(2 * PROMPTS)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))


def settings(folder: Path, home: str, number: int, rows: int, steps: int) -> Any:
    """Settings of a run of one way, on the models in `home`."""
    from heedful.training.config.online import PPOConfig
    from heedful.training.settings import from_mapping

    loading, checkpointed = list(WAYS.values())[number]
    given = {
        "model": str(folder / home / "policy"),
        "reward": str(folder / home / f"reward-{number}"),
        "data": str(folder / "prompts.jsonl"),
        "out": str(folder / home / f"run-{number}"),
        "steps": steps,
        "rollout": {"prompts_per_step": rows, "max_new_tokens": ANSWER},
        "update": {"epochs": 1},
        "loading": loading,
        "records": {"max_length": PROMPT + ANSWER, "held_out": 0.0},
        "memory": {"micro_batch_tokens": ROWS * (PROMPT + ANSWER), "gradient_checkpointing": checkpointed},
        "run": {"checkpoint_every": 0, "tensorboard": False},
    }
    return from_mapping(PPOConfig, given, "benchmark")


def measure(folder: Path, number: int, steps: int) -> dict[str, float]:
    """Run one way in this process."""
    import torch
    from rich.console import Console

    from heedful.models.actor_critic import SeparateActorCritic
    from heedful.models.one_base import weight_bytes
    from heedful.models.scalar import RewardModel
    from heedful.pipeline.stages.online import run_ppo
    from heedful.training.ppo import PPOModels
    from heedful.training.progress import Display
    from heedful.training.run import Watch
    from heedful.training.state import Event, Step

    torch.set_num_threads(1)
    quiet = Display(Console(file=sys.stderr))
    run_ppo(settings(folder, "tiny", number, 2, 1), quiet)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    held = status("VmRSS")
    seen: dict[str, float] = {}
    began = time.process_time()

    def watch(models: PPOModels) -> Watch:
        both, judge = models.actor_critic, models.reward
        assert isinstance(both, SeparateActorCritic)
        assert isinstance(judge, RewardModel)
        everyone = [models.policy.model, models.reference.model, both.critic.model, judge.model]
        seen["weights"] = weight_bytes(everyone) / MEBIBYTE
        seen["trained"] = sum(p.numel() for p in both.parameters()) / 1e6
        return Watch(intervene=peak)

    def peak(step: Step) -> list[Event]:
        seen["peak"], seen["seconds"] = status("VmHWM"), (time.process_time() - began) / step.number
        return []

    run_ppo(settings(folder, "large", number, PROMPTS, steps), quiet, watch)
    return seen | {"held": held}


def status(name: str) -> float:
    """A figure of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def main() -> None:
    """Make the models, run each way in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--whole-heap", action="store_true")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        print(json.dumps(measure(given.folder, given.measure, given.steps)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder / "large", LLAMA_30M)
        make(folder / "tiny", TINY)
        (folder / "large" / "prompts.jsonl").replace(folder / "prompts.jsonl")
        print("way, peak MiB, less imports, weights MiB, trained M, processor s a step, ratio of peaks, less imports")
        first: dict[str, float] = {}
        for number, name in enumerate(WAYS):
            command = [sys.executable, __file__, "--measure", str(number), "--folder", temporary]
            command += ["--steps", str(given.steps)]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            environment |= WHOLE_HEAP if given.whole_heap else {}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise SystemExit(done.stderr)
            seen = json.loads(done.stdout.splitlines()[-1])
            first = first or seen
            own, whole = seen["peak"] - seen["held"], first["peak"] - first["held"]
            print(
                f"{name}, {seen['peak']:.0f}, {own:.0f}, {seen['weights']:.0f}, {seen['trained']:.1f}, "
                f"{seen['seconds']:.1f}, {seen['peak'] / first['peak']:.2f}, {own / whole:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
