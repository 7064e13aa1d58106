"""When a batch will be done, going by how much was judged lately. Needs no Django."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, variance

WINDOW = 14
"""Days looked back at: two weekends."""
LEVEL = 0.8
FEW = 3
"""Whole days below which nothing is known of how days differ."""
NEVER = 3650
"""Days beyond which a date says nothing."""


@dataclass(frozen=True)
class Forecast:
    """The day on which the last wanted judgment comes, if raters go on as they did."""

    per_day: float
    finish: datetime | None
    """At that rate; None: more than ten years away."""
    early: datetime | None
    late: datetime | None
    """With `early` the bounds that hold four times in five; None: it cannot be told."""


def forecast(remaining: int, counts: Sequence[int], age: timedelta, now: datetime) -> Forecast | None:
    """When the remaining judgments will be there.

    Days are taken as independent draws: the interval holds what a day's count varies, over the days to come and in the
    mean of the days seen (Student's t). With fewer than three whole days the early bound is twice the pace so far, and
    there is no late one.

    Args:
        remaining: judgments still wanted.
        counts: judgments in each whole day (24 hours) before now, the newest first, at most `WINDOW`; for a batch
            younger than a day one count.
        age: since the batch's first judgment.
        now: the time.

    Returns:
        None where nothing remains, or nothing was judged in those days.
    """
    if remaining <= 0 or not sum(counts):
        return None
    mean = fmean(counts)
    days = remaining / mean
    if len(counts) < FEW or age < timedelta(days=FEW):
        pace = max(2 * mean, sum(counts) / max(age / timedelta(days=1), 1 / 24) if age < timedelta(days=1) else 0)
        return Forecast(mean, _after(now, days), _after(now, remaining / pace), None)
    from scipy.special import stdtrit

    spread = math.sqrt(max(variance(counts), mean))  # at least what chance alone gives
    half = float(stdtrit(len(counts) - 1, (1 + LEVEL) / 2)) * spread * math.sqrt(1 / len(counts) + 1 / max(days, 1))
    slow = mean - half
    late = _after(now, remaining / slow) if slow > 0 else None
    return Forecast(mean, _after(now, days), _after(now, remaining / (mean + half)), late)


def _after(now: datetime, days: float) -> datetime | None:
    return now + timedelta(days=days) if days <= NEVER else None
