"""How many tokens a pass should take: heedful's time and memory of a step at several sizes of the micro-batch.

    .venv/bin/python benchmarks/micro_batches.py --kinds sft dpo --sizes 2.5m --tokens 512 1024 2048 8192 --cores 0
    .venv/bin/python benchmarks/micro_batches.py --kinds sft dpo --tokens 1024 --padded

With `--padded` each size runs once more with padding computed, and answers behind prompts through a cache, as where
rows cannot be laid end to end.
The work is that of `peers.py`; each size is a process of its own, and they take turns. Times are medians of the timed
steps, and shares of them medians of the ratios to the first size's neighbouring step; memory is the process's peak less
what was held before the first step, so with gradients and AdamW's moments, in MiB.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers import Side
from work import LENGTHS, SHAPES, Work


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", default=["sft", "dpo", "grpo"])
    parser.add_argument("--sizes", nargs="+", default=["2.5m"], choices=list(SHAPES))
    parser.add_argument("--lengths", default="ragged", choices=list(LENGTHS))
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=[1024, 512, 2048, 8192], help="the first is the measure"
    )
    parser.add_argument("--padded", action="store_true", help="each once more with padding computed")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", default="", help="as taskset takes them; all, where empty")
    options = parser.parse_args()
    print("| work | size | tokens of a pass | s | of the first's | MiB above the start |\n" + "|---" * 6 + "|")
    for size in options.sizes:
        for kind in options.kinds:
            works = [
                Work(
                    kind, size, lengths=options.lengths, precision=options.precision, tokens=tokens, padded=padded,
                    threads=options.threads, steps=options.steps + 3,
                )
                for tokens in options.tokens
                for padded in ((False, True) if options.padded else (False,))
            ]  # fmt: skip
            sides = [Side(Path(sys.executable), "heedful_side.py", work, {}, options.cores) for work in works]
            turns = [[side.step() for side in sides] for _ in range(options.steps + 2)][2:]
            for work, side, times in zip(works, sides, zip(*turns, strict=True), strict=True):
                ratios = [now / first for now, (first, *_) in zip(times, turns, strict=True)]
                memory = side.end()
                above = (memory["peak"] - memory["base"]) / 2**20
                least, most = min(ratios), max(ratios)
                tokens = f"{work.tokens:,}{', padded' if work.padded else ''}"
                print(
                    f"| {kind} | {size} | {tokens} | {statistics.median(times):.2f} | "
                    f"{statistics.median(ratios):.2f} ({least:.2f} to {most:.2f}) | {above:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
