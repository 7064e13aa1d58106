"""The reference of metrics: a table for whoever logs them, from the registry in `heedful.training.metrics`."""

from __future__ import annotations

from command_pages import MADE
from heedful.training.metrics import METRICS

INTRODUCTION = """`metrics.jsonl` in a run's folder has one line a step; TensorBoard shows the same figures, and the
studio's page of a run draws the most telling. [Reading a run](../explain/reading-a-run.md) says where to look
first; [the watch](../watch.md#early-signs) looks at many of them by itself."""


def page() -> str:
    """The page as text."""
    parts = [MADE, "# Metrics", INTRODUCTION]
    for by in dict.fromkeys(metric.by for metric in METRICS):
        rows = [f"| `{m.name}` | {m.means} | {m.moves} |" for m in METRICS if m.by == by]
        parts += [
            f"## {by}",
            "\n".join(["| figure | what it is | what it should do, and what to do |", "|---|---|---|", *rows]),
        ]
    return "\n\n".join(parts) + "\n"
