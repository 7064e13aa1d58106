"""Settings that several stages share: opening a model, reading records, the optimiser, memory, the run.

Settings are frozen dataclasses, nested by concern, and import no torch. Every field is a flag of the command
line and a key of a `--config` file. The defaults suit hub models of 0.5B to 8B parameters and name their source:
[T] TRL 1.12, [O] OpenRLHF, [V] verl, [N] Huang et al. 2024, "The N+
implementation details of RLHF with PPO", arXiv 2403.17031, [L] Tülu 3's scripts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from heedful.training.config.checks import at_least, require, share

BadRow = Literal["skip", "error", "truncate"]
Precision = Literal["auto", "float32", "bfloat16"]

LARGEST_MICRO_BATCH = 8192
"""Tokens of a micro-batch where nothing else is asked for and memory is not short."""

CPU_MICRO_BATCH = 1024
"""The same on a CPU, where a larger one is slower and takes more memory (benchmarks/micro_batches.py)."""


def usual_micro_batch(device: str) -> int:
    """Tokens of a micro-batch on a device, by torch's name for it."""
    return CPU_MICRO_BATCH if device.startswith("cpu") else LARGEST_MICRO_BATCH


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
    """Compute type of forward and backward; trained weights stay float32. auto: bfloat16 where it pays."""
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
    base_dtype: Literal["float32", "bfloat16", "nf4"] = "float32"
    """Type of the frozen base under adapters, which stay float32. bfloat16: half the memory, computed in bfloat16.
    nf4: an eighth (QLoRA, through bitsandbytes), on a GPU."""

    compile: bool = False
    """Run layers through torch.compile, all but sampling: quicker steps after the half minute and more that compiling
    takes. On a CPU it needs a C++ compiler."""

    def __post_init__(self) -> None:
        at_least(0, "loading.", lora_rank=self.lora_rank)
        share("loading.", lora_dropout=self.lora_dropout)
        small = self.base_dtype != "float32"
        require(
            not small or self.lora_rank > 0,
            f"a base of {self.base_dtype} is frozen, and without adapters all weights train. Set loading.lora_rank.",
            "loading.base_dtype",
        )
        require(
            not small or self.precision != "float32",
            f"what a base of {self.base_dtype} computes is bfloat16. Leave the setting out.",
            "loading.precision",
        )
        known = self.device in ("auto", "cpu", "cuda") or self.device.removeprefix("cuda:").isdigit()
        require(known, f"{self.device!r} is not a device; give auto, cpu, cuda or cuda:N.", "loading.device")


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
        at_least(1, "records.", max_length=self.max_length)
        at_least(0, "records.", held_out=self.held_out, split_seed=self.split_seed)
        require(self.held_out < 1, f"held_out is {self.held_out}; nothing would be trained on.", "records.held_out")
        require(self.limit is None or self.limit > 0, f"a limit of {self.limit} reads nothing.", "records.limit")


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
    offload: bool = False
    """On a GPU: AdamW steps in the machine's memory, where its moments and a copy of the weights lie."""

    def __post_init__(self) -> None:
        where = "optimiser."
        at_least(0, where, learning_rate=self.learning_rate, weight_decay=self.weight_decay, clip_norm=self.clip_norm)
        share(where, warmup=self.warmup, final_share=self.final_share, beta1=self.beta1, beta2=self.beta2)
        require(self.beta1 < 1 and self.beta2 < 1, "beta1 and beta2 must be below 1.", "optimiser")
        require(self.epsilon > 0, f"epsilon is {self.epsilon}; it must be above 0.", "optimiser.epsilon")


@dataclass(frozen=True)
class MemoryConfig:
    """What bounds the memory of a step. Micro-batching never changes the loss."""

    micro_batch_tokens: int | Literal["auto"] = "auto"
    """Most tokens (padding counted) in one forward and backward pass. auto: 8192 on a GPU and 1024 on a CPU, or as
    many as fit in memory (heedful plan); a run that goes on keeps what it began with."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, 14% to 23% more time in steps of 30M weights."""
    offload_activations: bool = False
    """On a GPU: keep activations in the machine's memory until the backward pass."""

    def __post_init__(self) -> None:
        at_least(1, "memory.", micro_batch_tokens=self.tokens)

    @property
    def tokens(self) -> int:
        """`micro_batch_tokens` as a number; 8192 where no stage has planned it, whatever the device."""
        return LARGEST_MICRO_BATCH if self.micro_batch_tokens == "auto" else self.micro_batch_tokens


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
    wandb: str | None = None
    """Project of Weights & Biases (PROJECT or ENTITY/PROJECT; heedful[wandb]) that gets the run's settings and figures,
    no prompts and no answers. WANDB_MODE=offline keeps them in the run's folder."""
    max_loss: float = 1e4
    """A loss above this, or one that is not a number, stops the run at its last good checkpoint."""

    def __post_init__(self) -> None:
        where = "run."
        at_least(0, where, checkpoint_every=self.checkpoint_every, sample_every=self.sample_every)
        at_least(0, where, evaluate_every=self.evaluate_every, max_loss=self.max_loss)
        at_least(1, where, keep_checkpoints=self.keep_checkpoints)
