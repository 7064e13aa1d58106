"""Joining the other workers of a run, and leaving them: what a launcher has to set, and what a lost worker means.

A launcher starts the same command in every worker, with the environment of torchrun: `RANK`, `WORLD_SIZE`,
`LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`. One that has set up torch's process group itself (Ray
Train) needs no environment: the group is taken as it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from heedful.errors import HeedfulError
from heedful.training.config.launch import LaunchConfig
from heedful.training.interfaces import choose_interface
from heedful.training.workers import Workers, current, working

LOST = re.compile(
    r"connection (was )?(closed|reset|refused|aborted)|closed by peer|timed out|time ?out|broken pipe|remote process",
    re.IGNORECASE,
)
"""What torch says where a worker is gone, or does not answer."""

LINGER = 20.0
"""Seconds that rank 0 stays, at most, after a mistake that all may meet, for the others to ask whether it was told."""

LOST_LINGER = 3.0
"""The same where another worker is lost: who is gone asks nothing."""

ANSWER = 5.0
"""Seconds that the group's store has to answer. It lies with rank 0, and the way there may be what has broken."""

SAID = "heedful/said"
"""Key of the group's store: what the first worker that failed said."""


def launched() -> bool:
    """Whether a launcher has started this process as one of several workers."""
    return distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """Which of the workers on its machine this process is."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_count() -> int:
    """How many workers run on this machine, this one counted."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def device_of_worker(device: str) -> str:
    """The device of one of several workers: a GPU of its own where there are any, else the CPU.

    Raises:
        HeedfulError: there are fewer GPUs than workers here, or all are to have the same one.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if device not in ("auto", "cuda"):
        raise HeedfulError(
            f"each worker has a GPU of its own, and all are to have {device}.",
            where="loading.device",
            mend="Leave it at auto; CUDA_VISIBLE_DEVICES says which GPUs there are.",
        )
    found = torch.cuda.device_count()
    if local_count() > found:
        raise HeedfulError(
            f"{local_count()} workers on this machine, and {found} GPU(s).",
            where="launch.workers",
            mend=f"Take {max(1, found)}, or set loading.device cpu.",
        )
    return f"cuda:{local_rank()}"


@contextmanager
def joined(launch: LaunchConfig, device: str = "auto") -> Iterator[Workers]:
    """Train with the other workers that a launcher has started; yields them. A process alone stays alone.

    Args:
        launch: patience, and whether weights are sharded.
        device: as `loading.device`: a CPU joins by gloo, GPUs by NCCL with gloo beside it for what is not on them.

    Raises:
        HeedfulError: a worker is gone or does not answer; no GPU for each worker.
        KeyboardInterrupt: a worker was interrupted; all end at the same step.
    """
    if not launched():
        yield current()
        return
    own = not distributed.is_initialized()
    patience = timedelta(seconds=launch.patience)
    with ExitStack() as stack:
        where = device_of_worker(device)
        if where != "cpu":
            torch.cuda.set_device(torch.device(where))
        try:
            if own:
                choose_interface()
                distributed.init_process_group("gloo" if where == "cpu" else "cpu:gloo,cuda:nccl", timeout=patience)
            group = distributed.new_group(backend="gloo", timeout=patience)
            team = Workers(distributed.get_rank(), distributed.get_world_size(), group, shards=launch.shard)
        except (RuntimeError, ValueError) as error:
            raise _no_start(error, launch) from error
        stack.enter_context(_stopping(team))
        stack.enter_context(working(team))
        try:
            yield team
            distributed.barrier(group=group)  # rank 0 may hold the store that the others still ask
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or not LOST.search(str(error)):
                raise
            raise _lost(team, launch, error) from error
        if own:
            distributed.destroy_process_group()


class LostWorkerError(HeedfulError):
    """Another worker has ended, or does not answer."""


def first_to_say(error: HeedfulError) -> bool:
    """Whether an error is worth printing: no other worker has said it already, and it is no echo of another's.

    Where the others cannot be asked any more, it is worth saying.
    """
    if not distributed.is_initialized():
        return True
    found: list[bool] = []
    # In a thread of its own: a call of the store waits for as long as TCP does, a quarter of an hour and more.
    asking = threading.Thread(target=lambda: found.append(_asked(error)), daemon=True)
    asking.start()
    asking.join(ANSWER + (_linger(error) if distributed.get_rank() == 0 else 0.0))
    return found[0] if found else True


def _linger(error: HeedfulError) -> float:
    return LOST_LINGER if isinstance(error, LostWorkerError) else LINGER


def _asked(error: HeedfulError) -> bool:
    try:
        store: Any = distributed.distributed_c10d._get_default_store()
        store.set_timeout(timedelta(seconds=ANSWER))
        before = int(store.add(SAID, 1)) - 1
        name = hashlib.sha256(str(error).encode()).hexdigest()[:16]
        first = before == 0 if isinstance(error, LostWorkerError) else int(store.add(f"{SAID}/{name}", 1)) == 1
        until = time.monotonic() + _linger(error)
        while distributed.get_rank() == 0 and time.monotonic() < until:  # its process may hold the store
            if int(store.add(SAID, 0)) >= distributed.get_world_size():
                break
            time.sleep(0.05)
        return first
    except (RuntimeError, ValueError):
        return True


@contextmanager
def _stopping(team: Workers) -> Iterator[None]:
    """An interrupt is noted, and obeyed by all at the next step; a second one ends this worker at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: Any) -> None:
        if team.asked_to_stop:
            raise KeyboardInterrupt
        team.asked_to_stop = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _lost(team: Workers, launch: LaunchConfig, error: Exception) -> LostWorkerError:
    slow = re.search(r"time", str(error), re.IGNORECASE)
    what = f"another worker has not answered for {launch.patience:g} s." if slow else "another worker has ended."
    mend = "Run the same command again: it goes on from the last checkpoint, with as many workers as you like."
    more = " Where a worker is only slow, raise launch.patience." if slow else ""
    return LostWorkerError(what, where=f"worker {team.rank} of {team.count}", mend=mend + more)


def _no_start(error: Exception, launch: LaunchConfig) -> HeedfulError:
    return HeedfulError(
        f"the workers did not find each other within {launch.patience:g} s: {str(error).splitlines()[0]}",
        where="launch",
        mend="Check that all were started, and that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set as torchrun "
        "sets them. On several hosts MASTER_ADDR has to be an address that all of them reach; GLOO_SOCKET_IFNAME and "
        "NCCL_SOCKET_IFNAME name the network interface.",
    )
