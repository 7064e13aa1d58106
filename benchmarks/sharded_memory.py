"""What sharded weights take of each worker's memory as a run begins, while it trains, and as it ends.

    python benchmarks/sharded_memory.py                          # SFT and a reward model, 2 workers, 50 million weights
    python benchmarks/sharded_memory.py --stages sft --workers 4 --layers 32

Whole stages from a folder of bfloat16 weights, computed in float32, as processes on a CPU joined by gloo: main memory
stands for the device's, so rank 0's holds the whole model beside its part, which on a GPU it would not. Opening and
training are the most that a worker held (VmHWM) above what it held before the stage began; ending is the most above
what it held as training was over. MiB; Linux only.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from local_workers import environments

MIB = 2**20
WIDTH, VOCABULARY = 512, 4096
STEPS, ROWS = 1, 8


def resident(name: str) -> int:
    """Bytes of main memory: VmRSS now, VmHWM the most since it was set back."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def worker(stage: str, folder: Path) -> None:
    """Run a stage as one of the workers that the environment tells of; leave what it held."""
    import torch

    from heedful.cli.stages import run_stage
    from heedful.pipeline.stages import common
    from heedful.training.config.reward import RewardConfig
    from heedful.training.config.sft import SFTConfig
    from heedful.training.joining import joined
    from heedful.training.settings import from_mapping

    torch.set_num_threads(1)
    most: dict[str, float] = {}
    given: dict[str, Any] = {
        "model": str(folder / "model"),
        "data": str(folder / f"{stage}.jsonl"),
        "out": str(folder / "runs" / stage),
        "batch_size": ROWS,
        "epochs": float(STEPS),
        "loading": {"precision": "float32"},
        "memory": {"micro_batch_tokens": 64},
        "records": {"max_length": 32},
        "run": {"sample_every": 0, "checkpoint_every": 0, "tensorboard": False},
        "launch": {"shard": True},
    }
    classes: dict[str, Any] = {"sft": SFTConfig, "reward": RewardConfig}
    config = from_mapping(classes[stage], given, "a benchmark")
    with joined(config.launch, "cpu") as team:
        common.Opened.part = _noting(common.Opened.part, most, "opening")  # type: ignore[method-assign]
        common.run = _noting(common.run, most, "training")  # type: ignore[assignment]
        tiny = {"model": str(folder / "tiny"), "out": str(folder / "runs" / f"tiny-{stage}")}
        run_stage(stage, from_mapping(classes[stage], given | tiny, "a benchmark"))  # imports are not counted
        before = resident("VmRSS")
        _set_back()
        run_stage(stage, config)
        most["ending"] = resident("VmHWM")
        told = {name: (most[name] - before) / MIB for name in ("opening", "training")}
        told["ending"] = (most["ending"] - most["trained"]) / MIB
        (folder / f"{stage}-{team.rank}.json").write_text(json.dumps(told))


def _set_back() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the most is what it is now


def _noting(plain: Any, most: dict[str, float], name: str) -> Any:
    """A method that notes the most that was held until it has ended, and sets it back."""

    def noted(*given: Any, **more: Any) -> Any:
        done = plain(*given, **more)
        most[name], most["trained"] = resident("VmHWM"), resident("VmRSS")
        _set_back()
        return done

    return noted


def write(folder: Path, layers: int) -> int:
    """A llama of random bfloat16 weights, a tiny one, and data; returns how many weights the first has."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from heedful.data.chat import prepare_tokenizer
    from heedful.models.policy import new_policy

    words = {f"w{number}": number for number in range(VOCABULARY - 2)}
    words |= {"<|pad|>": len(words), "<|end|>": len(words) + 1}
    plain = Tokenizer(models.WordLevel(words, unk_token="w0"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<|pad|>", eos_token="<|end|>")
    shape = {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    }
    tokenizer = prepare_tokenizer(fast, template="plain", pad_token=None)
    tiny = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    new_policy(shape | tiny, tokenizer, seed=0).save(folder / "tiny")
    policy = new_policy(shape, tokenizer, seed=0)
    policy.model.to(torch.bfloat16)
    policy.save(folder / "model")
    rows = [(f"w{row} w{row + 1}", f"w{2 * row} w{3 * row}", f"w{5 * row}") for row in range(3, 3 + 2 * ROWS)]
    (folder / "sft.jsonl").write_text(
        "".join(json.dumps({"prompt": prompt, "completion": good}) + "\n" for prompt, good, _ in rows)
    )
    (folder / "reward.jsonl").write_text(
        "".join(json.dumps({"prompt": a, "chosen": b, "rejected": c}) + "\n" for a, b, c in rows)
    )
    return sum(weight.numel() for weight in policy.model.parameters())


def run(stage: str, folder: Path, count: int) -> list[dict[str, float]]:
    """What each worker of a stage held."""
    started = []
    for environment in environments(count):
        words = [sys.executable, __file__, "--as-worker", stage, str(folder)]
        started.append(subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL))
    if sum(one.wait() for one in started):
        raise SystemExit("a worker failed")
    return [json.loads((folder / f"{stage}-{rank}.json").read_text()) for rank in range(count)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", nargs="+", default=["sft", "reward"], choices=["sft", "reward"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--as-worker", nargs=2)
    asked = parser.parse_args()
    if asked.as_worker:
        worker(asked.as_worker[0], Path(asked.as_worker[1]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = write(folder, asked.layers)
        print(f"{weights / 1e6:.1f} million weights, {4 * weights / MIB:.0f} MiB in float32; {asked.workers} workers")
        print(f"{'stage':<8}{'worker':>8}{'opening MiB':>13}{'training MiB':>14}{'ending MiB':>12}", flush=True)
        for stage in asked.stages:
            for rank, held in enumerate(run(stage, folder, asked.workers)):
                told = "".join(f"{held[name]:>{width}.0f}" for name, width in
                               (("opening", 13), ("training", 14), ("ending", 12)))  # fmt: skip
                print(f"{stage:<8}{rank:>8}{told}", flush=True)


if __name__ == "__main__":
    main()
