"""Settings of the training stages: frozen dataclasses, nested by concern. Imports no torch.

Every field is a flag of the command line and a key of a `--config` file. The defaults suit hub models of
0.5B to 8B parameters and name their source: [T] TRL 1.12, [O] OpenRLHF, [V] verl, [N] Huang et al. 2024,
"The N+ implementation details of RLHF with PPO", arXiv 2403.17031, [L] Tülu 3's scripts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heedful.errors import HeedfulError

BadRow = Literal["skip", "error", "truncate"]
Precision = Literal["auto", "float32", "bfloat16"]


def _require(ok: bool, what: str, where: str) -> None:
    if not ok:
        raise HeedfulError(what, where=where, mend="Correct the value.")


def _at_least(lowest: float, where: str, **values: float) -> None:
    """Refuse numbers below `lowest` (or not numbers at all); `where` is the block they stand in."""
    for name, value in values.items():
        _require(value >= lowest, f"{name} is {value}; it must be {lowest} or more.", f"{where}{name}")


def _share(where: str, **values: float) -> None:
    """Refuse numbers outside 0 to 1."""
    for name, value in values.items():
        _require(0 <= value <= 1, f"{name} is {value}; it must lie in 0 to 1.", f"{where}{name}")


@dataclass(frozen=True)
class LoadingConfig:
    """How a model and its tokenizer are opened."""

    template: str = "auto"
    """Chat template: auto (the tokenizer's own), a named one (chatml, plain, raw) or a Jinja file."""
    pad_token: str | None = None
    """A token to pad with, added when the tokenizer lacks one; never the end-of-turn token."""
    revision: str | None = None
    """Hub revision: a branch, tag or commit."""
    precision: Precision = "auto"
    """Compute type of forward and backward; weights stay float32. auto: bfloat16 where it pays."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    lora_rank: int = 0
    """Rank of LoRA adapters (peft); 0 trains all weights."""
    lora_alpha: float = 32.0
    """LoRA's scale numerator."""
    lora_dropout: float = 0.0
    """Dropout inside the adapters. Elsewhere dropout is off [N]."""
    lora_targets: str = "all-linear"
    """Which layers get adapters: all-linear, or names separated by commas."""

    def __post_init__(self) -> None:
        _at_least(0, "loading.", lora_rank=self.lora_rank)
        _share("loading.", lora_dropout=self.lora_dropout)
        known = self.device in ("auto", "cpu", "cuda") or self.device.removeprefix("cuda:").isdigit()
        _require(known, f"{self.device!r} is not a device; give auto, cpu, cuda or cuda:N.", "loading.device")


@dataclass(frozen=True)
class RecordsConfig:
    """How the records are read."""

    format: str = "auto"
    """Format of the file; auto detects it and says what it found."""
    split: str | None = None
    """Split of a hub dataset."""
    on_bad_row: BadRow = "skip"
    """What to do with empty, equal or over-long answers and their kin: skip, error or truncate."""
    max_length: int = 1024
    """The longest prompt with completion, in tokens."""
    limit: int | None = None
    """Read at most this many records."""
    held_out: float = 0.05
    """Share of prompts held out for evaluation; near-duplicates stay on one side."""
    split_seed: int = 0
    """Which prompts are held out: the same for every stage and seed of a programme, unless set apart."""

    def __post_init__(self) -> None:
        _at_least(1, "records.", max_length=self.max_length)
        _at_least(0, "records.", held_out=self.held_out, split_seed=self.split_seed)
        _require(self.held_out < 1, f"held_out is {self.held_out}; nothing would be trained on.", "records.held_out")
        _require(self.limit is None or self.limit > 0, f"a limit of {self.limit} reads nothing.", "records.limit")


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up and a schedule."""

    learning_rate: float = 2e-5
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Shape after the warm-up; linear and cosine end at `final_share` of the peak."""
    final_share: float = 0.1
    """Where linear and cosine end, as a share of the peak."""
    warmup: float = 0.03
    """Share of the steps that the rate climbs from zero."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.999
    """Decay of the second moment."""
    epsilon: float = 1e-8
    """Added to the root of the second moment; PPO's default is 1e-5 [N]."""
    weight_decay: float = 0.0
    """Decoupled weight decay, on matrices only."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0 clips nothing."""

    def __post_init__(self) -> None:
        where = "optimiser."
        _at_least(0, where, learning_rate=self.learning_rate, weight_decay=self.weight_decay, clip_norm=self.clip_norm)
        _share(where, warmup=self.warmup, final_share=self.final_share, beta1=self.beta1, beta2=self.beta2)
        _require(self.beta1 < 1 and self.beta2 < 1, "beta1 and beta2 must be below 1.", "optimiser")
        _require(self.epsilon > 0, f"epsilon is {self.epsilon}; it must be above 0.", "optimiser.epsilon")


@dataclass(frozen=True)
class MemoryConfig:
    """What bounds the memory of a step. Micro-batching never changes the loss."""

    micro_batch_tokens: int = 8192
    """Most tokens (padding counted) in one forward and backward pass."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    def __post_init__(self) -> None:
        _at_least(1, "memory.", micro_batch_tokens=self.micro_batch_tokens)


@dataclass(frozen=True)
class RunConfig:
    """What belongs to whoever consumes the trainer: checkpoints, logs, samples."""

    checkpoint_every: int = 100
    """Steps between checkpoints that a killed run goes on from; 0 writes none before the end."""
    keep_checkpoints: int = 1
    """How many of them stay on disk."""
    sample_every: int = 50
    """Steps between logged samples (samples.jsonl); 0 logs none."""
    evaluate_every: int = 0
    """Steps between evaluations on the held-out records; 0 evaluates at the end only."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.jsonl."""
    max_loss: float = 1e4
    """A loss above this, or one that is not a number, stops the run at its last good checkpoint."""

    def __post_init__(self) -> None:
        where = "run."
        _at_least(0, where, checkpoint_every=self.checkpoint_every, sample_every=self.sample_every)
        _at_least(0, where, evaluate_every=self.evaluate_every, max_loss=self.max_loss)
        _at_least(1, where, keep_checkpoints=self.keep_checkpoints)


@dataclass(frozen=True)
class SFTConfig:
    """Supervised fine-tuning on demonstrations: next-token loss on the completion only."""

    model: str
    """A hub id, a folder, or a .yaml file that describes a new model (docs/models.md)."""
    data: str
    """Demonstrations: a file, a folder or a hub dataset id. Of preferences, the chosen answers are read."""
    out: Path
    """Folder of the run."""
    seed: int = 0
    """Fixes order, initialisation and sampling."""
    epochs: float = 2.0
    """Passes over the data."""
    batch_size: int = 64
    """Sequences in one optimiser step."""
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(learning_rate=2e-5))
    """Learning rate 2e-5 [T]."""
    loading: LoadingConfig = LoadingConfig()
    records: RecordsConfig = RecordsConfig()
    memory: MemoryConfig = MemoryConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        _require(self.batch_size > 0, f"a batch of {self.batch_size} sequences trains nothing.", "batch_size")
        _require(self.epochs > 0, f"{self.epochs} epochs train nothing.", "epochs")


