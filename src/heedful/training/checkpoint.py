"""Checkpoints that a killed run goes on from, bit for bit. Safetensors and JSON; never pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from heedful.errors import HeedfulError
from heedful.files import artifact, read_manifest
from heedful.training.folders import FOLDER, KEPT, checkpoints
from heedful.training.sharded_checkpoint import SCALARS, holds_parts, load_parts, save_parts, write_scalars
from heedful.training.state import TrainState
from heedful.training.workers import current, like


def _trained_weights(state: TrainState) -> dict[str, Tensor]:
    """Name -> weight, each weight once however many modules share it."""
    weights: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, module in state.modules.items():
        for key, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                weights[f"{name}.{key}"] = parameter
    return weights


def save_checkpoint(out: Path, state: TrainState, keep: int) -> Path:
    """Write `out/checkpoints/step-N` whole or not at all, then drop all but the newest `keep`.

    Of several workers the leader writes: all hold the same. Where weights are sharded, each writes its part
    (`heedful.training.sharded_checkpoint`).
    """
    folder = out / FOLDER / f"step-{state.step:08d}"
    team = current()
    if team.sharded:
        save_parts(folder, state, _trained_weights(state))
    else:
        team.led(lambda: _save_whole(folder, state))
    team.led(lambda: _drop_old(out, keep))
    return folder


def _drop_old(out: Path, keep: int) -> None:
    for old in checkpoints(out)[: -max(1, keep)]:
        shutil.rmtree(old)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """What safetensors meets as it writes, as an error for people."""
    try:
        yield
    except SafetensorError as error:
        raise HeedfulError(
            f"cannot write the weights: {str(error).splitlines()[0]}.",
            where=str(folder),
            mend="Free some space and run the same command again; the last checkpoint is whole.",
        ) from error


def _save_whole(folder: Path, state: TrainState) -> None:
    with _written(folder), artifact(folder, {"kind": "checkpoint", "step": state.step}) as temporary:
        weights = {name: value.detach().contiguous() for name, value in _trained_weights(state).items()}
        save_file(weights, temporary / "weights.safetensors")
        moments = {
            f"{name}/{key}": value.detach().contiguous()
            for name, optimiser in state.optimisers.items()
            for key, value in optimiser.tensors()
        }
        save_file(moments, temporary / "optimisers.safetensors")
        write_scalars(temporary, state)


def _kept(out: Path, step: int) -> Path:
    return out / KEPT / f"step-{step:08d}"


def keep_weights(out: Path, state: TrainState) -> Path:
    """Keep the trained weights as they are after this step, and drop all others that were kept but the first (step 0).

    Weights kept after this step before, by a run that was killed and goes over it again, are left as they are.
    """
    folder = set_aside(out, state)
    drop_kept(out, state.step)
    return folder


def set_aside(out: Path, state: TrainState) -> Path:
    """Keep the trained weights as they are after this step, beside all others that were kept."""
    folder = _kept(out, state.step)
    if read_manifest(folder) is None:
        with _written(folder), artifact(folder, {"kind": "kept", "step": state.step}) as temporary:
            weights = {name: value.detach().contiguous() for name, value in _trained_weights(state).items()}
            save_file(weights, temporary / "weights.safetensors")
    return folder


def drop_kept(out: Path, step: int) -> None:
    """Drop all weights that were kept but those of a step, and of the first (step 0)."""
    for other in (out / KEPT).glob("step-*"):
        if other not in (_kept(out, step), _kept(out, 0)):
            shutil.rmtree(other)


def restore_weights(out: Path, state: TrainState, step: int) -> None:
    """Put the weights back that were kept after a step.

    Raises:
        HeedfulError: none were.
    """
    folder = _kept(out, step)
    if read_manifest(folder) is None:
        raise HeedfulError(
            f"the weights of step {step} are to be put back, and are not there.",
            where=str(folder),
            mend="Choose another --out to run anew.",
        )
    _put(load_file(folder / "weights.safetensors"), state)


def _put(saved: dict[str, Tensor], state: TrainState) -> None:
    with torch.no_grad():
        for name, parameter in _trained_weights(state).items():
            parameter.copy_(like(parameter, saved[name]))


def load_checkpoint(out: Path, state: TrainState) -> bool:
    """Put the newest checkpoint into `state`; False where there is none. However many workers wrote it."""
    found = current().led(lambda: checkpoints(out)[-1:])
    if not found:
        return False
    folder = found[0]
    if holds_parts(folder):
        load_parts(folder, state, _trained_weights(state))
    else:
        _put(load_file(folder / "weights.safetensors"), state)
        moments = load_file(folder / "optimisers.safetensors")
        for name, optimiser in state.optimisers.items():
            prefix = f"{name}/"
            optimiser.load({key[len(prefix) :]: value for key, value in moments.items() if key.startswith(prefix)})
    stored = json.loads((folder / SCALARS).read_text(encoding="utf-8"))
    state.step = stored["step"]
    state.scalars = stored["scalars"]
    return True
