"""Settings of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from heedful.training.config.checks import require
from heedful.training.config.common import LoadingConfig, MemoryConfig, OptimiserConfig, RecordsConfig, RunConfig
from heedful.training.config.launch import LaunchConfig


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
    launch: LaunchConfig = LaunchConfig()

    def __post_init__(self) -> None:
        require(self.batch_size > 0, f"a batch of {self.batch_size} sequences trains nothing.", "batch_size")
        require(self.epochs > 0, f"{self.epochs} epochs train nothing.", "epochs")
