"""Lines of a plot out of a run's log. Works without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from heedful.pipeline.report_data import Series
from heedful.training.folders import METRICS, whole_lines


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The log of a run; empty where it wrote none."""
    return [row for _, row in whole_lines(folder / METRICS)]


def series(rows: Sequence[Mapping[str, float]], x: str, y: str, smooth: int = 1) -> Series:
    """One figure against another, where both were logged; `smooth` takes the mean of so many rows."""
    points = [(row[x], row[y]) for row in rows if x in row and y in row]
    groups = [points[i : i + smooth] for i in range(0, len(points), smooth)]
    return Series(
        tuple(float(np.mean([p[0] for p in group])) for group in groups),
        tuple(float(np.mean([p[1] for p in group])) for group in groups),
    )
