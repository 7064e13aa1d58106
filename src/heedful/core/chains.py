"""A win rate that nobody measured, out of those along a chain of policies. Works without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from heedful.core.statistics import Interval


def chained(rates: Sequence[Interval], *, level: float = 0.95) -> Interval:
    """The win rate of the last policy over the first, from that of each over the one before it.

    In the model of Bradley & Terry (1952) the odds of winning are a ratio of strengths, so that log-odds along a chain
    add up. Their variances do too where the rates were measured apart; each is the square of its interval's width over
    two quantiles, brought to log-odds by the delta method. An estimate that rests on the model: preferences that run in
    a circle, or depend on who is compared, break it.

    Args:
        rates: in order; one alone is handed back as it is.
        level: coverage of the rates' intervals and of the result's.

    Raises:
        ValueError: no rates, or one of 0 or 1, whose log-odds are not finite.
    """
    if not rates:
        raise ValueError("a chain needs one rate at least")
    if len(rates) == 1:
        return rates[0]
    if any(not 0 < rate.mean < 1 for rate in rates):
        raise ValueError("a rate of 0 or 1 has no finite log-odds")
    z = NormalDist().inv_cdf((1 + level) / 2)
    odds = sum(math.log(rate.mean / (1 - rate.mean)) for rate in rates)
    spread = math.sqrt(sum(((rate.high - rate.low) / (2 * z) / (rate.mean * (1 - rate.mean))) ** 2 for rate in rates))
    return Interval(*(1 / (1 + math.exp(-end)) for end in (odds, odds - z * spread, odds + z * spread)))
