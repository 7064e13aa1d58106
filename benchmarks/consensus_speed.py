"""How long each consensus takes for a million judgments by a thousand raters, on one core, and the memory it needs.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/consensus_speed.py
    python benchmarks/consensus_speed.py --judgments 100000 --raters 200 --methods rater-aware

Three judgments a pair, with ties, positions and lengths. Seconds are of the processor. Memory is the highest that the
whole process has had, each method in a process of its own; drawing the judgments takes some 230 MiB of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from multiprocessing.queues import Queue

import numpy as np

from heedful.core.consensus import METHODS, consensus
from heedful.core.crowd import Judgments, judgments
from heedful.core.rater_aware import rater_aware

ERRORS = "rater-aware, with errors"


def drawn(count: int, raters: int) -> tuple[Judgments, np.ndarray, np.ndarray]:
    """(judgments, raters' slopes, pairs' score differences)."""
    random = np.random.default_rng(0)
    pairs = count // 3
    score, slope = random.normal(size=pairs), random.normal(1.8, 0.8, raters)
    item = np.repeat(np.arange(pairs), 3)
    rater = random.integers(0, raters, len(item))
    order = random.choice([-1.0, 1.0], len(item))
    length = np.tanh(random.normal(size=pairs))
    eta = slope[rater] * score[item] + 0.3 * order
    weights = np.exp(np.stack([eta / 2, np.full_like(eta, -0.7), -eta / 2]))
    reached = np.cumsum(weights / weights.sum(0), axis=0)
    vote = np.array([1.0, 0.0, -1.0])[(random.random(len(item)) > reached).sum(0).clip(0, 2)]
    return judgments(item, rater, vote, order=order, length=length[item]), slope, score


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(method: str, count: int, raters: int, told: Queue[str]) -> None:
    """One row."""
    data, slope, score = drawn(count, raters)
    start = time.process_time()
    note = ""
    if method == ERRORS:
        fitted = rater_aware(data)
        found = fitted.consensus
        correlation = np.corrcoef(fitted.slope.value, slope)[0, 1]
        note = f"{fitted.rounds} evaluations, slopes' correlation with the truth {correlation:.3f}, {fitted.errors_by}"
    else:
        found = consensus(data, method)
    seconds = time.process_time() - start
    guess = found.probability if found.posterior is None else found.posterior
    right = float(np.mean((np.sign(guess - 0.5) * np.sign(score) + 1) / 2))
    told.put(f"| {method} | {seconds:.1f} | {peak():.0f} | {100 * right:.2f} | {note or found.converged} |")


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, default=1_000_000)
    parser.add_argument("--raters", type=int, default=1_000)
    parser.add_argument("--methods", nargs="*", default=[*METHODS, ERRORS], choices=[*METHODS, ERRORS])
    given = parser.parse_args()
    print("| method | seconds | peak MiB | pairs right, % | converged, or more |\n|---|---|---|---|---|")
    for method in given.methods:
        told: Queue[str] = multiprocessing.Queue()
        work = multiprocessing.Process(target=measure, args=(method, given.judgments, given.raters, told))
        work.start()
        work.join()
        if work.exitcode:
            raise SystemExit(f"{method} failed")
        print(told.get(), flush=True)


if __name__ == "__main__":
    main()
