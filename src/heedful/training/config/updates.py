"""Settings of what a rollout batch does to the policy: the leash to the reference, and each method's update."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from heedful.training.config.checks import at_least, require, share

_BIASED = (
    "{estimator} in the reward is biased: its value counts, but what it descends is the gradient of no KL. "
    "k1 in the reward descends KL(policy || reference)"
)
_FORWARD = (
    "k3 as a loss, as GRPO was published, descends KL(reference || policy), the forward direction{steps}: its optimum "
    "is not reference * exp(reward / beta). k1 in the reward descends KL(policy || reference)"
)
_STEPWISE = (
    "k2 as a loss, token by token, descends each step's KL(policy || reference) and forgets what a token does to the "
    "later ones. --kl.level sequence is exact"
)


@dataclass(frozen=True)
class BaseKLConfig:
    """The leash to the reference: how the KL is estimated, and where its price is paid (docs/formulas.md)."""

    estimator: Literal["k1", "k2", "k3"] = "k1"
    """k1: log-ratio; k2: half its square; k3: ref/π - 1 + log-ratio (Schulman 2020)."""
    place: Literal["reward", "loss"] = "reward"
    """reward: subtracted from the reward; loss: added to the loss. k1 belongs in the reward, k2 in the loss."""
    level: Literal["token", "sequence"] = "token"
    """token: of each token's own log-ratio; sequence: of the whole completion's."""
    adaptive: bool = False
    """Steer β towards `target` (Ziegler et al. 2019)."""
    target: float = 6.0
    """Nats per sequence that the adaptive controller aims at (Ziegler et al. 2019)."""
    horizon: int = 10_000
    """Episodes over which the adaptive controller corrects (Ziegler et al. 2019)."""

    def __post_init__(self) -> None:
        require(self.target > 0 and self.horizon > 0, "target and horizon must be above 0.", "kl")
        require(
            not (self.estimator == "k1" and self.place == "loss"),
            "k1 as a loss holds nothing: on the policy's own samples its gradient is zero on average. Set kl.place to "
            "reward, or kl.estimator to k2 (which descends the same KL) or k3.",
            "kl.estimator",
        )

    def warning(self) -> str:
        """What the chosen combination descends, where that is not KL(policy || reference); else nothing."""
        if self.estimator == "k1":
            return ""
        if self.place == "reward":
            return _BIASED.format(estimator=self.estimator)
        if self.estimator == "k3":
            return _FORWARD.format(steps=", step by step" if self.level == "token" else "")
        return _STEPWISE if self.level == "token" else ""


@dataclass(frozen=True)
class KLConfig(BaseKLConfig):
    """The leash to the reference (docs/formulas.md)."""

    coefficient: float = 0.05
    """β, the price of one nat [T, N]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, "kl.", coefficient=self.coefficient)


@dataclass(frozen=True)
class FormKLConfig(BaseKLConfig):
    """The leash to the reference (docs/formulas.md)."""

    coefficient: float | None = None
    """β, the price of one nat; None takes the form's: 0.04 for grpo (Shao et al. 2024), 0 for the others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, "kl.", coefficient=self.coefficient or 0.0)


@dataclass(frozen=True)
class PassesConfig:
    """How often a rollout batch is learnt from."""

    epochs: int = 1
    """Passes over each rollout batch."""
    minibatches: int = 1
    """Optimiser steps per pass [T]."""

    def __post_init__(self) -> None:
        at_least(1, "update.", epochs=self.epochs, minibatches=self.minibatches)


@dataclass(frozen=True)
class UpdateConfig(PassesConfig):
    """What the update of every method has whose reward pays for the KL."""

    epochs: int = 1
    """Passes over each rollout batch. With one pass of one minibatch the ratio is 1 and nothing is clipped [T, O]."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    update_kl_limit: float = 0.0
    """Stop a batch's epochs once the new policy is this many nats per token from the old; 0 never stops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, "update.", update_kl_limit=self.update_kl_limit)


def _clip_in_range(**clips: float) -> None:
    for name, clip in clips.items():
        require(0 < clip < 1, f"{name} is {clip}; it must lie between 0 and 1.", f"update.{name}")


@dataclass(frozen=True)
class PPOUpdateConfig(UpdateConfig):
    """The clipped update."""

    epochs: int = 4
    """Passes over each rollout batch [T, N]."""
    clip: float = 0.2
    """Clip range of the probability ratio (Schulman et al. 2017)."""
    value_clip: float = 0.2
    """Clip range of the value; 0 clips nothing [T, N]."""
    value_coefficient: float = 0.1
    """Weight of the value loss where policy and critic share a trunk [T, N]."""
    gamma: float = 1.0
    """Discount [T, O, V]."""
    lam: float = 0.95
    """GAE's λ [T, N]."""
    whiten_rewards: bool = False
    """Give the rewards per token, KL price included, spread 1 over the rollout batch; their mean stays [T, N]."""
    whiten_advantages: bool = True
    """Give the advantages mean 0 and spread 1 over the whole rollout batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = "update."
        at_least(0, where, value_clip=self.value_clip, value_coefficient=self.value_coefficient)
        share(where, gamma=self.gamma, lam=self.lam)
        _clip_in_range(clip=self.clip)


@dataclass(frozen=True)
class RLOOUpdateConfig(UpdateConfig):
    """The update of RLOO."""

    ratio: Literal["sequence", "token"] = "sequence"
    """sequence: one ratio for a completion, the product of its tokens' (Ahmadian et al. 2024, where a completion is
    one action) [T]; token: each token's own."""
    clip: float = 0.2
    """Clip range of the probability ratio [T]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _clip_in_range(clip=self.clip)


@dataclass(frozen=True)
class ReinforceUpdateConfig(UpdateConfig):
    """The update of REINFORCE++."""

    gamma: float = 1.0
    """Discount [O, V]."""
    clip: float = 0.2
    """Clip range of the probability ratio [O, V]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        share("update.", gamma=self.gamma)
        _clip_in_range(clip=self.clip)


