"""Where the figures of a run go besides `metrics.jsonl`: TensorBoard, and Weights & Biases for those who use it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import yaml

from heedful.errors import HeedfulError
from heedful.files import atomic_write
from heedful.training.config.common import RunConfig
from heedful.training.folders import WANDB

RUN_ID = "heedful-run"
"""Holds the name by which W&B knows the run, so that one that was killed goes on as the same."""


class Tracker(Protocol):
    """Takes the figures of each step."""

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log one step."""

    def close(self, *, failed: bool) -> None:
        """The run has ended."""


class TensorBoard:
    """Events in the run's folder.

    Args:
        out: the run's folder.
        step: that the run goes on from; what was logged after it is left out.
    """

    def __init__(self, out: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log one step."""
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self, *, failed: bool) -> None:
        """The run has ended."""
        self.writer.close()


class WeightsAndBiases:
    """A run of a W&B project: settings and figures. Prompts, answers and weights are not sent.

    The steps that a killed run goes over again have the same figures as before; W&B leaves them out.

    Args:
        project: its name; `ENTITY/PROJECT` names the team, too.
        out: the run's folder.
        title: of the stage, which groups runs.

    Raises:
        HeedfulError: the package is missing, or nobody is logged in.
    """

    def __init__(self, project: str, out: Path, title: str) -> None:
        check_wandb(project)
        import wandb

        entity, _, name = project.rpartition("/")
        recipe = out / "heedful.yaml"
        settings = yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.exists() else {}
        try:
            self.run: Any = wandb.init(
                project=name,
                entity=entity or None,
                id=_run_id(out),
                resume="allow",
                name=out.name,
                job_type=title,
                config=settings,
                dir=str(out),
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise HeedfulError(
                f"Weights & Biases did not begin a run: {error}",
                where="run.wandb",
                mend="Run wandb login, set WANDB_MODE=offline and send it later by wandb sync, or leave run.wandb out.",
            ) from error

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log one step."""
        self.run.log(dict(figures), step=step)

    def close(self, *, failed: bool) -> None:
        """The run has ended."""
        self.run.finish(exit_code=int(failed))


def check_wandb(project: str | None) -> None:
    """Refuse a run that is to be logged to W&B where the package is missing.

    Raises:
        HeedfulError: saying how to install it.
    """
    if project is not None and find_spec("wandb") is None:
        raise HeedfulError(
            "Weights & Biases needs the package wandb.",
            where="run.wandb",
            mend="Install it: pip install 'heedful[wandb]'. Without it, leave run.wandb out.",
        )


def open_trackers(out: Path, step: int, settings: RunConfig, title: str) -> list[Tracker]:
    """The trackers that a run's settings name, at the step that it goes on from."""
    trackers: list[Tracker] = [TensorBoard(out, step)] if settings.tensorboard else []
    if settings.wandb is not None:
        trackers.append(WeightsAndBiases(settings.wandb, out, title))
    return trackers


def _run_id(out: Path) -> str:
    path = out / WANDB / RUN_ID
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(uuid.uuid4().hex[:12])
    return path.read_text(encoding="utf-8")
