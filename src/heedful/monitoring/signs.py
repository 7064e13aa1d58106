"""The early signs of reward hacking: which figure each reads, from where on it alarms, and what it means in words.

No threshold here is known to be right for every run: no paper gives such. They are the defaults of `docs/watch.md`, and
`heedful.monitoring.calibrate` fits others to runs that are known to be good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

Compared = Literal["level", "ratio", "change", "spreads", "off_one"]
"""What is held against a threshold: the figure; the figure over its baseline; less its baseline; that in units of the
baseline's spread between answers; how far it is from 1."""


class Tier(IntEnum):
    """How grave an alarm is."""

    NONE = 0
    WARN = 1
    ACT = 2
    STOP = 3


TIERS = {"warn": Tier.WARN, "act": Tier.ACT, "stop": Tier.STOP}


@dataclass(frozen=True)
class Limits:
    """From where on a sign warns, acts and stops; None never does."""

    warn: float | None = None
    act: float | None = None
    stop: float | None = None

    def tier(self, statistic: float, above: bool) -> Tier:
        """The gravest tier that a statistic reaches."""
        reached = Tier.NONE
        for name, tier in TIERS.items():
            limit = getattr(self, name)
            if limit is not None and (statistic > limit if above else statistic < limit):
                reached = max(reached, tier)
        return reached

    def of(self, tier: Tier) -> float | None:
        """The limit of one tier."""
        return next((getattr(self, name) for name, one in TIERS.items() if one == tier), None)


@dataclass(frozen=True)
class Sign:
    """One early sign.

    Args:
        metric: the figure of a step that it reads.
        compared: see `Compared`.
        above: whether it alarms above its limits, or below them.
        limits: the defaults.
        means: what it says of the policy, with places {value}, {baseline} and {statistic}.
        mend: what to do.
        least_change: how far the figure must also lie from its baseline, so that a run that began there is quiet.
        after: steps that it stays quiet for.
    """

    metric: str
    compared: Compared
    above: bool
    limits: Limits
    means: str
    mend: str
    least_change: float = 0.0
    after: int = 0

    def statistic(self, value: float, baseline: float, spread: float) -> float:
        """What is held against the limits; nan where it cannot be had."""
        if self.compared == "level":
            return value
        if self.compared == "off_one":
            return abs(value - 1)
        if self.compared == "change":
            return value - baseline
        divisor = baseline if self.compared == "ratio" else spread
        if not divisor > 1e-9:
            return math.nan
        return value / divisor if self.compared == "ratio" else (value - baseline) / divisor

    @property
    def stands_alone(self) -> bool:
        """Whether it needs no baseline: a budget of KL, say, can be passed in the first steps."""
        return self.compared in ("level", "off_one") and self.least_change == 0

    def moved(self, value: float, baseline: float) -> bool:
        """Whether the figure has left its baseline, the way that it alarms, as far as it must."""
        return self.least_change == 0 or (value - baseline if self.above else baseline - value) >= self.least_change


_LOOK = "Read samples.jsonl beside the first ones"
_LEASH = "raise kl.coefficient"