@dataclass(frozen=True)
class RewardConfig:
    """A scalar reward model learns which of two answers people prefer (Bradley–Terry)."""

    model: str
    """The model whose trunk it starts from, usually the SFT model."""
    data: str
    """Preferences: a file, a folder or a hub dataset id."""
    out: Path
    """Folder of the run."""
    seed: int = 0
    """Fixes order and initialisation."""
    epochs: float = 1.0
    """Passes over the pairs; more than one over-fits on large models [O, N]."""
    batch_size: int = 64
    """Pairs in one optimiser step."""
    centering: float = 0.0
    """Weight of mean((score_a + score_b)^2), which holds the scores near zero; 0.01 in the literature."""
    use_margin: bool = False
    """Ask the stated margin of the score difference (Llama 2). Refused beside soft labels."""
    labels: Literal["soft", "majority"] = "soft"
    """soft: learn the share of votes; majority: learn its winner, ties at one half."""
    normalise: Literal["offset", "standard", "none"] = "offset"
    """After training: offset makes the training answers score 0 on average and keeps the Bradley–Terry scale (a
    difference of 1 is odds of e to 1); standard also divides by their spread, which pays noise as much as signal."""
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(learning_rate=9e-6))
    """Learning rate 9e-6 [O]."""
    loading: LoadingConfig = LoadingConfig()
    records: RecordsConfig = RecordsConfig()
    memory: MemoryConfig = MemoryConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        _require(self.batch_size > 0, f"a batch of {self.batch_size} pairs trains nothing.", "batch_size")
        _require(self.epochs > 0, f"{self.epochs} epochs train nothing.", "epochs")


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
        _at_least(1, where, prompts_per_step=self.prompts_per_step, samples_per_prompt=self.samples_per_prompt)
        _at_least(1, where, max_new_tokens=self.max_new_tokens)
        _require(self.temperature > 0, "training samples at a temperature above 0.", "rollout.temperature")


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
        _at_least(0, "kl.", coefficient=self.coefficient)
        _require(self.target > 0 and self.horizon > 0, "target and horizon must be above 0.", "kl")


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
        _at_least(0, "score.", missing_eos_penalty=self.missing_eos_penalty, clip=self.clip)
        _at_least(2, "score.", normalise_samples=self.normalise_samples)


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
        _at_least(1, where, epochs=self.epochs, minibatches=self.minibatches)
        _at_least(0, where, value_clip=self.value_clip, value_coefficient=self.value_coefficient)
        _at_least(0, where, update_kl_limit=self.update_kl_limit)
        _share(where, gamma=self.gamma, lam=self.lam)
        _require(0 < self.clip < 1, f"clip is {self.clip}; it must lie between 0 and 1.", "update.clip")


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
        _require(self.steps > 0, f"{self.steps} steps train nothing.", "steps")
        _require(batch > 0, "a rollout needs a prompt and a sample.", "rollout")
        _require(
            0 < self.update.minibatches <= batch,
            f"{self.update.minibatches} minibatches cannot be cut from {batch} sequences.",
            "update.minibatches",
        )
        _at_least(0, "", seed=self.seed, critic_warmup=self.critic_warmup)
        shared = self.critic == "shared" and self.critic_warmup > 0
        _require(not shared, "a critic on the policy's trunk cannot be trained alone.", "critic_warmup")
        horizons = batch / self.kl.horizon
        _require(
            not self.kl.adaptive or horizons < 5, f"{batch} episodes a step are too many for kl.horizon.", "kl.horizon"
        )


