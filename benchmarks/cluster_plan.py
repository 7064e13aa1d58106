"""What `heedful plan --gpus` says beside what stages then take, with this machine's CPU in place of the GPU.

    python benchmarks/cluster_plan.py                        # both sizes: about 10 minutes of one core
    python benchmarks/cluster_plan.py --sizes 2.5m --stages sft ppo
    python benchmarks/cluster_plan.py --shapes               # real shapes: parameters, and how many GPUs hold them

The figures of the "GPU" are measured first: a large matrix product in float32, reading much memory, a small addition,
each in processor time of one thread. A stage then runs once for few steps and once for more, in a process of its own,
and the difference is the time of a step, in processor time, so that other work on the machine counts little. `ratio` is
plan / measured: efficiency 1 is planned with, so that it is the share of the large product's rate that steps reach.
Memory is the highest resident size above what was held before (as benchmarks/memory_plan.py), and the plan's is without
CUDA's context.
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
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import memory_plan

STAGES = ("sft", "reward", "dpo", "ppo", "grpo")
FEW, MORE = 2, 6
"""Steps of the two runs."""


def rates() -> dict[str, float]:
    """What this machine's CPU reaches on one thread: multiply-adds as two, bytes read, seconds of a small operation."""
    import torch

    def least(run: Any, times: int) -> float:
        found = []
        for _ in range(times):
            began = time.process_time()
            run()
            found.append(time.process_time() - began)
        return min(found)

    torch.set_num_threads(1)
    left, right, many = torch.rand(1024, 1024), torch.rand(1024, 1024), torch.rand(2**26)
    small = torch.rand(8)

    def additions() -> None:
        for _ in range(2000):
            small + 1.0

    return {
        "flops": 2 * 1024**3 / least(lambda: left @ right, 8),
        "bandwidth": many.nbytes / least(many.sum, 5),
        "launch": least(additions, 3) / 2000,
    }


def child(name: str, size: str, options: argparse.Namespace) -> None:
    """Run one stage twice and print its plan, its peak and the seconds of a step."""
    from rich.console import Console

    from heedful.pipeline import cluster_planner
    from heedful.pipeline.plan_cluster import plan_cluster
    from heedful.training.config.cluster import ClusterConfig
    from heedful.training.progress import Display

    found = rates()
    cluster = ClusterConfig(
        gpus="1x64GiB",
        tflops=found["flops"] / 1e12,
        bandwidth=found["bandwidth"] / 1e9,
        launch=found["launch"] * 1e6,
        efficiency=1.0,
    )
    cluster_planner.CONTEXT = 0
    stage = memory_plan.STAGES[name][0]
    home = import_module(f"heedful.pipeline.stages.{memory_plan.HOMES.get(stage, 'online')}")
    run, seconds, measured = getattr(home, f"run_{stage}"), [], 0
    with tempfile.TemporaryDirectory() as scratch, open(os.devnull, "w") as nowhere:
        display = Display(Console(file=nowhere))
        for what, length, steps in (("toy", 32, FEW), (size, options.length, FEW), (size, options.length, MORE)):
            folder = Path(options.folder) / what
            out = Path(scratch) / f"{what}-{steps}"
            config = memory_plan.settings(name, folder, out, options, length)
            many = {"epochs": steps / 2} if hasattr(config, "epochs") else {"steps": steps}
            config = replace(config, run=replace(config.run, checkpoint_every=0), **many)
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")
            base, began = memory_plan.status("VmRSS"), time.process_time()
            run(config, display)
            measured = measured or (memory_plan.status("VmHWM") - base if what == size else 0)
            seconds.append(time.process_time() - began)
        made = plan_cluster(stage, config, cluster)
    step = (seconds[-1] - seconds[-2]) / (MORE - FEW)
    print(json.dumps({"plan": made.describe(), "measured": measured, "step": step, "rates": found}))


