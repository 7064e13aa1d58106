"""How long the figures of `heedful agreement` take for a million judgments, on one core, and the memory they need.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/agreement_speed.py
    python benchmarks/agreement_speed.py --judgments 100000 --raters 200 --store

Figures: comparisons by three raters each, two items a prompt, five batches, people and AI judges, two groups, 1,000
resamples. With --store a SQLite database of as many judgments is built too (`studio_rows.build`: some 5 GB and two
minutes for a million) and read. Seconds are of the processor; memory is the highest that a whole process has had, each
part in one of its own, drawing the judgments (some 410 MiB of a million) included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np

from heedful.feedback.judgment_table import ItemInfo, JudgmentTable, RaterInfo
from heedful.feedback.reliability import reliability

EACH = 3
"""Judgments of an item."""


def drawn(count: int, raters: int, seed: int = 0) -> JudgmentTable:
    """Judgments of a crowd that differs in care; one in ten is a tie."""
    random = np.random.default_rng(seed)
    items = count // EACH
    item = np.repeat(np.arange(items), EACH)
    steps = random.integers(1, raters // EACH, (items, EACH)).cumsum(1)  # no rater twice
    rater = ((random.integers(0, raters, items)[:, None] + steps) % raters).ravel()
    eta = random.normal(1.8, 0.8, raters)[rater] * random.normal(size=items)[item]
    draw = random.random(len(item))
    side = np.where(draw < 0.9 / (1 + np.exp(-eta)), 1, np.where(draw < 0.9, -1, 0))
    strength = side * random.integers(1, 4, len(item))
    infos = tuple(
        ItemInfo(f"item-{i}", "pairwise", f"prompt {i // 2}", f"batch {i % 5}", (100 + i % 37, 90 + i % 41), ("x", "y"))
        for i in range(items)
    )
    known = {value: {"strength": value} for value in range(-3, 4)}
    return JudgmentTable(
        "drawn",
        tuple(RaterInfo(f"rater {i}", "ai" if i % 100 == 0 else "person") for i in range(raters)),
        infos,
        item,
        rater,
        [known[value] for value in strength.tolist()],
        np.zeros(len(item), dtype=bool),
        1.7e9 + 60 * 86400 * random.random(len(item)),
        random.lognormal(3, 0.5, len(item)),
        random.integers(0, 2, len(item)),
        groups={"age": {i: "old" if i % 3 else "young" for i in range(raters)}},
    )


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def figures(count: int, raters: int, folder: str) -> str:
    """Of drawn judgments."""
    table = drawn(count, raters)
    start = time.process_time()
    found = reliability(table, samples=1000)
    return f"| every figure | {time.process_time() - start:.1f} | {peak():.0f} | {len(found.cards)} cards |"


def build(count: int, raters: int, folder: str) -> str:
    """A store."""
    from django.core.management import call_command
    from studio_rows import build as written
    from studio_rows import hastened

    _configured(folder)
    call_command("migrate", verbosity=0)
    start = time.process_time()
    with hastened():
        written(count)
    return f"| (building the store) | {time.process_time() - start:.1f} | {peak():.0f} | |"


def read(count: int, raters: int, folder: str) -> str:
    """Of a store."""
    _configured(folder)
    from heedful.feedback.judgment_reading import read as table_of
    from heedful.feedback.models import Programme

    start = time.process_time()
    table = table_of(Programme.objects.get())
    seconds = time.process_time() - start
    return f"| reading the store | {seconds:.1f} | {peak():.0f} | {len(table.item):,} of {len(table.items):,} items |"


def _configured(folder: str) -> None:
    from heedful.feedback.setup import setup

    setup(f"sqlite:///{Path(folder) / 'bench.db'}")


def _alone(part: Callable[..., str], told: Queue[str], *given: Any) -> None:
    told.put(part(*given))


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, default=1_000_000)
    parser.add_argument("--raters", type=int, default=1_000)
    parser.add_argument("--store", action="store_true", help="build a database and read it, too")
    given = parser.parse_args()
    print("| what | seconds | peak MiB | |\n|---|---|---|---|")
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for part in (figures, *((build, read) if given.store else ())):
            told: Queue[str] = spawn.Queue()
            work = spawn.Process(target=_alone, args=(part, told, given.judgments, given.raters, folder))
            work.start()
            work.join()
            if work.exitcode:
                raise SystemExit(f"{part.__name__} failed")
            print(told.get(), flush=True)


if __name__ == "__main__":
    main()
