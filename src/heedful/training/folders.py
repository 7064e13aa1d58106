"""What stands where in the folder of a run. Imports no torch."""

from __future__ import annotations

import shutil
from pathlib import Path

from heedful.files import read_manifest

FOLDER = "checkpoints"
METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
EVENTS = "events.jsonl"


def checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return [folder for folder in sorted((out / FOLDER).glob("step-*")) if read_manifest(folder)]


def drop_checkpoints(out: Path) -> None:
    """Remove the checkpoints of a run whose final weights are written."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)
