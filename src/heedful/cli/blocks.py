"""Running a command's work on the blocks of a data set: what is left to do, who does it, and the folder's end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heedful.cli.command import jsonable
from heedful.errors import HeedfulError
from heedful.training.config.blocks import BlocksOptions

FREE = ("blocks", "out", "budget", "endpoint", "ledger")
"""Settings that a run may go on with in another way: they change no row."""


def run(
    config: Any,
    work: Callable[..., Any],
    options: BlocksOptions,
    *,
    data: str,
    out: Path,
    kinds: Sequence[str] = ("",),
    shared: Callable[[], AbstractContextManager[tuple[Any, ...]]] = lambda: nullcontext(()),
) -> dict[str, Any]:
    """Have the blocks that are not there yet made by workers, and seal the folder. Says what it holds.

    Args:
        config: the command's settings; `work` is made from them, and from what `shared` gives, in each worker.
        shared: what all workers have in common, for as long as they work; opened once Ray is there.

    Raises:
        HeedfulError: no Parquet, a folder that holds something else, whatever a worker met, or Ray is not installed.
    """
    from heedful.data.blocks import BlockFolder, blocks_of, identity
    from heedful.pipeline.on_ray import cluster, work_blocks
    from heedful.pipeline.run_folder import code_version, locked
    from heedful.training.progress import Display

    blocks = blocks_of(data, options.rows, config.records.limit)
    if not blocks:
        raise HeedfulError("there are no rows at all.", where=data, mend="Check that it is the right file.")
    settings = {name: jsonable(value) for name, value in asdict(config).items() if name not in FREE}
    settings |= {"rows": options.rows, "input": identity(data)}
    folder, display = BlockFolder(out, kinds), Display()
    folder.refuse_others()
    with locked(out):
        folder.claim(settings)
        left = [block for block in blocks if not folder.done(block.number)]
        display.say(
            f"{len(blocks)} blocks of up to {options.rows} rows, {len(blocks) - len(left)} of them there already."
        )
        if left:
            begun = len(blocks) - len(left)
            with (
                cluster(options.address, options.workers + 1, "blocks"),
                shared() as common,
                display.task("blocks", len(blocks), begun) as bar,
            ):
                made = (work, (config, *common))
                for done, _ in enumerate(work_blocks(made, left, folder, options, config_device(config)), start=1):
                    bar.update(begun + done, {})
        read = sum(block.rows for block in blocks)
        rows = {kind or "rows": sum(folder.rows(kind)) for kind in kinds}
        if left or not folder.finished:
            what = {"kind": "blocks", "settings": settings, "blocks": len(blocks), "code": {"heedful": code_version()}}
            folder.finish(what | {"read": read, "made": rows})
    return {"out": str(out), "blocks": len(blocks), "made_now": len(left), "read": read, **rows}


def config_device(config: Any) -> str:
    """The device that a command's settings ask for."""
    return str(config.device if hasattr(config, "device") else config.loading.device)
