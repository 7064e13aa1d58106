"""Ray Train: the workers of a run on a Ray cluster, each running the same command; all start again when one has died.

Nothing of a run's state goes through Ray: workers checkpoint into the run's folder, as they do under torchrun, and
those that are started again go on from there.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.pipeline.on_ray import cluster
from heedful.pipeline.ray_scorers import give, start_scorers
from heedful.training.config.launch import LaunchConfig, label

STORAGE = ".heedful-ray"
"""Folder, in the current one, for Ray Train's own notes where the cluster has several hosts."""


class Codes:
    """The exit codes of workers, by rank: a worker that tells a person what is wrong has not failed in Ray's eyes."""

    def __init__(self) -> None:
        self.found: dict[int, int] = {}

    def add(self, rank: int, code: int) -> None:
        """Note a code; those of a try before are forgotten rank by rank."""
        self.found[rank] = code

    def all(self) -> dict[int, int]:
        """All codes of the last try."""
        return self.found


def train_on_ray(launch: LaunchConfig, run: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command in every worker of a Ray cluster and wait for them; returns the exit code.

    Args:
        run: is one worker: takes the words, gives its exit code.
        arguments: the words, the same for each.

    Raises:
        HeedfulError: Ray is not installed, no cluster, or workers died more often than they are started again.
    """
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", f"{max(60.0, launch.patience):g}")
    with cluster(launch.address, launch.workers + launch.scorers + 1, "launch", told=True) as ray:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        codes = ray.remote(Codes).options(num_cpus=0).remote()
        scorers = start_scorers(ray, launch)
        here, gpus = os.getcwd(), ray.cluster_resources().get("GPU", 0) >= launch.workers

        def loop() -> None:
            import ray
            from ray.train import get_context

            os.chdir(here)
            give(scorers)
            rank = get_context().get_world_rank()
            ray.get(codes.add.remote(rank, run(arguments)))

        with tempfile.TemporaryDirectory(prefix="heedful-ray-") as scratch:
            storage = scratch if launch.address is None else str(Path(here) / STORAGE)
            trainer = TorchTrainer(
                loop,
                scaling_config=ScalingConfig(
                    num_workers=launch.workers,
                    use_gpu=gpus,
                    placement_strategy=launch.placement.upper(),
                    resources_per_worker={"CPU": 1, "GPU": int(gpus), **label(launch.on)},
                ),
                run_config=RunConfig(
                    name=f"heedful-{os.getpid()}",
                    storage_path=storage,
                    failure_config=FailureConfig(max_failures=launch.restarts),
                ),
            )
            try:
                trainer.fit()
            except Exception as error:
                if isinstance(error, KeyboardInterrupt | HeedfulError):
                    raise
                raise _gave_up(error, launch) from error
            found: dict[int, Any] = ray.get(codes.all.remote())
    return max(found.values(), default=1)


GONE = re.compile(r"unavailable|socket closed|\bgcs\b", re.IGNORECASE)
"""What Ray says where the cluster itself does not answer, not a worker."""


def _gave_up(error: Exception, launch: LaunchConfig) -> HeedfulError:
    why = str(error).strip().splitlines()
    said = f": {why[-1][:200]}" if why else "."
    again = "run the same command again: it goes on from the last checkpoint."
    if why and GONE.search(why[-1]):
        what, where = (
            f"the Ray cluster does not answer any more{said}",
            "launch.address" if launch.address else "launch",
        )
        return HeedfulError(what, where=where, mend=f"See that its head runs (ray status), and {again}")
    return HeedfulError(
        f"the workers ended before they were through, and were started again {launch.restarts} times at most{said}",
        where="launch",
        mend=f"{again.capitalize()} launch.restarts allows more.",
    )
