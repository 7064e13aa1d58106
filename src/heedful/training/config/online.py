"""Settings of the methods that sample from the policy as it learns: PPO, RLOO, GRPO, REINFORCE++, RAFT."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from heedful.training.config.checks import at_least, require, share
from heedful.training.config.common import LoadingConfig, MemoryConfig, OptimiserConfig, RecordsConfig, RunConfig
from heedful.training.config.launch import LaunchConfig
from heedful.training.config.watch import WatchConfig


@dataclass(frozen=True)
class RolloutConfig:
    """How training samples. The policy's own distribution: top-k, top-p, min-p and penalties are refused."""

    prompts_per_step: int = 128
    """Prompts in one step. With the samples of each, the rollout batch; 512 [N]."""
    samples_per_prompt: int = 1
    """Completions sampled for each prompt."""
    max_new_tokens: int = 256
    """The longest completion."""
    temperature: float = 1.0
    """Sampling temperature; the trained distribution is the tempered one [O, V]."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion."""
    max_batch: int | None = None
    """Most sequences decoded at once; None leaves it to the engine."""
    recompute_logprobs: bool = False
    """Take the old log-probs from the trainer's forward pass, not from the sampler. Their mismatch is logged."""

    def __post_init__(self) -> None:
        where = "rollout."
        at_least(1, where, prompts_per_step=self.prompts_per_step, samples_per_prompt=self.samples_per_prompt)
        at_least(1, where, max_new_tokens=self.max_new_tokens)
        require(self.temperature > 0, "training samples at a temperature above 0.", "rollout.temperature")


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
class ScoreConfig:
    """What happens to the reward before the method sees it."""

    missing_eos_penalty: float = 1.0
    """Subtracted, after normalisation, from a completion that did not end by itself [T]."""
    normalise: Literal["none", "reference"] = "none"
    """reference: subtract the mean and divide by the spread of the scores of the reference's own samples."""
    normalise_samples: int = 256
    """How many samples of the reference fix that mean and spread, the ceiling's quantile and the usual length."""
    ceiling: float | None = None
    """Pay no more than this reward, in the reward model's own points (constrained reward, Moskovitz et al. 2023)."""
    ceiling_quantile: float = 0.0
    """Instead: pay no more than this quantile (0.99, say) of the rewards of the reference's own samples; 0 is off."""
    bound: Literal["none", "sigmoid", "logsigmoid"] = "none"
    """sigmoid: pay in 0 to 1 (Fu et al. 2025, best with normalise reference); logsigmoid: pay ever less for more above
    the reference (Wang et al. 2024)."""
    clip: float = 0.0
    """Clamp the score to [-clip, clip]; 0 clamps nothing."""
    length_penalty: float = 0.0
    """Points taken for every 100 tokens above `length_free`."""
    length_free: float | None = None
    """Tokens that cost nothing; None takes the mean length of the reference's own samples."""
    repetition_penalty: float = 0.0
    """Points times the share of an answer's 4-grams that it has already used."""

    def __post_init__(self) -> None:
        at_least(0, "score.", missing_eos_penalty=self.missing_eos_penalty, clip=self.clip)
        at_least(0, "score.", length_penalty=self.length_penalty, repetition_penalty=self.repetition_penalty)
        at_least(2, "score.", normalise_samples=self.normalise_samples)
        share("score.", ceiling_quantile=self.ceiling_quantile)
        require(
            self.ceiling is None or self.ceiling_quantile == 0,
            "give a ceiling, or the quantile that it stands at, not both.",
            "score.ceiling",
        )
        require(
            self.length_free is None or self.length_penalty > 0,
            "length_free says nothing without a length_penalty.",
            "score.length_free",
        )
        require(
            self.bound == "none" or self.clip == 0,
            f"clip {self.clip} and bound {self.bound} both bound the score; keep one of them.",
            "score.bound",
        )

    @property
    def measured(self) -> bool:
        """Whether something is to be measured on the reference's own samples first."""
        usual_length = self.length_penalty > 0 and self.length_free is None
        return self.normalise == "reference" or self.ceiling_quantile > 0 or usual_length


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


