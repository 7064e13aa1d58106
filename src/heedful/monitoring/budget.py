"""A budget of KL that a run's own fresh checks predict: where gold will be highest, while it still rises or just falls.

After each check the curve of Gao et al. 2022 for reinforcement learning is fitted to all of them: to the mean gain in
gold scores where the judge gives such, else to the win rate over the starting policy on a latent scale of gold
(`core.overoptimisation.latent_gain`), each weighted by its variance. Where the fit shows a peak, the budget is the
lower end of the peak's interval, less a margin (`core.overoptimisation.kl_budget`); else there is none, and the reason
is kept. Gold that only levels off bends as well, so that a peak counts only where no curve that levels off explains the
checks about as well (`EVIDENCE`). That costs time: one run's checks seldom tell the two apart before gold falls.

A budget is a forecast, so that it never stops a run: four fifths of it warn and all of it asks for a response. What
stops a run is gold that was seen to fall (`monitoring.checks.rule`). All checks are held against the same answers of
the starting policy on the same prompts, so that they err together a little, which no fit to one run can see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heedful.core.overoptimisation import (
    LEAST_POINTS,
    Budget,
    Curve,
    Form,
    beyond_saturation,
    fit_curve,
    kl_budget,
    latent_gain,
    places,
)
from heedful.monitoring.checks import Check, Contest
from heedful.monitoring.monitor import Alarm
from heedful.monitoring.signs import Tier

LEVEL, MARGIN = 0.8, 0.1
"""Of the peak's interval: one peak in ten lies below its lower end. And what is taken off that end."""

WARN_SHARE = 0.8
"""From this share of the budget on the KL warns."""

EVIDENCE = 6.0
"""Twice the log of how much likelier the checks must be under the curve that falls than under the best that only levels
off; 6 is odds of 20 to 1. It is looked at after each check."""

_LEVELS_OFF = (
    "a curve that levels off and never falls explains these checks about as well: they do not show that gold falls. "
    "If it does, it is highest at a KL of about {kl.mean:.3g} nats ({kl.low:.3g} to {kl.high:.3g})."
)

BUDGET = "budget"
"""The name under which it alarms."""


@dataclass(frozen=True)
class Forecast:
    """What the checks so far predict: a budget or the reason that there is none, the fit, and what it was fitted to.

    `kl`, `gain` and `variance` are the points; `curve` is None where there are too few of them.
    """

    budget: Budget
    curve: Curve | None
    kl: tuple[float, ...]
    gain: tuple[float, ...]
    variance: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON, for the run's folder."""
        return asdict(self)


def forecast(checks: Sequence[Check], *, form: Form = "rl", level: float = LEVEL, margin: float = MARGIN) -> Forecast:
    """Fit the curve to the checks of one run.

    Args:
        checks: all so far. Those at a KL of 0 or less (an estimate may be) are left out.
    """
    used = [check for check in checks if check.kl > 0]
    points = [gold_gain(check.against_start) for check in used]
    kl = tuple(check.kl for check in used)
    gain, variance = tuple(point[0] for point in points), tuple(point[1] for point in points)
    if len(used) < LEAST_POINTS or places(kl) < 3:
        few = f"{len(used)} fresh checks are too few to fit a curve; it takes {LEAST_POINTS}, at three KLs."
        return Forecast(Budget(None, few), None, kl, gain, variance)
    curve = fit_curve(kl, gain, form, variances=variance, level=level)
    if curve.peak is not None and beyond_saturation(kl, gain, form, variance) < EVIDENCE:
        return Forecast(Budget(None, _LEVELS_OFF.format(kl=curve.peak.kl)), curve, kl, gain, variance)
    return Forecast(kl_budget(curve, margin=margin), curve, kl, gain, variance)


def gold_gain(contest: Contest) -> tuple[float, float]:
    """What a check says of the gain in gold over the starting policy, and its variance.

    The mean gain in gold scores where the judge gives such, in its own points; else the win rate on the latent scale.
    """
    gold = contest.gold
    if gold is None:
        return latent_gain(contest.rate.mean, contest.pairs)
    deviation = (gold.high - gold.low) / (2 * 1.645)  # of a 90% interval
    return gold.mean, max(deviation**2, 1e-12)


class PredictedBudget:
    """Holds a run's KL against the budget that its checks predict, and alarms when it nears it.

    Attributes:
        found: what the checks so far predict.
        alarmed: the gravest tier that was told of under this budget; `now` that of the KL at the moment.
    """

    def __init__(self) -> None:
        self.found = forecast(())
        self.alarmed = self.now = Tier.NONE

    def learn(self, checks: Sequence[Check]) -> None:
        """Take in all checks so far; what the new budget does not bear out any more may be told of again."""
        self.found = forecast(checks)
        self.alarmed = min(self.alarmed, self._tier(checks[-1].kl) if checks else Tier.NONE)

    def see(self, step: int, kl: float | None) -> list[Alarm]:
        """The alarm that the KL of a step raises: one for each tier that was not told of."""
        budget = self.found.budget.kl
        self.now = Tier.NONE if kl is None else self._tier(kl)
        if kl is None or budget is None or self.now <= self.alarmed:
            return []
        self.alarmed = self.now
        limit, where = (budget, "is past") if self.now == Tier.ACT else (WARN_SHARE * budget, "nears")
        said = f"The KL is {kl:.3g} nats and {where} the {budget:.3g} that the fresh checks so far allow: "
        return [Alarm(step, BUDGET, self.now, kl, 0.0, kl, limit, said + self.found.budget.reason)]

    def _tier(self, kl: float) -> Tier:
        budget = self.found.budget.kl
        if budget is None or kl <= WARN_SHARE * budget:
            return Tier.NONE
        return Tier.ACT if kl > budget else Tier.WARN

    def to_json(self) -> dict[str, Any]:
        """What it remembers beside the checks, as JSON."""
        return {"alarmed": int(self.alarmed), "now": int(self.now)}

    def restore(self, checks: Sequence[Check], kept: dict[str, Any]) -> None:
        """Remember what `to_json` gave, with the checks that there were."""
        self.found = forecast(checks)
        self.alarmed, self.now = Tier(kept["alarmed"]), Tier(kept["now"])
