"""Limits that fit runs known to be good: so wide that a good run seldom alarms, with the rate stated.

All signs are calibrated together. Each run's most alarming statistic of a sign is put in units of how much that varies
between the other runs; a run's score is the largest over its signs. The limit stands at a conformal quantile of the
scores (Vovk et al. 2005): with n good runs, the k-th smallest, k = ceil((n + 1)(1 - rate)), is passed by a further
good run with probability at most `rate`. Fewer runs than a rate needs give no limit, and that is said.

The promise is for runs of one kind: same model, data, settings and length, other seeds. Units that are measured on the
same runs bend it a little when they are few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heedful.errors import HeedfulError, nearest
from heedful.files import atomic_write
from heedful.monitoring.monitor import Monitor
from heedful.monitoring.signs import SIGNS, TIERS, Limits

RATES = {"warn": 0.2, "act": 0.05, "stop": 0.01}
"""What share of good runs may reach a tier, over the whole run and all signs."""

LEAST_RUNS = 4


@dataclass(frozen=True)
class Thresholds:
    """Limits of signs, how figures are read where that is said, and what they were fitted to.

    `kl_budget` and `step_cap`, where known, are of the same kind of run (`core.overoptimisation.kl_budget`).
    """

    limits: dict[str, Limits]
    window: int | None = None
    baseline_steps: int | None = None
    runs: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    """The stated false-alarm rate of each tier that has limits."""
    notes: tuple[str, ...] = ()
    kl_budget: float | None = None
    step_cap: int | None = None

    def write(self, path: Path) -> None:
        """Write them as YAML, whole or not at all; `read_thresholds` reads them back."""
        text: dict[str, Any] = {"runs": self.runs, "false_alarm_rates": self.rates, "notes": list(self.notes)}
        optional = ("window", "baseline_steps", "kl_budget", "step_cap")
        text |= {name: value for name in optional if (value := getattr(self, name)) is not None}
        text["signs"] = {
            name: {tier: getattr(limits, tier) for tier in TIERS if getattr(limits, tier) is not None}
            for name, limits in self.limits.items()
        }
        with atomic_write(Path(path)) as file:
            yaml.safe_dump(text, file, sort_keys=False, allow_unicode=True)


def extremes(rows: Sequence[Mapping[str, float]], window: int, baseline_steps: int) -> dict[str, float]:
    """The most alarming statistic of each sign over a run; signs whose figure the run lacks are left out."""
    monitor = Monitor({name: Limits() for name in SIGNS}, window=window, baseline_steps=baseline_steps)
    found: dict[str, float] = {}
    for row in rows:
        step = int(row["step"])
        monitor.see(step, row)
        for name, sign in SIGNS.items():
            statistic = monitor.statistic(name)
            if statistic is not None and step > sign.after and sign.metric in row:
                known = found.get(name, statistic)
                found[name] = max(known, statistic) if sign.above else min(known, statistic)
    return found


def calibrate(
    runs: Sequence[Sequence[Mapping[str, float]]],
    *,
    signs: Sequence[str] = (),
    rates: Mapping[str, float] = RATES,
    window: int = 5,
    baseline_steps: int = 5,
) -> Thresholds:
    """Fit limits to the figures of runs known to be good.

    Args:
        runs: rows of each run's metrics.jsonl, in order.
        signs: which ones; none takes all that every run has figures for.
        rates: the share of good runs that may reach each tier, over the whole run and all signs together.

    Raises:
        HeedfulError: fewer than `LEAST_RUNS` runs, an unknown sign, or one that a run has no figures for.
    """
    if len(runs) < LEAST_RUNS:
        raise HeedfulError(
            f"{len(runs)} runs do not show how good runs differ.", mend=f"Give {LEAST_RUNS} or more; 20 are better."
        )
    found = [extremes(rows, window, baseline_steps) for rows in runs]
    names = list(signs) or [name for name in SIGNS if all(name in one for one in found)]
    for name in names:
        if name not in SIGNS:
            raise HeedfulError(
                f"{name!r} is no sign.", mend=nearest(name, list(SIGNS)) or f"Known: {', '.join(SIGNS)}."
            )
        if any(name not in one for one in found):
            raise HeedfulError(f"not every run has figures for the sign {name!r}.", mend="Leave it out of the signs.")
    signed = {name: 1.0 if SIGNS[name].above else -1.0 for name in names}
    table = np.array([[signed[name] * one[name] for name in names] for one in found])
    centre, unit = _units(table)
    scores = np.sort([_score(table, i) for i in range(len(table))])
    given, notes = {}, []
    for tier, rate in rates.items():
        place = math.ceil((len(scores) + 1) * (1 - rate))
        if place > len(scores):
            needed = math.ceil(1 / rate) - 1
            notes.append(f"{tier}: {len(scores)} runs cannot show a rate of {rate:g}; it needs {needed}. No limits.")
        else:
            given[tier] = centre + scores[place - 1] * unit
    limits = {
        name: Limits(**{tier: float(signed[name] * limit[i]) for tier, limit in given.items()})
        for i, name in enumerate(names)
    }
    stated = {tier: rate for tier, rate in rates.items() if tier in given}
    return Thresholds(limits, window, baseline_steps, len(runs), stated, tuple(notes))


def _units(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and spread of each column; a figure that never varies counts in units of a hundredth of its size."""
    centre = np.median(table, axis=0)
    spread = table.std(axis=0, ddof=1)
    return centre, np.maximum(spread, np.maximum(0.01 * np.abs(centre), 1e-6))


