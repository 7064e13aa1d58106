"""Settings of a run on several processes. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from heedful.training.config.checks import at_least, require

PATIENCE = 600.0
"""Seconds that a worker waits for the others where nothing else is asked for."""


def label(name: str | None) -> dict[str, float]:
    """What Ray is asked for, to place a process on a host that has a resource of a name."""
    return {} if name is None else {name: 0.001}


@dataclass(frozen=True)
class LaunchConfig:
    """Several processes, each with a share of every batch (docs/scale.md). None of it changes what is learnt."""

    launcher: Literal["none", "torchrun", "ray"] = "none"
    """What starts the workers: torchrun, on this machine; ray, on a Ray cluster, where dead workers are started again.
    none: this process alone, or the workers that a launcher outside has started (torchrun -m heedful ...)."""
    workers: int = 1
    """How many, where a launcher starts them: one for each GPU, or processes on a CPU."""
    address: str | None = None
    """With ray: the cluster, HOST:PORT or auto; None starts one on this machine for the run. Its hosts need heedful,
    and the same paths of data, models and --out."""
    restarts: int = 3
    """With ray: how often the workers start again, from the last checkpoint, when one of them has died."""
    placement: Literal["pack", "spread"] = "pack"
    """With ray: workers on as few hosts as hold them, or on as many as there are."""
    on: str | None = None
    """With ray: a resource of your own (ray start --resources) that the workers' hosts have."""
    scorers: int = 0
    """With ray, learning online: processes of their own that hold the reward model, in place of every worker; with a
    GPU each, where the cluster has enough for all. 0: every worker holds it."""
    scorers_on: str | None = None
    """A resource of your own that the scorers' hosts have."""
    shard: bool = False
    """Each worker keeps a share of the weights, gradients and moments of what trains (FSDP2), not a copy of them."""
    patience: float = PATIENCE
    """Seconds that a worker waits for the others before it gives the run up. Rank 0's own work counts: writing
    checkpoints, fresh checks."""

    def __post_init__(self) -> None:
        at_least(1, "launch.", workers=self.workers)
        at_least(1, "launch.", patience=self.patience)
        at_least(0, "launch.", restarts=self.restarts)
        require(
            self.launcher == "ray" or self.address is None,
            "an address is of a Ray cluster. Set launch.launcher to ray.",
            "launch.address",
        )
        at_least(0, "launch.", scorers=self.scorers)
        for name, given in {"placement": self.placement != "pack", "on": self.on, "scorers": self.scorers}.items():
            require(
                self.launcher == "ray" or not given,
                f"Ray places workers. Set launch.launcher to ray, or leave {name} out.",
                f"launch.{name}",
            )
        require(self.scorers > 0 or self.scorers_on is None, "there are no scorers.", "launch.scorers_on")
        require(
            self.scorers <= self.workers,
            f"{self.scorers} scorers for {self.workers} workers, each of which asks one.",
            "launch.scorers",
        )
        require(
            self.launcher != "none" or self.workers == 1,
            f"{self.workers} workers, and nothing that starts them. Set launch.launcher to torchrun or ray.",
            "launch.workers",
        )
