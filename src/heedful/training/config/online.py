"""Settings of the methods that sample from the policy as it learns: PPO and its kin."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heedful.training.config.checks import at_least, require, share
from heedful.training.config.common import LoadingConfig, MemoryConfig, OptimiserConfig, RecordsConfig, RunConfig


@dataclass(frozen=True)
class RolloutConfig:
    """How PPO samples. The policy's own distribution: top-k, top-p, min-p and penalties are refused."""

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


@dataclass(frozen=True)
class KLConfig:
    """The leash to the reference, inside the per-token reward (the k1 estimate)."""

    coefficient: float = 0.05
    """β, the price of one nat [T, N]."""
    adaptive: bool = False
    """Steer β towards `target` (Ziegler et al. 2019)."""
    target: float = 6.0
    """Nats per sequence that the adaptive controller aims at (Ziegler et al. 2019)."""
    horizon: int = 10_000
    """Episodes over which the adaptive controller corrects (Ziegler et al. 2019)."""

    def __post_init__(self) -> None:
        at_least(0, "kl.", coefficient=self.coefficient)
        require(self.target > 0 and self.horizon > 0, "target and horizon must be above 0.", "kl")


@dataclass(frozen=True)
class ScoreConfig:
    """What happens to the reward before PPO sees it."""

    missing_eos_penalty: float = 1.0
    """Subtracted, after normalisation, from a completion that did not end by itself [T]."""
    normalise: Literal["none", "reference"] = "none"
    """reference: subtract the mean and divide by the spread of the scores of the reference's own samples."""
    normalise_samples: int = 256
    """How many samples of the reference fix that mean and spread."""
    clip: float = 0.0
    """Clamp the score to [-clip, clip]; 0 clamps nothing."""

    def __post_init__(self) -> None:
        at_least(0, "score.", missing_eos_penalty=self.missing_eos_penalty, clip=self.clip)
        at_least(2, "score.", normalise_samples=self.normalise_samples)


@dataclass(frozen=True)
class PPOUpdateConfig:
    """The clipped update."""

    epochs: int = 4
    """Passes over each rollout batch [T, N]."""
    minibatches: int = 1
    """Optimiser steps per pass [T]."""
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
    whiten_advantages: bool = True
    """Give the advantages mean 0 and spread 1 over the whole rollout batch."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    update_kl_limit: float = 0.0
    """Stop a batch's epochs once the new policy is this many nats per token from the old; 0 never stops."""

    def __post_init__(self) -> None:
        where = "update."
        at_least(1, where, epochs=self.epochs, minibatches=self.minibatches)
        at_least(0, where, value_clip=self.value_clip, value_coefficient=self.value_coefficient)
        at_least(0, where, update_kl_limit=self.update_kl_limit)
        share(where, gamma=self.gamma, lam=self.lam)
        require(0 < self.clip < 1, f"clip is {self.clip}; it must lie between 0 and 1.", "update.clip")


@dataclass(frozen=True)
class PPOConfig:
    """PPO against a reward, with a KL penalty to the starting policy."""

    model: str
    """The policy to start from, and the reference: the SFT model."""
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
    critic: Literal["separate", "shared"] = "separate"
    """separate: a model of its own, from the reward model where that is one, else from the policy; shared:
    a value head on the policy's trunk."""
    critic_learning_rate: float = 9e-6
    """Learning rate of a separate critic [O]."""
    critic_warmup: int = 0
    """Steps that train the critic alone before the policy moves."""
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(learning_rate=1e-6, schedule="constant", epsilon=1e-5)
    )
    """Learning rate 1e-6 [O, V], epsilon 1e-5 [N]."""
    rollout: RolloutConfig = RolloutConfig()
    kl: KLConfig = KLConfig()
    score: ScoreConfig = ScoreConfig()
    update: PPOUpdateConfig = PPOUpdateConfig()
    loading: LoadingConfig = LoadingConfig()
    records: RecordsConfig = RecordsConfig()
    memory: MemoryConfig = MemoryConfig()
    run: RunConfig = field(default_factory=lambda: RunConfig(checkpoint_every=20, sample_every=10))

    def __post_init__(self) -> None:
        batch = self.rollout.prompts_per_step * self.rollout.samples_per_prompt
        require(self.steps > 0, f"{self.steps} steps train nothing.", "steps")
        require(batch > 0, "a rollout needs a prompt and a sample.", "rollout")
        require(
            0 < self.update.minibatches <= batch,
            f"{self.update.minibatches} minibatches cannot be cut from {batch} sequences.",
            "update.minibatches",
        )
        at_least(0, "", seed=self.seed, critic_warmup=self.critic_warmup)
        shared = self.critic == "shared" and self.critic_warmup > 0
        require(not shared, "a critic on the policy's trunk cannot be trained alone.", "critic_warmup")
        horizons = batch / self.kl.horizon
        require(
            not self.kl.adaptive or horizons < 5, f"{batch} episodes a step are too many for kl.horizon.", "kl.horizon"
        )
