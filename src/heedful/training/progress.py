"""Progress that a person can watch: a bar with figures and the time left, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Task(Protocol):
    """One piece of long work."""

    def update(self, done: int, metrics: Mapping[str, float]) -> None:
        """Tell how much is done, and the figures worth showing."""
        ...


class Display:
    """Shows tasks on a console: bars on a terminal, a line every few seconds elsewhere.

    Args:
        console: where to draw; standard error by default, so that standard output stays machine-readable.
        interval: seconds between lines where there is no terminal.
    """

    def __init__(self, console: Console | None = None, interval: float = 15.0) -> None:
        self.console = console or Console(stderr=True)
        self.interval = interval

    def say(self, text: str) -> None:
        """Print one line above any bar."""
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int, done: int = 0) -> Iterator[Task]:
        """A bar for one task, for as long as the block runs; it starts at `done` of `total`."""
        if self.console.is_terminal:
            columns = (
                TextColumn("[bold]{task.description:<22}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[figures]}"),
            )
            with Progress(*columns, console=self.console) as progress:
                bar = _Bar(progress, title, total, done)
                yield bar
        else:
            yield _Lines(self, title, total, done)


class _Bar:
    def __init__(self, progress: Progress, title: str, total: int, done: int) -> None:
        self.progress = progress
        self.id = progress.add_task(title, total=total, completed=done, figures="")

    def update(self, done: int, metrics: Mapping[str, float]) -> None:
        self.progress.update(self.id, completed=done, figures=_figures(metrics))


class _Lines:
    def __init__(self, display: Display, title: str, total: int, done: int) -> None:
        self.display, self.title, self.total = display, title, total
        self.started, self.first = time.monotonic(), done
        self.last = self.started

    def update(self, done: int, metrics: Mapping[str, float]) -> None:
        now = time.monotonic()
        if done < self.total and now - self.last < self.display.interval:
            return
        self.last = now
        spent = now - self.started
        left = spent / max(1, done - self.first) * (self.total - done)
        self.display.say(f"{self.title}: {done}/{self.total}, {spent:.0f} s, {left:.0f} s left  {_figures(metrics)}")


def _figures(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
