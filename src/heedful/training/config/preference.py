"""Settings of the methods that learn from preferences without a reward model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heedful.training.config.checks import require
from heedful.training.config.common import LoadingConfig, MemoryConfig, OptimiserConfig, RecordsConfig, RunConfig


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
        require(self.batch_size > 0, f"a batch of {self.batch_size} pairs trains nothing.", "batch_size")
        require(self.epochs > 0, f"{self.epochs} epochs train nothing.", "epochs")
        require(self.beta > 0, f"beta is {self.beta}; it must be above 0.", "beta")
