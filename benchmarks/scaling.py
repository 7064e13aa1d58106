"""What several workers cost and bring, on the cores at hand: seconds of a step, and how much of them is sending.

    python benchmarks/scaling.py                 # 1 and 2 workers, replicas and sharded
    python benchmarks/scaling.py --workers 1 2 4

A step of SFT on a llama of random weights, one thread a worker. Strong: the same batch for all, so that each worker has
a share of it. Weak: as many rows a worker, so that the batch grows. On fewer cores than workers it shows the overhead
and no gain. A figure is the least of the steps after the second, which other work on the machine disturbs least; beside
it stands the processor time of all workers together, a mean over these steps, which other work disturbs less still.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

from local_workers import environments

ROWS, TOKENS, STEPS = 8, 64, 16
"""Of the batch of one worker."""
SHAPE: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 384, "layers": 4, "heads": 4, "vocabulary": 2048}


def worker(rows: int, shard: bool) -> None:
    """Time steps as one of the workers that the environment tells of; the leader prints."""
    import torch

    from heedful.training.batching import Example
    from heedful.training.config.launch import LaunchConfig
    from heedful.training.config.sft import SFTConfig
    from heedful.training.joining import joined
    from heedful.training.sft import sft, sft_state
    from heedful.training.sharding import sharding

    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    drawn = torch.randint(3, SHAPE["vocabulary"], (rows, TOKENS), generator=random).tolist()
    examples = [Example(row, [False] + [True] * (TOKENS - 1)) for row in drawn]
    config = SFTConfig("none", "none", "none", batch_size=rows, epochs=STEPS)  # type: ignore[arg-type]
    with joined(LaunchConfig(shard=shard), "cpu") as team:
        sending = _timed(team)
        policy = model()
        with sharding(policy):
            state = sft_state(policy, config.optimiser, STEPS, 0)
            taken, sent, worked, last = [], [], [], time.perf_counter()
            for _ in sft(state, policy, examples, config):
                now = time.perf_counter()
                taken.append(now - last)
                sent.append(sum(sending))
                sending.clear()
                worked.append(time.process_time())
                last = now
            worker_seconds = (worked[-1] - worked[1]) / (len(worked) - 2)
            together = sum(team.gathered(worker_seconds))
        if team.leads:
            print(json.dumps({"step": min(taken[2:]), "sending": min(sent[2:]), "worked": together}))


def _timed(team: Any) -> list[float]:
    """Seconds of each call in which this worker sends to the others, waiting for them included."""
    found: list[float] = []
    for name in ("gathered", "sum_gradients"):
        plain = getattr(team, name)

        def timed(*given: Any, _plain: Any = plain) -> Any:
            start = time.perf_counter()
            done = _plain(*given)
            found.append(time.perf_counter() - start)
            return done

        setattr(team, name, timed)
    return found


def model() -> Any:
    """A llama of random weights, with a tokenizer that has nothing to say."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from heedful.data.chat import prepare_tokenizer
    from heedful.models.policy import new_policy

    words = {f"w{number}": number for number in range(SHAPE["vocabulary"] - 2)}
    words |= {"<|pad|>": len(words), "<|end|>": len(words) + 1}
    plain = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<|pad|>", eos_token="<|end|>")
    shape = {
        "model_type": "llama",
        "hidden_size": SHAPE["hidden_size"],
        "intermediate_size": SHAPE["intermediate_size"],
        "num_hidden_layers": SHAPE["layers"],
        "num_attention_heads": SHAPE["heads"],
        "num_key_value_heads": SHAPE["heads"],
        "tie_word_embeddings": True,
    }
    return new_policy(shape, prepare_tokenizer(tokenizer, template="plain", pad_token=None), seed=0)


def measured(count: int, rows: int, shard: bool) -> dict[str, float]:
    """Run the workers and return what their leader found."""
    started = []
    for rank, environment in enumerate(environments(count)):
        words = [sys.executable, __file__, "--as-worker", str(rows), *(["--shard"] if shard else [])]
        out = subprocess.PIPE if rank == 0 else subprocess.DEVNULL
        started.append(subprocess.Popen(words, env=environment, stdout=out, text=True))
    found = started[0].communicate()[0]
    if any(one.wait() for one in started):
        raise SystemExit("a worker failed")
    return json.loads(found)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--as-worker", type=int)
    parser.add_argument("--shard", action="store_true")
    asked = parser.parse_args()
    if asked.as_worker:
        worker(asked.as_worker, asked.shard)
        return
    print(f"{os.cpu_count()} cores; {SHAPE}; {ROWS} rows of {TOKENS} tokens")
    print(f"{'kind':<8}{'weights':<10}{'workers':>8}{'rows':>6}{'step ms':>9}{'sending ms':>12}{'processor ms':>14}")
    for kind in ("strong", "weak"):
        for shard in (False, True):
            for count in asked.workers:
                rows = ROWS * (count if kind == "weak" else 1)
                if count > 1 or not shard:
                    found = measured(count, rows, shard)
                    step, sending, worked = (1e3 * found[name] for name in ("step", "sending", "worked"))
                    weights = "sharded" if shard else "whole"
                    print(
                        f"{kind:<8}{weights:<10}{count:>8}{rows:>6}{step:>9.0f}{sending:>12.1f}{worked:>14.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