def measure(options: argparse.Namespace) -> None:
    """Run every stage in a process of its own and print a table."""
    for size in ("toy", *options.sizes):
        memory_plan.write(Path(options.folder) / size, size, 32 if size == "toy" else options.length)
    print(f"{options.tokens} tokens a micro-batch, rows of {options.length}, one thread, float32")
    heads = ("size", "stage", "plan MiB", "measured", "ratio", "plan s", "measured", "ratio")
    print("{:>5} {:<7} {:>9} {:>9} {:>6} {:>8} {:>9} {:>6}".format(*heads))
    for size in options.sizes:
        for name in options.stages:
            flags = [f"--{key}={getattr(options, key)}" for key in ("tokens", "length", "folder")]
            command = [sys.executable, __file__, "--child", name, size, *flags]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            told = json.loads(done.stdout)
            total, measured = told["plan"]["total"] / 2**20, told["measured"] / 2**20
            planned, step = told["plan"]["step_seconds"], told["step"]
            memory = f"{total:>9.0f} {measured:>9.0f} {total / measured:>6.2f}"
            print(f"{size:>5} {name:<7} {memory} {planned:>8.2f} {step:>9.2f} {planned / step:>6.2f}", flush=True)
            if os.environ.get("HEEDFUL_PLAN_PHASES"):
                print(told["rates"], [(p["what"], round(p["seconds"], 3)) for p in told["plan"]["phases"]], flush=True)


def shapes() -> None:
    """Real shapes: parameters, and the fewest H200s that hold checkpointed SFT of all weights and of adapters."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from heedful.pipeline.cluster_planner import ClusterPlanner
    from heedful.pipeline.plan_troupe import Troupe
    from heedful.training.config.cluster import ClusterConfig
    from heedful.training.config.sft import SFTConfig
    from heedful.training.settings import from_mapping
    from model_shapes import SHAPES, write_shape

    print(f"{'model':<14} {'parameters':>15} {'as published':>12} {'all weights':>20} {'adapters, rank 16':>20}")
    with tempfile.TemporaryDirectory() as scratch:
        for name, (_, published) in SHAPES.items():
            folder = write_shape(Path(scratch) / name, name)
            cells: list[str] = []
            for loading in ({}, {"lora_rank": 16, "base_dtype": "bfloat16"}):
                given = {"model": str(folder), "data": "", "out": "", "loading": loading}
                checkpointing = {"memory": {"gradient_checkpointing": True}}
                troupe = Troupe(from_mapping(SFTConfig, given | checkpointing, "a benchmark"))
                sizes = troupe.actors["policy"].weights
                for count in (1, 2, 4, 8, 16, 32, 64) if not loading else (1,):
                    cluster = ClusterConfig(gpus=f"{count}xH200", layout="sharded" if count > 1 else "replicas")
                    planner = ClusterPlanner("sft", troupe, cluster)
                    if not planner.hopeless and (made := planner.plan()).fits:
                        cells.append(f"{count}, {made.total / 2**30:.0f} GiB each")
                        break
                else:
                    cells.append("not at all")
                if not loading:
                    parameters = int(sizes.total)
            exact = "yes" if parameters == published else "NO"
            print(f"{name:<14} {parameters:>15,} {exact:>12} {cells[0]:>20} {cells[1]:>20}", flush=True)


def main() -> None:
    """Measure, or tell of real shapes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sizes = [size for size in memory_plan.SIZES if size != "toy"]
    parser.add_argument("--sizes", nargs="+", choices=sizes, default=sizes)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--tokens", type=int, default=1024, help="memory.micro_batch_tokens")
    parser.add_argument("--length", type=int, default=256, help="tokens of every row")
    parser.add_argument("--shapes", action="store_true", help="real shapes on meta devices instead")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "heedful-memory-plan"))
    parser.add_argument("--child", nargs=2, metavar=("STAGE", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.lora, options.precision, options.checkpointing = 0, "float32", False
    if options.child:
        child(*options.child, options)
    elif options.shapes:
        shapes()
    else:
        measure(options)


if __name__ == "__main__":
    main()
