"""Settings of the methods that learn from preferences without a reward model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from heedful.training.config.checks import require
from heedful.training.config.common import LoadingConfig, MemoryConfig, OptimiserConfig, RecordsConfig, RunConfig
from heedful.training.config.launch import LaunchConfig

SOFT_ALPHA, MOVE_EVERY = 0.6, 512


@dataclass(frozen=True)
class LossSettings:
    """Settings that some losses read (docs/losses.md says which); left out, a loss keeps its own default.

    One that no loss of the run reads is refused.
    """

    gamma: float | None = None
    """SimPO's target margin."""
    alpha: float | None = None
    """R-DPO: the price of a token. CPO: the weight of its likelihood term."""
    weight: float | None = None
    """ORPO: the weight of its odds-ratio term."""
    epsilon: float | None = None
    """cDPO and robust DPO: the share of labels that are wrong. EXO: how far a hard label is smoothed."""
    tau: float | None = None
    """DiscoPOP: how soft the step between its two losses is."""
    desirable: float | None = None
    """KTO: the weight of a good answer."""
    undesirable: float | None = None
    """KTO: the weight of a bad answer."""


@dataclass(frozen=True)
class MovingConfig:
    """A reference that may follow the policy."""

    update: Literal["fixed", "soft", "hard"] = "fixed"
    """TR-DPO (Gorbatovski et al. 2024): soft moves the reference towards the policy, hard sets it to the policy."""
    alpha: float | None = None
    """Share of the policy in a soft move; left out, 0.6 [T]."""
    every: int | None = None
    """Steps between two moves."""

    def __post_init__(self) -> None:
        where = "reference."
        moves = self.update != "fixed"
        require(moves or self.every is None, "a fixed reference never moves.", f"{where}every")
        soft = self.update == "soft"
        require(soft or self.alpha is None, "only a soft update has an alpha.", f"{where}alpha")
        require(self.alpha is None or 0 < self.alpha < 1, "alpha must lie between 0 and 1.", f"{where}alpha")
        require(self.every is None or self.every >= 1, "every must be 1 or more.", f"{where}every")

    @property
    def share(self) -> float:
        """Share of the policy in a move."""
        return 1.0 if self.update == "hard" else SOFT_ALPHA if self.alpha is None else self.alpha

    @property
    def steps(self) -> int:
        """Optimiser steps between two moves."""
        return self.usual if self.every is None else self.every

    usual: ClassVar[int] = MOVE_EVERY
    """Steps between two moves where none are given."""


@dataclass(frozen=True)
class ReferenceConfig(MovingConfig):
    """The reference that a loss compares the policy with. Losses that need none hold none."""

    cache: str = "auto"
    """Where log-probs of a fixed reference are kept, by content: auto (.heedful-cache beside the run), a folder, or
    none."""
    every: int | None = None
    """Optimiser steps between two moves; left out, 512 [T]."""


@dataclass(frozen=True)
class PairMemoryConfig(MemoryConfig):
    """What bounds the memory of a step. None of it changes the loss."""

    share_prompt: Literal["auto", "never"] = "auto"
    """auto: a pair's prompt is read once for both answers, where that saves enough and the architecture is exact."""


@dataclass(frozen=True)
class DPOConfig:
    """Direct preference optimisation (Rafailov et al. 2023) and its kin: learning from preferences without a reward
    model."""

    model: str
    """The policy to start from, and the reference: the SFT model."""
    data: str
    """Preferences, or for losses on single answers labelled ones: a file, a folder or a hub dataset id."""
    out: Path
    """Folder of the run."""
    seed: int = 0
    """Fixes the order."""
    loss: str = "sigmoid"
    """A loss of docs/losses.md, module:function of your own, or a mixture: "sigmoid + 0.2*sft"."""
    epochs: float = 1.0
    """Passes over the pairs."""
    batch_size: int = 64
    """Pairs in one optimiser step; of unpaired data, answers."""
    beta: float | None = None
    """β, the price of one nat; left out, the loss's own default: 0.1 for the sigmoid [T, O]."""
    labels: Literal["soft", "majority"] = "soft"
    """soft: learn the share of votes; majority: learn its winner, ties at one half."""
    use_margin: bool = False
    """Ask the stated margin of the loss's logit (sigmoid, hinge, dpo-norm). Refused beside soft labels."""
    weighting: Literal["none", "wpo"] = "none"
    """wpo: weigh a pair by how likely its answers are under the policy (Zhou et al. 2024)."""
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(learning_rate=5e-7, schedule="linear", final_share=0.0, warmup=0.1)
    )
    """Learning rate 5e-7 with linear decay [L, O]."""
    settings: LossSettings = LossSettings()
    reference: ReferenceConfig = ReferenceConfig()
    loading: LoadingConfig = LoadingConfig()
    records: RecordsConfig = RecordsConfig()
    memory: PairMemoryConfig = PairMemoryConfig()
    run: RunConfig = RunConfig()
    launch: LaunchConfig = LaunchConfig()

    def __post_init__(self) -> None:
        require(self.batch_size > 0, f"a batch of {self.batch_size} pairs trains nothing.", "batch_size")
        require(self.epochs > 0, f"{self.epochs} epochs train nothing.", "epochs")
        require(self.beta is None or self.beta > 0, f"beta is {self.beta}; it must be above 0.", "beta")

    @property
    def loss_settings(self) -> dict[str, float | None]:
        """Every setting of a loss by name; None where it is left out."""
        return {"beta": self.beta, **asdict(self.settings)}
