"""Where heedful's time goes in a step of the work of `peers.py`: shares of the wall clock, by kind of operation.

    .venv/bin/python benchmarks/profile_step.py --kinds ppo sft --sizes 2.5m 30m --precisions float32

Torch's profiler tells each operation's own time on the CPU; what is left of the wall clock is Python, and torch's way
to an operation. The profiler makes steps some per cent slower, and small operations more than large ones; so the wall
clock without it stands beside.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8192",
}
GROUPS = {
    "products": ("aten::mm", "aten::addmm", "aten::_addmm", "mkldnn::", "aten::linear", "aten::mkldnn", "onednn::"),
    "batched products": ("aten::bmm", "aten::baddbmm"),
    "attention": ("attention",),
    "softmax and sums of logits": ("softmax", "logsumexp", "aten::cumsum", "aten::exp"),
    "optimiser": ("Optimizer", "adam", "aten::_foreach"),
    "copies": ("aten::copy_", "aten::clone", "aten::cat", "aten::index", "aten::gather", "aten::scatter", "aten::pad"),
}
"""What an operation's name holds; the first that fits. All else is "other small operations"."""


def group_of(name: str) -> str:
    """The kind of an operation."""
    return next((group for group, parts in GROUPS.items() if any(part in name for part in parts)), "other operations")


def main() -> None:
    """Profile what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["ppo", "grpo", "dpo", "sft", "reward", "generate"])
    parser.add_argument("--sizes", nargs="+", default=["2.5m"])
    parser.add_argument("--precisions", nargs="+", default=["float32"])
    parser.add_argument("--steps", type=int, default=3, help="profiled steps, after two to warm up")
    parser.add_argument("--operations", type=int, default=0, help="also list so many operations")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    sys.path.insert(0, str(Path(__file__).parent / "peer_sides"))
    columns = [*GROUPS, "other operations", "Python and dispatch"]
    print(
        "| work | size | precision | s | s, profiled | "
        + " | ".join(columns)
        + " |\n"
        + "|---" * (5 + len(columns))
        + "|"
    )
    for size in options.sizes:
        for precision in options.precisions:
            for kind in options.kinds:
                print(profiled(kind, size, precision, options.steps, columns, options.operations), flush=True)


def profiled(kind: str, size: str, precision: str, steps: int, columns: list[str], operations: int) -> str:
    """A row of the table."""
    import heedful_side
    import torch
    from torch.profiler import ProfilerActivity, profile
    from work import Work, texts

    torch.set_num_threads(1)
    work = Work(kind, size, precision=precision, steps=2 * steps + 3)
    forced = heedful_side.Forced(work)
    trainer = heedful_side.KINDS[kind](work, texts(work))

    def step() -> float:
        forced.next_batch()
        started = time.perf_counter()
        next(trainer)
        return time.perf_counter() - started

    step(), step()
    plain = statistics.median(step() for _ in range(steps))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        wall = sum(step() for _ in range(steps))
    spent: dict[str, float] = defaultdict(float)
    found = seen.key_averages()
    for event in found:
        spent[group_of(event.key)] += event.self_cpu_time_total / 1e6
    spent["Python and dispatch"] = wall - sum(spent.values())
    if operations:
        print(found.table(sort_by="self_cpu_time_total", row_limit=operations), file=sys.stderr)
    cells = [kind, size, precision, f"{plain:.2f}", f"{wall / steps:.2f}"]
    return "| " + " | ".join([*cells, *(f"{spent[name] / wall:.0%}" for name in columns)]) + " |"


if __name__ == "__main__":
    main()