@dataclass(frozen=True)
class DPOConfig:
    """Direct preference optimisation (Rafailov et al. 2023): the sigmoid loss on preference pairs."""

    model: str
    """The policy to start from, and the reference: the SFT model."""
    data: str
    """Preferences: a file, a folder or a hub dataset id."""
    out: Path
    """Folder of the run."""
    seed: int = 0
    """Fixes the order."""
    epochs: float = 1.0
    """Passes over the pairs."""
    batch_size: int = 64
    """Pairs in one optimiser step."""
    beta: float = 0.1
    """β, the price of one nat [T, O]."""
    labels: Literal["soft", "majority"] = "soft"
    """soft: learn the share of votes; majority: learn its winner, ties at one half."""
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(learning_rate=5e-7, schedule="linear", final_share=0.0, warmup=0.1)
    )
    """Learning rate 5e-7 with linear decay [L, O]."""
    loading: LoadingConfig = LoadingConfig()
    records: RecordsConfig = RecordsConfig()
    memory: MemoryConfig = MemoryConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        _require(self.batch_size > 0, f"a batch of {self.batch_size} pairs trains nothing.", "batch_size")
        _require(self.epochs > 0, f"{self.epochs} epochs train nothing.", "epochs")
        _require(self.beta > 0, f"beta is {self.beta}; it must be above 0.", "beta")


@dataclass(frozen=True)
class QuickstartConfig:
    """The whole loop on the embedded world."""

    out: Path | None = None
    """Folder of the programme: runs/quickstart, or runs/quickstart-fast. The same command goes on after a stop."""
    seed: int = 0
    """Fixes the world's splits, every model and every sample."""
    fast: bool = False
    """A smaller loop in under 90 seconds; its figures are weaker."""

    @property
    def folder(self) -> Path:
        """Where the loop works."""
        return self.out or Path("runs") / ("quickstart-fast" if self.fast else "quickstart")


StageConfig = SFTConfig | RewardConfig | PPOConfig | DPOConfig
