"""Proxy and gold against KL, for PPO and best-of-n, with a biased and a careful crowd; what keeps gold from falling.

    .venv/bin/python benchmarks/overoptimisation.py                # make overoptimisation: the curves and the watch
    .venv/bin/python benchmarks/overoptimisation.py --prevention   # what helps at equal KL, beside it
    .venv/bin/python benchmarks/overoptimisation.py --seeds 100    # one other seed

On the embedded world the truth is known, so that every answer of a run has a gold score. Two crowds, who differ in one
thing, what length is worth to them, judge the same pairs of answers. For each, only two settings vary: how many pairs
the reward model learns from, and PPO's KL coefficient. Every PPO run is watched as `heedful ppo --watch.gold.judge`
does it, the world's truth deciding; the watch warns and the run goes on, so that the whole curve is there, and the rule
tells where it would have stopped. --prevention also runs it with the watch stepping in.

Each part runs in a process of its own with one thread, --jobs at a time. What is finished is kept, so the same command
goes on where it was stopped. OUT/overoptimisation.md, .json and .png are written from what is there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import overoptimisation_prevention as prevention
import overoptimisation_runs as runs
from parts import run_parts

BASE = "base"


def parts(wanted: bool) -> list[str]:
    """The parts of a seed, those of prevention where they are wanted."""
    return [BASE, *runs.CROWDS, *(prevention.GROUPS if wanted else [])]


def done(out: Path, seed: int, part: str) -> bool:
    """Whether a part is finished."""
    return (out / f"seed-{seed}" / f"{part}.json").exists()


def ready(out: Path, seed: int, part: str) -> bool:
    """Whether what a part builds on is finished."""
    needs = [] if part == BASE else [BASE] if part in runs.CROWDS else [prevention.CROWD]
    return all(done(out, seed, need) for need in needs)


def run_part(out: Path, seed: int, part: str) -> None:
    """One part of one seed."""
    if part == BASE:
        runs.run_base(out, seed)
    elif part in prevention.GROUPS:
        prevention.run_group(out, seed, part)
    else:
        runs.run_crowd(out, seed, part)


def main() -> int:
    """Run the parts, then write tables and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/overoptimisation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[52, 53, 54])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--prevention", action="store_true", help="also what helps at equal KL")
    parser.add_argument("--report", action="store_true", help="write tables and picture of what is there; run nothing")
    parser.add_argument("--picture", type=Path, help="also write the picture here")
    parser.add_argument("--only", nargs=2, metavar=("PART", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only is not None:
        run_part(args.out, int(args.only[1]), args.only[0])
        return 0
    if not args.report:
        wanted = [(part, seed) for part in parts(args.prevention) for seed in args.seeds]
        failed = run_parts(
            [(part, seed) for part, seed in wanted if not done(args.out, seed, part)],
            lambda one: [sys.executable, __file__, "--out", str(args.out), "--only", one[0], str(one[1])],
            lambda one: args.out / f"seed-{one[1]}-{one[0]}.log",
            jobs=args.jobs,
            ready=lambda one: ready(args.out, one[1], one[0]),
        )
        if failed:
            return failed
    from overoptimisation_tables import report

    print(report(args.out, args.seeds, args.picture))
    return 0


if __name__ == "__main__":
    sys.exit(main())
