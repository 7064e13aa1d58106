"""Ray: a cluster for the length of a command, and blocks of data handed out to its workers by Ray Data.

What flows through Ray Data is the list of blocks, not the data: a worker reads its block, and writes what it made of
it under a name of its own, whole or not at all. So a block that a killed worker had begun is simply handed out again,
and a driver that is killed and started again hands out those whose files are missing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from heedful.data.blocks import Block, BlockFolder, read_block
from heedful.errors import HeedfulError
from heedful.training.config.blocks import BlocksOptions

TRIES = 3
"""How often a cluster of this machine is tried to be started."""

Made = tuple[Callable[..., Any], tuple[Any, ...]]
"""What makes a work, and what from."""


@contextmanager
def cluster(address: str | None, cpus: int, where: str, *, told: bool = False) -> Iterator[Any]:
    """Ray, connected to the cluster of an address, or to one of this machine that ends with the block.

    Args:
        cpus: of a cluster of this machine, how many one-thread workers it is to have room for.
        where: the block of settings that a message names.
        told: whether what workers print appears here.

    Raises:
        HeedfulError: Ray is not installed, or nothing answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise HeedfulError(
            "Ray is not installed.", where=f"{where}.launcher", mend="Install it with: pip install 'heedful[ray]'"
        ) from error
    local: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if address is None else {}
    for attempt in range(TRIES):
        try:
            ray.init(
                address=address or "local",
                log_to_driver=told,
                logging_level=logging.ERROR,
                configure_logging=False,
                **local,
            )
            break
        except Exception as error:  # Ray raises plain ones too
            ray.shutdown()
            if address is None and attempt + 1 < TRIES:
                continue  # it gives a raylet 30 s to come up, which a busy machine may not keep
            why = (str(error).splitlines() or [type(error).__name__])[0]
            what = f"no Ray cluster could be started on this machine: {why}"
            mend = "Try again when it is less busy."
            if address is not None:
                what, mend = f"there is no Ray cluster to join: {why}", "Start one with ray start --head."
                mend += " Where it asks for a token, set RAY_AUTH_MODE=token and copy its ~/.ray/auth_token."
            raise HeedfulError(what, where=f"{where}.address", mend=mend) from error
    try:
        yield ray
    finally:
        ray.shutdown()


class Worker:
    """One of the processes that take blocks. An error for a person comes back as a row, since it need not travel well.

    Args:
        made: makes the work.
        folder: where its blocks go.
    """

    def __init__(self, made: Made, folder: str, kinds: tuple[str, ...]) -> None:
        self.folder = BlockFolder(folder, kinds)  # type: ignore[arg-type]
        self.problem = ("", "", "")
        try:
            self.work = made[0](*made[1])
        except HeedfulError as error:
            self.problem = (str(error.what), error.where, str(error.mend))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        block = Block(**{name: value[0].item() if value.dtype != object else value[0] for name, value in batch.items()})
        what, where, mend = self.problem
        if not what and not self.folder.done(block.number):
            try:
                self.folder.write(block.number, self.work(read_block(block), block))
            except HeedfulError as error:
                what, where, mend = str(error.what), f"{block}: {error.where}".rstrip(": "), str(error.mend)
        return {"number": [block.number], "what": [what], "where": [where], "mend": [mend]}


def work_blocks(
    made: Made, blocks: Sequence[Block], folder: BlockFolder, options: BlocksOptions, device: str
) -> Iterator[int]:
    """Have every block made by a pool of workers; yields their numbers as they are done.

    Raises:
        HeedfulError: what a worker met; blocks that were done by then stay.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # a plan and hints for whoever tunes Ray
    gpus = 1 if device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1 else 0
    listed = ray.data.from_items([asdict(block) for block in blocks], override_num_blocks=len(blocks))
    done = listed.map_batches(
        Worker,
        fn_constructor_args=(made, str(folder.folder.absolute()), folder.kinds),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(options.workers, len(blocks))),
        num_cpus=1,
        num_gpus=gpus,
    )
    for row in done.iter_rows():
        if row["what"]:
            raise HeedfulError(row["what"], where=row["where"], mend=row["mend"])
        yield int(row["number"])
