"""What stands where in the folder of a run. Imports no torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from heedful.files import atomic_write, read_manifest

FOLDER = "checkpoints"
KEPT = "kept"
"""Weights of the best policy so far, and of the first, for a run that may have to go back to them."""
METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
EVENTS = "events.jsonl"
ALARMS = "alarms.jsonl"
WANDB = "wandb"
"""What Weights & Biases keeps of a run, where one is logged to it."""
WATCH = "watch"
"""What a watch remembers beside the checkpoints: fresh checks with their answers."""
ASKING = "asking.json"
"""In it: what people are being asked just now."""
PROMPTS = "prompts.json"
"""In it: the prompts of the fresh checks."""


def checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return [folder for folder in sorted((out / FOLDER).glob("step-*")) if read_manifest(folder)]


def drop_checkpoints(out: Path) -> None:
    """Remove the checkpoints of a run whose final weights are written."""
    for name in (FOLDER, KEPT):
        shutil.rmtree(out / name, ignore_errors=True)


def whole_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """The whole lines of a JSONL file, as bytes and as JSON; from the first that a crash cut short on, nothing."""
    rows = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            rows.append((line, json.loads(line)))
        except ValueError:
            break
    return rows


def rewind(path: Path, step: float) -> list[dict[str, Any]]:
    """Drop what a killed run logged after the step it goes on from; returns what stays, which keeps its bytes."""
    kept = [(line, row) for line, row in whole_lines(path) if row["step"] <= step]
    with atomic_write(path, "wb") as file:
        file.writelines(line + b"\n" for line, _ in kept)
    return [row for _, row in kept]
