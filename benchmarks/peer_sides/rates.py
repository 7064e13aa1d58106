"""What the machine can do: matrix products and memory traffic, on the shapes of a work. Prints one JSON object."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from work import SHAPES, read_work, say


def best(run: Callable[[], object], seconds: float = 0.4) -> float:
    """The shortest of the runs that fit into that time, in seconds."""
    shortest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def main() -> None:
    """Measure on one work's device and threads."""
    work = read_work()
    shape, dtype = SHAPES[work.size], getattr(torch, work.precision)
    rows, width, inner = work.budget, shape["hidden_size"], shape["intermediate_size"]
    states, weight = torch.randn(rows, width).to(dtype), torch.randn(inner, width).to(dtype)
    few = states[: work.rows]
    train = 2 * rows * width * inner / best(lambda: torch.nn.functional.linear(states, weight))
    decode = 2 * work.rows * width * inner / best(lambda: torch.nn.functional.linear(few, weight))
    table = torch.zeros(2**25)
    traffic = 2 * 4 * 2**25 / best(lambda: table.add_(1.0))
    say(train=train, decode=decode, traffic=traffic)


main()