@dataclass(frozen=True)
class OnlineConfig:
    """What every method that samples from its policy has."""

    model: str
    """The policy to start from, usually the SFT model; unless another is named, it is the reference too."""
    reward: str
    """A reward model (folder or hub id; its tokenizer may differ), or module:function."""
    data: str
    """Prompts: any file that holds prompts; answers in it are not read."""
    out: Path
    """Folder of the run."""
    seed: int = 0
    """Fixes order and sampling."""
    steps: int = 200
    """Rollout batches."""
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(learning_rate=1e-6, schedule="constant", epsilon=1e-5)
    )
    """Learning rate 1e-6 [T, O, V], epsilon 1e-5 [N]."""
    rollout: RolloutConfig = RolloutConfig()
    score: ScoreConfig = ScoreConfig()
    update: PassesConfig = PassesConfig()
    loading: LoadingConfig = LoadingConfig()
    records: RecordsConfig = RecordsConfig()
    memory: MemoryConfig = MemoryConfig()
    watch: WatchConfig = WatchConfig()
    run: RunConfig = field(default_factory=lambda: RunConfig(checkpoint_every=20, sample_every=10))
    launch: LaunchConfig = LaunchConfig()

    def __post_init__(self) -> None:
        require(self.steps > 0, f"{self.steps} steps train nothing.", "steps")
        require(
            self.update.minibatches <= self.learnt,
            f"{self.update.minibatches} minibatches cannot be cut from {self.learnt} {self.unit}.",
            "update.minibatches",
        )
        at_least(0, "", seed=self.seed)

    @property
    def batch(self) -> int:
        """Completions in a rollout batch."""
        return self.rollout.prompts_per_step * self.rollout.samples_per_prompt

    @property
    def learnt(self) -> int:
        """What minibatches are cut from, of a rollout batch: its completions, or what a method makes of them."""
        return self.batch

    unit: ClassVar[str] = "sequences"
    """What they are cut from, in words."""

    @property
    def updates(self) -> int:
        """Optimiser steps in the whole run, where no epoch is cut short."""
        return self.steps * self.update.epochs * self.update.minibatches

    def _in_groups(self) -> None:
        samples = self.rollout.samples_per_prompt
        require(
            samples >= 2,
            f"samples_per_prompt is {samples}: a completion is held against the others of its prompt, so 2 or more.",
            "rollout.samples_per_prompt",
        )


@dataclass(frozen=True)
class LeashedConfig(OnlineConfig):
    """What every method has that pays for the KL to the reference in its reward or its loss."""

    reference: str | None = None
    """The policy that the KL is paid against; None: the one that the run starts from. Give the SFT model where a policy
    that was trained before goes on, so that its leash stays where it was."""
    kl: BaseKLConfig = BaseKLConfig()
    update: PassesConfig = UpdateConfig()

    @property
    def kl_coefficient(self) -> float:
        """β at the start of the run."""
        return getattr(self.kl, "coefficient", None) or 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.kl.adaptive or self.kl_coefficient > 0,
            "an adaptive coefficient is steered by factors, and 0 stays 0.",
            "kl.coefficient",
        )
        require(
            not self.kl.adaptive or self.batch / self.kl.horizon < 5,
            f"{self.batch} episodes a step are too many for kl.horizon.",
            "kl.horizon",
        )