@dataclass(frozen=True)
class GRPOForm:
    """The choices in which the published forms of GRPO differ."""

    scale: bool
    """Divide a group's advantages by its standard deviation."""
    aggregation: Literal["sequence", "token", "constant"]
    """What the loss is a mean over: tokens of a completion, all tokens, or a constant (`core.policy_gradient`)."""
    ratio: Literal["token", "sequence_mean"]
    """Whose probability ratio is clipped: a token's, or a completion's (geometric mean over its tokens)."""
    clip_low: float
    """How far the ratio may fall below 1."""
    clip_high: float
    """How far it may rise above 1."""
    resample_rounds: int
    """How often prompts whose completions all score alike are replaced by others; 0 keeps them."""
    overlong_share: float
    """The last share of `max_new_tokens` over which length costs up to 1 point; 0 costs nothing."""
    kl_coefficient: float
    """β."""


FORMS: dict[str, GRPOForm] = {
    # Shao et al. 2024 (DeepSeekMath), equation 3
    "grpo": GRPOForm(True, "sequence", "token", 0.2, 0.2, 0, 0.0, 0.04),
    # Liu et al. 2025, "Understanding R1-Zero-like training"
    "dr_grpo": GRPOForm(False, "constant", "token", 0.2, 0.2, 0, 0.0, 0.0),
    # Yu et al. 2025: clip higher, dynamic sampling, token mean, soft overlong punishment
    "dapo": GRPOForm(True, "token", "token", 0.2, 0.28, 4, 0.2, 0.0),
    # Zheng et al. 2025, "Group sequence policy optimization"
    "gspo": GRPOForm(True, "sequence", "sequence_mean", 3e-4, 4e-4, 0, 0.0, 0.0),
}


@dataclass(frozen=True)
class GRPOUpdateConfig(UpdateConfig):
    """The update of GRPO. What is left at None is as the form has it."""

    form: Literal["grpo", "dr_grpo", "dapo", "gspo"] = "grpo"
    """A published set of the choices below, and of β."""
    scale: bool | None = None
    """Divide a group's advantages by its standard deviation: grpo, dapo, gspo."""
    aggregation: Literal["sequence", "token", "constant"] | None = None
    """The loss is a mean over each completion's tokens (grpo, gspo), over all tokens alike (dapo), or over
    `max_new_tokens` (dr_grpo)."""
    ratio: Literal["token", "sequence_mean"] | None = None
    """Whose ratio is clipped: a token's, or the geometric mean over a completion's tokens (gspo)."""
    clip_low: float | None = None
    """How far the ratio may fall below 1: 0.2; gspo 0.0003."""
    clip_high: float | None = None
    """How far it may rise above 1: 0.2; dapo 0.28, gspo 0.0004."""
    resample_rounds: int | None = None
    """How often prompts whose completions all score alike are replaced by others, at most: 0; dapo 4."""
    overlong_share: float | None = None
    """The last share of `max_new_tokens`, over which length costs up to 1 point: 0; dapo 0.2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = self.choices
        _clip_in_range(clip_low=choices.clip_low)
        require(choices.clip_high > 0, f"clip_high is {choices.clip_high}; it must be above 0.", "update.clip_high")
        at_least(0, "update.", resample_rounds=choices.resample_rounds)
        share("update.", overlong_share=choices.overlong_share)
        require(
            choices.ratio == "token" or choices.aggregation == "sequence",
            f"a completion's own ratio is averaged over completions, so that aggregation {choices.aggregation} has no "
            "meaning beside ratio sequence_mean; use aggregation sequence.",
            "update.aggregation",
        )

    @property
    def choices(self) -> GRPOForm:
        """The form, with what was set apart from it."""
        names = ("scale", "aggregation", "ratio", "clip_low", "clip_high", "resample_rounds", "overlong_share")
        return replace(FORMS[self.form], **{n: getattr(self, n) for n in names if getattr(self, n) is not None})


@dataclass(frozen=True)
class PTXConfig:
    """PPO-ptx: language-model loss on other text beside PPO's (Ouyang et al. 2022, equation 2)."""

    data: str | None = None
    """Demonstrations, or plain documents (rows with `text`), that the policy should not forget; None mixes nothing."""
    weight: float = 1.0
    """γ, the weight of the mean loss per token. (InstructGPT's 27.8 is on the scale of its own code.)"""
    sequences: int = 64
    """How many of its sequences each optimiser step reads."""

    def __post_init__(self) -> None:
        at_least(0, "ptx.", weight=self.weight)
        at_least(1, "ptx.", sequences=self.sequences)