def _score(table: np.ndarray, row: int) -> float:
    """How far one run stands out in its most alarming sign, in units of the others."""
    centre, unit = _units(np.delete(table, row, axis=0))
    return float(((table[row] - centre) / unit).max())


def read_thresholds(path: Path) -> Thresholds:
    """Limits as `Thresholds.write` left them, or as a person wrote them: only `signs` is needed.

    Raises:
        HeedfulError: no such file, no YAML, or something in it that means nothing.
    """
    where = str(path)
    try:
        text = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise HeedfulError("cannot read the thresholds.", where=where, mend="Check watch.thresholds.") from error
    except yaml.YAMLError as error:
        raise HeedfulError(f"not YAML: {error}.", where=where, mend="Mend the file.") from error
    known = ("signs", "runs", "window", "baseline_steps", "false_alarm_rates", "notes", "kl_budget", "step_cap")
    if not isinstance(text, dict) or not isinstance(text.get("signs"), dict):
        raise HeedfulError("no block 'signs'.", where=where, mend="Write signs: {length: {warn: 1.5}}.")
    for key in text:
        if key not in known:
            raise HeedfulError(f"unknown key {key!r}.", where=where, mend=nearest(str(key), list(known)))
    limits = {str(name): _limits(str(name), given, where) for name, given in text["signs"].items()}
    numbers = {key: text[key] for key in ("runs", "window", "baseline_steps", "kl_budget", "step_cap") if key in text}
    if any(not isinstance(n, int | float) or n <= 0 for key, n in numbers.items() if key != "runs"):
        raise HeedfulError(f"a number above 0 is needed: {numbers}.", where=where, mend="Mend the file.")
    return Thresholds(
        limits, rates=dict(text.get("false_alarm_rates", {})), notes=tuple(text.get("notes", ())), **numbers
    )


def _limits(name: str, given: Any, where: str) -> Limits:
    if name not in SIGNS:
        raise HeedfulError(f"{name!r} is no sign.", where=where, mend=nearest(name, list(SIGNS)))
    if not isinstance(given, dict) or any(
        tier not in TIERS or isinstance(limit, bool) or not isinstance(limit, int | float)
        for tier, limit in given.items()
    ):
        raise HeedfulError(
            f"the limits of {name!r} are not numbers for warn, act and stop.", where=where, mend="Mend the file."
        )
    limits = Limits(**{tier: float(limit) for tier, limit in given.items()})
    ordered = [limit for tier in TIERS if (limit := getattr(limits, tier)) is not None]
    if ordered != sorted(ordered, reverse=not SIGNS[name].above):
        order = "grow" if SIGNS[name].above else "shrink"
        raise HeedfulError(f"the limits of {name!r} must {order} from warn to stop.", where=where, mend="Mend them.")
    return limits
