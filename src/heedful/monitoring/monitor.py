"""Reading the figures of a run step by step: smoothed, held against the run's own beginning, and alarmed about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heedful.monitoring.signs import SIGNS, SPREAD_METRIC, Limits, Sign, Tier, read


@dataclass(frozen=True)
class Alarm:
    """A sign that reached a tier which it had not reached before, or had left again."""

    step: int
    sign: str
    tier: Tier
    value: float
    baseline: float
    statistic: float
    threshold: float
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """As a row of alarms.jsonl; the tier by its name."""
        return {**asdict(self), "tier": self.tier.name.lower()}


class Monitor:
    """Watches some signs in a run's figures.

    A figure is averaged over the last `window` steps. Its baseline is the average over the first `baseline_steps`,
    in which the policy is hardly other than the one that it started from; before they are over, only signs alarm that
    need no baseline. After `window` quiet steps a sign may alarm again.

    Args:
        limits: the signs to watch, with their limits.
        window: steps that a figure is averaged over.
        baseline_steps: steps that make the baseline.

    Raises:
        ValueError: an unknown sign, or a window or baseline without steps.
    """

    def __init__(self, limits: Mapping[str, Limits], *, window: int = 5, baseline_steps: int = 5) -> None:
        unknown = [name for name in limits if name not in SIGNS]
        if unknown or window < 1 or baseline_steps < 1:
            raise ValueError(f"unknown signs {unknown}, or a window of {window} or baseline of {baseline_steps} steps")
        self.limits = dict(limits)
        self.window, self.baseline_steps = window, baseline_steps
        wanted = {SIGNS[name].metric for name in limits} | {SPREAD_METRIC, "kl", "reward"}
        self._recent: dict[str, list[float]] = {metric: [] for metric in sorted(wanted)}
        self._first: dict[str, list[float]] = {metric: [] for metric in sorted(wanted)}
        self._tier: dict[str, int] = dict.fromkeys(limits, 0)
        self._now: dict[str, int] = dict.fromkeys(limits, 0)
        self._quiet: dict[str, int] = dict.fromkeys(limits, 0)

    def see(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """Take in the figures of the next step; the alarms that it raises."""
        for metric, recent in self._recent.items():
            value = read(metrics, metric)
            if value is None:
                continue
            recent.append(value)
            del recent[: -self.window]
            if len(self._first[metric]) < self.baseline_steps:
                self._first[metric].append(value)
        return [alarm for name in self.limits if (alarm := self._alarm(step, name, metrics)) is not None]

    def mean(self, metric: str) -> float | None:
        """A figure over the last `window` steps; None where it was never seen."""
        recent = self._recent.get(metric)
        return math.fsum(recent) / len(recent) if recent else None

    def baseline(self, metric: str) -> float | None:
        """A figure over the first steps; None before they are over."""
        first = self._first.get(metric, [])
        return math.fsum(first) / len(first) if len(first) == self.baseline_steps else None

    def statistic(self, name: str) -> float | None:
        """What a sign holds against its limits now; None where it cannot say yet, or not at all."""
        sign = SIGNS[name]
        value, baseline = self.mean(sign.metric), self._held_against(sign)
        spread = self.baseline(SPREAD_METRIC)
        if value is None or baseline is None:
            return None
        found = sign.statistic(value, baseline, math.nan if spread is None else spread)
        return found if math.isfinite(found) else None

    def _held_against(self, sign: Sign) -> float | None:
        """A sign's baseline; of one that needs none, what there is of it."""
        first = self._first[sign.metric]
        return math.fsum(first) / len(first) if sign.stands_alone and first else self.baseline(sign.metric)

    @property
    def tiers(self) -> dict[str, Tier]:
        """The tier of each sign at the moment, whether or not it was told of before."""
        return {name: Tier(tier) for name, tier in self._now.items()}

    def _alarm(self, step: int, name: str, metrics: Mapping[str, float]) -> Alarm | None:
        sign, limits, statistic = SIGNS[name], self.limits[name], self.statistic(name)
        if statistic is None or step <= sign.after or sign.metric not in metrics:
            return None
        value, baseline = self.mean(sign.metric), self._held_against(sign)
        assert value is not None
        assert baseline is not None
        tier = limits.tier(statistic, sign.above) if sign.moved(value, baseline) else Tier.NONE
        self._now[name] = int(tier)
        if tier == Tier.NONE:
            self._quiet[name] += 1
            if self._quiet[name] >= self.window:
                self._tier[name] = Tier.NONE
            return None
        self._quiet[name] = 0
        if tier <= self._tier[name]:
            return None
        self._tier[name] = int(tier)
        threshold = limits.of(tier)
        assert threshold is not None
        said = sentence(sign, value, baseline, statistic, threshold)
        return Alarm(step, name, tier, value, baseline, statistic, threshold, said)

    def to_json(self) -> dict[str, Any]:
        """All that it remembers, as JSON; `restore` reads it back."""
        return {
            "recent": self._recent,
            "first": self._first,
            "tier": self._tier,
            "now": self._now,
            "quiet": self._quiet,
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Remember what `to_json` gave, of the figures and signs that are watched here."""
        for own, name in ((self._recent, "recent"), (self._first, "first")):
            own.update({metric: list(values) for metric, values in kept[name].items() if metric in own})
        for tiers, name in ((self._tier, "tier"), (self._now, "now"), (self._quiet, "quiet")):
            tiers.update({sign: int(value) for sign, value in kept.get(name, {}).items() if sign in tiers})


def sentence(sign: Sign, value: float, baseline: float, statistic: float, threshold: float) -> str:
    """An alarm in plain words: what was seen, the limit, and what to do."""
    seen = sign.means.format(value=f"{value:.3g}", baseline=f"{baseline:.3g}", statistic=f"{statistic:.3g}")
    held = "" if sign.compared in ("level", "off_one") or "{statistic}" in sign.means else f" ({statistic:+.3g})"
    return f"{seen[0].upper()}{seen[1:]}{held}; the limit is {threshold:.3g}. {sign.mend}"


def replay(rows: Sequence[Mapping[str, float]], monitor: Monitor) -> list[Alarm]:
    """The alarms that a monitor raises on the recorded figures of a run, rows in order with their `step`."""
    return [alarm for row in rows for alarm in monitor.see(int(row["step"]), row)]