@dataclass(frozen=True)
class PPOConfig(LeashedConfig):
    """PPO against a reward, with a KL penalty to the starting policy."""

    kl: KLConfig = KLConfig()
    update: PPOUpdateConfig = PPOUpdateConfig()
    critic: Literal["separate", "shared"] = "separate"
    """separate: a model of its own, from the reward model where that is one, else from the policy; shared:
    a value head on the policy's trunk."""
    critic_learning_rate: float = 9e-6
    """Learning rate of a separate critic [O]."""
    critic_warmup: int = 0
    """Steps that train the critic alone before the policy moves."""
    ptx: PTXConfig = PTXConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, "", critic_warmup=self.critic_warmup)
        shared = self.critic == "shared" and self.critic_warmup > 0
        require(not shared, "a critic on the policy's trunk cannot be trained alone.", "critic_warmup")


@dataclass(frozen=True)
class RLOOConfig(LeashedConfig):
    """REINFORCE leave-one-out (Ahmadian et al. 2024): each completion against the others of its prompt, no critic."""

    rollout: RolloutConfig = RolloutConfig(prompts_per_step=32, samples_per_prompt=4)
    """32 prompts with 4 completions each: as many as PPO's."""
    kl: KLConfig = KLConfig(level="sequence")
    """k1 of the whole completion in its reward, β 0.05 [T]."""
    update: RLOOUpdateConfig = RLOOUpdateConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_groups()


@dataclass(frozen=True)
class GRPOConfig(LeashedConfig):
    """Group relative policy optimisation (Shao et al. 2024), with its Dr. GRPO, DAPO and GSPO forms; no critic."""

    rollout: RolloutConfig = RolloutConfig(prompts_per_step=16, samples_per_prompt=8)
    """16 prompts with 8 completions each [T]: as many as PPO's."""
    kl: FormKLConfig = FormKLConfig(estimator="k3", place="loss")
    """k3 of each token in the loss, as published."""
    update: GRPOUpdateConfig = GRPOUpdateConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_groups()

    @property
    def form(self) -> GRPOForm:
        """All choices of the run, those set apart from its form included."""
        choices = self.update.choices
        return choices if self.kl.coefficient is None else replace(choices, kl_coefficient=self.kl.coefficient)

    @property
    def kl_coefficient(self) -> float:
        """β at the start of the run: the form's own, unless set."""
        return self.form.kl_coefficient


@dataclass(frozen=True)
class ReinforceConfig(LeashedConfig):
    """REINFORCE++ (Hu 2025): KL in the token reward, returns whitened over the whole batch, PPO's clip, no critic."""

    kl: KLConfig = KLConfig(coefficient=0.01)
    """k1 of each token in its reward, β 0.01 [O]."""
    update: ReinforceUpdateConfig = ReinforceUpdateConfig()


@dataclass(frozen=True)
class RAFTConfig(LeashedConfig):
    """Rejection-sampling fine-tuning (RAFT, Dong et al. 2023): imitate the best of a prompt's completions, again and
    again."""

    rollout: RolloutConfig = RolloutConfig(prompts_per_step=16, samples_per_prompt=8)
    """16 prompts with 8 completions each: as many as PPO's."""
    kl: KLConfig = KLConfig(coefficient=0.0, level="sequence")
    """β log(policy/reference) is taken from the reward before the completions are ranked; 0 takes nothing."""
    update: PassesConfig = PassesConfig()
    keep: int = 1
    """How many completions of each prompt are imitated, on average where the whole batch is ranked."""
    ranking: Literal["prompt", "batch"] = "prompt"
    """prompt: the best completions of each prompt; batch: the best of the whole batch, whosever they are."""

    def __post_init__(self) -> None:
        samples = self.rollout.samples_per_prompt
        require(
            1 <= self.keep < samples,
            f"keep is {self.keep}: of {samples} completions at least one, and not all, can be kept.",
            "keep",
        )
        super().__post_init__()
        require(
            self.kl.place == "reward" and self.kl.estimator == "k1",
            "completions are ranked by the reward less β log(policy/reference), which is k1 in the reward.",
            "kl",
        )

    @property
    def learnt(self) -> int:
        """Completions that are kept."""
        return self.rollout.prompts_per_step * self.keep
