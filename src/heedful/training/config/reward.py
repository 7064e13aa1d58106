"""Settings of reward models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heedful.training.config.checks import require
from heedful.training.config.common import LoadingConfig, MemoryConfig, OptimiserConfig, RecordsConfig, RunConfig


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
        require(self.batch_size > 0, f"a batch of {self.batch_size} pairs trains nothing.", "batch_size")
        require(self.epochs > 0, f"{self.epochs} epochs train nothing.", "epochs")
