"""Settings of the methods that sample from the policy as it learns: PPO, RLOO, GRPO, REINFORCE++, RAFT."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from heedful.training.config.checks import at_least, require
from heedful.training.config.common import LoadingConfig, MemoryConfig, OptimiserConfig, RecordsConfig, RunConfig
from heedful.training.config.launch import LaunchConfig
from heedful.training.config.rollout import RolloutConfig, ScoreConfig
from heedful.training.config.updates import (
    BaseKLConfig,
    FormKLConfig,
    GRPOForm,
    GRPOUpdateConfig,
    KLConfig,
    PassesConfig,
    PPOUpdateConfig,
    PTXConfig,
    ReinforceUpdateConfig,
    RLOOUpdateConfig,
    UpdateConfig,
)
from heedful.training.config.watch import WatchConfig


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
