"""Starting the workers of a run, and being one of them.

What a launcher has to do is in docs/architecture.md. In short: start `heedful STAGE ...` (or call `run_worker`) once
for each worker, in a process of its own, with the environment of torchrun.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from heedful.errors import HeedfulError
from heedful.training.config.launch import LaunchConfig
from heedful.training.config.stage import StageConfig

EXPLAINED = (1, 2, 130)
"""Exit codes of workers that have told themselves what was wrong: a traceback, an error, an interrupt."""


def starts_workers(launch: LaunchConfig) -> bool:
    """Whether this process is to start the workers, and is none of them itself."""
    if launch.launcher == "none":
        return False
    from heedful.training.joining import launched

    return not launched()


def start_workers(launch: LaunchConfig, arguments: Sequence[str]) -> int:
    """Start the workers that settings ask for and wait for them; returns the exit code.

    Args:
        arguments: the words after `heedful`, given to each worker as they are.

    Raises:
        HeedfulError: a worker ended without a word.
        KeyboardInterrupt: the workers were interrupted.
    """
    return LAUNCHERS[launch.launcher](launch, arguments)


def run_worker(arguments: Sequence[str]) -> int:
    """Be one worker: run the command of these words, `heedful` left out; returns its exit code.

    For a launcher that calls a function in each of its processes. The environment is that of torchrun, or torch's
    process group stands already (`heedful.training.joining`). Every worker is given the same words.
    """
    from heedful.cli.main import main

    return main(list(arguments))


@contextmanager
def workers_of(config: StageConfig) -> Iterator[bool]:
    """Train with the other workers where a launcher has started some; yields whether this one leads.

    Raises:
        HeedfulError: as `heedful.training.joining.joined`; workers were asked for and this is one process.
    """
    from heedful.training.joining import joined

    with joined(config.launch, config.loading.device) as team:
        yield team.leads


def with_torchrun(launch: LaunchConfig, arguments: Sequence[str]) -> int:
    """Workers on this machine, by torch's elastic agent, which is what torchrun runs."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig as Agent
    from torch.distributed.launcher.api import elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // launch.workers)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # workers say themselves what is wrong
    agent = Agent(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=launch.workers,
        run_id=f"heedful-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(agent, sys.executable)("-m", "heedful", *arguments)
    except SignalException as stopped:
        raise KeyboardInterrupt from stopped
    except ChildFailedError as failed:
        return _told(failed, launch)
    return 0


def _told(failed: Any, launch: LaunchConfig) -> int:
    rank, first = failed.get_first_failure()
    if first.exitcode in EXPLAINED:
        return int(first.exitcode)
    raise HeedfulError(
        f"worker {rank} of {launch.workers} was ended from outside ({_cause(first.exitcode)}), and the run with it.",
        where="launch",
        mend="Run the same command again: it goes on from the last checkpoint, with as many workers as you like.",
    )


def _cause(code: int) -> str:
    import signal

    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def with_ray(launch: LaunchConfig, arguments: Sequence[str]) -> int:
    """Workers on a Ray cluster, by Ray Train, which starts all of them again when one has died."""
    from heedful.pipeline.ray_train import train_on_ray

    return train_on_ray(launch, run_worker, arguments)


LAUNCHERS: dict[str, Callable[[LaunchConfig, Sequence[str]], int]] = {"torchrun": with_torchrun, "ray": with_ray}
"""By the name that `launch.launcher` gives it: starts the workers, waits for them and returns the exit code."""