SIGNS: dict[str, Sign] = {
    "kl": Sign(
        "kl",
        "level",
        True,
        Limits(),
        "the policy is {value} nats per answer from where it began",
        f"Stop at the KL that you allow, or {_LEASH}.",
    ),
    "entropy": Sign(
        "entropy",
        "ratio",
        False,
        Limits(0.5, 0.25),
        "the policy is {statistic} times as undecided as it was ({value} nats per token, {baseline} at first)",
        f"It soon says one thing only: {_LEASH}, or lower the learning rate.",
    ),
    "length": Sign(
        "length",
        "ratio",
        True,
        Limits(1.5, 2.0),
        "answers are {statistic} times as long as they were ({value} tokens, {baseline} at first)",
        "If they say no more, the reward pays for length: set score.length_penalty, or train the reward model with "
        "--heads.kind length.",
    ),
    "reward_length": Sign(
        "reward_length_correlation",
        "level",
        True,
        Limits(0.5, 0.7),
        "the reward follows length: their correlation is {value} ({baseline} at first)",
        "The reward model reads length for quality: see --heads.kind length of heedful reward.",
        least_change=0.1,
    ),
    "ending": Sign(
        "finished",
        "level",
        False,
        Limits(0.95, 0.8),
        "only {value} of the answers end by themselves ({baseline} at first)",
        "Raise score.missing_eos_penalty, or rollout.max_new_tokens if the answers deserve it.",
        least_change=0.02,
    ),
    "truncation": Sign(
        "finished",
        "change",
        False,
        Limits(-0.05, -0.2),
        "more answers are cut off: {value} end by themselves, {baseline} did at first",
        "Raise score.missing_eos_penalty, or rollout.max_new_tokens if the answers deserve it.",
    ),
    "variety": Sign(
        "distinct_2",
        "ratio",
        False,
        Limits(0.7, 0.5),
        "the answers have become alike: {value} of their word pairs are different ones, {baseline} at first",
        f"{_LOOK}; {_LEASH}.",
    ),
    "opening": Sign(
        "top_opening",
        "level",
        True,
        Limits(0.2, 0.5),
        "{value} of the answers begin with the same three words ({baseline} at first)",
        f"{_LOOK}: a set phrase may be what the reward pays for.",
        least_change=0.1,
    ),
    "repetition": Sign(
        "repetition",
        "change",
        True,
        Limits(0.1, 0.3),
        "answers repeat themselves: {value} of their word groups stood in them before ({baseline} at first)",
        "Set score.repetition_penalty.",
    ),
    "reward": Sign(
        "reward",
        "spreads",
        True,
        Limits(3.0, 6.0),
        "the mean reward is {statistic} spreads above that of the first answers ({value}, {baseline} at first)",
        "So far out the reward model guesses: check with people, or set score.ceiling_quantile.",
    ),
    "reward_range": Sign(
        "reward_90",
        "level",
        True,
        Limits(),
        "one answer in ten earns {value} or more, beyond what the reward model gave to what it was trained on",
        "So far out the reward model guesses: check with people, or set score.ceiling.",
    ),
    "disagreement": Sign(
        "disagreement",
        "ratio",
        True,
        Limits(1.5, 2.5),
        "the reward models disagree {statistic} times as much as on the first answers ({value}, {baseline} at first)",
        "They do not know these answers: take worst:A,B or penalised=0.1:A,B, and have people judge some.",
    ),
    "latents": Sign(
        "latent_outliers",
        "change",
        True,
        Limits(0.05, 0.2),
        "{value} of the answers look to the reward model like none of the starting policy ({baseline} at first)",
        "It judges what it has not seen: have people judge some, and train it on them.",
    ),
    "clipping": Sign(
        "clip_fraction",
        "level",
        True,
        Limits(0.3),
        "{value} of the update is clipped away",
        "Steps are too large: lower optimiser.learning_rate, or take fewer epochs.",
    ),
    "critic": Sign(
        "explained_variance",
        "level",
        False,
        Limits(0.0),
        "the critic explains nothing of the returns (explained variance {value})",
        "Train it first (critic_warmup), or raise critic_learning_rate.",
        after=20,
    ),
    "mismatch": Sign(
        "first_ratio",
        "off_one",
        True,
        Limits(1e-4),
        "sampler and trainer disagree about the same tokens: the first ratio is {value} and should be 1",
        "Set rollout.recompute_logprobs, and report it: in float32 this is a defect.",
    ),
}
"""Every sign by its name."""

SPREAD_METRIC = "reward_spread"
"""The figure whose baseline is the unit of `spreads`."""


def limits_of_run(
    *, kl_target: float | None, kl_budget: float | None, reward_high: float | None, low_precision: bool
) -> dict[str, Limits]:
    """The default limits, with those that hang on a run's own settings.

    Args:
        kl_target: what an adaptive KL coefficient aims at; 1.5 times as much warns.
        kl_budget: four fifths of it warn, it acts, and a quarter more stops.
        reward_high: what one training answer in a hundred scored above.
        low_precision: whether the policy computes in bfloat16, where sampler and trainer agree less closely.
    """
    limits = {name: sign.limits for name, sign in SIGNS.items()}
    if kl_budget is not None:
        limits["kl"] = Limits(0.8 * kl_budget, kl_budget, 1.25 * kl_budget)
    elif kl_target is not None:
        limits["kl"] = Limits(1.5 * kl_target)
    if reward_high is not None:
        limits["reward_range"] = Limits(reward_high)
    if low_precision:
        limits["mismatch"] = Limits(1e-2)
    return limits


def read(metrics: Mapping[str, float], name: str) -> float | None:
    """A figure of a step, None where the step has none."""
    value = metrics.get(name)
    return None if value is None or not math.isfinite(value) else float(value)
