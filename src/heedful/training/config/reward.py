"""Settings of reward models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heedful.training.config.checks import at_least, require
from heedful.training.config.common import LoadingConfig, MemoryConfig, OptimiserConfig, RecordsConfig, RunConfig
from heedful.training.config.launch import LaunchConfig


@dataclass(frozen=True)
class HeadsConfig:
    """The heads on the trunk while training; the result always has one that plain transformers reads."""

    kind: Literal["scalar", "length", "ensemble", "attributes"] = "scalar"
    """scalar: the one head. length: quality and length apart, only quality stays (ODIN). ensemble: members that share
    the trunk. attributes: one a rated attribute, mixed by learnt weights."""
    members: int = 4
    """Members of an ensemble; 4 to 5 in Coste et al. 2023."""
    length_coefficient: float = 1.0
    """Weight of the correlations with length (Chen et al. 2024)."""
    orthogonality_coefficient: float = 1.0
    """Weight of the angle between the quality and length heads (Chen et al. 2024)."""
    attributes: tuple[str, ...] = ()
    """Attributes to learn; empty: all that the data rates."""

    def __post_init__(self) -> None:
        where = "heads."
        at_least(2, where, members=self.members)
        at_least(0, where, length_coefficient=self.length_coefficient)
        at_least(0, where, orthogonality_coefficient=self.orthogonality_coefficient)


@dataclass(frozen=True)
class RewardConfig:
    """A scalar reward model learns from what raters said of two answers, or of several in a ranking."""

    model: str
    """The model whose trunk it starts from, usually the SFT model. A reward model goes on learning, head included: to
    refresh one, give it old and new judgments together."""
    data: str
    """Preferences or rankings: a file, a folder or a hub dataset id."""
    out: Path
    """Folder of the run."""
    seed: int = 0
    """Fixes order and initialisation."""
    head_seed: int | None = None
    """Fixes the first weights of the head apart from the order: the same for all members of an average (WARM)."""
    loss: Literal["bradley-terry", "rao-kupper", "davidson", "ordinal", "all-pairs", "plackett-luce"] = "bradley-terry"
    """On pairs: bradley-terry; rao-kupper and davidson, which model ties; ordinal, which needs strengths of -3 to 3.
    On rankings: all-pairs (InstructGPT's) and plackett-luce."""
    loss_learning_rate: float = 0.01
    """Learning rate of what a loss learns beside the model: tie parameter, thresholds, mixture."""
    epochs: float = 1.0
    """Passes over the pairs or rankings; more than one over-fits on large models [O, N]."""
    batch_size: int = 64
    """Pairs or rankings in one optimiser step."""
    centering: float = 0.0
    """Weight of mean((score_a + score_b)^2), which holds the scores near zero; 0.01 in the literature."""
    use_margin: bool = False
    """Ask the stated margin of the score difference (Llama 2). Refused beside soft labels."""
    labels: Literal["soft", "majority"] = "soft"
    """soft: learn the share of votes; majority: learn its winner, ties at one half."""
    normalise: Literal["offset", "standard", "none"] = "offset"
    """After training: offset makes the reference answers score 0 on average and keeps the Bradley–Terry scale (a
    difference of 1 is odds of e to 1); standard also divides by their spread, which pays noise as much as signal."""
    reference: str | None = None
    """Answers that `normalise` makes score 0 on average, such as the SFT model's: a file with answers; none: the
    training answers."""
    calibrate: bool = False
    """Also divide scores by the temperature that explains the held-out pairs best."""
    heads: HeadsConfig = HeadsConfig()
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(learning_rate=9e-6))
    """Learning rate 9e-6 [O]."""
    loading: LoadingConfig = LoadingConfig()
    records: RecordsConfig = RecordsConfig()
    memory: MemoryConfig = MemoryConfig()
    run: RunConfig = RunConfig()
    launch: LaunchConfig = LaunchConfig()

    @property
    def start_seed(self) -> int:
        """The seed of all first weights."""
        return self.seed if self.head_seed is None else self.head_seed

    def __post_init__(self) -> None:
        require(self.batch_size > 0, f"a batch of {self.batch_size} pairs trains nothing.", "batch_size")
        require(self.epochs > 0, f"{self.epochs} epochs train nothing.", "epochs")
        at_least(0, "", loss_learning_rate=self.loss_learning_rate, centering=self.centering)
        unused = self.normalise == "none" and self.reference is not None
        require(not unused, "reference answers fix the offset, and normalise is none.", "reference")
        doubled = self.normalise == "standard" and self.calibrate
        require(not doubled, "one scale: divide by the spread or by the temperature.", "calibrate")
