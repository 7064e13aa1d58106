"""Checkpoints of sharded weights: each worker writes its part, and any number of workers reads them.

The format is torch.distributed.checkpoint's. The folder appears under its name once every part is on disk.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import checkpoint as parts

from heedful.errors import HeedfulError
from heedful.files import explain, put_back, put_in_place, seal
from heedful.training.state import TrainState
from heedful.training.workers import current, like

PARTS = "parts"
"""The folder of the parts, in a checkpoint's."""
SCALARS = "state.json"


def write_scalars(folder: Path, state: TrainState) -> None:
    """Step, seed and scalars of a run into a checkpoint's folder."""
    with open(folder / SCALARS, "w", encoding="utf-8") as file:
        json.dump({"step": state.step, "seed": state.seed, "scalars": state.scalars}, file)


def holds_parts(folder: Path) -> bool:
    """Whether a checkpoint is of sharded weights."""
    return (folder / PARTS).is_dir()


def save_parts(folder: Path, state: TrainState, weights: dict[str, Tensor]) -> None:
    """Write weights and moments, each worker its part; `folder` is whole or what it was before.

    Raises:
        HeedfulError: a worker cannot write; at every worker.
    """
    team = current()
    temporary = folder.with_name(f".{folder.name}.tmp")

    def begin() -> None:
        try:
            put_back(folder)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            write_scalars(temporary, state)
        except OSError as error:
            raise explain(error, folder) from error

    def end() -> None:
        try:
            seal(temporary, {"kind": "checkpoint", "step": state.step, "workers": team.count})
            put_in_place(temporary, folder)
        except OSError as error:
            raise explain(error, folder) from error

    try:
        team.led(begin)
        try:
            parts.save(_tensors(state, weights), checkpoint_id=temporary / PARTS, process_group=team.group)
        except parts.CheckpointException as error:
            raise _unwritten(error, folder) from error
        team.led(end)
    finally:
        if team.leads:
            shutil.rmtree(temporary, ignore_errors=True)


def load_parts(folder: Path, state: TrainState, weights: dict[str, Tensor]) -> None:
    """Read weights and moments into a run, whose weights may be sharded among other workers, or whole."""
    team = current()
    reader = parts.FileSystemReader(folder / PARTS)
    known: Any = reader.read_metadata().state_dict_metadata
    asked: dict[str, Tensor] = {f"weights/{name}": value.detach() for name, value in weights.items()}
    for name, optimiser in state.optimisers.items():
        for key in known:
            prefix, _, rest = key.partition("/")
            if prefix != "moments" or not rest.startswith(f"{name}/"):
                continue
            parameter = optimiser.parameters[rest[len(name) + 1 :].rsplit(":", 1)[0]]
            shape, dtype = known[key].size, known[key].properties.dtype
            asked[key] = (
                torch.zeros(shape, dtype=dtype) if not shape else like(parameter, torch.zeros(shape, dtype=dtype))
            )
    parts.load(asked, storage_reader=reader, process_group=team.group, no_dist=team.count == 1)
    for name, optimiser in state.optimisers.items():
        prefix = f"moments/{name}/"
        optimiser.load({key[len(prefix) :]: value for key, value in asked.items() if key.startswith(prefix)})


def _tensors(state: TrainState, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    moments = {
        f"moments/{name}/{key}": value.detach()
        for name, optimiser in state.optimisers.items()
        for key, value in optimiser.tensors()
    }
    return {f"weights/{name}": value.detach() for name, value in weights.items()} | moments


def _unwritten(error: Any, folder: Path) -> HeedfulError:
    """What the workers met as they wrote."""
    met = [found[0] for found in error.failures.values()]
    for one in met:
        if isinstance(one, OSError):
            return explain(one, folder)
    said = str(met[0]).splitlines()
    return HeedfulError(
        f"a part of the checkpoint could not be written: {said[0] if said else type(met[0]).__name__}.",
        where=str(folder),
        mend="Free some space and run the same command again; the last checkpoint is whole.",
    )
