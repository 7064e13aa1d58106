"""The folder of a run: begun once, gone on with after a kill, finished whole. Imports no torch."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.files import MANIFEST, atomic_write, explain, read_manifest, seal, sha256_json, sync_folder, write_json
from heedful.training.folders import (
    ALARMS,
    EVENTS,
    FOLDER,
    KEPT,
    METRICS,
    SAMPLES,
    WANDB,
    WATCH,
    checkpoints,
    drop_checkpoints,
)
from heedful.training.settings import to_yaml

CONFIG = "heedful.yaml"
INPUTS = "inputs.json"
RESULT = ".result"
SERVER = ("rollout.vllm.url", "rollout.vllm.address", "rollout.vllm.patience")
FREE = ("out", "run", "memory", "launch", "loading.device", "reference.cache", *SERVER)
"""Settings that a resumed run may change without becoming another run (memory and workers change no loss, but may
change the last bit of a sum)."""


def code_version() -> str:
    """The installed version of heedful."""
    try:
        return version("heedful")
    except PackageNotFoundError:
        return "unknown"


def flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def _identity(text: str) -> dict[str, Any]:
    import yaml

    settings = flat(yaml.safe_load(text))
    return {key: value for key, value in settings.items() if not any(key == f or key.startswith(f + ".") for f in FREE)}


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold a run's folder against a second process.

    Raises:
        HeedfulError: another process holds it, or the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = open(out / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise HeedfulError(
            f"cannot write to this folder: {error.strerror or error}.",
            where=str(out),
            mend="Choose another --out.",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HeedfulError(
                "another heedful process is writing to this folder.",
                where=str(out),
                mend="Wait for it, or choose another --out.",
            ) from error
        yield


def begin(out: Path, stage: str, config: Any) -> dict[str, Any] | None:
    """Begin a run or go on with one: its settings are written, or compared with those it was begun with.

    A run that has no checkpoint yet has nothing to lose, and is begun anew when its settings differ.

    Returns:
        The manifest of a run that is already finished, else None.

    Raises:
        HeedfulError: the folder holds a run of another stage or with other settings, or things of another kind.
    """
    done = read_manifest(out)
    if done is None and not checkpoints(out) and holds(out, stage):
        clear(out)
    claim(out, stage, config)
    if done is not None:
        drop_checkpoints(out)
        shutil.rmtree(out / RESULT, ignore_errors=True)
    return done


def claim(out: Path, stage: str, config: Any) -> None:
    """Write the settings into a new folder, or compare them with those that the folder was begun with.

    Raises:
        HeedfulError: the folder holds a run of another stage or with other settings, or things of another kind.
    """
    text = f"# heedful {stage}\n" + to_yaml(config)
    path = out / CONFIG
    if path.exists():
        compare_settings(out, stage, path.read_text(encoding="utf-8"), text)
        return
    if any(not item.name.startswith(".") or item.is_dir() for item in out.iterdir()):
        raise HeedfulError(
            "the folder is not empty and holds no run of heedful.", where=str(out), mend="Choose another --out."
        )
    with atomic_write(path) as file:
        file.write(text)


def begun_with(out: Path, stage: str, setting: str) -> Any:
    """A setting, by dotted name, of a run of this stage that ended or would go on; None where there is none."""
    import yaml

    if not holds(out, stage) or not (checkpoints(out) or read_manifest(out)):
        return None
    return flat(yaml.safe_load((out / CONFIG).read_text(encoding="utf-8"))).get(setting)


def holds(out: Path, stage: str) -> bool:
    """Whether a folder was begun by this stage; a recipe or a programme of the same file name was not."""
    path = out / CONFIG
    return path.exists() and path.read_text(encoding="utf-8").startswith(f"# heedful {stage}\n")


def clear(out: Path) -> None:
    """Remove what a run that came to nothing left: settings, logs, half-made results. Nothing else is touched."""
    for name in (CONFIG, INPUTS, METRICS, SAMPLES, EVENTS, ALARMS):
        (out / name).unlink(missing_ok=True)
    for name in (FOLDER, KEPT, WATCH, "tensorboard", WANDB, "tokenizer", RESULT):
        shutil.rmtree(out / name, ignore_errors=True)


def compare_settings(out: Path, stage: str, old: str, new: str) -> None:
    """Refuse to go on with a run of another stage or with other settings.

    Raises:
        HeedfulError: naming the settings that differ.
    """
    if not old.startswith(f"# heedful {stage}\n"):
        raise HeedfulError(
            f"the folder holds another kind of run ({old.splitlines()[0].removeprefix('# heedful ')}).",
            where=str(out),
            mend="Choose another --out.",
        )
    before, now = _identity(old), _identity(new)
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        listed = ", ".join(f"{key} ({before.get(key)} before, {now.get(key)} now)" for key in changed)
        raise HeedfulError(
            f"the folder holds a run with other settings: {listed}.",
            where=str(out),
            mend="Choose another --out, or delete the folder to begin anew.",
        )


def same_inputs(out: Path, inputs: dict[str, str]) -> None:
    """Write down the content hashes of what a run reads, or compare them with those it was begun with.

    Raises:
        HeedfulError: an input changed since the run was begun, so that going on would mix two runs.
    """
    path = out / INPUTS
    if not path.exists():
        write_json(path, inputs)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = sorted(name for name in before.keys() | inputs.keys() if before.get(name) != inputs.get(name))
    if changed:
        raise HeedfulError(
            f"the content of {', '.join(changed)} is not what this run was begun with.",
            where=str(out),
            mend="Put it back to go on, or delete the folder to begin anew.",
        )


def finish(out: Path, save: Callable[[Path], None], manifest: dict[str, Any]) -> dict[str, Any]:
    """Write a run's result into its folder, the manifest last; returns the manifest.

    The files are made under a temporary name and then moved, so that a crash leaves a run that can go on.

    Raises:
        HeedfulError: the folder cannot be written, or the disk is full; nothing half-written stays.
    """
    temporary = out / RESULT
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save(temporary)
        seal(temporary, manifest)
        for item in sorted(temporary.iterdir(), key=lambda item: item.name == MANIFEST):
            target = out / item.name
            if target.is_dir():
                shutil.rmtree(target)
            if item.name == MANIFEST:
                sync_folder(out)
            os.replace(item, target)
        sync_folder(out)
    except OSError as error:
        raise explain(error, out) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    drop_checkpoints(out)
    done = read_manifest(out)
    assert done is not None
    return done


def lineage(stage: str, config: Any, parents: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """What a result was made from: stage, settings, parents, data, code and machine."""
    import yaml

    settings = yaml.safe_load(to_yaml(config))
    return {
        "kind": stage,
        "config_sha256": sha256_json(settings),
        "parents": parents,
        "data": data,
        "code": {"heedful": code_version(), "python": sys.version.split()[0], "machine": platform.machine()},
    }
